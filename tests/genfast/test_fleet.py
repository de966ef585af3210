import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast import fleet, images
from genfast.errors import DeviceError, UsageError

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups of POSIX")
without_gpu = pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has an NVIDIA GPU")


def test_several_processes_write_the_files_of_one(cli, token_bundle: Path, tmp_path: Path) -> None:
    run = ("sample", "--model", token_bundle, "--class", "green", "-n", 9, "--seed", 5, "--batch", 2, "--json")
    written = []
    for device in "cpu", "cpu,cpu,cpu":
        done = cli(*run, "--out", tmp_path / device, "--device", device)
        assert (done.returncode, done.stderr) == (0, "")
        written.append({path.name: path.read_bytes() for path in (tmp_path / device).iterdir()})
    assert len(written[0]) == 10 and written[0] == written[1]
    for number in 1, 2, 6:
        next((tmp_path / "cpu").glob(f"*-5-{number}.png")).unlink()
    cli(*run, "--out", tmp_path / "cpu", "--device", "cpu,cpu", "--skip-existing", check=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "cpu").iterdir()} == written[0]


def test_no_device_is_idle_where_images_are_few(tiny_bundle: Path) -> None:
    model = genfast.load(str(tiny_bundle), device="cpu,cpu")
    expected = genfast.load(str(tiny_bundle), device="cpu").sample(6)
    drawn = list(model.batches(range(6)))
    assert [len(some) for some in drawn] == [3, 3] and np.array_equal(np.concatenate(drawn), expected)
    assert [len(some) for some in model.batches([4])] == [1] and list(model.batches([])) == []


def test_what_is_not_drawn_in_batches_takes_one_device(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    model = genfast.load(str(tiny_bundle), device="cpu,cpu")
    with pytest.raises(UsageError, match="give a single --device"):
        model.fill(np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), bool))
    done = cli("sample", "--model", tiny_bundle, "--history", "--device", "cpu,cpu", "--out", tmp_path)
    assert done.returncode == 2 and done.stderr.endswith("on several devices; give a single --device\n")


@pytest.mark.parametrize("device", ["cpu,", ",cpu", "cpu,gpu", "cpu;cpu"])
def test_a_list_of_devices_holds_devices(tiny_bundle: Path, device: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        genfast.load(str(tiny_bundle), device=device)


def group_is_gone(group: int) -> bool:
    """Whether all processes of a group end within 20 seconds."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def start(bundle: Path, out: Path, device: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "genfast", "sample", "--model", bundle, "-n", "20000", "--batch", "8"]
    return subprocess.Popen(
        [*command, "--out", out, "--device", device],
        env={**os.environ, "PYTHONPATH": str(Path(genfast.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell ignores in the background
    )


@posix
@without_gpu
def test_a_device_that_cannot_be_had_ends_all_with_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    with start(tiny_bundle, tmp_path, "cpu,cpu,cuda:1") as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (5, "")
    (line,) = stderr.splitlines()
    assert line.startswith("genfast: error: cuda:1 cannot be used: ")
    assert group_is_gone(process.pid)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_all_processes_end_with_the_first(tiny_bundle: Path, tmp_path: Path, number: int) -> None:
    """Ctrl-C goes to all of them at once, SIGKILL to the first alone."""
    with start(tiny_bundle, tmp_path, "cpu,cpu") as process:
        while len(list(tmp_path.glob("*.png"))) < 9:  # the helper has drawn
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
        stdout, stderr = process.communicate()
    assert (stdout, stderr) == ("", "")
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert group_is_gone(process.pid)
    assert all(images.read(path).any() for path in tmp_path.glob("*.png"))


@posix
def test_a_process_that_ends_by_itself_is_an_error() -> None:
    helper = partial(signal.raise_signal, signal.SIGKILL)  # as a system does that runs out of memory
    drawn = fleet.batches(lambda chunk: np.zeros((len(chunk), 1, 1, 1), np.uint8), [helper], [[0], [1]])
    with pytest.raises(DeviceError, match="^a process ended by itself, with -9; give a single --device$"):
        list(drawn)


@without_gpu
def test_a_device_that_has_nothing_to_draw_must_be_there_too(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    done = cli("sample", "--model", tiny_bundle, "-n", 1, "--device", "cpu,cuda", "--out", tmp_path)
    assert done.returncode == 5
