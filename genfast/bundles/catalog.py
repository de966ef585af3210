"""The table of known models (data in catalog.toml)."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from genfast.errors import ModelError, UsageError


@dataclass(frozen=True)
class Variant:
    """One trained set of weights: the bundle that holds it and, for ddgan, what it was trained for and by."""

    bundle: str
    steps: int | None = None
    loss: str | None = None


@dataclass(frozen=True)
class Entry:
    """A model known by name."""

    name: str
    family: str
    summary: str
    licence: str
    variants: tuple[Variant, ...]
    limits: str = ""  # what it cannot do, or is not to be used for
    familiar_psnr: float | None = None  # dB: least PSNR of a familiar picture that comes back from tokens
    default_steps: int | None = None
    baseline: str | None = None  # the bundle whose figures a plot shows beside
    stand_in: str | None = None  # the model that may draw in its place; its weights are not published
    protocols: tuple[str, ...] = ()  # of an extractor: ways to see images, the first by default

    def variant(self, steps: int | None = None, loss: str | None = None) -> Variant:
        """The variant trained for `steps`, by default `default_steps`, by `loss`, by default the first that is listed.

        The one variant of a model of family vq-sundae or ddpm serves any number of steps. Raises UsageError where there
        is none.
        """
        if loss and not any(variant.loss for variant in self.variants):
            raise UsageError(f"{self.name} takes no loss")
        wanted = self.default_steps if steps is None or self.family in ("vq-sundae", "ddpm") else steps
        for variant in self.variants:
            if variant.steps == wanted and loss in (None, variant.loss):
                return variant
        by_loss: dict[str | None, set[int]] = {}
        for variant in self.variants:
            if variant.steps is not None:
                by_loss.setdefault(variant.loss if loss else None, set()).add(variant.steps)
        if not by_loss:
            raise UsageError(f"{self.name} takes no number of steps")
        lists = {name: ", ".join(map(str, sorted(steps))) for name, steps in by_loss.items()}
        have = "; ".join(f"{name} at {steps}" if name else steps for name, steps in lists.items())
        by = f" by {loss}" if loss else ""
        raise UsageError(f"{self.name} has no weights for {wanted} steps{by}; weights exist for: {have}")


def _variants(bundle: str, steps: int | list[int] | None = None, loss: str | None = None) -> Iterator[Variant]:
    """One for each number of steps."""
    for each in steps if isinstance(steps, list) else [steps]:
        yield Variant(bundle, each, loss)


@cache
def entries() -> dict[str, Entry]:
    """All known models by name, in the order of catalog.toml."""
    table = tomllib.loads(Path(__file__).with_name("catalog.toml").read_text("utf-8"))
    return {
        name: Entry(
            name=name,
            variants=tuple(each for variant in row.pop("variants") for each in _variants(**variant)),
            protocols=tuple(row.pop("protocols", ())),
            **row,
        )
        for name, row in table.items()
    }


def entry(name: str) -> Entry:
    """The model of that name, or with a protocol of that name. Raises ModelError where there is none."""
    found = entries().get(name) or next((each for each in entries().values() if name in each.protocols), None)
    if found is None and "/" in name:
        raise ModelError(f"there is no bundle at {name}; give its folder, or the name of a model (genfast models)")
    if found is None:
        raise ModelError(f"unknown model {name!r}; give the folder of a bundle or one of: {', '.join(entries())}")
    return found


def protocol(name: str) -> str:
    """The protocol that the name of an extractor stands for: the name itself, or the first of its protocols."""
    known = entries().get(name)
    return known.protocols[0] if known and known.protocols else name


def span(steps: Sequence[int]) -> str:
    """Numbers that rise, in words: as a range, where none between the first and the last is missing."""
    if len(steps) > 2 and len(steps) == steps[-1] - steps[0] + 1:
        return f"{steps[0]} to {steps[-1]}"
    return ",".join(map(str, steps))
