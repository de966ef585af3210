"""Repainting the file of a picture: what the command line and the page do around `inpaint`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from genfast.attributes import Settings
from genfast.bundles import catalog
from genfast.errors import InputError
from genfast.images import io, photo
from genfast.images.jpeg import repainted
from genfast.images.params import GenerationParams, OptionValue
from genfast.images.photo import Photo
from genfast.inpainting import fill, masks
from genfast.inpainting.fill import Callback, Fill
from genfast.models.base import Model
from genfast.samplers.options import Options
from genfast.tasks.made_by import made_by
from genfast.types import Format, Mask

Say = Callable[[str], None]  # a line for people


def drawn_by(model: Model, n: int = 1, seed: int = 0) -> GenerationParams:
    """What `n` fills of a seed have in common."""
    return made_by(model, steps=model.fill_steps, seed=seed, index=0, n=n)


@dataclass(frozen=True, kw_only=True)
class Repaint:
    """What a model is told: `options` as `inpaint` takes them, and what was `said` of them, by command line."""

    drawn_by: GenerationParams  # all fills: which model, of which seed, and how many there are
    label: str | None = None
    attributes: Settings | None = None
    grow: int = 0
    feather: int | None = None
    context: int = 0
    invert: bool = False
    history: bool = False
    format: Format = "png"
    options: Options | None = None
    said: Mapping[str, OptionValue] = field(default_factory=dict)

    def fills(
        self,
        model: Model,
        source: BytesIO | Path,
        mask: BytesIO | Path | None,
        *,
        say: Say,
        advance: Callable[[int], object] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Photo, Mask, list[Fill]]:
        """Fill the hole of a picture, without a mask what is transparent of it: its fills, the likeliest first.

        Also returns the picture that they are fills of, and the hole as it was grown. Raises InputError as
        photo.read, photo.opaque, masks.read and `inpaint` do, and where the format cannot hold the picture.
        """
        name = io.name(source)
        picture = photo.read(source)
        if mask is None:
            picture, hole = photo.opaque(picture, name)
        else:
            hole = masks.read(mask, picture.colours.shape[:2], invert=self.invert)
        if not photo.fits(picture, self.format):
            what = "bits or pixels" if picture.alpha is None else "bits, pixels or transparency"
            raise InputError(f"{name} has more {what} than {self.format} holds; give --format png")
        if photo.loses_meaning(picture, self.format):
            say(f"{self.format} does not hold what {name} says of its colours, which may look different")
        if not hole.any():
            say(f"{name if mask is None else io.name(mask)} repaints nothing; {name} comes out as it is")
        try:
            found = fill.inpaint(
                model,
                picture.colours,
                hole,
                n=self.drawn_by.n,
                seed=self.drawn_by.seed,
                grow=self.grow,
                feather=self.feather,
                context=self.context,
                history=self.history,
                label=self.label,
                attributes=self.attributes,
                options=self.options,
                advance=advance,
                callback=callback,
            )
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        entry = catalog.entries().get(self.drawn_by.model)
        near = found[0].psnr_around
        if entry and entry.familiar_psnr and near is not None and near < entry.familiar_psnr:
            known = f"what {self.drawn_by.model} was trained on ({entry.summary})"
            say(f"{name} is unlike {known}: its fill may not suit it")
        grown = masks.grown(hole, self.grow)
        return photo.shown(picture, grown), grown, found

    def params(self, index: int, names: tuple[str, ...], history: bool = False) -> GenerationParams:
        """What makes a fill, or its history, again, by its index.

        `names` are those of the files of the picture and of its mask.
        """
        told = {"grow": self.grow, "context": self.context, "invert": self.invert, "history": history}
        chosen: dict[str, OptionValue] = {name: value for name, value in told.items() if value}
        chosen |= {} if self.format == "png" else {"format": self.format}
        chosen |= {} if self.feather is None else {"feather": self.feather}
        chosen |= ({} if self.label is None else {"class": self.label}) | {**self.said}
        known = self.drawn_by.model_dump()
        return GenerationParams(**{**known, "index": index, "options": chosen, "inpainted": names})

    def file(
        self,
        source: BytesIO | Path,
        picture: Photo,
        hole: Mask,
        one: Fill,
        names: tuple[str, ...],
        *,
        say: Say,
    ) -> bytes:
        """The file of a picture with one of its fills, which says what made it."""
        comment = self.params(one.index, names).comment()
        filled = replace(picture, colours=one.image)
        if self.format == "jpeg":
            old = source.getvalue() if isinstance(source, BytesIO) else source.read_bytes()
            if kept := repainted(old, filled, hole, comment):
                return kept
            say(f"{io.name(source)} is encoded anew as JPEG: what is outside the mask keeps its looks, not its bits")
        file = BytesIO()
        photo.write(file, filled, comment, self.format)
        return file.getvalue()
