"""Loaded models of the family inpainter: one call fills a hole, and nothing is left to chance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from genfast.attributes import Settings
from genfast.errors import UsageError
from genfast.models.base import Model, State
from genfast.models.filling import Filling
from genfast.runtime.session import Session
from genfast.samplers.noise import check_range
from genfast.samplers.options import Options
from genfast.types import Frame, Mask, Pixels


@dataclass(frozen=True)
class InpainterModel(Model):
    """A model of family inpainter: it has one fill for a hole, whatever the seed, and draws no whole images."""

    session: Session

    @property
    def device(self) -> str:
        return self.session.device

    @property
    def varied(self) -> bool:
        return False

    def take(self, options: Options | None) -> NoReturn:
        raise UsageError(f"{self.name} is of family inpainter and draws no images; give it some: genfast inpaint")

    def take_fill(self, options: Options | None) -> None:
        if options is not None:
            raise self.refuse(options)

    def fill(
        self,
        picture: Pixels,
        hole: Mask,
        *,
        index: int = 0,
        seed: int = 0,
        label: str | None = None,
        attributes: Settings | None = None,
        options: Options | None = None,
        rank: bool = False,
        callback: Callable[[Frame], None] | None = None,
    ) -> Filling:
        self.take_fill(options)
        self.fill_label(label, attributes)
        check_range(seed, [index])
        filled = self.session.run(image=picture[None], mask=hole[None, :, :, None])["filled"][0]
        if callback is not None:
            callback(lambda: picture)
            callback(lambda: filled)
        return Filling(filled)

    def _draw(self, *_: object, **__: object) -> NoReturn:
        self.take(None)

    def _pixels(self, state: State) -> Pixels:
        return state.astype(np.uint8, copy=False)
