"""What a run writes for people to look at."""

from pathlib import Path

from training.log import Log


def test_a_log_drops_what_will_be_done_again(tmp_path: Path) -> None:
    log = Log(tmp_path, 0)
    for step in (10, 20, 30):
        log.figures(step, {"loss": step / 3, "gap": 1.0})
    with (tmp_path / "figures.csv").open("a") as file:
        file.write("40,loss")  # killed in the middle of a row
    Log(tmp_path, 20).figures(30, {"loss": 0.5})
    assert (tmp_path / "figures.csv").read_text().splitlines() == [
        "step,name,value",
        *("10,loss,3.33333", "10,gap,1", "20,loss,6.66667", "20,gap,1", "30,loss,0.5"),
    ]
