from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast.errors import UsageError
from genfast.models.diffusion import DiffusionModel
from genfast.samplers.noise import Purpose, normal
from genfast.samplers.options import AncestralOptions, MaskGITOptions, Options, RePaintOptions
from tests.graphs.bundles import parse, write_bundle


@pytest.fixture
def tiny(tiny_bundle: Path) -> DiffusionModel:
    loaded = genfast.load(str(tiny_bundle), device="cpu")
    assert isinstance(loaded, DiffusionModel)
    return loaded


def test_an_image_depends_on_seed_and_index_alone(tiny: DiffusionModel) -> None:
    images = tiny.sample(9, seed=7)
    assert len(np.unique(images.reshape(9, -1), axis=0)) == 9
    assert np.array_equal(tiny.sample(3, seed=7, start=5), images[5:8])
    assert np.array_equal(np.concatenate(list(tiny.batches([8, 0, 3], seed=7, batch=2))), images[[8, 0, 3]])
    assert not np.array_equal(tiny.sample(9, seed=8), images)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_convolutions_and_products_do_not_depend_on_the_batch(conv_bundle: Path, threads: int) -> None:
    expected = genfast.load(str(conv_bundle), device="cpu", threads=1).sample(65, batch=64)
    model = genfast.load(str(conv_bundle), device="cpu", threads=threads)
    for batch in 1, 2, 3, 7, 64, 65:
        assert np.array_equal(model.sample(65, batch=batch), expected), batch


