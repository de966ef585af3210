from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genfast
from genfast.attributes import Settings
from genfast.bundles import catalog
from genfast.bundles.manifest import ImageSize
from genfast.errors import UsageError
from genfast.inpainting import masks
from genfast.inpainting.fill import inpaint
from genfast.models.base import Model
from genfast.models.filling import Filling
from genfast.models.tokens import TokenModel
from genfast.samplers.options import MaskGITOptions, Options, RePaintOptions, SundaeOptions
from tests.genfast.cli.world import photograph


@pytest.fixture(scope="module", params=["token_bundle", "tiny_bundle", "conv_bundle"])
def model(request: pytest.FixtureRequest) -> Model:
    """Pictures of 6x4, 8x6 and 28x28, the last grey."""
    return genfast.load(str(request.getfixturevalue(request.param)), device="cpu")


@pytest.fixture(scope="module")
def squares(token_bundle: Path) -> Model:
    return genfast.load(str(token_bundle), device="cpu")


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "height": st.integers(1, 20),
        "width": st.integers(1, 20),
        "channels": st.sampled_from([1, 3]),
        "dtype": st.sampled_from([np.uint8, np.uint16]),
        "density": st.sampled_from([0.002, 0.05, 0.5, 1]),
        "grow": st.integers(0, 3),
        "feather": st.integers(0, 5),
        "context": st.integers(0, 12),
    }
)


def example(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    case = dict(case)
    rng = np.random.default_rng(case.pop("seed"))
    shape = case.pop("height"), case.pop("width")
    dtype = case.pop("dtype")
    image = rng.integers(0, np.iinfo(dtype).max, (*shape, case.pop("channels")), dtype, endpoint=True)
    return image, rng.random(shape) < case.pop("density"), case


@settings(max_examples=25, deadline=None)
@given(cases)
def test_outside_the_mask_every_bit_stays(model: Model, case: dict[str, Any]) -> None:
    image, mask, options = example(case)
    (fill,) = inpaint(model, image, mask, **options)
    assert fill.image.dtype == image.dtype and fill.image.shape == image.shape
    kept = ~masks.grown(mask, options["grow"])
    assert np.array_equal(fill.image[kept], image[kept])


@settings(max_examples=10, deadline=None)
@given(cases)
def test_what_lies_under_the_mask_has_no_influence(model: Model, case: dict[str, Any]) -> None:
    image, mask, options = example(case)
    other = image.copy()
    other[mask] = np.random.default_rng(1).integers(0, 256, other[mask].shape)
    assert np.array_equal(
        inpaint(model, image, mask, **options)[0].image,
        inpaint(model, other, mask, **options)[0].image,
    )


def test_the_whole_of_a_picture_is_a_sample(model: Model) -> None:
    size = model.image
    image = np.random.default_rng(0).integers(0, 256, (size.height, size.width, size.channels), np.uint8)
    fills = inpaint(model, image, np.ones(image.shape[:2], bool), n=3, seed=4)
    of_fills = MaskGITOptions(steps=4) if isinstance(model, TokenModel) else None
    expected = model.sample(3, seed=4, options=of_fills)
    for fill in fills:
        assert np.array_equal(fill.image, expected[fill.index])


def test_an_empty_mask_changes_nothing(squares: Model) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    done: list[int] = []
    fills = inpaint(squares, image, np.zeros((7, 9), bool), n=2, grow=3, advance=done.append)
    assert done == [2]
    assert [fill.score for fill in fills] == [None, None]
    assert all(np.array_equal(fill.image, image) for fill in fills)
    for options in {"label": "nonsense"}, {"options": RePaintOptions()}, {"seed": -1}, {"context": -1}:
        with pytest.raises(UsageError):
            inpaint(squares, image, np.zeros((7, 9), bool), **options)


def test_fills_come_likeliest_first_and_do_not_depend_on_their_number(squares: Model) -> None:
    image = squares.sample(1, seed=9)[0]
    mask = np.zeros((4, 6), bool)
    mask[:, :4] = True
    fills = inpaint(squares, image, mask, n=6, seed=3)
    scores = [fill.score for fill in fills]
    assert None not in scores and scores == sorted(scores, reverse=True)
    assert sorted(fill.index for fill in fills) == list(range(6))
    assert 5 <= len(set(scores)) == len({fill.image.tobytes() for fill in fills})  # as small as this, some are equal
    first = next(fill for fill in fills if fill.index == 0)
    assert np.array_equal(inpaint(squares, image, mask, seed=3)[0].image, first.image)


def test_a_diffusion_model_ranks_nothing(conv_bundle: Path) -> None:
    model = genfast.load(str(conv_bundle), device="cpu")
    image = model.sample(1)[0]
    fills = inpaint(model, image, np.ones((28, 28), bool), n=3)
    assert [(fill.index, fill.score) for fill in fills] == [(0, None), (1, None), (2, None)]


@pytest.mark.parametrize("shape", [(4, 6), (11, 20)])
def test_who_watches_is_told_how_far_a_fill_is(squares: Model, shape: tuple[int, int]) -> None:
    image, mask = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8), np.zeros(shape, bool)
    mask[1:-1, 1:-1] = True
    told: list[tuple[float, np.ndarray]] = []
    last = inpaint(squares, image, mask, n=2, callback=lambda done, frame: told.append((done, frame())))
    shares = [done for done, _ in told]
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares) and 0.5 in shares
    final = max(last, key=lambda fill: fill.index)
    assert np.array_equal(told[-1][1], final.image)
    plain = inpaint(squares, image, mask, n=2)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(plain, last, strict=True))


