"""The work of `genfast inpaint`."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from genfast.attributes import Settings
from genfast.errors import InputError
from genfast.images import io, params, sheets
from genfast.images.params import GenerationParams
from genfast.images.photo import Photo
from genfast.inpainting.fill import Fill
from genfast.inpainting.picture import Repaint
from genfast.jobs import STDIN, Job
from genfast.models.base import Model
from genfast.tasks.delivery import Content, Delivery
from genfast.types import Mask

Source = Path | BytesIO


@dataclass(frozen=True)
class Filled:
    """A fill without its picture. Where nothing is repainted, it has no history."""

    index: int
    score: float | None
    label: str | None
    attributes: Settings
    has_history: bool


@dataclass(frozen=True)
class Painted:
    """What became of a job: its fills, the likeliest first; or why there are none."""

    fills: list[Filled] = field(default_factory=list)
    error: str | None = None
    said: list[str] = field(default_factory=list)  # what whoever asked should know
    contents: list[Content] = field(default_factory=list)  # the files that are to be written by whoever asked


@dataclass(frozen=True)
class Paint:
    """Fills the hole of an image and delivers the files, each with what drew it.

    An image without a mask, where none is given for any, has its hole where it is transparent. `advance` is called with
    1 for each fill, where this process does the work.
    """

    delivery: Delivery
    repaint: Repaint
    masks: Path | None  # that were given: a mask, or a folder of them
    advance: Callable[[int], object] | None = None

    def params(self, job: Job, index: int, history: bool = False) -> GenerationParams:
        """What draws fill `index` of a job, or its history."""
        return self.repaint.params(index, job.names, history)

    def check_kept(self, job: Job) -> None:
        """Raise UsageError where files of a job are there and are not what would be drawn."""
        for paths in job.outputs:
            params.check_kept(paths[0], lambda index: self.params(job, index))

    def __call__(self, model: Model, job: Job) -> Painted:
        self.delivery.check()
        lines: list[str] = []
        try:
            source = _standard_input() if job.image == STDIN else job.image
            if self.masks and job.mask is None:
                where = f"there is no {job.image.stem}.* at its place in {self.masks}"
                raise InputError(f"{job.image} has no mask: {where}")
            picture, hole, found = self.repaint.fills(model, source, job.mask, say=lines.append, advance=self.advance)
        except InputError as error:
            return Painted(error=str(error), said=lines)
        contents = self.delivery.take(self._contents(job, source, picture, hole, found, lines))
        fills = [
            Filled(each.index, each.score, each.label, each.attributes, has_history=bool(each.history))
            for each in found
        ]
        return Painted(fills, said=lines, contents=contents)

    def _contents(
        self, job: Job, source: Source, picture: Photo, hole: Mask, found: list[Fill], lines: list[str]
    ) -> Iterator[Content]:
        for one, paths in zip(found, job.outputs, strict=True):
            yield paths[0], self.repaint.file(source, picture, hole, one, job.names, say=lines.append)
            if len(paths) > 1 and one.history:
                comment = self.params(job, one.index, history=True).comment()
                yield paths[1], io.animation(one.history, comment)
                yield paths[2], io.encoded(sheets.strip(one.history), paths[2].suffix[1:], comment)


def _standard_input() -> BytesIO:
    try:
        return BytesIO(sys.stdin.buffer.read())
    except OSError as error:
        raise InputError(f"standard input cannot be read: {error.strerror or error}") from error
