"""The number of files that commands write costs no memory, and their first one no time."""

import json
import os
import re
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

import genfast
from genfast.images import io, params
from genfast.images.folder import Folder
from genfast.outputs import InpaintFiles
from tests.genfast.cli.test_interruptions import start, wait_for, whole
from tests.genfast.test_outputs import only_linux, touch


@pytest.fixture(scope="module")
def crowds(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of so many images in name, each half of them in a folder below."""
    found = {}
    for n in 400, 2_000, 4_000, 20_000:
        found[n] = folder = tmp_path_factory.mktemp(f"{n}")
        (folder / "below").mkdir()
        for i in range(n):
            os.close(os.open(folder / ("below" if i % 2 else "") / f"photograph-{i}.png", os.O_CREAT))
    return found


def plan_folder(folder: Path, out: Path) -> int:
    found = Folder(folder)
    assert not any(found.twins()) and found.like(Path("photograph-2.bmp"))
    return sum(1 for _ in found)


def plan_jobs(folder: Path, out: Path) -> int:
    masks = touch(out, "masks/photograph-0.png") / "masks"
    files = InpaintFiles(folder, masks, out / folder.name, existing="overwrite")
    files.prepare()
    return sum(1 for job in files if not (job.mask and job.mask.exists())) + 1


@pytest.mark.slow
@pytest.mark.parametrize(("plan", "least", "most"), [(plan_folder, 2_000, 20_000), (plan_jobs, 400, 4_000)])
def test_a_folder_of_any_length_is_planned_in_the_same_memory(
    plan: Callable[[Path, Path], int],
    least: int,
    most: int,
    crowds: dict[int, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "intern", str)  # of all names of files, by pathlib: the table would be what is measured
    peaks = []
    for n in least, most:
        tracemalloc.start()
        assert plan(crowds[n], tmp_path) == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10 * (most - least)  # bytes, of which each name would take more than 70


def high_water(process: Popen[bytes]) -> float:
    """The most memory that a process has had, in MB."""
    (found,) = re.findall(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    return int(found) / 1000


def images(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(1 for entry in entries if not entry.name.startswith("."))


@only_linux
@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_a_billion_images_are_drawn_one_by_one(tiny_bundle: Path, tmp_path: Path, as_json: bool) -> None:
    """The first is there within seconds, memory does not grow with their number, and a signal leaves whole files."""
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    options = ["sample", "--model", tiny_bundle, "--no-grid", "--batch", 1, *(["--json"] if as_json else [])]
    with start(*options, "-n", 100, "--out", few) as process:
        wait_for(process, lambda: images(few) >= 99)
        least = high_water(process)
        process.communicate()
    begun = time.perf_counter()
    told: list[bytes] = []
    with start(*options, "-n", 10**9, "--out", many) as process:
        assert process.stdout is not None and process.stderr is not None
        reader = threading.Thread(target=told.extend, args=[process.stdout])
        reader.start()
        wait_for(process, lambda: images(many) > 0 if as_json else len(told) > 0)
        assert time.perf_counter() - begun < 30  # of which the start takes nearly all, on a slow machine
        wait_for(process, lambda: images(many) >= 100)
        early = high_water(process)
        wait_for(process, lambda: images(many) >= 1500)
        late = high_water(process)
        begun = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        process.wait()
        assert time.perf_counter() - begun < 5 and process.returncode == 128 + signal.SIGTERM
        reader.join()
        assert process.stderr.read() == b""
    assert early < least + 8 and late < early + 2
    n = images(many)
    assert {path.name for path in whole(many)} == {f"tiny-0-{i}.png" for i in range(n)} and n >= 1500
    if as_json:
        assert not told  # no half of a document
    else:
        paths = [line.rstrip(b"\n").decode() for line in told]
        assert paths == [f"{many}/tiny-0-{i}.png" for i in range(len(told))] and n - 1 <= len(told) <= n


@only_linux
@pytest.mark.slow
def test_a_long_json_document_is_one_and_lies_on_disk_until_then(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path.joinpath(*["n" * 250] * 12)  # so that few images make a long list
    out.mkdir(parents=True)
    with start("sample", "--model", tiny_bundle, "-n", 2000, "--no-grid", "--json", "--out", out) as process:
        assert process.stdout is not None
        wait_for(process, lambda: images(out) >= 500)
        early = high_water(process)
        text = process.stdout.read(1)  # all is drawn, and the document does not fit the pipe
        late = high_water(process)
        text += process.stdout.read()
    document = json.loads(text)
    assert process.returncode == 0 and len(text) > 6 * 10**6 and text.count(b"\n") == 1
    assert [image["index"] for image in document["images"]] == [*range(2000)] and document["grid"] is None
    assert document["images"][-1]["path"] == f"{out}/tiny-0-1999.png"
    assert late < early + 2  # MB


def test_a_run_goes_on_in_the_middle_and_tells_all_in_order(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    run = ("sample", "--model", tiny_bundle, "-n", 60, "--start", 3, "--batch", 7, "--out", tmp_path)
    expected = [*(f"{tmp_path}/tiny-0-{i}.png" for i in range(3, 63)), f"{tmp_path}/tiny-0-grid-3-62.png"]
    assert cli(*run, check=True).stdout.splitlines() == expected
    before = {path: path.read_bytes() for path in tmp_path.glob("*.png")}
    for i in (3, 4, 20, *range(30, 45), 62):
        (tmp_path / f"tiny-0-{i}.png").unlink()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    assert cli(*run, "--skip-existing", check=True).stdout.splitlines() == expected
    assert {path: path.read_bytes() for path in tmp_path.glob("*.png")} == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    document = json.loads(cli(*run, "--skip-existing", "--json", check=True).stdout)
    assert [image["path"] for image in document["images"]] == expected[:-1] and document["grid"] == expected[-1]
    assert io.read(Path(expected[0])).shape == (6, 8, 3)
    assert params.read_params(Path(expected[20])).version == genfast.__version__
