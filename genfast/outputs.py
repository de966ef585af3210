"""Which files a command writes: their names, what of them exists, what to skip.

Memory does not grow with their number.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import filterfalse, groupby, islice
from pathlib import Path
from typing import Literal

from genfast import files
from genfast.errors import InputError, UsageError
from genfast.images.folder import SUFFIXES, Folder
from genfast.jobs import STDIN, Job, names
from genfast.shards import Shard
from genfast.types import Format

Existing = Literal["refuse", "overwrite", "skip"]
"""What becomes of files that a command would write and that are there already."""

MARK, RECONSTRUCTED = ".inpainted", ".reconstructed"  # in the names of files that are written beside others
_WRITTEN = re.compile(r"\.(inpainted|reconstructed)(-\d+)?(-history|-strip)?$")  # ends their names, but for the suffix
_SHEET_LIMIT = 400  # images


def existing(overwrite: bool, skip: bool) -> Existing:
    """What to do with files that are there already. Raises UsageError where both options are given."""
    if overwrite and skip:
        raise UsageError("--overwrite and --skip-existing exclude each other; give one")
    return "overwrite" if overwrite else "skip" if skip else "refuse"


def prepare(out: Path) -> None:
    """Make the folder, make sure that files can be made in it, and remove what a killed run left there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        files.sweep(out)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UsageError(f"cannot write into {out}: {error.strerror}; choose another folder with --out") from error


def _refuse(found: Iterable[Path], cure: str) -> None:
    """Raise UsageError where any are found, naming the first of them."""
    first, count = None, 0
    for path in found:
        first, count = path if first is None else min(first, path), count + 1
    if first:
        raise UsageError(
            f"{first} exists (files in the way: {count}); give --overwrite, --skip-existing, or another {cure}"
        )


@dataclass(frozen=True)
class SampleFiles:
    """The files of drawn images: NAME-SEED-INDEX.FORMAT in a folder, and a contact sheet of the first 400."""

    folder: Path
    name: str
    seed: int
    indices: range
    format: Format
    history: bool = False
    grid: bool = True
    existing: Existing = "refuse"

    @property
    def parts(self) -> dict[str, Format]:
        """What ends the names of the files of an image, and their formats."""
        return {"": self.format} | ({"-history": "png", "-strip": self.format} if self.history else {})

    def paths(self, index: int) -> list[Path]:
        """The files of an image, by parts."""
        stem = f"{self.name}-{self.seed}-{index}"
        return [self.folder / f"{stem}{part}.{format}" for part, format in self.parts.items()]

    def absolute(self) -> "SampleFiles":
        """The same files, wherever a process works."""
        return replace(self, folder=self.folder.absolute())

    @property
    def shown(self) -> range:
        """The images of the contact sheet."""
        return self.indices[:_SHEET_LIMIT]

    @property
    def sheet(self) -> Path | None:
        if not self.grid or len(self.indices) == 1:
            return None
        return self.folder / f"{self.name}-{self.seed}-grid-{self.shown[0]}-{self.shown[-1]}.{self.format}"

    def found(self) -> Iterator[tuple[int, Path]]:
        """Files of these that exist, with the index of their image, by one look at the folder."""
        pattern = re.compile(rf"{re.escape(self.name)}-{self.seed}-(\d{{1,19}})[-.]")
        if self.sheet and self.sheet.exists():
            yield self.indices[0], self.sheet
        if not self.folder.is_dir():
            return
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if match := pattern.match(entry.name):
                    index, path = int(match[1]), self.folder / entry.name
                    if index in self.indices and path in self.paths(index):
                        yield index, path

    def prepare(self, check: Callable[[int, Path], None]) -> None:
        """Make the folder. `check` is called with each image that is kept, and its index.

        Raises UsageError where files are in the way, or the folder cannot be written to.
        """
        if self.existing == "refuse":
            _refuse((path for _, path in self.found()), "--seed or --out")
        elif self.existing == "skip":
            for index, path in self.found():
                if path == self.paths(index)[0]:
                    check(index, path)
        prepare(self.folder)

    def keeps(self, path: Path) -> bool:
        """Whether a file is there, and stays as it is."""
        return self.existing == "skip" and path.exists()

    def missing(self) -> Iterable[int]:
        """The images of which a file is to be written, as they are asked for."""
        if self.existing != "skip":
            return self.indices
        return (index for index in self.indices if not all(map(self.keeps, self.paths(index))))


