"""What a VQ-GAN does, pictures to tokens and back, and loaded models of the family vq, which are one by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from genfast.bundles.manifest import TokenGrid
from genfast.errors import UsageError
from genfast.models.base import Model
from genfast.runtime.session import Session
from genfast.samplers.options import Options
from genfast.types import Pixels, Tokens


@dataclass(frozen=True)
class Tokenizer(Model):
    """A model with a VQ-GAN."""

    tokens: TokenGrid
    encoder: Callable[[], Session]  # loaded when first called, since drawing does without
    decoder: Session

    @property
    def device(self) -> str:
        return self.decoder.device

    def encode(self, images: Pixels) -> Tokens:
        shape = self.image.height, self.image.width, self.image.channels
        if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
            raise UsageError(f"{self.name} encodes images of uint8 [B, {', '.join(map(str, shape))}]")
        # One by one: a batch of megapixels would take gigabytes.
        return np.concatenate([self.encoder().run(image=image[None])["tokens"] for image in images])

    def decode(self, tokens: Tokens) -> Pixels:
        grid = self.tokens
        n = grid.height * grid.width
        if tokens.dtype != np.int64 or tokens.shape[1:] != (n,) or not len(tokens):
            raise UsageError(f"{self.name} decodes tokens of int64 [B, {n}]")
        if tokens.min() < 0 or tokens.max() >= grid.vocabulary:
            raise UsageError(f"the tokens of {self.name} lie in 0 .. {grid.vocabulary - 1}")
        return np.concatenate([self.decoder.run(tokens=row[None])["image"] for row in tokens])


@dataclass(frozen=True)
class VQModel(Tokenizer):
    """A model of family vq. By itself it draws nothing: a prior over its tokens does."""

    @property
    def fill_steps(self) -> NoReturn:
        raise self._draws_nothing()

    def take(self, options: Options | None) -> Options | None:
        raise self._draws_nothing()

    def take_fill(self, options: Options | None) -> Options:
        raise self._draws_nothing()

    def fill(self, *_: object, **__: object) -> NoReturn:
        raise self._draws_nothing()

    def _draw(self, *_: object, **__: object) -> NoReturn:
        raise self._draws_nothing()

    def _pixels(self, *_: object) -> NoReturn:
        raise self._draws_nothing()

    def _draws_nothing(self) -> UsageError:
        return UsageError(
            f"{self.name} is of family vq and draws nothing by itself; genfast tokenize and genfast reconstruct use it"
        )


def tokenizer(model: Model) -> Tokenizer:
    """A loaded model, as one that has tokens. Raises UsageError where it has none."""
    if not isinstance(model, Tokenizer):
        raise model.without_tokens()
    return model
