import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast import hub
from genfast.errors import ModelError, UsageError
from genfast.noise import Purpose, normal


def test_the_public_face(tiny_bundle: Path) -> None:
    model = genfast.load(str(tiny_bundle))
    assert isinstance(model, genfast.Model)
    assert (model.name, model.steps) == ("tiny", 3)
    images = model.sample(5, seed=1)
    assert images.shape == (5, 6, 8, 3) and images.dtype == np.uint8
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = genfast.nonsense


def test_a_model_of_the_catalogue_goes_by_its_name_there(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_SHIPPED", ())
    monkeypatch.setenv("GENFAST_CACHE", str(tmp_path))
    shutil.copytree(tiny_bundle, tmp_path / "bundles" / "fashion28-t4")
    assert genfast.load().name == "fashion28"


def test_a_stand_in_draws_under_its_own_name_until_the_weights_are_here(
    token_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub, "_SHIPPED", ())
    monkeypatch.setenv("GENFAST_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="avatars1024 has no weights here"):
        genfast.load("ffhq1024")
    assert not caplog.messages
    shutil.copytree(token_bundle, tmp_path / "bundles" / "avatars1024")
    assert genfast.load("ffhq1024", steps=3).name == "avatars1024"
    (line,) = caplog.messages
    assert line.startswith(
        "genfast: ffhq1024's weights are not published: train them (training/recipes/ffhq1024-*.toml"
    )
    assert line.endswith(f"{tmp_path}/bundles/ffhq1024; drawing with avatars1024 instead")
    with pytest.raises(ModelError, match="^ffhq1024's weights are not published"):
        genfast.load("ffhq1024", stand_in=False)
    shutil.copytree(token_bundle, tmp_path / "bundles" / "ffhq1024")
    assert genfast.load("ffhq1024").name == genfast.load("ffhq1024", stand_in=False).name == "ffhq1024"
    assert len(caplog.messages) == 1


def test_an_image_depends_on_seed_and_index_alone(tiny_bundle: Path) -> None:
    model = genfast.load(str(tiny_bundle))
    images = model.sample(9, seed=7)
    assert len(np.unique(images.reshape(9, -1), axis=0)) == 9
    assert np.array_equal(model.sample(3, seed=7, start=5), images[5:8])
    assert np.array_equal(np.concatenate(list(model.batches([8, 0, 3], seed=7, batch=2))), images[[8, 0, 3]])
    assert not np.array_equal(model.sample(9, seed=8), images)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_convolutions_and_products_do_not_depend_on_the_batch(conv_bundle: Path, threads: int) -> None:
    expected = genfast.load(str(conv_bundle), threads=1).sample(65, batch=64)
    model = genfast.load(str(conv_bundle), threads=threads)
    for batch in 1, 2, 3, 7, 64, 65:
        assert np.array_equal(model.sample(65, batch=batch), expected), batch


def test_batches_come_in_the_size_asked_for(tiny_bundle: Path) -> None:
    model = genfast.load(str(tiny_bundle))
    assert [len(images) for images in model.batches(range(7), batch=3)] == [3, 3, 1]
    assert [len(images) for images in model.batches(range(70))] == [64, 6]
    assert list(model.batches([])) == []


def test_on_a_gpu_every_batch_has_one_size(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = genfast.load(str(tiny_bundle), device="cpu")
    expected = model.sample(7)
    sizes = []
    run = model.session.bind()

    def watched(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(inputs["t"]))
        return run(**inputs)

    monkeypatch.setattr(model.session, "bind", lambda: watched)
    monkeypatch.setattr(model.session, "device", "cuda:0")
    assert np.array_equal(model.sample(7, batch=4), expected)
    assert set(sizes) == {4}


@pytest.mark.parametrize(
    "arguments", [{"n": 0}, {"n": -1}, {"batch": 0}, {"seed": -1}, {"seed": 2**63}, {"start": -1}, {"start": 2**63}]
)
def test_arguments_out_of_range_are_refused(tiny_bundle: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        genfast.load(str(tiny_bundle)).sample(**{"n": 1, **arguments})


def test_the_ends_of_the_range_are_drawn(tiny_bundle: Path) -> None:
    genfast.load(str(tiny_bundle)).sample(1, seed=2**63 - 1, start=2**63 - 1)


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