class InpaintFiles:
    """The jobs of an image, or of all images in a folder, one after the other.

    Files are written beside the image, as NAME.inpainted.png (or another `mark`), or to `out`, a file or a folder.
    Without a mask, what is transparent of an image is its hole. Of a folder, a shard has every so many-th image. Raises
    InputError where there is nothing to do, UsageError where `out` or `shard` cannot be meant.
    """

    def __init__(
        self,
        image: Path,
        mask: Path | None,
        out: Path | None,
        *,
        n: int = 1,
        format: Format | None = None,
        history: bool = False,
        existing: Existing = "refuse",
        mark: str = MARK,
        shard: Shard | None = None,
    ) -> None:
        self.image, self.mask, self.existing, self.n = image, mask, existing, n
        self._mark, self._shard = mark, shard
        self.format: Format = format or named(out) or "png"
        self._endings = {"": f".{self.format}"}
        if history:
            self._endings |= {"-history": ".png", "-strip": f".{self.format}"}
        self._images: Folder | None = None
        self._masks: Folder | None = None
        self._skipped: Path | None = None  # where masks lie in a folder of images
        if image.is_dir():
            self._open_folders(out)
        elif shard:
            raise UsageError(f"--shard is about folders of images, and {image} is none; omit it")
        else:
            self._base = self._single(out)

    @property
    def folder(self) -> Path:
        """What all files lie in, or under."""
        return self._base.parent if self._images is None else self._base

    def _single(self, out: Path | None) -> Path:
        """What the names of the files of a single image begin with."""
        if self.image != STDIN and not self.image.exists():
            raise InputError(f"{self.image} does not exist")
        name = f"{'stdin' if self.image == STDIN else self.image.stem}{self._mark}"
        if out is None:
            return self.image.with_name(name)
        if named(out) == self.format:
            self._endings[""] = out.suffix  # as it is written there
            return out.with_suffix("")
        if named(out):
            raise UsageError(f"{out} and --format {self.format} contradict each other; omit --format")
        if out.suffix.lower() in SUFFIXES and not out.is_dir():
            raise UsageError(f"{out} is of a format that is not written; give a name that ends in .png, .webp or .jpg")
        return out / name

    def _open_folders(self, out: Path | None) -> None:
        image, mask = self.image, self.mask
        if mask and mask.is_dir() and mask.samefile(image):
            raise UsageError(f"{image} cannot hold both the images and their masks; give two folders")
        if out and out.suffix.lower() in SUFFIXES and not out.is_dir():
            raise UsageError(f"{out} is the name of an image, and {image} is a folder; name a folder with --out")
        self._images = found = Folder(image)
        self._masks = Folder(mask) if mask and mask.is_dir() else None
        self._base = out or image
        within = mask and mask.resolve()
        if within and within.is_relative_to(image.resolve()):
            self._skipped = within.relative_to(image.resolve())
        if not any(map(self._is_wanted, found)):
            verb = self._mark.removeprefix(".")
            raise InputError(f"{image} holds nothing to be {verb}: masks, and files named *.{verb}.*, are left out")
        for first, second in self._masks.twins() if self._masks else ():
            if found.like(first):
                raise UsageError(f"{first} and {second} in {mask} are masks of one image; omit one of them")
        for first, second in found.twins():
            if self._is_wanted(first):
                output = next(self._job(first).files)
                raise UsageError(f"{image / first} and {image / second} would both become {output}; rename one of them")

    def __len__(self) -> int:
        return sum(1 for _ in self._relatives())

    def __iter__(self) -> Iterator[Job]:
        """The jobs that are left to do, as they are asked for."""
        return filterfalse(self._keeps, self._jobs())

    def kept(self) -> Iterator[Job]:
        """The jobs that are done, and left as they are."""
        return filter(self._keeps, self._jobs())

    def _keeps(self, job: Job) -> bool:
        return self.existing == "skip" and all(path.exists() for path in job.files)

    def _jobs(self) -> Iterator[Job]:
        return map(self._job, self._relatives())

    def _relatives(self) -> Iterator[Path | None]:
        """Images of a folder that are neither masks nor written by genfast; None for a single image."""
        if self._images is None:
            yield None
            return
        wanted = filter(self._is_wanted, self._images)
        yield from islice(wanted, self._shard.index, None, self._shard.count) if self._shard else wanted

    def _is_wanted(self, relative: Path) -> bool:
        return not _WRITTEN.search(relative.stem) and not (self._skipped and relative.is_relative_to(self._skipped))

    def _job(self, relative: Path | None) -> Job:
        if relative is None:
            return Job(self.image, self.mask, self._outputs(self._base), names(self.image, self.mask))
        mask = self.mask
        if self._masks:
            found = self._masks.like(relative)
            mask = found and self._masks.folder / found
        base = self._base / relative.with_name(f"{relative.stem}{self._mark}")
        return Job(self.image / relative, mask, self._outputs(base), names(self.image / relative, mask))

    def _outputs(self, base: Path) -> list[list[Path]]:
        numbers = [""] if self.n == 1 else [f"-{i}" for i in range(1, self.n + 1)]
        return [
            [base.with_name(f"{base.name}{number}{part}{ending}") for part, ending in self._endings.items()]
            for number in numbers
        ]

    def prepare(self) -> None:
        """Make the folders. Raises UsageError for files in the way, and where a folder cannot be written to."""
        found = self._found()
        if self.existing == "refuse":
            _refuse(found, "--out")
        for _ in found:
            pass  # looked at, and left
        for folder, _ in groupby(self._jobs(), lambda job: job.outputs[0][0].parent):
            prepare(folder)

    def _found(self) -> Iterator[Path]:
        """Files of the jobs that exist. Raises UsageError for one that is an image or a mask of its job."""
        for job in self._jobs():
            for path in filter(Path.exists, job.files):
                if any(source and source.exists() and path.samefile(source) for source in (job.image, job.mask)):
                    raise UsageError(f"{path} is not to be written over; give another --out")
                yield path


def named(out: Path | None) -> Format | None:
    """The format that the name of a file says, None for a folder."""
    formats: dict[str, Format] = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
    return None if out is None or out.is_dir() else formats.get(out.suffix.lower())
