from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast.bundles import bundle
from genfast.errors import InputError, UsageError
from genfast.images.folder import read_folder
from genfast.metrics import parts
from genfast.metrics.evaluate import describe, gather, look, references, score
from genfast.metrics.features import Embedder
from genfast.metrics.frechet import frechet_distance
from genfast.metrics.statistics import SUBSET, About, Drawn, Part, Statistics
from genfast.shards import Shard
from genfast.tasks.embed import embed

Folder = Callable[..., Path]


def split(features: np.ndarray, shards: int) -> list[Statistics]:
    """The statistics of parts of features [N, D]."""
    n = len(features)
    found = []
    for shard in (Shard(index, shards) for index in range(shards)):
        rows = shard.of(range(n))
        part = Part(shard=shard.index, shards=shards, start=rows.start, images=n)
        about = About(
            dataset="x", images_sha256=f"{shard}", n=len(rows), extractor="e", graph_sha256="0" * 64, part=part
        )
        found.append(Statistics.of(features[rows.start : rows.stop], about))
    return found


@pytest.mark.parametrize("shards", [1, 4, 7])
def test_parts_merge_to_the_whole(shards: int, tmp_path: Path) -> None:
    """By way of files: moments to rounding in float64, the subset as float16 has it."""
    features = np.random.default_rng(0).standard_normal((SUBSET + 500, 20), np.float32) ** 3
    whole = Statistics.of(
        features, About(dataset="x", images_sha256="", n=len(features), extractor="e", graph_sha256="")
    )
    for each in split(features, shards)[::-1]:
        assert each.about.part
        each.save(parts.path(tmp_path, each.about.part, "x", "e"))
    (merged,) = parts.read(tmp_path)
    assert merged.drawn is None and merged.whole.about.part is None
    found = merged.whole
    assert found.about.n == found.moments.n == len(features)
    np.testing.assert_allclose(found.moments.mean, whole.moments.mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.moments.covariance, whole.moments.covariance, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(found.subset, whole.subset.astype(np.float16))
    other = Statistics.of(features[::2] + 0.1, whole.about)
    expected = frechet_distance(whole.moments, other.moments)
    assert frechet_distance(found.moments, other.moments) == pytest.approx(expected, rel=1e-12)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((40, 3), np.float32)
    with pytest.raises(InputError, match="holds no parts; write them with `genfast fid --shard K/N"):
        parts.read(tmp_path)
    for each in split(features, 4)[:3]:
        assert each.about.part
        each.save(parts.path(tmp_path, each.about.part, "x", "e"))
    with pytest.raises(
        InputError,
        match="^x-e-0-of-4.npz .* are of 40 images in 4 parts, of which there are 3; shard 3/4 .* is missing$",
    ):
        parts.read(tmp_path)
    with pytest.raises(InputError, match="knows a part of the images; give its folder to --merge"):
        Statistics.load(tmp_path / "x-e-0-of-4.npz")
    Statistics.of(features, About(dataset="x", images_sha256="", n=40, extractor="e", graph_sha256="")).save(
        tmp_path / "whole.npz"
    )
    with pytest.raises(InputError, match="whole.npz is no part of a set"):
        parts.read(tmp_path)
    with pytest.raises(UsageError, match="shard 0/9 has none of 3 images; give fewer shards"):
        parts.of(Shard(0, 9), 3)


def test_sets_that_are_drawn_otherwise_lie_in_other_files(tmp_path: Path) -> None:
    plain = Drawn(model="m", bundle="0" * 64, steps=4, seed=0, reference="x")
    others = [plain, *(plain.model_copy(update={"attributes": (("hair", hair),)}) for hair in ("bun", "a/b"))]
    files = [parts.path(tmp_path, Part(shard=0, shards=2, start=0, images=9, drawn=each), "x", "e") for each in others]
    assert len({*files}) == 3 and {file.parent for file in files} == {tmp_path}


def test_the_images_of_a_folder(folder: Folder, means: Path, tmp_path: Path) -> None:
    a = folder("a", 50)
    for index in range(3):
        plan = parts.of_folder(a, Shard(index, 3), str(means), device="cpu")
        parts.write([plan], tmp_path / "parts", "refuse")
    with pytest.raises(UsageError, match="a-means-2-of-3.npz exists; give --overwrite, --skip-existing"):
        parts.write([plan], tmp_path / "parts", "refuse")
    assert parts.write([plan], tmp_path / "parts", "skip") == plan.paths(tmp_path / "parts")
    other = parts.of_folder(folder("b", 60), Shard(2, 3), str(means), device="cpu")
    with pytest.raises(UsageError, match="is of other images"):
        parts.write([parts.Plan(other.part, "a", other.embedders, [])], tmp_path / "parts", "skip")
    embedder = Embedder(bundle.load(means), "cpu")
    whole, _ = describe(read_folder(a), [embedder], "a")[0]
    (merged,) = parts.read(tmp_path / "parts")
    np.testing.assert_allclose(merged.whole.moments.covariance, whole.moments.covariance, rtol=1e-12)


def test_places_see_what_one_process_sees(tiny_bundle: Path, means: Path) -> None:
    """In the order of images, whoever was first."""
    judges = references("none-test", str(means), device="cpu")
    embedders = [embedder for embedder, _ in judges]
    one, two = (genfast.load(str(tiny_bundle), device=device) for device in ("cpu", "cpu,cpu"))
    here, there = (
        gather(embed(model, embedders, range(50), 3, batch=8), embedders, "samples")[0][0] for model in (one, two)
    )
    assert here.about == there.about
    np.testing.assert_array_equal(here.subset, there.subset)
    direct = score(look(one.batches(range(50), seed=3), embedders), judges)[0]
    assert score(embed(two, embedders, range(50), 3), judges)[0].fid == pytest.approx(direct.fid, rel=1e-9)
