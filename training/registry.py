"""What can be trained, by the name of its family, and recipes read and validated."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from genfast.errors import first_fault
from training.families.classifier import ClassifierRecipe, ClassifierTraining
from training.families.ddgan import DDGANRecipe, DDGANTraining
from training.families.ddpm import DDPMRecipe, DDPMTraining
from training.families.dequantiser import DequantiserRecipe, DequantiserTraining
from training.families.dmd import DMDRecipe, DMDTraining
from training.families.sundae import SundaeRecipe, SundaeTraining
from training.families.vqgan import VQGANRecipe, VQGANTraining
from training.family import Family
from training.recipe import Recipe

FAMILIES = {
    "classifier": Family(ClassifierRecipe, ClassifierTraining),
    "ddpm": Family(DDPMRecipe, DDPMTraining),
    "ddgan": Family(DDGANRecipe, DDGANTraining),
    "dmd": Family(DMDRecipe, DMDTraining),
    "dequantiser": Family(DequantiserRecipe, DequantiserTraining),
    "vqgan": Family(VQGANRecipe, VQGANTraining, numbered=True),
    "sundae": Family(SundaeRecipe, SundaeTraining),
}


def read(path: Path) -> Recipe:
    """Read a recipe from a TOML file.

    Raises:
        ValueError: as `validate`, or it is no TOML; the message begins with the path.
    """
    try:
        return validate(tomllib.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def validate(table: dict[str, Any]) -> Recipe:
    """Turn a recipe's table into the dataclass of its `family`.

    Raises:
        ValueError: unknown family or key, or a value of the wrong type.
    """
    name = table.get("family")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {name!r}")
    try:
        return TypeAdapter(family.recipe).validate_python(table)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
