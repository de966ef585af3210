"""What people upload and what is drawn for them, in a temporary folder that goes when the page ends.

Files are found by an id alone, which the server made up: no name from outside ever becomes a path.
"""

import re
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Self

from genfast.errors import GenfastError, InputError

_MOST = 4 * 10**9  # bytes: beyond, what came first goes
_NAMELESS = "picture.png"


@dataclass(frozen=True)
class Kept:
    """The file of a picture of some shape (H, W). `name` is what people call it."""

    id: str
    path: Path
    name: str
    shape: tuple[int, int]
    size: int  # bytes

    def open(self) -> BytesIO:
        """Its bytes, under the name that messages call it by. Raises InputError where it has gone."""
        try:
            file = BytesIO(self.path.read_bytes())
        except OSError as error:
            raise InputError(f"{self.name} is not kept any more; open it again") from error
        file.name = self.name
        return file


class Store:
    """Files by their ids, for the time of a `with`."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._folder = TemporaryDirectory(prefix="genfast-ui-")
        self._kept: dict[str, Kept] | None = {}  # in the order of coming; None at the end
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # works may go on for a step: nothing is written any more
            self._kept = None
            self._folder.cleanup()

    def put(self, content: bytes, name: str, shape: tuple[int, ...]) -> Kept:
        """Keep a file, in place of the first ones where there are too many. Raises GenfastError where none fits."""
        id = token_hex(8)
        kept = Kept(id, Path(self._folder.name, id), plain(name), (shape[0], shape[1]), len(content))
        with self._lock:
            if self._kept is None:
                raise GenfastError("the page has ended")
            try:
                kept.path.write_bytes(content)
            except OSError as error:
                kept.path.unlink(missing_ok=True)
                raise GenfastError(f"cannot keep {kept.name}: {error.strerror or error}") from error
            self._kept[id] = kept
            while len(self._kept) > 1 and sum(each.size for each in self._kept.values()) > self._most:
                self._kept.pop(next(iter(self._kept))).path.unlink(missing_ok=True)
        return kept

    def get(self, id: str) -> Kept | None:
        """The file of an id, None where there is none."""
        with self._lock:
            return (self._kept or {}).get(id)


def plain(name: str) -> str:
    """The last part of what a browser calls a file, without what cannot be in the name of one."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(letter for letter in last if letter.isprintable() and letter not in '<>:"|?*').strip(" .")
    return kept[-120:].lstrip(" .-") or _NAMELESS