@pytest.mark.parametrize("shape", [(4, 6), (11, 20)])
def test_a_history_ends_with_the_image(squares: Model, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    mask = np.zeros(shape, bool)
    mask[1:-1, 1:-1] = True
    (fill,) = inpaint(squares, image, mask, history=True)
    assert len(fill.history) % 5 == 0  # four steps, and what each window starts from
    assert np.array_equal(fill.history[-1], fill.image)
    assert all(np.array_equal(frame[~mask], image[~mask]) for frame in fill.history)


class Flat:
    """A model whose fill is of one colour, far off: what is left of the step at the edge is inpainting's own."""

    image = ImageSize(height=32, width=32, channels=3)
    varied = False
    seen = 0  # windows

    def fill_label(self, label: str | None, attributes: Settings | None) -> None: ...

    def take_fill(self, options: Options | None) -> None: ...

    def fill(self, picture: np.ndarray, hole: np.ndarray, **options: object) -> Filling:
        self.seen += 1
        return Filling(np.full_like(picture, 200))


@pytest.mark.parametrize("shape", [(32, 32), (96, 80), (20, 50)])
@pytest.mark.parametrize("feather", [0, 6])
def test_no_step_at_the_edge(shape: tuple[int, int], feather: int) -> None:
    y, x = np.indices(shape)
    image = np.stack([2 * y, 2 * x, y + x], axis=2).astype(np.uint8)
    mask = np.zeros(shape, bool)
    mask[5:15, 9:30] = True
    (fill,) = inpaint(Flat(), image, mask, feather=feather)  # type: ignore[arg-type]
    across = np.abs(fill.image[5:15, 9].astype(int) - fill.image[5:15, 8])
    assert across.max() <= 4  # the image's own gradient is at most 2
    assert fill.image[5:15, 9:30].std() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must lie in 1 .. 100000, not 0"),
        ({"grow": -1}, "grow must lie in 0 .. 100000, not -1"),
        ({"feather": -1}, "feather must lie in"),
        ({"context": -1}, "context must lie in"),
        ({"mask": np.ones((4, 7), bool)}, r"the mask must be bool \[4, 6\]"),
        ({"mask": np.ones((4, 6), np.uint8)}, "the mask must be bool"),
        ({"image": np.ones((4, 6), np.uint8)}, "the image must be uint8 or uint16"),
        ({"image": np.ones((4, 6, 3))}, "the image must be uint8 or uint16"),
        ({"label": "blue"}, "squares has no class 'blue'"),
        ({"options": RePaintOptions()}, "squares is of family vq-sundae, which takes no options of sampler repaint"),
        ({"seed": -1}, "must lie in 0 .. 2"),
    ],
)
def test_what_makes_no_sense_is_refused(squares: Model, options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"image": np.zeros((4, 6, 3), np.uint8), "mask": np.ones((4, 6), bool), **options}
    with pytest.raises(UsageError, match=message):
        genfast.inpaint(squares, **given)


