"""The face of a loaded model, whatever its family."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from genfast.attributes import Settings
from genfast.bundles.bundle import Bundle
from genfast.bundles.manifest import ImageSize
from genfast.errors import UsageError
from genfast.models.filling import Filling
from genfast.samplers.noise import check_range
from genfast.samplers.options import Options
from genfast.shards import chunks
from genfast.types import Frame, Mask, Pixels, Tokens

State = Pixels | Tokens  # [B, ...]: what a sampler makes
Item = TypeVar("Item")
Made = TypeVar("Made")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Model(ABC):
    """A sampler, ready to draw; `genfast.load` makes one.

    Wherever it draws, `label` is the name of a class, where it has classes, which by default take turns; `attributes`
    are values by name, such as {"hair": "bun"}, and what they do not say is drawn as often as training data have it;
    `options` are those of a sampler that it can use, by default its own `options`. Every method raises UsageError for
    what of these the model does not take, and for a seed or an index beyond 0 .. 2**63 - 1.
    """

    bundle: Bundle
    name: str  # in the catalogue, else that of the bundle
    steps: int  # that it takes by default
    options: Options | None  # that it draws with by default; None where there is nothing to choose
    fill_options: Options | None  # likewise, of `fill`

    @property
    def image(self) -> ImageSize:
        """What it draws."""
        assert self.bundle.manifest.image  # as every manifest of a family that draws
        return self.bundle.manifest.image

    @property
    def fill_steps(self) -> int:
        """How many steps `fill` takes by default."""
        return self.steps

    @property
    def varied(self) -> bool:
        """Whether its fills of one hole differ, from index to index and seed to seed."""
        return True

    @property
    @abstractmethod
    def device(self) -> str:
        """Where it really is: "cpu" or "cuda:N"."""

    @property
    def places(self) -> int:
        """How many items `map` works on at a time."""
        return 1

    def map(
        self, work: Callable[["Model", Item], Made], items: Iterable[Item], finish: Callable[[Made], Done]
    ) -> Iterator[Done]:
        """Do `work` on each item, wherever the model is, and `finish` here with what comes of it, in their order.

        Items are asked for as they are worked on. `work` may travel to another process: a function of a module, or an
        object of a class of one. Where there are several, what came first is finished first, and given in order.
        """
        return (finish(work(self, item)) for item in items)

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        start: int = 0,
        batch: int | None = None,
        label: str | None = None,
        attributes: Settings | None = None,
        options: Options | None = None,
    ) -> Pixels:
        """Draw images start .. start + n - 1 of a seed: uint8 [n, H, W, C].

        Image i of a seed is the same image whatever n, start and batch. Raises UsageError for n < 1.

        >>> images = genfast.load("fashion28").sample(8, seed=1)  # uint8 [8, 28, 28, 1]
        """
        if n < 1:
            raise UsageError(f"the number of images must be at least 1, not {n}")
        indices = range(start, start + n)
        drawn = self.batches(indices, seed=seed, batch=batch, label=label, attributes=attributes, options=options)
        return np.concatenate(list(drawn))

    def batches(
        self,
        indices: Iterable[int],
        *,
        seed: int = 0,
        batch: int | None = None,
        label: str | None = None,
        attributes: Settings | None = None,
        options: Options | None = None,
    ) -> Iterator[Pixels]:
        """Draw the given images of a seed, `batch` at a time (by default as many as the bundle advises).

        Yields uint8 [B, H, W, C]; indices are asked for as they are drawn. Raises UsageError for batch < 1.
        """
        size = self.batch_size(batch)
        self.check(seed, indices, label, options, attributes)

        def draw(chunk: list[int]) -> Pixels:
            check_range(seed, chunk)
            return self._pixels(self._draw(chunk, seed, size, label, attributes, options))

        return map(draw, chunks(indices, size))

    def chunks(self, indices: Iterable[int], batch: int | None = None) -> Iterator[list[int]]:
        """The indices, as many at a time as are drawn at once; fewer where one of several places would be idle.

        Raises UsageError for batch < 1.
        """
        size = self.batch_size(batch)
        if isinstance(indices, Sequence):
            size = min(size, -(-len(indices) // self.places)) or 1
        return chunks(indices, size)

    def batch_size(self, batch: int | None) -> int:
        """How many images are drawn at a time. Raises UsageError for batch < 1."""
        size = self.bundle.manifest.sampling.batch if batch is None else batch
        if size < 1:
            raise UsageError(f"the batch must be at least 1, not {size}")
        return size

    def history(
        self,
        index: int,
        *,
        seed: int = 0,
        label: str | None = None,
        attributes: Settings | None = None,
        options: Options | None = None,
    ) -> Iterator[Pixels]:
        """How an image comes about: what it starts from, then the picture after each step, each uint8 [H, W, C].

        The last is the image that `sample` draws.
        """
        self.check(seed, [index], label, options, attributes)
        states: list[State] = []
        self._draw([index], seed, 1, label, attributes, options, states.append)
        return (self._pixels(state)[0] for state in states)

    def watched(
        self,
        indices: Sequence[int],
        callback: Callable[[Frame], None],
        *,
        seed: int = 0,
        label: str | None = None,
        attributes: Settings | None = None,
        options: Options | None = None,
    ) -> Pixels:
        """Draw one batch as `batches` does, at most of its size: uint8 [B, H, W, C].

        `callback` is given, before and after each step, what makes the pictures so far; what it raises ends the work.
        """
        self.check(seed, indices, label, options, attributes)
        size, show = self.batch_size(None), lambda state: callback(lambda: self._pixels(state))
        return self._pixels(self._draw(list(indices), seed, size, label, attributes, options, show))

    def check(
        self,
        seed: int,
        indices: Iterable[int],
        label: str | None,
        options: Options | None,
        attributes: Settings | None = None,
    ) -> None:
        """Raise UsageError for what `batches` does not take, as far as that is known before it draws."""
        self.attributes_of(0, label=label, attributes=attributes)
        self.take(options)
        check_range(seed, [indices[0], indices[-1]] if isinstance(indices, Sequence) and indices else [])

    def label(self, index: int, label: str | None = None, attributes: Settings | None = None) -> str | None:
        """The name of the class of an image, None where the model has no classes.

        Classes take turns. One whose pictures cannot have the attributes gives its turn to one whose pictures can.
        """
        classes = self.bundle.manifest.classes
        if label is not None and label not in classes:
            raise UsageError(f"{self.name} has no class {label!r}; it has: {', '.join(classes) or 'none'}")
        able = self._able(attributes or {}, classes if label is None else [label])
        if label is not None or not classes:
            return label
        turn, place = divmod(index, len(classes))
        return classes[place] if classes[place] in able else able[(turn + place) % len(able)]

    def fill_label(self, label: str | None = None, attributes: Settings | None = None) -> str | None:
        """The class that `fill` is told: that of `label`, else the only one that can have the attributes.

        None, which leaves it to the surroundings, without both. Raises UsageError where they cannot tell which.
        """
        self.label(0, label, attributes)
        if label is not None or not attributes:
            return label
        able = self._able(attributes, self.bundle.manifest.classes)
        if len(able) > 1:
            raise UsageError(f"what is set fits several classes: {', '.join(able)}; choose one by --class")
        return able[0] if able else None

    def attributes_of(
        self, index: int, *, seed: int = 0, label: str | None = None, attributes: Settings | None = None
    ) -> dict[str, str]:
        """The attributes of an image of a seed, by name: those that are set, and those that are drawn."""
        self.label(index, label, attributes)
        return {}

    def _able(self, attributes: Settings, classes: Sequence[str]) -> Sequence[str]:
        """Those of some classes whose pictures can have all of these attributes. Raises UsageError where none can."""
        for name in attributes:
            raise UsageError(f"{self.name} has no attributes, and so no {name}")
        return classes

    def _labels(self, indices: Sequence[int], label: str | None, attributes: Settings | None = None) -> Tokens:
        """The classes [B] of images, by their place; 0 where the model has none."""
        classes, names = self.bundle.manifest.classes, [self.label(i, label, attributes) for i in indices]
        return np.array([classes.index(name) if name else 0 for name in names], np.int64)

    def refuse(self, options: Options) -> UsageError:
        """What to raise for options that the model does not take."""
        family = self.bundle.manifest.family
        return UsageError(f"{self.name} is of family {family}, which takes no options of sampler {options.sampler}")

    def encode(self, images: Pixels) -> Tokens:
        """The tokens [B, N] of pictures, uint8 [B, H, W, C] of the model's size.

        Raises UsageError for pictures of another shape, and where the model has no tokens.
        """
        raise self.without_tokens()

    def decode(self, tokens: Tokens) -> Pixels:
        """The pictures, uint8 [B, H, W, C], of tokens [B, N]. Raises UsageError as `encode` does."""
        raise self.without_tokens()

    def without_tokens(self) -> UsageError:
        """What to raise where tokens are asked for."""
        return UsageError(f"{self.name} is of family {self.bundle.manifest.family}, which has no tokens")

    @abstractmethod
    def take(self, options: Options | None) -> Options | None:
        """The options to draw with. Raises UsageError for those of a sampler that the model cannot use."""

    @abstractmethod
    def take_fill(self, options: Options | None) -> Options | None:
        """Likewise to fill with."""

    @abstractmethod
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
        """What the hole [H, W] of a picture, uint8 [H, W, C] of the model's size, could hold: fill `index` of a seed.

        `rank` asks for log-probabilities of what was drawn, where the model can tell. `callback` is given, before and
        after each step, what makes the picture so far. Pictures are to be blank in the hole, since models of tokens
        see it. genfast.inpaint does the rest. Options are by default `fill_options`; the class is that of `fill_label`.
        What of class and attributes is not set, the surroundings tell; what they do not show is drawn.
        """

    @abstractmethod
    def _draw(
        self,
        indices: list[int],
        seed: int,
        size: int,
        label: str | None,
        attributes: Settings | None,
        options: Options | None,
        callback: Callable[[State], None] | None = None,
    ) -> State:
        """The final state [B, ...] of B images, at most `size`. `callback` is given it before and after each step."""

    @abstractmethod
    def _pixels(self, state: State) -> Pixels:
        """What a state looks like: uint8 [B, H, W, C]."""
