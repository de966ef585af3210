"""Files written whole or not at all."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from genfast.errors import GenfastError

_PART = re.compile(r"\.[0-9a-f]{16}\.part")
_ABANDONED = 3600  # seconds


def as_text(path: Path) -> str:
    """A path as text, which on Linux it need not be."""
    return os.fsencode(path).decode(errors="replace")


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears as `path` when the block ends, and not at all when the block raises.

    It lies under a temporary name in the same folder until then; an older file at `path` is replaced in one step.
    Raises GenfastError where the system refuses: no space, no permission.

    >>> with atomic(Path("figures.json")) as file:
    ...     file.write(b"{}")
    """
    temporary = path.with_name(f".{token_hex(8)}.part")  # no longer than a name may be
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise GenfastError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sweep(folder: Path) -> None:
    """Remove what `atomic` left in a folder when it was killed, an hour ago or more: nobody is writing it any more."""
    with os.scandir(folder) as entries:
        for entry in filter(lambda entry: _PART.fullmatch(entry.name), entries):
            with suppress(OSError):  # another run may sweep, too
                if entry.stat().st_mtime < time.time() - _ABANDONED:
                    os.unlink(entry)
