"""What `genfast` draws on a fresh machine: no network, no options."""

import json
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast.images.folder import read_all

SHIPPED = Path(__file__).parents[2] / "assets" / "bundles" / "fashion28"
pytestmark = pytest.mark.skipif(not SHIPPED.exists(), reason="the weights of fashion28 are not trained yet")


def test_sample_without_options_draws_different_garments(cli, tmp_path: Path) -> None:
    folder = tmp_path / "cwd"
    done = cli("sample", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    drawn = json.loads(done.stdout)
    assert drawn["model"] == "fashion28"
    assert [image["index"] for image in drawn["images"]] == list(range(8))
    pixels = read_all([folder / image["path"] for image in drawn["images"]])
    assert pixels.shape == (8, 28, 28, 1)
    assert (pixels.reshape(8, -1).std(1) > 20).all()  # none is blank
    distances = np.abs(pixels[:, None].astype(int) - pixels[None]).mean((2, 3, 4))
    assert distances[~np.eye(8, dtype=bool)].min() > 5  # none is drawn twice
    assert (folder / drawn["grid"]).exists()


@pytest.mark.slow
def test_a_seed_gives_the_same_bytes_whatever_the_batch(cli, tmp_path: Path) -> None:
    contents = []
    for batch in 1, 3, 64:
        cli("sample", "--seed", 1, "-n", 65, "--batch", batch, "--out", tmp_path / str(batch), check=True)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / str(batch)).iterdir()})
    assert contents[0] == contents[1] == contents[2] and len(contents[0]) == 66


def test_python() -> None:
    images = genfast.load("fashion28").sample(8, seed=1)
    assert images.shape == (8, 28, 28, 1) and images.dtype == np.uint8
    assert np.array_equal(genfast.sample(n=8, seed=1), images)
