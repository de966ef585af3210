"""Which attributes a picture shows, by those of its tokens that are known: drafts, read the other way round."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from genfast.attributes import Rows, Settings
from genfast.models.drafts import Drafts
from genfast.samplers.noise import Purpose, uniform
from genfast.types import Floats, Mask

SWEEPS = 16
HOT, COLD = 1e4, 400.0  # how many correlated errors count as one, in the first sweep and in the last
TINY = 1e-6
SHOWN = 0.6  # share of a picture that attributes explain at least, where it has any of them


@dataclass(frozen=True)
class Evidence:
    """How far drafts of a label are from what is known of a picture: squared errors, by rows of attributes."""

    drafts: Drafts
    label: int
    gram: Floats  # [r, r], of the basis where tokens are known
    product: Floats  # [r], of the basis and what is known
    whole: float  # the error of the mean
    count: int  # numbers that errors are sums over

    @classmethod
    def of(cls, drafts: Drafts, label: int, seen: Floats, known: Mask) -> Self:
        """Of a picture's numbers [N, K] where tokens are known [N]."""
        basis = drafts.basis[label][:, known].astype(np.float32).reshape(drafts.basis.shape[1], -1)
        rest = (seen - drafts.mean[label])[known].ravel()
        return cls(drafts, label, basis @ basis.T, basis @ rest, float(rest @ rest), len(rest))

    def errors(self, rows: Rows) -> Floats:
        """Of rows [B, A]: [B]."""
        c = self.drafts.coefficients(self.label, rows)
        found: Floats = self.whole + ((c @ self.gram - 2 * self.product) * c).sum(1)
        return found.clip(min=TINY)


def recognise(among: Sequence[Evidence], *, settings: Settings, seed: int, index: int) -> tuple[int, Rows] | None:
    """Draw a label, one of those that there is evidence of, and attributes [1, A] that agree with it.

    What a picture does not show is drawn as often as training data have it, by seed and index; what `settings` say is
    so. None where the picture shows no such attributes: the best explain too little of it.

    The start is the nearest of the training data. From there attributes are drawn in turn, given all others, by ever
    colder likelihoods of normal errors: simulated annealing by Gibbs sampling (Geman and Geman 1984).
    """
    table = among[0].drafts.table
    starts = []
    for evidence in among:
        mine = table.labels == evidence.label
        rows = table.told(settings, table.labels[mine], table.rows[mine])
        errors = evidence.errors(rows)
        starts.append((float(errors.min()), evidence, rows[[errors.argmin()]]))
    error, evidence, row = min(starts, key=lambda start: start[0])
    label = evidence.label
    said = {*map(str.lower, settings)}
    places = [
        (place, values)
        for place, attribute in enumerate(table.attributes)
        if len(values := np.array(table.values(label, place))) > 1 and attribute.name.lower() not in said
    ]
    for sweep, alike in enumerate(np.geomspace(HOT, COLD, SWEEPS)):
        u = uniform(seed, [index], 1 + sweep, Purpose.ATTRIBUTES, row.shape[1:])[0]
        scale = alike * error / evidence.count  # of differences between errors
        for place, values in places:
            changed = np.repeat(row, len(values), axis=0)
            changed[:, place] = values
            errors = evidence.errors(changed)
            weights = table.counts(label, place)[values] * np.exp((errors.min() - errors) / scale)
            sums = weights.cumsum()
            drawn = (sums > u[place] * sums[-1]).argmax()
            row[0, place], error = values[drawn], float(errors[drawn])
    return (label, row) if error <= (1 - SHOWN) * evidence.whole else None