def test_on_a_gpu_every_batch_has_one_size(tiny: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tiny.sample(7)
    sizes = []
    run = tiny.session.bind()

    def watched(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(inputs["t"]))
        return run(**inputs)

    monkeypatch.setattr(tiny.session, "bind", lambda: watched)
    monkeypatch.setattr(tiny.session, "device", "cuda:0")
    assert np.array_equal(tiny.sample(7, batch=4), expected)
    assert set(sizes) == {4}


def test_what_a_step_computes_stays_where_it_is(tiny: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """x_t goes from one step to the next without becoming an array of numpy."""
    seen: list[str] = []
    run = tiny.session.bind()

    def watched(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(type(inputs["x_t"]).__name__)
        return run(**inputs)

    monkeypatch.setattr(tiny.session, "bind", lambda: watched)
    tiny.sample(2)
    assert seen == ["ndarray", "OrtValue", "OrtValue"]


def test_a_bundle_has_the_steps_it_was_trained_for(tiny_bundle: Path) -> None:
    assert genfast.load(str(tiny_bundle), steps=3).steps == 3
    with pytest.raises(UsageError, match="has no weights for 4 steps; weights exist for: 3"):
        genfast.load(str(tiny_bundle), steps=4)


def test_a_ddpm_takes_as_many_steps_as_it_is_told(ddpm_bundle: Path) -> None:
    """Each to the next of its levels, evenly: the graph is given both."""
    for steps, levels in {1: [8, 0], 3: [8, 5, 2, 0], 4: [8, 6, 4, 2, 0], None: [8, 7, 6, 5, 4, 3, 2, 1, 0]}.items():
        model = genfast.load(str(ddpm_bundle), steps=steps)
        assert model.steps == len(levels) - 1
        x = normal(3, [5], 0, Purpose.PRIOR, (1, 28, 28))
        for t, (here, there) in zip(range(model.steps, 0, -1), pairwise(levels), strict=True):
            noise = normal(3, [5], t, Purpose.POSTERIOR, (1, 28, 28))
            x = x / 2 + noise / 2 + 0.01 * (here - there) if there else np.tanh(x)
        expected = np.rint((x[:, 0, ..., None] + 1) * 127.5)
        assert np.abs(model.sample(1, seed=3, start=5) - expected).max() <= 1
    for steps in 0, -1, 9:
        with pytest.raises(UsageError, match=f"takes 1 to 8 steps, not {steps}"):
            genfast.load(str(ddpm_bundle), steps=steps)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """One graph, trained for three: for 2 and 3 steps by one loss, and for 2 by another."""
    found = [("kl", [0, 3, 8]), ("kl", [0, 2, 5, 8]), ("tv", [0, 6, 8])]
    schedule = {
        "alpha_bar": [1, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.05],
        "trained": [{"loss": loss, "levels": levels, "graph": "walk"} for loss, levels in found],
    }
    image = {"height": 28, "width": 28, "channels": 1}
    fields = {"name": "several", "image": image, "latent": 1, "schedule": schedule}
    return write_bundle(tmp_path / "several", parse("several"), "ddgan", "walk", **fields)


@pytest.mark.parametrize(
    ("steps", "loss", "levels"),
    [
        (None, None, [8, 3, 0]),
        (2, "kl", [8, 3, 0]),
        (3, None, [8, 5, 2, 0]),
        (None, "tv", [8, 6, 0]),
        (2, "tv", [8, 6, 0]),
    ],
)
def test_a_network_goes_through_the_levels_it_was_trained_for(
    several: Path, steps: int | None, loss: str | None, levels: list[int]
) -> None:
    model = genfast.load(str(several), steps=steps, loss=loss)
    assert model.steps == len(levels) - 1
    x = normal(3, [5], 0, Purpose.PRIOR, (1, 28, 28))
    for t, (here, there) in zip(range(model.steps, 0, -1), pairwise(levels), strict=True):
        noise = normal(3, [5], t, Purpose.POSTERIOR, (1, 28, 28))
        moved = 0.01 * (here - there) + 0.1 * normal(3, [5], t, Purpose.LATENT, (1,))
        x = x / 2 + noise / 2 + moved[..., None, None] if there else np.tanh(x)
    expected = np.rint((x[:, 0, ..., None] + 1) * 127.5)
    assert np.abs(model.sample(1, seed=3, start=5) - expected).max() <= 1


@pytest.mark.parametrize(
    ("steps", "loss", "line"),
    [
        (4, None, "several has no weights for 4 steps; weights exist for: 2, 3"),
        (3, "tv", "several has no weights for 3 steps by tv; weights exist for: 2"),
        (None, "hinge", "several has no weights by hinge; it has: kl, tv"),
    ],
)
def test_other_steps_and_losses_are_refused(several: Path, steps: int | None, loss: str | None, line: str) -> None:
    with pytest.raises(UsageError, match=f"^{line}$"):
        genfast.load(str(several), steps=steps, loss=loss)


def test_a_hole_is_filled_in_any_number_of_steps(several: Path) -> None:
    model = genfast.load(str(several), steps=3, device="cpu")
    picture, hole = np.full((28, 28, 1), 100, np.uint8), np.zeros((28, 28), bool)
    hole[:9] = True
    frames: list[np.ndarray] = []
    filling = model.fill(picture, hole, callback=lambda frame: frames.append(frame()))
    apart = np.abs(filling.picture.astype(int) - 100)
    assert len(frames) == 4 and apart[9:].mean() < 30 < apart[:9].mean()


@pytest.mark.parametrize("options", [MaskGITOptions(), RePaintOptions()])
def test_there_is_nothing_to_choose_about_drawing(tiny: DiffusionModel, options: Options) -> None:
    with pytest.raises(
        UsageError, match=f"^tiny is of family ddgan, which takes no options of sampler {options.sampler}$"
    ):
        tiny.sample(1, options=options)
    assert tiny.options is None and tiny.fill_options == RePaintOptions()


def test_holes_are_filled_by_repaint_alone(tiny: DiffusionModel) -> None:
    picture, hole = np.full((6, 8, 3), 100, np.uint8), np.zeros((6, 8), bool)
    hole[:3] = True
    with pytest.raises(UsageError, match="^tiny is of family ddgan, which takes no options of sampler maskgit$"):
        tiny.fill(picture, hole, options=MaskGITOptions())
    once, again = (tiny.fill(picture, hole, options=options).picture for options in (None, RePaintOptions(resample=3)))
    assert np.array_equal(tiny.fill(picture, hole, options=RePaintOptions()).picture, once)
    assert not np.array_equal(once, again)


def test_classes_take_turns_too(shaded_bundle: Path) -> None:
    labelled = genfast.load(str(shaded_bundle), device="cpu")
    images, light = labelled.sample(6), labelled.sample(6, label="light")
    assert (images == light).all((1, 2, 3)).tolist() == [False, True] * 3
    assert (labelled.sample(6, batch=1) == images).all() and [labelled.label(i) for i in (0, 3)] == ["dark", "light"]
    with pytest.raises(UsageError, match="shades has no class 'red'; it has: dark, light"):
        labelled.sample(1, label="red")


def test_guidance_leads_towards_the_class(shaded_bundle: Path) -> None:
    """Classes are a tenth of -1 .. 1 apart, and none is lighter still: away from it is darker."""
    labelled = genfast.load(str(shaded_bundle), device="cpu")
    plain, guided = (
        labelled.sample(4, label="light", options=AncestralOptions(guidance=w)).astype(int) for w in (1.0, 3.0)
    )
    np.testing.assert_array_equal(plain, labelled.sample(4, label="light"))
    inside = (plain > 60) & (plain < 200)
    assert (guided < plain)[inside].mean() > 0.9  # not where guidance clips what this network does not
    np.testing.assert_array_equal(
        labelled.sample(4, label="light", options=AncestralOptions(guidance=3), batch=1), guided
    )


def test_a_hole_is_filled_as_its_surroundings_have_it_unless_a_class_is_asked_for(shaded_bundle: Path) -> None:
    labelled = genfast.load(str(shaded_bundle), device="cpu")
    picture, hole = np.full((6, 8, 3), 100, np.uint8), np.ones((6, 8), bool)
    dark, light, none = (labelled.fill(picture, hole, label=label) for label in ("dark", "light", None))
    assert dark.picture.mean() < light.picture.mean() < none.picture.mean()
    assert (dark.label, light.label, none.label) == ("dark", "light", None)


def test_there_is_nothing_to_rank(tiny: DiffusionModel) -> None:
    frames: list[np.ndarray] = []
    picture, hole = np.full((6, 8, 3), 100, np.uint8), np.ones((6, 8), bool)
    filling = tiny.fill(picture, hole, rank=True, callback=lambda frame: frames.append(frame()))
    assert filling.picture.shape == picture.shape and filling.logs.shape == (0,)
    assert len(frames) == tiny.fill_steps + 1 == 4 and np.array_equal(frames[-1], filling.picture)
