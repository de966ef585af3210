"""What is to be inpainted, and where the result goes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genfast.files import as_text

STDIN = Path("-")


@dataclass(frozen=True)
class Job:
    """An image, its mask (None where it has none), and the files of each of its fills, the likeliest first."""

    image: Path
    mask: Path | None
    outputs: list[list[Path]]
    names: tuple[str, ...]  # of image and mask, as the files of its fills tell them

    @property
    def files(self) -> Iterator[Path]:
        return (path for paths in self.outputs for path in paths)

    def absolute(self) -> "Job":
        """The same job, wherever a process works."""
        outputs = [[path.absolute() for path in paths] for paths in self.outputs]
        return Job(self.image.absolute(), self.mask and self.mask.absolute(), outputs, self.names)


def names(image: Path, mask: Path | None) -> tuple[str, ...]:
    """The names of two files, with their folders where these are equal, as text, which on Linux they need not be."""
    files = [path for path in (image, mask) if path]
    paths = [Path(path.parent.name if mask and image.name == mask.name else "", path.name) for path in files]
    return tuple(map(as_text, paths))