def test_diffusion_models_take_no_options_of_tokens(tiny_bundle: Path) -> None:
    model = genfast.load(str(tiny_bundle))
    image, mask = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), bool)
    with pytest.raises(UsageError, match="tiny is of family ddgan, which takes no options of sampler maskgit"):
        genfast.inpaint(model, image, mask, options=MaskGITOptions())
    with pytest.raises(UsageError, match="tiny has no class 'red'; it has: none"):
        genfast.inpaint(model, image, mask, label="red")
    with pytest.raises(UsageError, match="resample must lie in 1 .. 1000, not 0"):
        genfast.inpaint(model, image, mask, options=RePaintOptions(resample=0))


def test_options_are_those_of_any_sampler_of_tokens(squares: Model) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    mask = np.ones((4, 6), bool)
    for options in SundaeOptions(steps=3, redraw_ratio=0.9), MaskGITOptions(steps=2, power=1):
        (fill,) = inpaint(squares, image, mask, seed=2, options=options, history=True)
        assert len(fill.history) == options.steps + 1
        assert np.array_equal(fill.image, squares.sample(1, seed=2, options=options)[0])


def test_a_fill_tells_when_it_is_done(squares: Model) -> None:
    done: list[int] = []
    inpaint(squares, np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), bool), n=3, advance=done.append)
    assert done == [1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "windows"), [((1, 500), 40), ((500, 1), 40), ((1, 30), 1), ((2, 31), 1), ((3, 20), 7)]
)
def test_a_slim_image_takes_as_few_windows_as_any(shape: tuple[int, int], windows: int) -> None:
    """Rather than one for each of its pixels."""
    model = Flat()
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    mask = np.zeros(shape, bool)
    mask.reshape(-1)[len(mask.ravel()) // 4 :: 2] = True
    (fill,) = inpaint(model, image, mask, feather=0)  # type: ignore[arg-type]
    assert 1 <= model.seen <= windows
    assert fill.image.shape == image.shape and np.array_equal(fill.image[~mask], image[~mask])


@pytest.mark.parametrize("shape", [(32, 32), (96, 80), (1, 500)])
def test_how_near_the_known_pixels_are(shape: tuple[int, int]) -> None:
    """Of windows of the image's own scale: in dB of a mean squared error, the hole left out."""
    mask = np.zeros(shape, bool)
    mask[: shape[0] // 2 + 1, shape[1] // 2 :] = True
    for off in 5, 60:
        image = np.full((*shape, 3), 200 - off, np.uint8)
        image[mask] = 9
        found = inpaint(Flat(), image, mask, feather=0)[0].psnr_around  # type: ignore[arg-type]
        assert found == pytest.approx(20 * np.log10(255 / off), abs=0.01)
    assert inpaint(Flat(), image, np.ones(shape, bool))[0].psnr_around is None  # type: ignore[arg-type]
    assert inpaint(Flat(), image, np.zeros(shape, bool))[0].psnr_around is None  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_default_model_does_not_know_photographs() -> None:
    """Surroundings of a face that it drew are familiar, those of soft spots and of noise are not."""
    model, least = genfast.load("avatars1024"), catalog.entry("avatars1024").familiar_psnr
    assert least
    mask = np.zeros((1024, 1024), bool)
    mask[400:500, 300:500] = True
    face = model.sample(1)[0]
    spots = cv2.resize(photograph(), (1024, 1024), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).integers(0, 256, face.shape, np.uint8)
    found = [
        inpaint(model, picture, mask, options=MaskGITOptions(steps=1))[0].psnr_around
        for picture in (face, spots, noise)
    ]
    assert None not in found and found[0] > least > max(found[1:])
