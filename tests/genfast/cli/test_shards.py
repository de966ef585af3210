"""Shares of the work: what they write together is what one run writes."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from tests.genfast.cli.conftest import Run

Cli = Callable[..., CompletedProcess[str]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shards_of_sample(run: Run, token_bundle: Path, tmp_path: Path) -> None:
    """The contact sheet comes with a run of the whole that keeps what is there."""
    line = f"sample --model {token_bundle} -n 10 --start 5"
    assert run(f"{line} --out {tmp_path}/one")[0] == 0
    told = []
    for index in (3, 0, 2, 1):
        code, stdout, stderr = run(f"{line} --out {tmp_path}/four --shard {index}/4")
        assert (code, stderr) == (0, "")
        told += stdout.splitlines()
    whole = contents(tmp_path / "one")
    sheet = whole.pop("squares-0-grid-5-14.png")
    assert contents(tmp_path / "four") == whole and sorted(Path(path).name for path in told) == sorted(whole)
    code, stdout, _ = run(f"{line} --out {tmp_path}/four --skip-existing --json")
    assert len(json.loads(stdout)["images"]) == 10
    assert contents(tmp_path / "four") == contents(tmp_path / "one")
    assert contents(tmp_path / "four")["squares-0-grid-5-14.png"] == sheet


def test_a_shard_goes_on_where_it_was_stopped(
    run: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ("ID", 2), ("MIN", 1), ("MAX", 3), ("COUNT", 3), ("STEP", 1):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    line = f"sample --model {tiny_bundle} -n 9 --out {tmp_path} --json"
    for more in "--shard", "--skip-existing --shard", "--shard auto --skip-existing":
        document = json.loads(run(f"{line} {more}")[1])
        assert [image["index"] for image in document["images"]] == [3, 4, 5] and document["grid"] is None
        assert sorted(path.name for path in tmp_path.iterdir()) == [f"tiny-0-{i}.png" for i in (3, 4, 5)]
        (tmp_path / "tiny-0-4.png").unlink()
    code, stdout, _ = run(f"sample --model {tiny_bundle} -n 2 --out {tmp_path}/few --shard 0/3 --json")
    assert (code, json.loads(stdout)["images"]) == (0, [])  # there are fewer images than shards


def test_shards_of_inpaint(run: Run, token_bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "under").mkdir(parents=True)
    for i in range(7):
        picture = Image.fromarray(rng.integers(0, 256, (10, 14, 3), np.uint8))
        picture.save(tmp_path / "photos" / ("under" if i % 2 else "") / f"{i}.png")
    Image.fromarray(np.eye(10, 14) > 0).save(tmp_path / "mask.png")
    line = f"inpaint {tmp_path}/photos {tmp_path}/mask.png --model {token_bundle} -n 2"
    assert run(f"{line} --out {tmp_path}/one")[0] == 0
    for index in range(3):
        assert run(f"{line} --out {tmp_path}/three --shard {index}/3")[0] == 0
    assert len(contents(tmp_path / "one")) == 14
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert run(f"{line} --out {tmp_path}/one --shard 6/9 --skip-existing --json")[0] == 0
    refused = run(f"inpaint {tmp_path}/photos/0.png {tmp_path}/mask.png --model {token_bundle} --shard 0/2")
    assert refused[0] == 2 and "--shard is about folders of images" in refused[2]


def test_shards_of_fid(run: Run, ddpm_bundle: Path, halves: Path, tmp_path: Path) -> None:
    line = f"fid --model {ddpm_bundle} --samples 50 --steps 2,4 --seeds 2 --features {halves}"
    whole = json.loads(run(f"{line} --json")[1])["results"]
    for index in range(3):
        code, stdout, _ = run(f"{line} --shard {index}/3 --out {tmp_path} --json")
        assert code == 0 and all(Path(part).is_file() for part in json.loads(stdout)["parts"])
    assert len([*tmp_path.iterdir()]) == 3 * 2 * 2
    merged = json.loads(run(f"fid --merge {tmp_path} --features {halves} --json")[1])["results"]
    for one in whole:
        (other,) = (each for each in merged if (each["steps"], each["seed"]) == (one["steps"], one["seed"]))
        assert other["fid"] == pytest.approx(one["fid"], rel=1e-9)
        assert other["kid"] == pytest.approx(one["kid"], rel=1e-2)
        for name in ("model", "loss", "features", "floor", "n", "protocol", "warnings"):
            assert other[name] == one[name]


def test_shards_of_a_folder_measured_against_statistics(
    run: Run, folder: Callable[..., Path], means: Path, tmp_path: Path
) -> None:
    a, b = folder("a", 30), folder("b", 40, high=200)
    assert run(f"fid --save-stats {tmp_path}/b.npz {b} --features {means}")[0] == 0
    (whole,) = json.loads(run(f"fid {a} {tmp_path}/b.npz --features {means} --json")[1])["results"]
    for index in range(4):
        assert run(f"fid {a} --features {means} --shard {index}/4 --out {tmp_path}/parts")[0] == 0
    (merged,) = json.loads(run(f"fid --merge {tmp_path}/parts --against {tmp_path}/b.npz --json")[1])["results"]
    assert merged["fid"] == pytest.approx(whole["fid"], rel=1e-9) and merged["protocol"] == whole["protocol"]
    code, _, stderr = run(f"fid --merge {tmp_path}/parts")
    assert code == 2 and "nothing to measure a against" in stderr


def test_unlike_sets_are_measured_apart(run: Run, folder: Callable[..., Path], means: Path, tmp_path: Path) -> None:
    """Two folders, made alike in size as is what they are measured against; another extractor saw nothing."""
    a, b = folder("a", 30), folder("b", 40, high=200)
    for each in a, b:
        assert run(f"fid {each} --features {means} --resize 6x4 --shard 0/1 --out {tmp_path}/parts")[0] == 0
    found = run(f"fid --merge {tmp_path}/parts --against {b} --features {means} --json")
    assert found[0] == 0, found
    merged = json.loads(found[1])["results"]
    assert [(each["dataset"], each["model"]) for each in merged] == [("a", None), ("b", None)]
    assert merged[0]["fid"] > 1 > merged[1]["fid"] == pytest.approx(0, abs=1e-6)
    assert all("/resize=6x4-bicubic" in each["protocol"] for each in merged)
    lines = run(f"fid --merge {tmp_path}/parts --against {b} --features {means}")[1].splitlines()
    assert [line for line in lines if line and line[0] != " "] == ["means: a", "means: b"]
    code, stdout, stderr = run(f"fid --merge {tmp_path}/parts --against {b} --features fashion")
    assert (code, stdout) == (3, "") and "parts holds nothing that fashion saw; omit --features" in stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sample --shard 4/4", "K in 0 .. N - 1, not 4/4"),
        ("sample --shard", "no task of a Slurm array"),
        ("sample --shard -n 3", "no task of a Slurm array"),
        ("sample --shard 0/2 --ray", "--ray and --shard exclude each other"),
        ("sample --collect", "--collect is about --ray"),
        ("inpaint a.png --collect", "a.png does not exist"),
        ("inpaint - m.png --ray", "--ray takes files that all machines can read, not standard input"),
        ("fid --shard 0/2", "go together: genfast fid --shard K/N --out FOLDER"),
        ("fid --out parts", "go together: genfast fid --shard K/N --out FOLDER"),
        ("fid a b --shard 0/2 --out parts", "--shard and --merge take no second folder"),
        ("fid --merge parts a", "--merge measures what shards wrote, not a; give --against a"),
        ("fid --merge parts --samples 9", "--samples is about images to draw, but parts is given"),
        ("fid a b --ray", "--ray is about images to draw"),
        ("fid --merge nowhere", "nowhere is no folder"),
    ],
)
def test_what_goes_together(run: Run, line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX":
        monkeypatch.delenv(name, raising=False)
    code, stdout, stderr = run(line)
    assert code in (2, 3) and stdout == "" and message in stderr and stderr.count("\n") == 1
