"""Attributes that are recognised, against those that a picture was drafted with."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from genfast.attributes import Attribute, AttributeTable, Rows
from genfast.errors import UsageError
from genfast.models.drafts import Drafts
from genfast.models.recognition import Evidence, recognise

ATTRIBUTES = (
    Attribute(name="hair", values=("bun", "curls", "long")),
    Attribute(name="hair-colour", values=("#000000", "#6b4423", "#e3c482"), colour=True),
    Attribute(name="glasses", values=("none", "round")),
)
PLACES, NUMBERS, RANK = 2000, 4, 12
LAST = 200  # places that show glasses, and nothing else


def drafts() -> Drafts:
    """Of two labels; the last places depend on glasses, the others on all else."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(1, 4, 200), rng.integers(1, 4, 200), 1 + (rng.random(200) < 0.25)])
    table = AttributeTable(ATTRIBUTES, rows, np.arange(200) % 2, ("red", "blue"))
    # Numbers of hair, of its colour, of glasses; red, green, blue; their products with hair, and with glasses.
    parts = np.repeat([0, 0, 1, 0, 0, 1], [3, 3, 2, 3, 9, 6])
    projection = rng.standard_normal((2, len(parts), RANK), np.float32)
    projection[:, parts == 1, : RANK // 2] = 0
    projection[:, parts == 0, RANK // 2 :] = 0
    basis = rng.standard_normal((2, RANK, PLACES, NUMBERS), np.float32)
    basis[:, : RANK // 2, -LAST:] = 0
    basis[:, RANK // 2 :, :-LAST] = 0
    return Drafts(table, rng.standard_normal((2, PLACES, NUMBERS), np.float32), projection, basis)


EVERYWHERE = np.ones(PLACES, bool)
BUT_GLASSES = np.arange(PLACES) < PLACES - LAST


def picture(found: Drafts, label: int, row: list[int]) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal((PLACES, NUMBERS), np.float32)
    return found.of(np.array([label]), np.array([row]))[0] + 0.05 * noise


def evidence(found: Drafts, seen: np.ndarray, known: np.ndarray) -> list[Evidence]:
    return [Evidence.of(found, label, seen, known) for label in (0, 1)]


def recognised(found: Drafts, seen: np.ndarray, known: np.ndarray, index: int = 0, **how: object) -> tuple[int, Rows]:
    answer = recognise(evidence(found, seen, known), index=index, **{"settings": {}, "seed": 0, **how})
    assert answer is not None
    return answer


@pytest.mark.parametrize(("label", "row"), [(0, [1, 2, 2]), (1, [3, 3, 1]), (1, [2, 1, 2])])
def test_what_a_picture_shows_is_recognised(label: int, row: list[int]) -> None:
    made = drafts()
    found, rows = recognised(made, picture(made, label, row), EVERYWHERE)
    assert (found, rows.tolist()) == (label, [row])


def test_a_combination_that_no_training_picture_has_is_recognised() -> None:
    made = drafts()
    others = (made.table.rows != [2, 2, 2]).any(1)
    table = dataclasses.replace(made.table, rows=made.table.rows[others], labels=made.table.labels[others])
    less = dataclasses.replace(made, table=table)
    assert recognised(less, picture(made, 0, [2, 2, 2]), EVERYWHERE)[1].tolist() == [[2, 2, 2]]


def test_what_it_does_not_show_is_drawn_as_often_as_it_is_met() -> None:
    made = drafts()
    seen = picture(made, 0, [2, 3, 2])
    drawn = Counter(int(recognised(made, seen, BUT_GLASSES, index)[1][0, 2]) for index in range(300))
    assert recognised(made, seen, BUT_GLASSES)[1][0, :2].tolist() == [2, 3]
    share = made.table.counts(0, 2)[2] / made.table.counts(0, 2).sum()
    assert abs(drawn[2] / 300 - share) < 0.1  # four standard deviations
    again = [recognised(made, seen, BUT_GLASSES, index)[1].tolist() for index in range(5)]
    assert again == [recognised(made, seen, BUT_GLASSES, index)[1].tolist() for index in range(5)]


def test_what_is_set_is_so() -> None:
    made = drafts()
    seen = picture(made, 0, [2, 3, 2])
    for glasses, number in ("none", 1), ("round", 2):
        for index in range(4):
            label, rows = recognised(made, seen, BUT_GLASSES, index, settings={"Glasses": glasses})
            assert (label, rows.tolist()) == (0, [[2, 3, number]])
    with pytest.raises(UsageError, match="never have glasses=square"):
        recognised(made, seen, EVERYWHERE, settings={"glasses": "square"})


def test_a_picture_of_another_kind_shows_no_attributes() -> None:
    made = drafts()
    seen = np.random.default_rng(2).standard_normal((PLACES, NUMBERS), np.float32) * 9
    assert recognise(evidence(made, seen, EVERYWHERE), settings={}, seed=0, index=0) is None
