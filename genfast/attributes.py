"""What a picture can be asked for: attributes, such as `hair`, each with values, and how often they go together.

The attributes of a picture are a row of numbers, one an attribute: 0 where it is not told or does not apply, else the
place of its value, counted from 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from genfast import colours
from genfast.errors import UsageError
from genfast.samplers.noise import Purpose, uniform
from genfast.types import Floats, Tokens

Rows = npt.NDArray[np.int64]  # [B, A], A being the number of attributes
Settings = Mapping[str, str]  # values that are asked for, by the names of their attributes

NONE = "none"  # the value of what a picture has not
FAR = 0.35  # distance of two colours (genfast.colours) from which one is not meant by the other
LISTED = 12  # values that an error names where none is like what was asked for

AttributeName = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
AttributeValue = Annotated[str, Field(pattern=r"^[\w#+-][\w .+/-]*$")]


class Attribute(BaseModel):
    """A name, and its values; `colour` says that these are colours, as #rrggbb, or `none`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: AttributeName
    values: tuple[AttributeValue, ...] = Field(min_length=1)
    colour: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len({*self.values}) < len(self.values):
            raise ValueError(f"{self.name} has a value twice")
        for value in self.values if self.colour else ():
            if value != NONE and not (value.startswith("#") and colours.rgb(value) is not None):
                raise ValueError(f"{self.name} is a colour, and {value} is none")
        return self

    @cached_property
    def palette(self) -> Floats:
        """The colour of each value, in -1 .. 1: [V, 3]; grey where there is none."""
        rgb = [np.full(3, 127.5) if (found := colours.rgb(value)) is None else found for value in self.values]
        return (np.array(rgb) / 127.5 - 1).astype(np.float32)

    def find(self, said: str, among: Sequence[int]) -> int | None:
        """The number of the value that somebody asks for, one of those `among` which to choose; None if it is none.

        Case does not matter where values differ in more; of colours, which may be said by name, the nearest is meant.
        """
        named = {self.values[number - 1]: number for number in among}
        if number := named.get(said) or {value.lower(): number for value, number in named.items()}.get(said.lower()):
            return number
        rgb = colours.rgb(said) if self.colour else None
        near = [] if rgb is None else self._by_distance(rgb, among)
        return near[0][1] if near and near[0][0] < FAR else None

    def nearest(self, said: str, among: Sequence[int]) -> list[int]:
        """The numbers of those values `among` which to choose that are most like what somebody asks for."""
        rgb = colours.rgb(said) if self.colour else None
        if rgb is not None:
            return [number for _, number in self._by_distance(rgb, among)[:3]]
        values = {} if self.colour else {self.values[number - 1].lower(): number for number in among}
        return [values[each] for each in get_close_matches(said.lower(), values, 3, 0.3)] or [*among][:LISTED]

    def described(self, number: int) -> str:
        """A value as people read it: a colour with its name."""
        value = self.values[number - 1]
        name = colours.name(value) if self.colour else None
        return f"{value} ({name})" if name else value

    def _by_distance(self, rgb: Floats, among: Sequence[int]) -> list[tuple[float, int]]:
        """Distances from a colour [3], and the numbers of those that are so far, the nearest first."""
        numbers = [number for number in among if self.values[number - 1] != NONE]
        palette = (self.palette[np.array(numbers, np.int64) - 1] + 1) * 127.5  # [V, 3]
        return sorted(zip(colours.distances(palette, rgb).tolist(), numbers, strict=True))


