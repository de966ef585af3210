"""What pictures can be asked for: values that are found, classes that can have them, rows, and features."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from genfast.attributes import FAR, Attribute, AttributeTable
from genfast.colours import distances
from genfast.errors import UsageError
from tests.graphs.bundles import ATTRIBUTES, CLASSES, HAVING, attribute_rows

HAIR, COLOUR, GLASSES = (Attribute.model_validate(each) for each in ATTRIBUTES)
RED, BLUE, GREEN = range(3)


@pytest.fixture
def table() -> AttributeTable:
    told = attribute_rows()
    return AttributeTable((HAIR, COLOUR, GLASSES), told[:, 1:], told[:, 0], CLASSES)


@pytest.mark.parametrize(
    ("attribute", "said", "number"),
    [
        (HAIR, "curls", 2),
        (HAIR, "CURLS", 2),
        (HAIR, "curl", None),
        (HAIR, "black", None),
        (COLOUR, "#6b4423", 2),
        (COLOUR, "#6B4423", 2),
        (COLOUR, "Brown", 2),
        (COLOUR, "saddle brown", 2),
        (COLOUR, "#111", 1),
        (COLOUR, "blonde", 3),
        (COLOUR, "lime", None),
    ],
)
def test_values_are_found(attribute: Attribute, said: str, number: int | None) -> None:
    assert attribute.find(said, [1, 2, 3]) == number


def test_of_values_that_differ_in_case_each_is_found() -> None:
    attribute = Attribute(name="size", values=("m", "M", "XL"))
    assert [attribute.find(said, [1, 2, 3]) for said in ("m", "M", "xl")] == [1, 2, 3]


def test_the_nearest_of_the_colours_among_which_to_choose_is_meant() -> None:
    assert COLOUR.find("brown", [1, 3]) is None  # which is too far from both
    assert COLOUR.find("sienna", [2, 3]) == 2
    colour = Attribute(name="ink", values=("none", "#333333", "#555555"), colour=True)
    assert colour.find("none", [1, 2, 3]) == 1 and colour.find("#444", [1]) is None
    grey = np.array([[0x55] * 3, [0x33] * 3], np.float32)
    limit = distances(grey, np.full(3, 255, np.float32))
    assert limit.min() > FAR and colour.find("white", [1, 2, 3]) is None
    assert colour.nearest("white", [1, 2, 3]) == [3, 2]


@pytest.mark.parametrize(
    ("values", "colour", "message"),
    [
        (("a", "a"), False, "size has a value twice"),
        (("#12345g",), True, "size is a colour, and #12345g is none"),
        (("black",), True, "size is a colour, and black is none"),
        (("=",), False, "String should match pattern"),
    ],
)
def test_attributes_that_are_none(values: tuple[str, ...], colour: bool, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Attribute(name="size", values=values, colour=colour)


def test_the_values_of_a_class_are_those_of_its_pictures(table: AttributeTable) -> None:
    for label, having in enumerate(HAVING):
        assert [table.values(label, place) for place in range(3)] == [sorted({*each} - {0}) for each in having]
    assert table.counts(GREEN, 2).sum() == 40 and table.counts(RED, 2).sum() == 0


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({}, [RED, BLUE, GREEN]),
        ({"hair": "bun"}, [RED, GREEN]),
        ({"HAIR": "Long"}, [BLUE, GREEN]),
        ({"glasses": "none"}, [GREEN]),
        ({"hair": "bun", "hair-colour": "brown"}, [RED, GREEN]),
        ({"hair": "long", "hair-colour": "blond"}, [BLUE]),
    ],
)
def test_classes_that_can_have_what_is_set(table: AttributeTable, settings: dict[str, str], labels: list[int]) -> None:
    assert table.able(settings, [RED, BLUE, GREEN]) == labels


@pytest.mark.parametrize(
    ("settings", "labels", "message"),
    [
        ({"hiar": "bun"}, [0, 1, 2], "there is no attribute 'hiar'; the nearest: hair"),
        ({"x": "bun"}, [0, 1, 2], "there is no attribute 'x'; the nearest: hair, hair-colour, glasses"),
        ({"hair": "bum"}, [0, 1, 2], "pictures never have hair=bum; the nearest: bun"),
        ({"hair": "zzz"}, [1], "pictures of light blue never have hair=zzz; the nearest: curls, long"),
        ({"hair": "bun"}, [1], "pictures of light blue never have hair=bun; the nearest: curls, long"),
        (
            {"hair-colour": "#6b"},
            [0],
            "never have hair-colour=#6b; the nearest: #000000 (black), #6b4423 (brown), #e3c4",
        ),
        ({"hair-colour": "blue"}, [0, 2], "never have hair-colour=blue; the nearest: #6b4423 (brown), #000000 (bl"),
        ({"glasses": "round"}, [0], "pictures of red have no glasses; those of green do"),
        ({"glasses": "round", "hair-colour": "blond"}, [0, 1, 2], "of one class have all of glasses=round, hair-c"),
    ],
)
def test_what_no_picture_has_is_refused_with_what_is_near(
    table: AttributeTable, settings: dict[str, str], labels: list[int], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        table.able(settings, labels)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    if len(labels) == 1:
        with pytest.raises(UsageError) as again:
            table.told(settings, np.array(labels), np.zeros((1, 3), np.int64))
        assert str(again.value) == str(refused.value)


def test_without_classes_nobody_is_told_of_them() -> None:
    rows = np.array([[1, 1], [2, 1]])
    table = AttributeTable((HAIR, GLASSES), rows, np.zeros(2, np.int64))
    assert table.able({"hair": "bun"}, [0]) == [0]
    with pytest.raises(UsageError, match="^pictures never have hair=long; the nearest: bun, curls$"):
        table.able({"hair": "long"}, [0])
    with pytest.raises(UsageError, match="^pictures have no glasses$"):
        AttributeTable((HAIR, GLASSES), rows * [1, 0], np.zeros(2, np.int64)).able({"glasses": "none"}, [0])


def test_rows_are_drawn_as_often_as_training_data_have_them(table: AttributeTable) -> None:
    labels, indices = np.full(4000, GREEN), range(4000)
    rows = table.choose(labels, seed=3, indices=indices)
    held = table.rows[table.labels == GREEN]
    kinds, expected = np.unique(held, axis=0, return_counts=True)
    found = np.array([(rows == kind).all(1).sum() for kind in kinds])
    assert found.sum() == 4000  # joint: no pair that was not met
    assert stats.chisquare(found, expected * 100).pvalue > 1e-3
    assert np.array_equal(table.choose(labels[:2], seed=3, indices=[7, 1000]), rows[[7, 1000]])
    assert not np.array_equal(table.choose(labels, seed=4, indices=indices), rows)
    mixed = table.choose(np.array([RED, GREEN]), seed=3, indices=[7, 7])
    assert mixed[0, 2] == 0 and np.array_equal(mixed[1], rows[7])


def test_what_is_set_is_changed_and_nothing_else(table: AttributeTable) -> None:
    labels = np.array([RED, BLUE, GREEN, BLUE])
    rows = table.choose(labels, seed=0, indices=range(4))
    before = rows.copy()
    told = table.told({"hair": "curls", "hair-colour": "black"}, labels, rows)
    assert np.array_equal(rows, before) and (told[:, :2] == [2, 1]).all() and np.array_equal(told[:, 2], rows[:, 2])
    assert table.named(told[0]) == {"hair": "curls", "hair-colour": "#000000"}
    assert table.named(np.zeros(3, np.int64)) == {}


def test_features_are_values_colours_and_their_products(table: AttributeTable) -> None:
    """By the definition, one picture at a time."""
    rows = np.array([[1, 2, 2], [3, 1, 1], [0, 2, 2], [1, 0, 0], [0, 0, 0]])
    found = table.features(GREEN, rows)
    held = table.rows[table.labels == GREEN]
    palette = np.array([[0, 0, 0], [0x6B, 0x44, 0x23]]) / 127.5 - 1
    for row, features in zip(rows, found, strict=True):
        shares = []
        for place, numbers in enumerate([(1, 2, 3), (1, 2), (1, 2)]):  # those that are met
            often = [(held[:, place] == number).mean() for number in numbers]
            shares.append([float(row[place] == number) for number in numbers] if row[place] else often)
        hair, colour, glasses = map(np.array, shares)
        rgb = colour @ palette
        expected = [*hair, *colour, *glasses, *rgb, *np.outer(hair, rgb).ravel(), *np.outer(glasses, rgb).ravel()]
        np.testing.assert_allclose(features, expected, atol=1e-6)
    assert found.dtype == np.float32 and found.shape == (5, 7 + 3 + 15)
    assert table.features(RED, rows[:0]).shape == (0, 2 + 3 + 3 + 6)


def test_features_of_values_that_are_not_told_are_their_mean(table: AttributeTable) -> None:
    """Of one-hot features, so that partly told pictures are average ones."""
    held = table.rows[table.labels == GREEN]
    open_, told = (table.features(GREEN, rows)[:, :7] for rows in (np.zeros((1, 3), np.int64), held))
    np.testing.assert_allclose(open_[0], told.mean(0), atol=1e-6)


def test_attributes_that_never_vary_say_nothing() -> None:
    table = AttributeTable((HAIR,), np.ones((4, 1), np.int64), np.zeros(4, np.int64))
    assert table.features(0, np.array([[1], [0]])).shape == (2, 0)
