import json
from pathlib import Path

import pytest


def test_a_table_to_paste(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    done = cli("bench", tiny_bundle, "--batch", "1,2", "--threads", 1, "--device", "cpu", check=True)
    assert done.stderr == ""
    about, empty, head, rule, one, two, _, cold = done.stdout.splitlines()
    assert about.startswith("model tiny, bundle ") and ", threads 1, " in about and not empty
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, rule, one, two)]
    assert [row[:2] for row in cells] == [["steps", "batch"], ["---", "---"], ["3", "1"], ["3", "2"]]
    assert {len(row) for row in cells} == {7} and float(cells[2][2]) > 0
    assert cold.startswith("From a cold start, `genfast sample -n 1` takes ")
    assert not list((tmp_path / "cwd").iterdir())


def test_json(cli, tiny_bundle: Path) -> None:
    document = json.loads(cli("bench", tiny_bundle, "--batch", 2, "--json", check=True).stdout)
    (speed,) = document["speeds"]
    assert (document["schema"], document["model"], speed["steps"], speed["batch"]) == (2, "tiny", 3, 2)
    assert document["cold_start"] > 0 and speed["images_per_second"] > 0 and speed["rates"] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--steps few", "--steps takes a number, or several as in 1,2,4,8; not 'few'"),
        ("--batch 1,,2", "--batch takes a number"),
        ("--batch 0", "must be at least 1, not 0"),
        ("--steps 3,4", "has no weights for 4 steps"),
        ("--device cpu,cpu", "one device is measured at a time"),
    ],
)
def test_options_that_make_no_sense(cli, tiny_bundle: Path, options: str, message: str) -> None:
    done = cli("bench", tiny_bundle, *options.split())
    assert (done.returncode, done.stdout) == (2, "") and message in done.stderr
