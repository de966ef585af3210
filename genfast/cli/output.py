"""Where a command writes, and JSON."""

import json
import tempfile
from collections.abc import Mapping
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
