"""Where a command writes: folders and JSON."""

import json
import tempfile
from collections.abc import Mapping
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
