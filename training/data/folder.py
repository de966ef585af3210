"""Any folder of images, FFHQ as it is published for one, read when they are asked for."""

import sys
from pathlib import Path

from genfast.attributes import Attribute, Rows
from genfast.errors import InputError
from genfast.images import io
from genfast.images.folder import pictures
from genfast.types import Pixels
from training.data import attributes
from training.data.images import Split

RANGES: dict[Split, tuple[float, float]] = {"train": (0, 0.9), "validation": (0.9, 0.95), "test": (0.95, 1)}


class Folder:
    """The images under a folder in the order of their paths, each cut to its central square and resized.

    A file that is no image is named on stderr and skipped: the next one that is takes its place.
    """

    def __init__(self, folder: Path, size: int, split: Split, count: int | None = None) -> None:
        """Choose the files of a split: the first 90 % train, the next 5 % validate, the last 5 % test.

        Raises:
            InputError: there are no files for this split.
        """
        paths = list(pictures(folder))
        first, last = (round(share * len(paths)) for share in RANGES[split])
        self.paths = paths[first:last][:count]
        if not self.paths:
            raise InputError(f"{folder} holds too few images: none of {len(paths)} is left for {split}")
        self.folder, self.size = folder, size
        self._broken: set[Path] = set()  # as far as they have been read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        """One image [size, size, 3] uint8. Raises InputError where every file is broken."""
        for path in self.paths[index:] + self.paths[:index]:
            try:
                return self._read(path)
            except InputError as error:
                if path not in self._broken:
                    print(f"skipped: {error}", file=sys.stderr)
                self._broken.add(path)
        raise InputError(f"not one of {len(self)} files can be read as an image")

    def is_replaced(self, index: int) -> bool:
        """Whether another file took the place of one that has been asked for."""
        return self.paths[index] in self._broken

    def attributes(self) -> tuple[tuple[Attribute, ...], Rows]:
        """What `attributes.csv` tells of the images: attributes, numbered alike in all splits, and rows [N, A]."""
        told = attributes.read(self.folder)
        values: dict[str, list[str]] = {}
        for name, value in (pair for each in told.values() for pair in each.items()):
            values.setdefault(name, []).append(value)
        mine = [told.get(path.relative_to(self.folder).as_posix(), {}) for path in self.paths]
        return attributes.encode(mine, values)

    def _read(self, path: Path) -> Pixels:
        return io.fit(io.read(path), self.size, self.size)
