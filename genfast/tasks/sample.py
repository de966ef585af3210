"""The work of `genfast sample`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genfast.attributes import Settings
from genfast.errors import GenfastError
from genfast.images import io, sheets
from genfast.images.params import GenerationParams, OptionValue
from genfast.models.base import Model
from genfast.outputs import SampleFiles
from genfast.samplers.options import Options
from genfast.tasks.delivery import Content, Delivery
from genfast.types import Pixels


@dataclass(frozen=True)
class Drawn:
    """Images that were drawn, the files that are to be written by whoever asked, and why there are no more."""

    indices: list[int]
    contents: list[Content]
    error: GenfastError | None = None


@dataclass(frozen=True)
class Draw:
    """Draws images of a seed, at most `batch` at once, and delivers their files, each with what drew it."""

    files: SampleFiles
    delivery: Delivery
    batch: int
    label: str | None
    attributes: Settings | None
    options: Options | None
    said: Mapping[str, OptionValue]  # of the sampler's options and the attributes, as the command line calls them
    drawn_by: GenerationParams  # in all images

    def params(self, label: str | None, history: bool = False, **fields: int) -> GenerationParams:
        """What draws an image, or several, of a class; `fields` are those that differ from all images'."""
        known = self.drawn_by.model_dump()
        own = ({} if label is None else {"class": label}) | ({"history": True} if history else {})
        return GenerationParams(**{**known, **fields, "options": {**self.said, **own, **known["options"]}})

    def __call__(self, model: Model, indices: list[int]) -> Drawn:
        self.delivery.check()
        done: list[int] = []
        contents: list[Content] = []
        try:
            for index, frames in zip(indices, self._frames(model, indices), strict=True):
                contents += self.delivery.take(
                    self._contents(model.label(index, self.label, self.attributes), index, frames)
                )
                done.append(index)
        except GenfastError as error:
            return Drawn(done, contents, error)
        return Drawn(done, contents)

    def _frames(self, model: Model, indices: list[int]) -> Iterator[Sequence[Pixels]]:
        """Of each image how it comes about, or the last of that alone."""
        how: dict[str, Any] = {"seed": self.files.seed, "label": self.label}
        how |= {"attributes": self.attributes, "options": self.options}
        if self.files.history:
            return (list(model.history(index, **how)) for index in indices)
        return ([image] for image in next(model.batches(indices, batch=self.batch, **how)))

    def _contents(self, label: str | None, index: int, frames: Sequence[Pixels]) -> Iterator[Content]:
        for path, part in zip(self.files.paths(index), self.files.parts, strict=True):
            if not self.delivery.collect and self.files.keeps(path):
                continue
            comment = self.params(label, history=part != "", index=index).comment()
            if part == "-history":
                yield path, io.animation(frames, comment)
            else:
                yield path, io.encoded(sheets.strip(frames) if part else frames[-1], path.suffix[1:], comment)
