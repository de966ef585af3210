"""The work of `genfast inpaint`."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from genfast.bundles import catalog
from genfast.errors import InputError
from genfast.images import io, params, photo, sheets
from genfast.images.jpeg import repainted
from genfast.images.params import GenerationParams, OptionValue
from genfast.images.photo import Photo
from genfast.inpainting import fill, masks
from genfast.inpainting.fill import Fill
from genfast.jobs import STDIN, Job
from genfast.models.base import Model
from genfast.samplers.options import Options
from genfast.tasks.delivery import Content, Delivery
from genfast.types import Format, Mask

Source = Path | BytesIO


@dataclass(frozen=True)
class Filled:
    """A fill without its picture. Where nothing is repainted, it has no history."""

    index: int
    score: float | None
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
    """Fills the hole of an image in `n` ways and delivers the files, each with what drew it.

    An image without a mask, where none is given for any, has its hole where it is transparent. `advance` is called with
    1 for each fill, where this process does the work.
    """

    delivery: Delivery
    format: Format
    masks: Path | None  # that were given: a mask, or a folder of them
    n: int
    seed: int
    grow: int
    feather: int | None
    context: int
    invert: bool
    history: bool
    label: str | None
    options: Options | None
    said: Mapping[str, OptionValue]  # of the sampler's options, as the command line calls them
    drawn_by: GenerationParams  # all images
    advance: Callable[[int], object] | None = None

    def params(self, job: Job, index: int) -> GenerationParams:
        """What draws fill `index` of a job."""
        chosen: dict[str, OptionValue] = {
            name: value
            for name in ("grow", "feather", "context", "invert", "history")
            if (value := getattr(self, name)) or (name == "feather" and value is not None)
        }
        chosen |= {} if self.format == "png" else {"format": self.format}
        chosen |= ({} if self.label is None else {"class": self.label}) | dict(self.said)
        known = self.drawn_by.model_dump()
        return GenerationParams(**{**known, "index": index, "options": chosen, "inpainted": job.names})

    def check_kept(self, job: Job) -> None:
        """Raise UsageError where files of a job are there and are not what would be drawn."""
        for paths in job.outputs:
            params.check_kept(paths[0], lambda index: self.params(job, index))

    def __call__(self, model: Model, job: Job) -> Painted:
        self.delivery.check()
        lines: list[str] = []
        try:
            source = _standard_input() if job.image == STDIN else job.image
            picture, hole, found = self._fill(model, job, source, lines)
        except InputError as error:
            return Painted(error=str(error), said=lines)
        contents = self.delivery.take(self._contents(job, source, picture, hole, found, lines))
        fills = [Filled(each.index, each.score, bool(each.history)) for each in found]
        return Painted(fills, said=lines, contents=contents)

    def _fill(self, model: Model, job: Job, source: Source, lines: list[str]) -> tuple[Photo, Mask, list[Fill]]:
        """An image, what of it is filled, and the fills."""
        name = io.name(source)
        picture, hole = self._hole(job, photo.read(source), name)
        if not photo.fits(picture, self.format):
            what = "bits or pixels" if picture.alpha is None else "bits, pixels or transparency"
            raise InputError(f"{name} has more {what} than {self.format} holds; give --format png")
        if photo.loses_meaning(picture, self.format):
            lines.append(f"{self.format} does not hold what {name} says of its colours, which may look different")
        if not hole.any():
            lines.append(f"{job.mask or name} repaints nothing; {name} comes out as it is")
        found = fill.inpaint(
            model,
            picture.colours,
            hole,
            n=self.n,
            seed=self.seed,
            grow=self.grow,
            feather=self.feather,
            context=self.context,
            history=self.history,
            label=self.label,
            options=self.options,
            advance=self.advance,
        )
        known, near = self.drawn_by.model, found[0].psnr_around
        entry = catalog.entries().get(known)
        if entry and entry.familiar_psnr and near is not None and near < entry.familiar_psnr:
            lines.append(f"{name} is unlike what {known} was trained on ({entry.summary}): its fill may not suit it")
        return picture, masks.grown(hole, self.grow), found

    def _hole(self, job: Job, picture: Photo, name: str) -> tuple[Photo, Mask]:
        """What is to be filled, and the picture that it is a hole of."""
        if self.masks is None:
            return photo.opaque(picture, name)
        if job.mask is None:
            raise InputError(f"{name} has no mask: there is no {job.image.stem}.* at its place in {self.masks}")
        return picture, masks.read(job.mask, picture.colours.shape[:2], invert=self.invert)

    def _contents(
        self, job: Job, source: Source, picture: Photo, hole: Mask, found: list[Fill], lines: list[str]
    ) -> Iterator[Content]:
        for one, paths in zip(found, job.outputs, strict=True):
            comment = self.params(job, one.index).comment()
            yield paths[0], self._encoded(source, replace(picture, colours=one.image), hole, comment, lines)
            if self.history and one.history:
                yield paths[1], io.animation(one.history, comment)
                yield paths[2], io.encoded(sheets.strip(one.history), paths[2].suffix[1:], comment)

    def _encoded(self, source: Source, picture: Photo, hole: Mask, comment: str, lines: list[str]) -> bytes:
        """The file of a filled picture."""
        if self.format == "jpeg":
            old = source.getvalue() if isinstance(source, BytesIO) else source.read_bytes()
            if kept := repainted(old, picture, hole, comment):
                return kept
            name = io.name(source)
            lines.append(f"{name} is encoded anew as JPEG: what is outside the mask keeps its looks, not its bits")
        file = BytesIO()
        photo.write(file, picture, comment, self.format)
        return file.getvalue()


def _standard_input() -> BytesIO:
    try:
        return BytesIO(sys.stdin.buffer.read())
    except OSError as error:
        raise InputError(f"standard input cannot be read: {error.strerror or error}") from error
