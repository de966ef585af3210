"""Loaded models: one class a family, one face."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from genfast import ddgan, fleet, masks, sundae
from genfast.bundle import Bundle, ImageSize, TokenGrid
from genfast.errors import UsageError
from genfast.session import Session

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Watch = Callable[[npt.NDArray[Any]], None]

RING = 0  # tokens around a hole that are drawn as well
FEW = 1 / 3  # share of tokens that are drawn, below which neighbours have too little to say to be asked


@dataclass(frozen=True)
class Model(ABC):
    """A sampler, ready to draw; `genfast.load` makes one.

    Options of sampling go wherever it draws: `label`, the name of a class, where it has classes, which by default take
    turns; for a model of tokens the fields of genfast.sundae.Options too. Every method raises UsageError for an option
    that the model does not take, for a value that makes no sense, and for a seed or index beyond 0 .. 2**63 - 1.
    """

    bundle: Bundle
    name: str  # in the catalogue, else that of the bundle
    steps: int  # unless an option says otherwise
    image: ImageSize
    helpers: tuple[fleet.Load, ...] = field(default=(), kw_only=True)  # the same model on further devices

    def sample(self, n: int, *, seed: int = 0, start: int = 0, batch: int | None = None, **options: Any) -> Pixels:
        """Draw images start .. start + n - 1 of a seed: uint8 [n, H, W, C].

        Image i of a seed is the same image whatever n, start and batch. Raises UsageError for n < 1.

        >>> genfast.load("fashion28").sample(8, seed=1).shape
        (8, 28, 28, 1)
        """
        if n < 1:
            raise UsageError(f"the number of images must be at least 1, not {n}")
        return np.concatenate(list(self.batches(range(start, start + n), seed=seed, batch=batch, **options)))

    def batches(
        self, indices: Sequence[int], *, seed: int = 0, batch: int | None = None, **options: Any
    ) -> Iterator[Pixels]:
        """Draw the given images of a seed, `batch` at a time (by default as many as the bundle advises).

        Yields uint8 [B, H, W, C]. Raises UsageError for batch < 1.
        """
        size = self.bundle.manifest.sampling.batch if batch is None else batch
        if size < 1:
            raise UsageError(f"the batch must be at least 1, not {size}")
        _check_range(seed, indices)
        self.label(0, **options)

        def draw(chunk: Sequence[int]) -> Pixels:
            return self._pixels(self._draw(list(chunk), seed, size, options))

        share = min(size, -(-len(indices) // (1 + len(self.helpers)))) or 1  # so that no device is idle
        chunks = [indices[start : start + share] for start in range(0, len(indices), share)]
        if not self.helpers:
            return map(draw, chunks)
        return fleet.batches(draw, self.helpers, chunks, seed=seed, batch=size, **options)

    def history(self, index: int, *, seed: int = 0, **options: Any) -> Iterator[Pixels]:
        """How an image comes about: what it starts from, then the picture after each step, each uint8 [H, W, C].

        The last is the image that `sample` draws. Raises UsageError where the model is on several devices.
        """
        self._check_alone()
        _check_range(seed, [index])
        self.label(0, **options)
        states: list[npt.NDArray[Any]] = []
        self._draw([index], seed, 1, options, states.append)
        return (self._pixels(state)[0] for state in states)

    @property
    def filling_steps(self) -> int:
        """How many steps `fill` takes, unless an option says otherwise."""
        return self.steps

    def _check_alone(self) -> None:
        if self.helpers:
            raise UsageError("only whole images are drawn on several devices; give a single --device")

    @abstractmethod
    def fill(
        self,
        picture: Pixels,
        hole: Mask,
        *,
        index: int = 0,
        seed: int = 0,
        rank: bool = False,
        watch: Callable[[Pixels], None] | None = None,
        **options: Any,
    ) -> tuple[Pixels, npt.NDArray[np.float32]]:
        """What the hole [H, W] of a picture, uint8 [H, W, C] of the model's size, could hold: fill `index` of a seed.

        Returns a picture, whose pixels outside the hole are near the given ones and no more, and, where `rank` asks
        for it and the model can tell, the log-probabilities of what was drawn. `watch` is given the picture before and
        after each step. Pictures are to be blank in the hole, since models of tokens see it when they encode.
        genfast.inpaint does the rest. Options are those of drawing, but that the class is by default what the
        surroundings tell; and for a model of tokens `rule`: whether "any" token that the hole touches is drawn, or
        those alone that lie in it with "all" of their pixels; and `ring`: how many tokens around those. For the others
        `resample`: see genfast.ddgan.inpaint. Raises UsageError where the model is on several devices.
        """

    def label(self, index: int, label: str | None = None, **options: Any) -> str | None:
        """The name of the class of an image, None where the model has no classes."""
        self._check(options)
        classes = self.bundle.manifest.classes
        if label is None:
            return classes[index % len(classes)] if classes else None
        if label not in classes:
            raise UsageError(f"{self.name} has no class {label!r}; it has: {', '.join(classes) or 'none'}")
        return label

    def _labels(self, indices: list[int], **options: Any) -> sundae.Tokens:
        """The classes [B] of images, by their place; 0 where the model has none."""
        classes, names = self.bundle.manifest.classes, [self.label(i, **options) for i in indices]
        return np.array([classes.index(name) if name else 0 for name in names], np.int64)

    @abstractmethod
    def _check(self, options: dict[str, Any]) -> None:
        """Raises UsageError for options beside `label` that the model does not take."""

    @abstractmethod
    def _draw(
        self, indices: list[int], seed: int, size: int, options: dict[str, Any], watch: Watch | None = None
    ) -> npt.NDArray[Any]:
        """The final state [B, ...] of B images, at most `size`. `watch` is given it before and after each step."""

    @abstractmethod
    def _pixels(self, state: npt.NDArray[Any]) -> Pixels:
        """What a state looks like: uint8 [B, H, W, C]."""


@dataclass(frozen=True)
class DiffusionModel(Model):
    """A model of family ddgan or ddpm."""

    session: Session
    levels: tuple[int, ...]  # of the bundle's schedule, at t = 0 .. steps: a DDPM may leave some out

    def _check(self, options: dict[str, Any]) -> None:
        if options:
            raise _stranger(self, sorted(options))

    def fill(
        self,
        picture: Pixels,
        hole: Mask,
        *,
        index: int = 0,
        seed: int = 0,
        rank: bool = False,
        watch: Callable[[Pixels], None] | None = None,
        label: str | None = None,
        resample: int = 1,
        **options: Any,
    ) -> tuple[Pixels, npt.NDArray[np.float32]]:
        self._check_alone()
        labels = self._labels([index], label=label, **options)
        _check_range(seed, [index])
        if not 1 <= resample <= 1000:
            raise UsageError(f"resample must lie in 1 .. 1000, not {resample}")
        manifest = self.bundle.manifest
        assert manifest.schedule
        alpha_bar = manifest.schedule.alpha_bar
        if label is None:
            labels[:] = len(manifest.classes)  # none: what is known of x_t tells
        if not hole.any():
            return picture, np.zeros(0, np.float32)
        filled = ddgan.inpaint(
            self._step(labels),
            picture.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1,  # [1, C, H, W]
            hole,
            alpha_bar=[alpha_bar[level] for level in self.levels],
            latent=manifest.latent,
            seed=seed,
            indices=[index],
            resample=resample,
            watch=None if watch is None else lambda pictures: watch(pictures[0]),
        )
        return filled[0], np.zeros(0, np.float32)

    def _draw(
        self, indices: list[int], seed: int, size: int, options: dict[str, Any], watch: Watch | None = None
    ) -> Pixels:
        # cuDNN tunes itself, and may round, anew for each batch size, so all batches get the same one. On the CPU
        # constant weights are packed ahead and every image is computed alike in any batch.
        padding = [indices[-1]] * (size - len(indices)) if self.session.device != "cpu" else []
        images = ddgan.sample(
            self._step(self._labels(indices + padding, **options)),
            steps=self.steps,
            latent=self.bundle.manifest.latent,
            shape=(self.image.channels, self.image.height, self.image.width),
            seed=seed,
            indices=indices + padding,
            watch=watch,
        )
        return images[: len(indices)]

    def _pixels(self, state: Pixels) -> Pixels:
        return state

    def _step(self, labels: sundae.Tokens) -> ddgan.Step:
        """The step for one batch of these classes [B], whose state stays on the device."""
        run, levels = self.session.bind(), np.array(self.levels)
        told = {"label": labels} if self.bundle.manifest.classes else {}

        def step(
            x_t: npt.ArrayLike, t: npt.NDArray[np.int64], z: ddgan.Floats | None, noise: ddgan.Floats
        ) -> tuple[npt.ArrayLike, npt.ArrayLike]:
            # The network of a DDGAN was trained for its levels; that of a DDPM is told which one comes next.
            more = {"s": levels[t - 1]} if z is None else {"z": z}
            outputs = run(x_t=x_t, t=levels[t], noise=noise, **more, **told)
            return outputs["x_prev"], outputs["x_0"]

        return step


@dataclass(frozen=True)
class TokenModel(Model):
    """A model of family vq-sundae."""

    tokens: TokenGrid
    options: sundae.Options  # by default
    filling: sundae.Options  # likewise, of `fill`
    predict: Session
    draw: Session
    decode: Session
    themes: Callable[[], sundae.Floats]  # what its graph gives: themes [L, M, K] to draw with, by class
    encode: Callable[[], Session]  # loaded when first called, since drawing does without; likewise:
    evidence: Callable[[], Session]
    recognise: Callable[[], Session]
    borders: Callable[[], Mapping[str, npt.ArrayLike]]  # what its graph gives, which `seams` takes
    seams: Callable[[], Session]

    def _check(self, options: dict[str, Any]) -> None:
        self._options(options)

    @property
    def filling_steps(self) -> int:
        return self.filling.steps

    def _options(self, given: dict[str, Any], default: sundae.Options | None = None) -> sundae.Options:
        if strangers := sorted(given.keys() - {field.name for field in fields(sundae.Options)}):
            raise _stranger(self, strangers)
        options = replace(default or self.options, **given)
        if idle := sorted(_IDLE[options.order] & given.keys()):
            raise UsageError(f"order {options.order} takes no {_listed(idle)}")
        if {"share", "share_end"} & given.keys() and "all_below" not in given:
            return replace(options, all_below=0)  # a share that is asked for holds at any number of steps
        return options

    def _draw(
        self, indices: list[int], seed: int, size: int, options: dict[str, Any], watch: Watch | None = None
    ) -> sundae.Tokens:
        if self.predict.device == "cpu" and len(indices) > 1:
            # There one image fills all cores. And graphs that take the range of activations from the whole batch would
            # let the images of a batch depend on each other.
            return np.concatenate([self._draw([index], seed, 1, options, watch) for index in indices])
        classes = self.bundle.manifest.classes
        chosen = self._options({name: value for name, value in options.items() if name != "label"})
        labels = self._labels(indices, **options)
        return sundae.sample(
            *self._graphs(),
            options=chosen,
            shape=(self.tokens.height, self.tokens.width),
            evidence=self._beside(chosen),
            vocabulary=self.tokens.vocabulary,
            labels=labels,
            themes=sundae.choose_themes(self.themes(), labels, seed=seed, indices=indices),
            unlabelled=len(classes),
            seed=seed,
            indices=indices,
            watch=watch,
        )

    def fill(
        self,
        picture: Pixels,
        hole: Mask,
        *,
        index: int = 0,
        seed: int = 0,
        rank: bool = False,
        watch: Callable[[Pixels], None] | None = None,
        label: str | None = None,
        rule: str = "any",
        ring: int = RING,
        **options: Any,
    ) -> tuple[Pixels, npt.NDArray[np.float32]]:
        self._check_alone()
        labels = self._labels([index], label=label, **options)
        _check_range(seed, [index])
        chosen, classes = self._options(options, self.filling), self.bundle.manifest.classes
        shape = self.tokens.height, self.tokens.width
        free = masks.tokens(hole, shape, rule, ring).reshape(1, -1)  # [1, N]
        if not hole.any():
            return picture, np.zeros(0, np.float32)
        given = self.encode().run(image=picture[None])["tokens"]
        # Of a token that the hole cuts, what is left to see tells much.
        evidence = self.evidence().bind()(image=picture[None], known=~hole[None], wanted=free)["evidence"]
        predict, draw = self._graphs()
        if free.all():
            themes = sundae.choose_themes(self.themes(), labels, seed=seed, indices=[index])
        else:
            told = self.recognise().run(tokens=given, known=~free)
            themes = told["theme"]
            if label is None:
                labels = told["label"].argmax(1)
        common: dict[str, Any] = dict(labels=labels, themes=themes, seed=seed)
        tokens = sundae.sample(
            predict,
            draw,
            options=chosen,
            shape=shape,
            vocabulary=self.tokens.vocabulary,
            evidence=self._beside(chosen, evidence),
            unlabelled=len(classes),
            indices=[index],
            fixed=(~free, given),
            watch=None if watch is None else lambda tokens: watch(self._pixels(tokens)[0]),
            **common,
        )
        logs = np.zeros(0, np.float32)
        if rank:
            logs = sundae.likelihood(predict, draw, tokens, free, **common)[free]
        return self._pixels(tokens)[0], logs

    def _pixels(self, state: sundae.Tokens) -> Pixels:
        # One by one: a batch of megapixels would take gigabytes.
        return np.concatenate([self.decode.run(tokens=row[None])["image"] for row in state])

    def _beside(self, options: sundae.Options, said: npt.ArrayLike | None = None) -> sundae.Evidence | None:
        """Evidence for one batch: what a picture has `said` of its tokens [B, N, V], and what neighbours say."""
        if not options.seams:
            return None if said is None else lambda tokens, known: said
        bound = cache(lambda: partial(self.seams().bind(), **self.borders()))  # once they are asked

        def evidence(tokens: sundae.Tokens, known: npt.NDArray[np.bool_]) -> npt.ArrayLike:
            before = _nothing(tokens) if said is None else said
            if known.mean() < FEW:
                return before
            weight = np.full(len(tokens), options.seams, np.float32)
            return bound()(tokens=tokens, known=known, weight=weight, said=before)["evidence"]

        return evidence

    def _graphs(self) -> tuple[sundae.Predict, sundae.Draw]:
        """The two graphs of a step for one batch: features stay on the device between them."""
        run_predict, run_draw = self.predict.bind(), self.draw.bind()

        def predict(tokens: sundae.Tokens, label: sundae.Tokens, theme: sundae.Floats, known: Mask) -> npt.ArrayLike:
            return run_predict(tokens=tokens, label=label, theme=theme, known=known)["hidden"]

        def draw(
            hidden: npt.ArrayLike,
            tokens: sundae.Tokens,
            update: Mask,
            temperature: sundae.Floats,
            uniform: sundae.Floats,
            judge: Mask,
            evidence: npt.ArrayLike | None = None,
        ) -> tuple[npt.ArrayLike, npt.ArrayLike]:
            more = _nothing(tokens) if evidence is None else evidence
            given = {"hidden": hidden, "tokens": tokens, "update": update, "temperature": temperature}
            outputs = run_draw(**given, uniform=uniform, judge=judge, evidence=more)
            return outputs["drawn"], outputs["probability"]

        return predict, draw


def _nothing(tokens: sundae.Tokens) -> sundae.Floats:
    """Evidence that is none."""
    return np.zeros((*tokens.shape, 1), np.float32)


_SHARES, _GROWING = {"share", "share_end", "all_below"}, {"growth", "settle", "seams"}
_IDLE = {  # what changes nothing, by order
    "confidence": _SHARES,
    "chance": {*_SHARES, "choice_temperature"},
    "random": {*_GROWING, "choice_temperature"},
}


def _stranger(model: Model, options: list[str]) -> UsageError:
    return UsageError(f"{model.name} is of family {model.bundle.manifest.family}, which takes no {_listed(options)}")


def _listed(options: list[str]) -> str:
    """Names of options as the command line has them."""
    return ", ".join(name.replace("_", "-") for name in options)


def _check_range(seed: int, indices: Sequence[int]) -> None:
    if not all(0 <= x < 2**63 for x in (seed, min(indices, default=0), max(indices, default=0))):
        raise UsageError("the seed and the indices of images must lie in 0 .. 2**63 - 1")
