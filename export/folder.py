"""A folder that is whole or not there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genfast.errors import UsageError


def check(*outs: Path) -> None:
    """Raises UsageError where one of these exists."""
    for out in outs:
        if out.exists():
            raise UsageError(f"{out} exists; remove it, or name another folder")


@contextmanager
def new(out: Path) -> Iterator[Path]:
    """Give a folder to fill, which becomes `out` when the block ends, and goes away when the block raises.

    Raises:
        UsageError: `out` exists.
    """
    check(out)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
