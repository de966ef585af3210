import shutil
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast import hub
from genfast.errors import UsageError


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
    run = model.session.run

    def watched(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(inputs["t"]))
        return run(**inputs)

    monkeypatch.setattr(model.session, "run", watched)
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
