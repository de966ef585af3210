"""Where a command writes, and what."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genfast.errors import UsageError


def prepare(out: Path) -> None:
    """Make the folder and make sure that files can be made in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UsageError(f"cannot write into {out}: {error.strerror}; choose another folder with --out") from error


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document, with the version of its schema."""
    print(json.dumps({"schema": 1, **document}))


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of the same keys in columns, the keys above them; a dash stands for nothing."""
    lines = [list(rows[0])] + [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
