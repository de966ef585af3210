"""Files written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from genfast.errors import GenfastError


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears as `path` when the block ends, and not at all when the block raises.

    It lies under a temporary name in the same folder until then; an older file at `path` is replaced in one step.
    Raises GenfastError where the system refuses: no space, no permission.

    >>> with atomic(Path("figures.json")) as file:
    ...     file.write(b"{}")
    """
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise GenfastError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