@dataclass(frozen=True)
class AttributeTable:
    """Attributes, and rows [M, A] of pictures of the training data with their labels [M]: their joint frequencies.

    Every label 0 .. L - 1 has a picture; `classes` names them, where they have names.
    """

    attributes: tuple[Attribute, ...]
    rows: Rows
    labels: Tokens
    classes: tuple[str, ...] = ()

    def values(self, label: int, place: int) -> list[int]:
        """The numbers of those values of an attribute that pictures of a label have."""
        return np.flatnonzero(self.counts(label, place)).tolist()

    def counts(self, label: int, place: int) -> npt.NDArray[np.int64]:
        """How many pictures of a label have each number of the attribute at that place [1 + V]; 0 of number 0."""
        return self._counts[label][place]

    def choose(self, labels: Tokens, *, seed: int, indices: Sequence[int]) -> Rows:
        """A row of the training data for each of the images `indices` of `seed`, of its label [B]: [B, A]."""
        u = uniform(seed, indices, 0, Purpose.ATTRIBUTES, (1,))[:, 0].astype(np.float64)
        chosen = np.empty((len(labels), len(self.attributes)), np.int64)
        for row, label, x in zip(chosen, labels.tolist(), u, strict=True):
            held = self._held[label]
            row[:] = held[int(x * len(held))]
        return chosen

    def able(self, settings: Settings, labels: Sequence[int]) -> list[int]:
        """Those of some labels whose pictures can have all of `settings`.

        Raises:
            UsageError: none can; there is no such attribute, or no such value, with those that are near.
        """
        able = [*labels]
        for name, said in settings.items():
            place = self._place(name)
            self._number(place, said, labels)
            able = [each for each in able if self.attributes[place].find(said, self.values(each, place))]
        if not able:
            asked = ", ".join(f"{name}={said}" for name, said in settings.items())
            raise UsageError(f"no pictures of one class have all of {asked}")
        return able

    def told(self, settings: Settings, labels: Tokens, rows: Rows) -> Rows:
        """Rows [B, A] in which each attribute of `settings` has the value that is set, for pictures of labels [B].

        Raises:
            UsageError: as `able`.
        """
        rows = rows.copy()
        for name, said in settings.items():
            place = self._place(name)
            for row, label in zip(rows, labels.tolist(), strict=True):
                row[place] = self._number(place, said, [label])
        return rows

    def named(self, row: npt.NDArray[np.int64]) -> dict[str, str]:
        """The values of a row [A] by name, of those attributes that are told."""
        pairs = zip(self.attributes, row.tolist(), strict=True)
        return {attribute.name: attribute.values[number - 1] for attribute, number in pairs if number}

    def features(self, label: int, rows: Rows) -> Floats:
        """What a linear map can make a picture of: numbers [B, F] of rows [B, A] of one label.

        For each attribute how sure each value is: certain where it is told, else as often as it is met. For colours
        red, green and blue in -1 .. 1 as well, and their products with each value of all else: a shape in a colour.
        """
        told: list[Floats] = [np.empty((len(rows), 0), np.float32)]
        shapes: list[Floats] = []
        shades: list[Floats] = []
        for place, attribute in enumerate(self.attributes):
            values = np.array(self.values(label, place), np.int64)  # [V]
            if len(values) < 2:  # says nothing
                continue
            counts = self.counts(label, place)
            sure = rows[:, place, None] == values  # [B, V]
            often = counts[values] / counts.sum()
            share = np.where(sure.any(1, keepdims=True), sure, often).astype(np.float32)
            told.append(share)
            if attribute.colour:
                shades.append(share @ attribute.palette[values - 1])  # [B, 3]
            else:
                shapes.append(share)
        products = [
            (shape[:, :, None] * shade[:, None]).reshape(len(rows), 3 * shape.shape[1])
            for shape in shapes
            for shade in shades
        ]
        return np.concatenate([*told, *shades, *products], axis=1)

    def _place(self, name: str) -> int:
        places = {attribute.name.lower(): place for place, attribute in enumerate(self.attributes)}
        if name.lower() in places:
            return places[name.lower()]
        near = get_close_matches(name.lower(), places, 3, 0.3) or places
        names = ", ".join(self.attributes[places[each]].name for each in near)
        raise UsageError(f"there is no attribute {name!r}; the nearest: {names}")

    def _number(self, place: int, said: str, labels: Sequence[int]) -> int:
        """The number of the value that somebody asks pictures of some labels for. Raises UsageError for no value."""
        attribute = self.attributes[place]
        values = sorted({number for label in labels for number in self.values(label, place)})
        if number := attribute.find(said, values):
            return number
        whose = f"pictures of {self.classes[labels[0]]}" if len(labels) == 1 and self.classes else "pictures"
        if not values:
            others = [name for label, name in enumerate(self.classes) if self.values(label, place)]
            elsewhere = f"; those of {' and '.join(others)} do" if others else ""
            raise UsageError(f"{whose} have no {attribute.name}{elsewhere}")
        names = ", ".join(map(attribute.described, attribute.nearest(said, values)))
        raise UsageError(f"{whose} never have {attribute.name}={said}; the nearest: {names}")

    @cached_property
    def _held(self) -> dict[int, Rows]:
        """The rows of each label."""
        return {label: self.rows[self.labels == label] for label in np.unique(self.labels).tolist()}

    @cached_property
    def _counts(self) -> dict[int, list[npt.NDArray[np.int64]]]:
        """By label, for each attribute."""
        return {label: [self._count(rows[:, i], i) for i in range(rows.shape[1])] for label, rows in self._held.items()}

    def _count(self, column: npt.NDArray[np.int64], place: int) -> npt.NDArray[np.int64]:
        counts = np.bincount(column, minlength=1 + len(self.attributes[place].values))
        counts[0] = 0
        return counts
