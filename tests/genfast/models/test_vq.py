"""A loaded VQ-GAN: pictures to tokens and back, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast.errors import UsageError
from genfast.models.vq import VQModel


@pytest.fixture(scope="module")
def model(vq_bundle: Path) -> VQModel:
    loaded = genfast.load(str(vq_bundle), device="cpu")
    assert isinstance(loaded, VQModel)
    return loaded


def test_tokens_are_the_reds_of_squares_and_pictures_their_colours(model: VQModel) -> None:
    tokens = np.arange(12).reshape(2, 6)
    pictures = model.decode(tokens)
    assert pictures.shape == (2, 4, 6, 3) and pictures.dtype == np.uint8
    palette = model.bundle.array("codebook")
    np.testing.assert_array_equal(pictures[1, ::2, ::2].reshape(6, 3), palette[6:12])
    np.testing.assert_array_equal(pictures[:, ::2, ::2], pictures[:, 1::2, 1::2])
    np.testing.assert_array_equal(model.encode(pictures), tokens)


def test_a_prior_has_the_same_face(token_bundle: Path) -> None:
    model = genfast.load(str(token_bundle), device="cpu")
    drawn = model.sample(3, seed=1)
    np.testing.assert_array_equal(model.decode(model.encode(drawn)), drawn)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode(np.zeros((1, 6, 4, 3), np.uint8)), r"palette encodes images of uint8 \[B, 4, 6, 3\]"),
        (lambda m: m.encode(np.zeros((1, 4, 6, 3), np.float32)), "encodes images of uint8"),
        (lambda m: m.encode(np.zeros((0, 4, 6, 3), np.uint8)), "encodes images of uint8"),
        (lambda m: m.decode(np.zeros((1, 5), np.int64)), r"palette decodes tokens of int64 \[B, 6\]"),
        (lambda m: m.decode(np.zeros((1, 6), np.int32)), "decodes tokens of int64"),
        (lambda m: m.decode(np.full((1, 6), 32)), r"the tokens of palette lie in 0 .. 31"),
        (lambda m: m.decode(np.full((1, 6), -1)), "lie in 0 .. 31"),
        (lambda m: m.sample(1), "palette is of family vq and draws nothing by itself; genfast tokenize and"),
        (lambda m: m.history(0), "draws nothing by itself"),
        (lambda m: m.fill_steps, "draws nothing by itself"),  # which a command asks for first
        (lambda m: genfast.inpaint(m, np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), bool)), "draws nothing by itself"),
        (lambda m: genfast.load(str(m.bundle.directory), steps=3), "palette is of family vq and takes no number of st"),
    ],
)
def test_what_it_does_not_take(model: VQModel, call: Callable[[VQModel], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(model)


def test_other_models_have_no_tokens(tiny_bundle: Path) -> None:
    model = genfast.load(str(tiny_bundle), device="cpu")
    with pytest.raises(UsageError, match="tiny is of family ddgan, which has no tokens"):
        model.encode(np.zeros((1, 6, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="tiny is of family ddgan, which has no tokens"):
        model.decode(np.zeros((1, 6), np.int64))


def test_a_prior_that_cannot_read_the_surroundings_fills_all_the_same(token_bundle: Path) -> None:
    """Without graphs for `embed` and `pixel_likelihood`, as of an imported prior."""
    model = genfast.load(str(token_bundle), device="cpu")
    plain = type(model)(**{**vars(model), "pixel_likelihood": None})
    picture = model.sample(1, seed=3)[0]
    hole = np.zeros((4, 6), bool)
    hole[:2, :2] = True
    np.testing.assert_array_equal(plain.fill(picture, hole, seed=1).picture[2:], picture[2:])
    assert len({plain.fill(picture, hole, seed=seed).picture[0, 0].tobytes() for seed in range(8)}) > 1
