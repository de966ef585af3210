"""Where a command writes, and what."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

Json = dict[str, Any]  # a JSON document, or a part of one

SCHEMA = 2  # of all JSON documents: rises where a field goes or changes its meaning, not where one is added
_HELD = 2**20  # bytes of a list that are kept in memory


class Spooled:
    """A list of a JSON document, of any length: it lies in a temporary file until the document is printed."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_HELD, "w+", encoding="ascii")

    def __del__(self) -> None:
        self._file.close()

    def append(self, item: Json) -> None:
        self._file.write(json.dumps(item, allow_nan=False) + "\n")

    def texts(self) -> Iterator[str]:
        """Each item as JSON."""
        self._file.seek(0)
        return (line.rstrip("\n") for line in self._file)


def print_json(document: Json) -> None:
    """Print the one document of --json, led by the number of its schema; docs/json.md says what is in it.

    A value may be a list that is Spooled.
    """
    lead = "{"
    for key, value in {"schema": SCHEMA, **document}.items():
        print(f"{lead}{json.dumps(key)}: ", end="")
        if isinstance(value, Spooled):
            print("[", end="")
            for number, text in enumerate(value.texts()):
                print(f"{', ' if number else ''}{text}", end="")
            print("]", end="")
        else:
            print(json.dumps(value, allow_nan=False), end="")
        lead = ", "
    print("}")


def one_line(message: str) -> str:
    """A message without breaks, and without what a terminal would obey in the names of files."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(message.split()))


def print_table(rows: Sequence[Json]) -> None:
    """Print rows of the same keys in columns, the keys above them; a dash stands for nothing."""
    lines = [list(rows[0])] + [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
