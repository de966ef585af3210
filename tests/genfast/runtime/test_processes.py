import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

import genfast
from genfast.errors import DeviceError, GenfastError, ModelError, UsageError
from genfast.images import io
from genfast.runtime.processes import Processes
from genfast.runtime.workers import Workers
from genfast.samplers.options import MaskGITOptions, RandomOrderOptions

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups of POSIX")
without_gpu = pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has an NVIDIA GPU")


@pytest.mark.slow
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


def test_indices_are_drawn_as_they_come(tiny_bundle: Path) -> None:
    """Of a generator, whose length nobody knows, in batches of the full size; two rounds ahead at most."""
    expected = genfast.load(str(tiny_bundle), device="cpu").sample(7, seed=3)
    model = genfast.load(str(tiny_bundle), device="cpu,cpu")
    asked: list[int] = []

    def indices() -> Iterator[int]:
        for index in range(7):
            asked.append(index)
            yield index

    drawn = model.batches(indices(), seed=3, batch=2)
    assert asked == []
    first = next(drawn)
    assert asked == [*range(7)] and len(first) == 2  # a round is two batches
    rest = list(drawn)
    assert [len(some) for some in rest] == [2, 2, 1] and np.array_equal(np.concatenate([first, *rest]), expected)


def test_a_range_without_end_begins_at_once(tiny_bundle: Path) -> None:
    expected = genfast.load(str(tiny_bundle), device="cpu").sample(12)
    asked = Asked(range(10**12))
    drawn = genfast.load(str(tiny_bundle), device="cpu,cpu").batches(asked, batch=2)
    some = [next(drawn) for _ in range(6)]
    drawn.close()
    assert np.array_equal(np.concatenate(some), expected)
    assert asked.count == 18  # three rounds of four; of the next, all but what is asked for when one of it is taken


@pytest.mark.slow
def test_batches_may_be_larger_than_what_a_pipe_holds(tiny_bundle: Path) -> None:
    """Their numbers on the way there, while images are on the way back: nobody waits for the other for good."""
    start, size = 2**62, 30_000
    drawn: list[int] = []

    def draw() -> None:
        model = genfast.load(str(tiny_bundle), device="cpu,cpu", threads=1)
        drawn.extend(len(some) for some in model.batches(iter(range(start, start + 4 * size)), batch=size))

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    thread.join(timeout=240)
    assert drawn == [size] * 4


class Asked:
    """Indices that count how many of them are asked for."""

    def __init__(self, indices: Iterable[int]) -> None:
        self.indices, self.count = iter(indices), 0

    def __iter__(self) -> "Asked":
        return self

    def __next__(self) -> int:
        self.count += 1
        return next(self.indices)


def test_options_and_classes_reach_all_processes(token_bundle: Path) -> None:
    one, two = (genfast.load(str(token_bundle), device=device) for device in ("cpu", "cpu,cpu"))
    assert isinstance(two, Workers) and two.options == one.options and two.steps == one.steps
    for options in None, RandomOrderOptions(steps=3, temperature=2.0):
        given = {"seed": 3, "label": "green", "batch": 1, "options": options}
        assert np.array_equal(two.sample(4, **given), one.sample(4, **given))


def test_attributes_reach_all_processes(attribute_bundle: Path) -> None:
    one, two = (genfast.load(str(attribute_bundle), device=device) for device in ("cpu", "cpu,cpu"))
    given = {"seed": 3, "attributes": MappingProxyType({"hair": "bun"})}
    assert np.array_equal(two.sample(4, batch=1, **given), one.sample(4, **given))
    assert [two.attributes_of(i, **given) for i in range(4)] == [one.attributes_of(i, **given) for i in range(4)]
    assert [two.label(i, attributes={"hair": "bun"}) for i in range(4)] == ["red", "green", "green", "red"]


def test_what_is_not_drawn_in_batches_takes_one_device(tiny_bundle: Path) -> None:
    model = genfast.load(str(tiny_bundle), device="cpu,cpu")
    picture, hole = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), bool)
    for refused in (
        lambda: model.fill(picture, hole),
        lambda: model.history(0),
        lambda: genfast.inpaint(model, picture, hole),
    ):
        with pytest.raises(UsageError, match="^only whole images are drawn on several devices; give a single device"):
            refused()
    for wrong in (
        {"seed": -1},
        {"batch": 0},
        {"label": "red"},
        {"options": MaskGITOptions()},
        {"attributes": {"a": "b"}},
    ):
        with pytest.raises(UsageError):
            model.batches([0], **wrong)  # at once, before a process starts


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
    if number == signal.SIGINT:  # of a first process that is killed, Python tells that it cleans up
        assert stderr == ""
    assert all(Path(line).is_file() for line in stdout.splitlines())  # what was told is there
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert group_is_gone(process.pid)
    assert all(io.read(path).any() for path in tmp_path.glob("*.png"))


@posix
def test_a_process_that_ends_by_itself_is_an_error(tiny_bundle: Path) -> None:
    end = partial(signal.raise_signal, signal.SIGKILL)  # as a system does that runs out of memory
    first = genfast.load(str(tiny_bundle), device="cpu")
    with pytest.raises(DeviceError, match="^a process on another device ended by itself; give a single device$"):
        list(Workers.of(first, Processes(first, [end])).batches([0, 1], batch=1))


def lack_memory() -> genfast.Model:
    raise MemoryError


def test_what_fails_in_another_process_is_raised_here(tiny_bundle: Path, tmp_path: Path) -> None:
    first = genfast.load(str(tiny_bundle), device="cpu")
    gone = partial(genfast.load, str(tmp_path / "gone"))
    for load, kind, message in (
        (gone, ModelError, "there is no bundle at"),
        (lack_memory, GenfastError, "^a process on another device failed: out of memory$"),
    ):
        with pytest.raises(kind, match=message):
            list(Workers.of(first, Processes(first, [load])).batches([0, 1], batch=1))


@without_gpu
def test_a_device_that_has_nothing_to_draw_must_be_there_too(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    done = cli("sample", "--model", tiny_bundle, "-n", 1, "--device", "cpu,cuda", "--out", tmp_path)
    assert done.returncode == 5
