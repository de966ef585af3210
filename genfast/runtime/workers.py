"""One model in several places: processes on this machine, or actors of a cluster."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from genfast.attributes import Settings
from genfast.errors import GenfastError, UsageError
from genfast.models.base import Done, Item, Made, Model, State
from genfast.samplers.options import Options
from genfast.types import Pixels

Load = Callable[[], Model]  # in another process, so that it has to be pickled: a function of a module, or a partial


class Pool(Protocol):
    """Where work is done on several items at a time, in each place with a model of its own."""

    @property
    def size(self) -> int:
        """How many places there are."""

    def map(
        self, work: Callable[[Model, Item], Made], items: Iterable[Item], finish: Callable[[Made], Done]
    ) -> Iterator[Done]:
        """As Model.map. Raises what `work` raises of GenfastError, and DeviceError where a place is lost for good."""


@dataclass(frozen=True)
class Workers(Model):
    """A model that draws in all places of a pool. `first` is one in this process, to be asked what it takes."""

    first: Model
    pool: Pool

    @classmethod
    def of(cls, first: Model, pool: Pool) -> "Workers":
        return cls(first.bundle, first.name, first.steps, first.options, first.fill_options, first, pool)

    @property
    def fill_steps(self) -> int:
        return self.first.fill_steps

    @property
    def varied(self) -> bool:
        return self.first.varied

    @property
    def device(self) -> str:
        return self.first.device

    @property
    def places(self) -> int:
        return self.pool.size

    def map(
        self, work: Callable[[Model, Item], Made], items: Iterable[Item], finish: Callable[[Made], Done]
    ) -> Iterator[Done]:
        return self.pool.map(work, items, finish)

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
        """As Model.batches. Also raises what Pool.map raises."""
        size = self.batch_size(batch)
        self.check(seed, indices, label, options, attributes)
        attributes = None if attributes is None else dict(attributes)  # which can be pickled
        return self.map(_Batch(seed, size, label, attributes, options), self.chunks(indices, batch), _as_it_is)

    def history(self, *_: object, **__: object) -> NoReturn:
        raise self._alone()

    def attributes_of(
        self, index: int, *, seed: int = 0, label: str | None = None, attributes: Settings | None = None
    ) -> dict[str, str]:
        return self.first.attributes_of(index, seed=seed, label=label, attributes=attributes)

    def _able(self, attributes: Settings, classes: Sequence[str]) -> Sequence[str]:
        return self.first._able(attributes, classes)

    def fill(self, *_: object, **__: object) -> NoReturn:
        raise self._alone()

    def take(self, options: Options | None) -> Options | None:
        return self.first.take(options)

    def take_fill(self, options: Options | None) -> Options | None:
        return self.first.take_fill(options)

    def without_tokens(self) -> UsageError:
        return self._alone()

    def _alone(self) -> UsageError:
        return UsageError("only whole images are drawn on several devices; give a single device")

    def _draw(self, *_: object, **__: object) -> NoReturn:
        raise self._alone()

    def _pixels(self, state: State) -> NoReturn:
        raise self._alone()


@dataclass(frozen=True)
class _Batch:
    """The work that draws at most `size` images of a seed: uint8 [B, H, W, C]."""

    seed: int
    size: int
    label: str | None
    attributes: Settings | None
    options: Options | None

    def __call__(self, model: Model, indices: list[int]) -> Pixels:
        how: dict[str, Any] = {"label": self.label, "attributes": self.attributes, "options": self.options}
        return next(model.batches(indices, seed=self.seed, batch=self.size, **how))


def _as_it_is(images: Pixels) -> Pixels:
    return images


def call(load: Load, work: Callable[[Model, Item], Made], item: Item) -> Made:
    """Do work in a process that is not the first. Raises GenfastError for what is no fault of the program, too."""
    try:
        return work(load(), item)
    except (MemoryError, OSError) as error:
        raise GenfastError(f"a process on another device failed: {str(error) or 'out of memory'}") from error
