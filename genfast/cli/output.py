"""Where a command writes, and what."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genfast import files
from genfast.errors import UsageError

SCHEMA = 1  # of all JSON documents: rises where a field goes or changes its meaning, not where one is added


def print_json(document: Mapping[str, Any]) -> None:
    """Print the one document of --json, led by the number of its schema; docs/json.md says what is in it."""
    print(json.dumps({"schema": SCHEMA, **document}, allow_nan=False))


def prepare(out: Path) -> None:
    """Make the folder, make sure that files can be made in it, and remove what a killed run left there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        files.sweep(out)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UsageError(f"cannot write into {out}: {error.strerror}; choose another folder with --out") from error


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of the same keys in columns, the keys above them; a dash stands for nothing."""
    lines = [list(rows[0])] + [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
