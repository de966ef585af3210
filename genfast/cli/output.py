"""Where a command writes."""

import tempfile
from pathlib import Path

from genfast.errors import UsageError


def prepare(out: Path) -> None:
    """Make the folder and make sure that files can be made in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UsageError(f"cannot write into {out}: {error.strerror}; choose another folder with --out") from error
