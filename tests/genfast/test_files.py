import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genfast.errors import GenfastError
from genfast.files import atomic, sweep


def test_a_file_appears_whole_at_the_end_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_nothing_is_left_when_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "a.bin") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GenfastError, match=r"cannot write .*a\.bin: No such file or directory"):
        with atomic(tmp_path / "missing" / "a.bin"):
            pass


def test_what_a_kill_left_goes_once_nobody_can_be_writing_it(tmp_path: Path) -> None:
    gone, new = ".0123456789abcdef.part", ".0123456789abcdee.part"
    kept = {new, ".a.png.part", ".0123abcd.part", "0123456789abcdef.part", "b.part"}
    for name in {gone} | kept:
        (tmp_path / name).touch()
        if name != new:
            os.utime(tmp_path / name, (time.time() - 3700,) * 2)
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_kill_leaves_no_half_file_under_the_name(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from genfast.files import atomic\n"
        "with atomic(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); print('written', flush=True); input()\n"
    )
    path = tmp_path / "a.bin"
    with subprocess.Popen(
        [sys.executable, "-c", script, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not path.exists() and [part.suffix for part in tmp_path.iterdir()] == [".part"]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    with atomic(tmp_path / ("x" * 255)) as file:
        file.write(b"whole")
    with pytest.raises(GenfastError, match="cannot write .*: File name too long"), atomic(tmp_path / ("x" * 256)):
        pass
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]
