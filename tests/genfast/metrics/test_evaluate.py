import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast.bundles import bundle
from genfast.errors import InputError, UsageError
from genfast.images.folder import read_folder
from genfast.metrics.evaluate import compare, describe, evaluate, references
from genfast.metrics.features import Embedder
from genfast.metrics.folders import between, save_statistics
from genfast.metrics.frechet import Moments, frechet_distance

Folder = Callable[..., Path]


def test_batches_count_as_one_set(means: Path) -> None:
    embedder = Embedder(bundle.load(means), "cpu")
    pixels = np.random.default_rng(1).integers(0, 256, (100, 6, 8, 3), np.uint8)
    (whole, _), (parts, seconds) = (
        describe(batches, [embedder], "x")[0] for batches in ([pixels], np.split(pixels, 20))
    )
    assert whole.about == parts.about and whole.about.n == 100
    np.testing.assert_array_equal(whole.moments.covariance, parts.moments.covariance)
    assert 0 < seconds < 10
    assert describe([pixels[:, ::-1]], [embedder], "x")[0][0].about.images_sha256 != whole.about.images_sha256


def test_several_extractors_see_each_image_once(means: Path, halves: Path) -> None:
    whole = np.random.default_rng(1).integers(0, 256, (150, 28, 28, 1), np.uint8)
    batches = iter(np.split(whole, 3))  # can be gone through but once
    found = [judge for path in (means, halves) for judge in references("none-test", str(path), device="cpu")]
    scores = evaluate(batches, found)
    assert [score.features for score in scores] == ["means", "halves"]
    for score, (embedder, reference) in zip(scores, found, strict=True):
        assert score.fid == pytest.approx(frechet_distance(Moments.of(embedder(whole)), reference.moments))
        assert (score.n, score.floor, score.yardsticks) == (150, reference.about.floor, {"blur": 2.5})


def test_a_model_s_images(tiny_bundle: Path, means: Path) -> None:
    model = genfast.load(str(tiny_bundle), device="cpu")
    once, again, other = (
        evaluate(model.batches(range(120), seed=seed, batch=batch), references("none-test", str(means), device="cpu"))[
            0
        ]
        for seed, batch in ((1, 64), (1, 7), (2, 64))
    )
    assert once.fid == pytest.approx(again.fid, rel=1e-9)
    assert once.fid != pytest.approx(other.fid, rel=1e-3)
    assert once.protocol == again.protocol == other.protocol  # which images were drawn is not how they are measured


def test_folders_and_their_statistics_score_alike(folder: Folder, means: Path, tmp_path: Path) -> None:
    a, b = folder("a", 60), folder("b", 80, high=200)
    save_statistics(a, tmp_path / "a.npz", str(means), device="cpu")
    save_statistics(b, tmp_path / "b.npz", str(means), device="cpu")
    direct = between(a, b, str(means), device="cpu")[0]
    assert direct.fid == pytest.approx(
        frechet_distance(*(Moments.of(np.concatenate([*read_folder(path)]).mean((1, 2))) for path in (a, b))),
        rel=1e-4,
    )
    assert direct.floor is not None and direct.floor < direct.fid
    for x, y in ((a, tmp_path / "b.npz"), (tmp_path / "a.npz", b), (tmp_path / "a.npz", tmp_path / "b.npz")):
        score = between(x, y, str(means), device="cpu")[0]
        assert score.fid == pytest.approx(direct.fid, rel=1e-4)
        assert score.kid == pytest.approx(direct.kid, rel=1e-2)
        assert score.protocol == direct.protocol
    extractor, reference, n, kid = direct.protocol.split("/")
    assert re.fullmatch(r"means@[0-9a-f]{8}", extractor) and re.fullmatch(r"b@[0-9a-f]{8}:80", reference)
    assert (n, kid) == ("n=60", "kid=60")


def test_says_what_is_unreliable(folder: Folder, means: Path) -> None:
    b = folder("b", 40)
    assert between(folder("a", 40, low=1), b, str(means), device="cpu")[0].warnings == ()
    few = between(folder("few", 3), b, str(means), device="cpu")[0].warnings
    assert few[0] == "few: 3 images do not exceed the 3 features of means: the covariance is singular and FID too high"
    assert few[1].startswith("FID rises as images get fewer: 3 do not compare with floor and yardsticks")
    assert "measured with 20" in few[1]


def test_different_extractors_do_not_mix(folder: Folder, means: Path, halves: Path, tmp_path: Path) -> None:
    a = folder("a", 10, (28, 28, 1))
    save_statistics(a, tmp_path / "a.npz", str(means), device="cpu")
    with pytest.raises(InputError, match=r"a was seen by halves@\w{8}, a by means@\w{8}; name one extractor for both"):
        between(a, tmp_path / "a.npz", str(halves), device="cpu")


def test_one_image_is_no_distribution(means: Path) -> None:
    embedder = Embedder(bundle.load(means), "cpu")
    with pytest.raises(InputError, match="dot has 1 image"):
        describe([np.zeros((1, 6, 8, 3), np.uint8)], [embedder], "dot")


def test_a_data_set_that_no_extractor_holds(means: Path) -> None:
    with pytest.raises(UsageError, match="means holds no statistics of faces-test"):
        references("faces-test", str(means), device="cpu")


def test_an_image_set_to_itself(folder: Folder, means: Path) -> None:
    embedder = Embedder(bundle.load(means), "cpu")
    seen, _ = describe(read_folder(folder("a", 50)), [embedder], "a")[0]
    assert compare(seen, seen, 0).fid == pytest.approx(0, abs=1e-6)


def test_what_images_were_resized_to_is_of_the_protocol(folder: Folder, means: Path, tmp_path: Path) -> None:
    a, b = folder("a", 30, (12, 16, 3)), folder("b", 40, (9, 5, 1))
    as_they_are, small = (between(a, b, str(means), resize=size, device="cpu")[0] for size in (None, (8, 6)))
    assert small.protocol.endswith("/resize=8x6-bicubic") and "resize" not in as_they_are.protocol
    expected = [Moments.of(np.concatenate([*read_folder(path, (8, 6))]).mean((1, 2))) for path in (a, b)]
    assert small.fid == pytest.approx(frechet_distance(*expected), rel=1e-4)
    about = save_statistics(b, tmp_path / "b.npz", str(means), resize=(8, 6), device="cpu")
    assert about.resize == "8x6-bicubic"
    stored = between(a, tmp_path / "b.npz", str(means), resize=(8, 6), device="cpu")[0]
    assert stored.fid == pytest.approx(small.fid, rel=1e-4) and stored.protocol == small.protocol
    for size, name in (None, "no size"), ((4, 4), "4x4-bicubic"):
        with pytest.raises(InputError, match=f"^a was resized to {name}, b to 8x6-bicubic; make both alike$"):
            between(a, tmp_path / "b.npz", str(means), resize=size, device="cpu")
