import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast import images


def test_images_are_written_and_their_paths_printed(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    done = cli("sample", "--model", tiny_bundle, "-n", 3, "--seed", 7, "--start", 5, "--out", out)
    names = ["tiny-7-5.png", "tiny-7-6.png", "tiny-7-7.png", "tiny-7-grid-5-7.png"]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == names
    expected = genfast.load(str(tiny_bundle)).sample(3, seed=7, start=5)
    assert np.array_equal(images.read_all([out / name for name in names[:3]]), expected)
    assert np.array_equal(images.read(out / names[3]), images.contact_sheet(expected))


def test_without_options_paths_are_relative_and_one_image_needs_no_sheet(cli, tiny_bundle: Path) -> None:
    done = cli("sample", "--model", tiny_bundle, "-n", 1)
    assert done.stdout == "tiny-0-0.png\n"
    done = cli("sample", "--model", tiny_bundle, "-n", 2, "--start", 1, "--no-grid")
    assert done.stdout == "tiny-0-1.png\ntiny-0-2.png\n"


def test_json(cli, tiny_bundle: Path) -> None:
    done = cli("sample", "--model", tiny_bundle, "-n", 2, "--json")
    assert json.loads(done.stdout) == {
        "model": "tiny",
        "images": [{"path": "tiny-0-0.png", "index": 0}, {"path": "tiny-0-1.png", "index": 1}],
        "grid": "tiny-0-grid-0-1.png",
    }
    assert json.loads(cli("sample", "--model", tiny_bundle, "-n", 1, "--start", 9, "--json").stdout)["grid"] is None


def test_a_seed_gives_the_same_bytes_whatever_the_batch_and_the_threads(cli, conv_bundle: Path, tmp_path: Path) -> None:
    contents = []
    for batch, threads in (64, 1), (1, 2), (3, 2), (64, 3):
        out = tmp_path / f"{batch}-{threads}"
        cli(
            "sample", "--model", conv_bundle, "-n", 66, "--batch", batch, "--threads", threads, "--out", out, check=True
        )
        contents.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert len(contents[0]) == 67
    assert all(other == contents[0] for other in contents)


def test_existing_files_stop_the_run_before_anything_is_drawn(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny-0-1.png").write_bytes(b"mine")
    done = cli("sample", "--model", tiny_bundle, "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"genfast: error: {tmp_path}/tiny-0-1.png exists (files in the way: 1); give --overwrite"
    )
    assert not list(tmp_path.glob("*grid*")) and (tmp_path / "tiny-0-1.png").read_bytes() == b"mine"


def test_overwrite(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny-0-1.png").write_bytes(b"mine")
    cli("sample", "--model", tiny_bundle, "--out", tmp_path, "--overwrite", check=True)
    expected = genfast.load(str(tiny_bundle)).sample(1, start=1)[0]
    assert np.array_equal(images.read(tmp_path / "tiny-0-1.png"), expected)


def test_skip_existing_fills_the_gaps(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    run = ("sample", "--model", tiny_bundle, "-n", 4, "--out", tmp_path)
    cli(*run, check=True)
    complete = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    kept = tmp_path / "tiny-0-2.png"
    for path in tmp_path.glob("*.png"):
        if path != kept:
            path.unlink()
    before = kept.stat().st_mtime_ns
    done = cli(*run, "--skip-existing", check=True)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == complete
    assert kept.stat().st_mtime_ns == before
    assert len(done.stdout.splitlines()) == 5
    cli(*run, "--skip-existing", check=True)  # nothing left to draw


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_a_progress_bar_on_stderr_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "genfast", "sample", "--model", tiny_bundle, "-n", "2", "--out", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(Path(genfast.__file__).parents[1]), "TERM": "xterm"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    assert "drawing" in os.read(ours, 10_000).decode()
    os.close(ours)
    assert len(done.stdout.splitlines()) == 3 and "drawing" not in done.stdout


def test_an_interrupted_run_ends_with_130_and_leaves_whole_images(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "genfast", "sample", "--model", tiny_bundle, "-n", "20000", "--out", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(Path(genfast.__file__).parents[1])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not list(tmp_path.glob("*.png")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.communicate() == (b"", b"")
    assert process.returncode == 130
    assert all(path.suffix == ".png" and images.read(path).any() for path in tmp_path.iterdir())
