"""What a model makes of a hole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from genfast.types import Floats, Pixels


@dataclass(frozen=True)
class Filling:
    """A picture, uint8 [H, W, C], whose pixels outside the hole are near the given ones and no more.

    `logs` are the log-probabilities, in nats, of the tokens that were drawn, given all others: none where nobody asked,
    or there are no tokens. `label` and `attributes`, values by name, are what the model was told: what was set, what
    the surroundings show, and, of what they hide, what was drawn.
    """

    picture: Pixels
    logs: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
