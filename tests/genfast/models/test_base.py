"""What every model keeps to, whatever its family."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast.errors import UsageError

every_family = pytest.mark.parametrize("name", ["tiny_bundle", "ddpm_bundle", "token_bundle"])


@pytest.fixture
def model(name: str, request: pytest.FixtureRequest) -> genfast.Model:
    return genfast.load(str(request.getfixturevalue(name)), device="cpu")


@every_family
def test_a_history_ends_with_the_image(model: genfast.Model) -> None:
    frames = list(model.history(4, seed=2))
    assert len(frames) == model.steps + 1
    assert np.array_equal(frames[-1], model.sample(1, seed=2, start=4)[0])
    assert len({frame.tobytes() for frame in frames}) > 2


@every_family
def test_who_watches_sees_the_images_of_sample_come_about(model: genfast.Model) -> None:
    seen: list[np.ndarray] = []
    images = model.watched(range(3, 5), lambda frame: seen.append(frame()), seed=2)
    assert np.array_equal(images, model.sample(2, seed=2, start=3))
    assert len(seen) % (model.steps + 1) == 0 and np.array_equal(seen[-1][-1], images[-1])

    def stop(frame: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        model.watched([0], stop)


@every_family
def test_batches_come_in_the_size_asked_for(model: genfast.Model) -> None:
    assert [len(images) for images in model.batches(range(7), batch=3)] == [3, 3, 1]
    size = model.bundle.manifest.sampling.batch
    assert [len(images) for images in model.batches(range(size + 2))] == [size, 2]
    assert list(model.batches([])) == [] and list(model.batches(iter([]))) == []


@every_family
def test_indices_are_asked_for_as_they_are_drawn(model: genfast.Model) -> None:
    expected = model.sample(6, seed=3)
    asked: list[int] = []

    def indices() -> Iterator[int]:
        for index in range(10**12):
            asked.append(index)
            yield index

    drawn = model.batches(indices(), seed=3, batch=2)
    assert asked == []
    for number in 1, 2, 3:
        assert np.array_equal(next(drawn), expected[2 * number - 2 : 2 * number])
        assert asked == [*range(2 * number)]
    whole = model.batches(range(10**12), seed=3, batch=2)
    assert np.array_equal(np.concatenate(list(islice(whole, 3))), expected)


@every_family
def test_an_index_out_of_range_is_refused_when_its_turn_comes(model: genfast.Model) -> None:
    drawn = model.batches(iter([0, 2**63]), batch=1)
    next(drawn)
    with pytest.raises(UsageError, match="must lie in 0 .. 2"):
        next(drawn)
    for indices in (range(2**63 - 1, 2**63 + 1), [-1]):  # at once, where they are known
        with pytest.raises(UsageError, match="must lie in 0 .. 2"):
            model.batches(indices)


@pytest.mark.parametrize(
    "arguments", [{"n": 0}, {"n": -1}, {"batch": 0}, {"seed": -1}, {"seed": 2**63}, {"start": -1}, {"start": 2**63}]
)
def test_arguments_out_of_range_are_refused(tiny_bundle: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        genfast.load(str(tiny_bundle)).sample(**{"n": 1, **arguments})


def test_the_ends_of_the_range_are_drawn(tiny_bundle: Path) -> None:
    genfast.load(str(tiny_bundle)).sample(1, seed=2**63 - 1, start=2**63 - 1)
