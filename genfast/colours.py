"""Colours as people say them: by name, #rrggbb or #rgb."""

import re
from functools import cache

import numpy as np
from PIL import ImageColor

from genfast.types import Floats

# Beside the names of CSS, whose brown is a red.
_NAMES = {"brown": "#6b4423", "blond": "#e3c482", "blonde": "#e3c482", "ginger": "#c4622d"}

_TO_LMS = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
_TO_LAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


def rgb(said: str) -> Floats | None:
    """Red, green and blue [3] in 0 .. 255 of a colour, None where it is none; case and spaces do not matter."""
    plain = re.sub(r"[ _-]", "", said.lower())
    plain = _NAMES.get(plain, plain)
    if plain not in ImageColor.colormap and not re.fullmatch(r"#([0-9a-f]{3}){1,2}", plain):
        return None
    return np.array(ImageColor.getrgb(plain), np.float32)


@cache
def name(said: str) -> str | None:
    """The name that is nearest to a colour, None where it is none."""
    if (colour := rgb(said)) is None:
        return None
    names = sorted(ImageColor.colormap)
    named = np.array([rgb(each) for each in names])  # [148, 3]
    return names[int(distances(named, colour).argmin())]


def distances(colours: Floats, colour: Floats) -> Floats:
    """How far colours [V, 3] seem from another [3], all in 0 .. 255: black and white are 1 apart.

    Euclid's distance in Oklab (Ottosson 2020), in which hue and chroma count twice, as he later advised.
    """
    seen: Floats = np.linalg.norm(_oklab(colours) - _oklab(colour), axis=-1)
    return seen


def _oklab(colours: Floats) -> Floats:
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    lab: Floats = np.cbrt(linear @ np.transpose(_TO_LMS)) @ np.transpose(_TO_LAB)
    return (lab * [1, 2, 2]).astype(np.float32)
