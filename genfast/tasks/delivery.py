"""How files get where they belong from places that need not be this machine."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from genfast import __version__
from genfast.errors import UsageError
from genfast.files import atomic

Content = tuple[Path, bytes]  # a file and what is in it


@dataclass(frozen=True)
class Delivery:
    """Files are written where they are made, or, to `collect` them, sent back to be written.

    A place writes into a folder that it shares with the first process, and knows it by a file that is there: the mark.
    """

    collect: bool = False
    mark: Path | None = None
    version: str = __version__  # of the first process

    def check(self) -> None:
        """Raise UsageError where the folder, or genfast, is another one than that of the first process."""
        if self.version != __version__:
            raise UsageError(f"a machine has genfast {__version__}, and not {self.version}; install the same on all")
        if self.mark and not self.mark.exists():
            raise UsageError(f"{self.mark.parent} is not the same folder on all machines; share it, or give --collect")

    def take(self, files: Iterable[Content]) -> list[Content]:
        """Write files, or give those to send back."""
        if self.collect:
            return list(files)
        write(files)
        return []


def write(files: Iterable[Content]) -> None:
    """Write files, each whole or not at all."""
    for path, content in files:
        with atomic(path) as file:
            file.write(content)


@contextmanager
def shared(folder: Path) -> Iterator[Delivery]:
    """The delivery into a folder that other machines are to share; its mark goes at the end."""
    mark = folder / f".{token_hex(8)}.shared"
    with atomic(mark):
        pass
    try:
        yield Delivery(mark=mark)
    finally:
        mark.unlink(missing_ok=True)
