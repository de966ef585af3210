"""What every recipe has: a TOML file read whole into frozen dataclasses, which refuse unknown keys."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def config(cls: type[T]) -> type[T]:
    """Make a frozen, validated dataclass that refuses unknown keys."""
    return cast(type[T], dataclass(frozen=True, config=ConfigDict(extra="forbid"))(cls))


@config
class LoopConfig:
    """What every training run has; lengths are in steps, one step being one batch over all processes."""

    steps: PositiveInt
    batch: PositiveInt = 64  # images a step, all processes together
    seed: NonNegativeInt = 0
    warmup: NonNegativeInt = 200  # steps over which the learning rates rise from zero
    decay: NonNegativeInt = 0  # last steps, over which the learning rates fall to zero along a cosine
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the averaged weights a step
    log_every: PositiveInt = 100
    checkpoint_every: PositiveInt = 1000
    evaluate_every: PositiveInt = 2000  # sample grid and quality figures


@config
class DataConfig:
    """What is trained on; lengths are in pixels."""

    name: Literal["fashion-mnist", "avatars", "folder", "tokens"] = "fashion-mnist"
    folder: Path | None = None  # where it lies, or is kept; avatars and Fashion-MNIST know places of their own
    size: int = 1024  # side of the images (Fashion-MNIST: always 28)
    count: int = 3000  # avatars to train on; there is no end of them


class Recipe(Protocol):
    """What the loop needs of a family's recipe."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> str: ...

    @property
    def loop(self) -> LoopConfig: ...

    @property
    def data(self) -> DataConfig: ...
