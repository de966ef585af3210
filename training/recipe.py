"""Recipes: TOML files read whole into frozen dataclasses; unknown keys are refused."""

import tomllib
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ConfigDict, NonNegativeInt, PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass


def config(cls):
    """Make a frozen, validated dataclass that refuses unknown keys."""
    return dataclass(frozen=True, config=ConfigDict(extra="forbid"))(cls)


@config
class LoopConfig:
    """What every training run has; lengths are in steps, one step being one batch over all processes."""

    steps: PositiveInt
    batch: PositiveInt = 64  # images a step, all processes together
    seed: NonNegativeInt = 0
    warmup: NonNegativeInt = 200  # steps over which the learning rates rise from zero
    decay: NonNegativeInt = 0  # last steps, over which the learning rates fall to zero along a cosine
    ema: float = 0.999  # decay of the averaged weights a step
    log_every: PositiveInt = 100
    checkpoint_every: PositiveInt = 1000
    watch_every: PositiveInt = 2000  # sample grid and quality figures


@config
class DataConfig:
    """What is trained on; lengths are in pixels."""

    name: Literal["fashion-mnist", "avatars", "folder", "tokens"] = "fashion-mnist"
    folder: Path | None = None  # where it lies, or is kept; avatars and Fashion-MNIST know places of their own
    size: int = 1024  # side of the images (Fashion-MNIST: always 28)
    count: int = 3000  # avatars to train on; there is no end of them


class Recipe(Protocol):
    """What the loop needs of a family's recipe."""

    name: str
    family: str
    loop: LoopConfig
    data: DataConfig


def read(path: Path) -> Recipe:
    """Read a recipe from a TOML file; raises ValueError as `validate`."""
    return validate(tomllib.loads(path.read_text()))


def validate(table: dict[str, Any]) -> Recipe:
    """Turn a recipe's table into the dataclass that its `family` names.

    Raises:
        ValueError: unknown family or key, or a value of the wrong type.
    """
    from training.families import FAMILIES

    if table.get("family") not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {table.get('family')!r}")
    return TypeAdapter(FAMILIES[table["family"]].recipe).validate_python(table)
