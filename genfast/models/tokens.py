"""Loaded models of the family vq-sundae: a prior over the tokens of a VQ-GAN."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from genfast.attributes import Rows, Settings
from genfast.errors import InputError, UsageError
from genfast.inpainting import masks
from genfast.models.base import State
from genfast.models.drafts import Drafts
from genfast.models.filling import Filling
from genfast.models.recognition import Evidence, recognise
from genfast.models.vq import Tokenizer
from genfast.runtime.session import Session
from genfast.samplers.likelihood import pseudo_log_likelihood
from genfast.samplers.noise import check_range
from genfast.samplers.options import Options, TokenOptions
from genfast.samplers.token_step import TokenBatch, TokenNetwork
from genfast.samplers.tokens import sample
from genfast.types import Floats, Frame, Mask, Pixels, Tokens


@dataclass(frozen=True)
class TokenModel(Tokenizer):
    """A model of family vq-sundae: it draws tokens by any of genfast.samplers.options.SAMPLERS, and decodes them."""

    options: TokenOptions
    fill_options: TokenOptions
    predict: Session
    draw: Session
    pixel_likelihood: Callable[[], Session] | None  # as the encoder; None where the bundle has none
    draft: Callable[[], Session] | None  # likewise: tokens as drafts have them
    draft_likelihood: Callable[[], Session] | None  # likewise: what a draft says of tokens
    drafts: Callable[[], Drafts]

    @property
    def fill_steps(self) -> int:
        return self.fill_options.steps

    def take(self, options: Options | None) -> TokenOptions:
        return self._taken(options or self.options)

    def take_fill(self, options: Options | None) -> TokenOptions:
        return self._taken(options or self.fill_options)

    def _taken(self, options: Options) -> TokenOptions:
        if not isinstance(options, TokenOptions):
            raise self.refuse(options)
        return options

    def attributes_of(
        self, index: int, *, seed: int = 0, label: str | None = None, attributes: Settings | None = None
    ) -> dict[str, str]:
        labels = self._labels([index], label, attributes)
        return self.drafts().table.named(self._rows(seed, [index], labels, attributes)[0])

    def _able(self, attributes: Settings, classes: Sequence[str]) -> Sequence[str]:
        if not attributes or not self.bundle.manifest.attributes:
            return super()._able(attributes, classes)
        everyone = self.bundle.manifest.classes
        able = self.drafts().table.able(attributes, [everyone.index(name) for name in classes] or [0])
        return [everyone[label] for label in able] if everyone else []

    def _rows(self, seed: int, indices: list[int], labels: Tokens, attributes: Settings | None) -> Rows:
        """The attributes [B, A] of images of classes [B]: those that are set, and the others as they are drawn."""
        table = self.drafts().table
        return table.told(attributes or {}, labels, table.choose(labels, seed=seed, indices=indices))

    def _draw(
        self,
        indices: list[int],
        seed: int,
        size: int,
        label: str | None,
        attributes: Settings | None,
        options: Options | None,
        callback: Callable[[State], None] | None = None,
    ) -> Tokens:
        if self.predict.device == "cpu" and len(indices) > 1:
            # There one image fills all cores. And graphs that take the range of activations from the whole batch would
            # let the images of a batch depend on each other.
            alone = ([index] for index in indices)
            return np.concatenate([self._draw(each, seed, 1, label, attributes, options, callback) for each in alone])
        labels = self._labels(indices, label, attributes)
        draft = self.drafts().of(labels, self._rows(seed, indices, labels, attributes))
        batch = TokenBatch(seed, indices, self._shape, labels, draft, logit_bias=self._logit_bias(draft))
        return sample(self._network(), batch, self.take(options), callback)

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
        label, chosen = self.fill_label(label, attributes), self.take_fill(options)
        check_range(seed, [index])
        if not hole.any():
            return Filling(picture)
        free = masks.tokens(hole, self._shape).reshape(1, -1)  # (1, N)
        given = self.encode(picture[None])
        bias = None
        if self.pixel_likelihood:  # of a token that the hole cuts, what is left to see tells much
            bias = self.pixel_likelihood().bind()(image=picture[None], known=~hole[None], wanted=free)["logit_bias"]
        labels, rows = self._of_hole(given, free, seed, index, label, attributes or {})
        network, drafts = self._network(), self.drafts()
        draft = drafts.of(labels, rows)
        batch = TokenBatch(seed, [index], self._shape, labels, draft, (~free, given), self._logit_bias(draft, bias))
        show = None if callback is None else lambda tokens: callback(lambda: self._pixels(tokens)[0])
        tokens = sample(network, batch, chosen, show)
        logs = pseudo_log_likelihood(network, batch, tokens)[free] if rank else np.zeros(0, np.float32)
        told = (*self.bundle.manifest.classes, None)[labels[0]]
        return Filling(self._pixels(tokens)[0], logs, told, drafts.table.named(rows[0]))

    def _logit_bias(self, draft: Floats, pixel_bias: npt.ArrayLike | None = None) -> npt.ArrayLike | None:
        """What drafts [B, N, K] say of tokens, and pixels [B, N, V], in nats."""
        if self.draft_likelihood is None or not draft.any():  # nothing is told
            return pixel_bias
        said = self.draft_likelihood().bind()(draft=draft)["logit_bias"]
        return said if pixel_bias is None else np.asarray(said) + np.asarray(pixel_bias)

    def fill_label(self, label: str | None = None, attributes: Settings | None = None) -> str | None:
        if self.draft is None:
            return super().fill_label(label, attributes)
        self.label(0, label, attributes)
        return label  # which of several classes can have the attributes, the surroundings tell

    def _of_hole(
        self, given: Tokens, free: Mask, seed: int, index: int, label: str | None, attributes: Settings
    ) -> tuple[Tokens, Rows]:
        """The label [1] and the attributes [1, A] of a picture of tokens [1, N] that is to be filled where it is free.

        What is not set is told by what is around, where that shows it; else it is open.
        """
        if free.all():  # nothing is around it: a whole picture
            labels = self._labels([index], label, attributes)
            return labels, self._rows(seed, [index], labels, attributes)
        classes, table = self.bundle.manifest.classes, self.drafts().table
        if self.draft:
            seen = np.asarray(self.draft().bind()(tokens=given)["draft"])[0]  # [N, K]
            able = table.able(attributes, [classes.index(label)] if label else range(max(len(classes), 1)))
            among = [Evidence.of(self.drafts(), each, seen, ~free[0]) for each in able]
            look = partial(recognise, among, seed=seed, index=index)
            # What is set may not be what is there.
            if found := look(settings=attributes) or (look(settings={}) if attributes else None):
                labels, rows = np.array(found[:1]), found[1]
                return labels, table.told(attributes, labels, rows)
        try:
            label = super().fill_label(label, attributes)
        except UsageError as error:  # another picture may show one
            raise InputError(f"its class is not recognised, and {error}") from error
        labels = np.array([classes.index(label) if label else len(classes)])
        return labels, table.told(attributes, labels, np.zeros((1, len(table.attributes)), np.int64))

    def _pixels(self, state: State) -> Pixels:
        return self.decode(state.astype(np.int64, copy=False))  # which it is already

    @property
    def _shape(self) -> tuple[int, int]:
        return self.tokens.height, self.tokens.width

    def _network(self) -> TokenNetwork:
        """The two graphs of a step for one batch: features stay on the device between them."""
        run_predict, run_draw = self.predict.bind(), self.draw.bind()

        def predict(tokens: Tokens, label: Tokens, draft: Floats, known: Mask) -> npt.ArrayLike:
            told = {"draft": draft} if self.bundle.manifest.attributes else {}
            return run_predict(tokens=tokens, label=label, known=known, **told)["hidden"]

        def draw(
            hidden: npt.ArrayLike,
            tokens: Tokens,
            update: Mask,
            temperature: Floats,
            uniform: Floats,
            return_prob: Mask,
            logit_bias: npt.ArrayLike,
        ) -> tuple[npt.ArrayLike, npt.ArrayLike]:
            given = {"hidden": hidden, "tokens": tokens, "update": update, "temperature": temperature}
            outputs = run_draw(**given, uniform=uniform, return_prob=return_prob, logit_bias=logit_bias)
            return outputs["drawn"], outputs["probability"]

        return TokenNetwork(predict, draw, self.tokens.vocabulary, unlabelled=len(self.bundle.manifest.classes))
