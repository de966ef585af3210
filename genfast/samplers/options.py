"""Options of samplers: one frozen dataclass a sampler, whose fields say what a value means and where it must lie.

A field is written once: its default, its bounds and its help here serve Python, the command line and the manifest.
Importing them imports nothing heavy, so that `--help` answers at once.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self, TypeVar

from genfast.errors import UsageError

_T = TypeVar("_T")


def option(default: _T, low: float, high: float, help: str) -> _T:
    """A field of Options: its default, the least and the largest value that make sense, and a line for --help."""
    return field(default=default, metadata={"low": low, "high": high, "help": help})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a sampler can be told. Raises UsageError where a value lies outside its bounds."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # where a manifest holds them

    sampler: str = ""  # its name on the command line: the same for all options of a class

    def __post_init__(self) -> None:
        if self.sampler != type(self).sampler:
            raise UsageError(f"sampler must be {type(self).sampler}, not {self.sampler}")
        for each in self.settings():
            low, high, value = each.metadata["low"], each.metadata["high"], getattr(self, each.name)
            if not low <= value <= high:  # false for NaN
                raise UsageError(f"{flag(each.name)} must lie in {low} .. {high}, not {value}")

    @classmethod
    def settings(cls) -> tuple["Field[object]", ...]:
        """The fields with bounds, in their order."""
        return tuple(each for each in fields(cls) if "low" in each.metadata)

    def adjusted(self, given: Mapping[str, int | float]) -> Self:
        """These options with the given fields in place of their own. Raises UsageError for one that is no field."""
        strangers = given.keys() - {each.name for each in self.settings()}
        if strangers:
            raise UsageError(f"sampler {self.sampler} takes no {', '.join(map(flag, sorted(strangers)))}")
        return replace(self, **dict[str, Any](given))

    def switched(self, other: type["Options"]) -> "Options":
        """The options of another sampler, which keeps what both take."""
        shared = {each.name for each in self.settings()} & {each.name for each in other.settings()}
        return other(**{name: getattr(self, name) for name in shared})


@dataclass(frozen=True, kw_only=True)
class TokenOptions(Options):
    """What every sampler of tokens takes. Temperature goes linearly from the first step to the last."""

    steps: int = option(16, 1, 1000, "How many steps.")
    temperature: float = option(1.0, 0.01, 100, "Of the first step: lower is safer and less diverse.")
    temperature_end: float = option(0.7, 0.01, 100, "Of the last step.")
    guidance: float = option(1.0, 0, 100, "Above 1, more typical of the class, for twice the time.")


@dataclass(frozen=True, kw_only=True)
class MaskScheduleOptions(TokenOptions):
    """How many tokens are known after a step, for samplers that begin with none."""

    power: float = option(2.0, 1, 100, "Of the mask schedule: the higher, the fewer tokens the first steps keep.")
    refine: float = option(0.0, 0, 0.9, "Share of the steps, at the end, that redraw half of the tokens to mend them.")

    def known_share(self, step: int) -> float:
        """Share of the tokens that are known after a step 1 .. steps: a power of the share of steps that are done.

        MaskGIT's cosine schedule is near a power of 2.
        """
        return float(self.progress(step) ** self.power)

    def progress(self, step: int) -> float:
        """How far the way to knowing all is gone at a step, in 0 .. 1."""
        return min(1.0, step / (self.steps * (1 - self.refine)))


@dataclass(frozen=True, kw_only=True)
class MaskGITOptions(MaskScheduleOptions):
    """How `maskgit` draws."""

    sampler: Literal["maskgit"] = "maskgit"
    choice_temperature: float = option(0.0, 0, 100, "Randomness in which tokens are kept; it fades to none.")


@dataclass(frozen=True, kw_only=True)
class RandomOrderOptions(MaskScheduleOptions):
    """How `random_order` draws."""

    sampler: Literal["random-order"] = "random-order"


@dataclass(frozen=True, kw_only=True)
class SundaeOptions(TokenOptions):
    """How `sundae` draws. The redraw ratio goes linearly from the first step to the last."""

    sampler: Literal["sundae"] = "sundae"
    redraw_ratio: float = option(0.5, 0.001, 1, "Share of the tokens that the first step draws anew.")
    redraw_ratio_end: float = option(0.5, 0.001, 1, "Share of the tokens that the last step draws anew.")
    min_steps: int = option(10, 0, 1000, "Steps before an image that no longer changes is finished early.")


@dataclass(frozen=True, kw_only=True)
class AncestralOptions(Options):
    """How a diffusion model with classes draws: step by step from noise."""

    sampler: Literal["ancestral"] = "ancestral"
    guidance: float = option(1.0, 0, 100, "Above 1, more typical of the class, for up to twice the time.")


@dataclass(frozen=True, kw_only=True)
class RePaintOptions(Options):
    """How `repaint` fills."""

    sampler: Literal["repaint"] = "repaint"
    resample: int = option(1, 1, 1000, "How often each step is taken.")


SAMPLERS: dict[str, type[TokenOptions]] = {
    kind.sampler: kind for kind in (MaskGITOptions, RandomOrderOptions, SundaeOptions)
}


def flag(name: str) -> str:
    """A field as the command line has it."""
    return name.replace("_", "-")
