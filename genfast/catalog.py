"""The table of known models (data in catalog.toml)."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from genfast.errors import ModelError, UsageError


@dataclass(frozen=True)
class Variant:
    """One trained set of weights: the bundle that holds it and, for samplers, the step count it was trained for."""

    bundle: str
    steps: int | None = None


@dataclass(frozen=True)
class Entry:
    """A model known by name."""

    name: str
    family: str
    summary: str
    licence: str
    variants: tuple[Variant, ...]
    default_steps: int | None = None

    def variant(self, steps: int | None = None) -> Variant:
        """The variant trained for `steps`, by default `default_steps`. Raises UsageError where there is none."""
        wanted = self.default_steps if steps is None else steps
        for variant in self.variants:
            if variant.steps == wanted:
                return variant
        have = ", ".join(str(variant.steps) for variant in self.variants if variant.steps is not None)
        if not have:
            raise UsageError(f"{self.name} takes no number of steps")
        raise UsageError(f"{self.name} has no weights for {wanted} steps; weights exist for: {have}")


@cache
def entries() -> dict[str, Entry]:
    """All known models by name, in the order of catalog.toml."""
    table = tomllib.loads(Path(__file__).with_name("catalog.toml").read_text("utf-8"))
    return {
        name: Entry(name=name, variants=tuple(Variant(**variant) for variant in row.pop("variants")), **row)
        for name, row in table.items()
    }


def entry(name: str) -> Entry:
    """The model of that name. Raises ModelError where there is none."""
    if name not in entries():
        raise ModelError(f"unknown model {name!r}; give the folder of a bundle or one of: {', '.join(entries())}")
    return entries()[name]
