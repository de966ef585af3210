from dataclasses import replace
from pathlib import Path

import pytest

from genfast.errors import GenfastError, UsageError
from genfast.tasks.delivery import Delivery, shared, write


def test_files_are_written_where_they_are_made_or_sent_back(tmp_path: Path) -> None:
    files = [(tmp_path / name, name.encode()) for name in ("a", "b")]
    assert Delivery(collect=True).take(files) == files and not [*tmp_path.iterdir()]
    assert Delivery().take(iter(files)) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"a", "b": b"b"}
    with pytest.raises(GenfastError, match="cannot write"):
        write([(tmp_path / "none" / "a", b"")])


def test_a_folder_that_is_not_shared_is_noticed(tmp_path: Path) -> None:
    with shared(tmp_path) as delivery:
        delivery.check()
        (mark,) = tmp_path.iterdir()
        mark.unlink()  # as if it were another machine's folder of that name
        with pytest.raises(UsageError, match="is not the same folder on all machines; share it, or give --collect"):
            delivery.check()
    with shared(tmp_path) as delivery:
        pass
    assert not [*tmp_path.iterdir()]
    with pytest.raises(UsageError, match="^a machine has genfast .*, and not 0.0.1; install the same on all$"):
        replace(Delivery(), version="0.0.1").check()
