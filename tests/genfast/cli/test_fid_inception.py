"""The FID that papers print: Inception's features, pytorch-fid's files, and what does not mix.

A distance between moments of 2048 features takes seconds: most of these tests are slow.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from genfast.metrics.features import Embedder

Cli = Callable[..., CompletedProcess[str]]
Rows = Callable[[str], dict[str, np.ndarray]]
SHAPES = [(28, 28), (28, 28), (20, 31, 3), (33, 20, 3)]  # grey and colour, of several sizes


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance between a few rows [N, D] each: tr (A B)^1/2 is the sum of the singular values of a b^T."""
    x, y = ((rows - rows.mean(0)) / np.sqrt(len(rows) - 1) for rows in (a, b))
    delta = a.mean(0) - b.mean(0)
    return delta @ delta + (x * x).sum() + (y * y).sum() - 2 * np.linalg.svd(x @ y.T, compute_uv=False).sum()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders a and b of four pictures each."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, high in ("a", 256), ("b", 200):
        (folder / name).mkdir()
        for i, shape in enumerate(SHAPES):
            Image.fromarray(rng.integers(0, high, shape, np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def rows_of(pictures: Path, inception: Path) -> Rows:
    """The features [4, 2048] of the pictures of each folder, as a protocol sees them."""

    @cache
    def see(protocol: str) -> dict[str, np.ndarray]:
        embedder, found = Embedder.find(f"{inception}/{protocol}", "cpu"), {}
        for name in "a", "b":
            images = [Image.open(pictures / name / f"{i}.png").convert("RGB") for i in range(len(SHAPES))]
            rows = [embedder(np.asarray(image)[None])[0].astype(np.float64) for image in images]
            found[name] = np.stack(rows)
        return found

    return see


@pytest.fixture(scope="module")
def theirs(rows_of: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as pytorch-fid writes them."""
    folder = tmp_path_factory.mktemp("theirs")
    for name, of in rows_of("inception-pytorch-fid").items():
        np.savez(folder / f"{name}.npz", mu=of.mean(0), sigma=np.cov(of, rowvar=False))
    return folder


@pytest.fixture
def fid(cli: Cli, inception: Path, pictures: Path) -> Cli:
    """`genfast fid` among the pictures, where Inception was pulled."""
    environment = {"GENFAST_CACHE": str(inception.parents[1]), "GENFAST_OFFLINE": "1"}
    return lambda *arguments: cli("fid", *arguments, env=environment, cwd=pictures)


ASSUMED = "holds moments alone, and not what saw the images; taken as inception-"


@pytest.mark.slow
def test_each_protocol_is_its_own(fid: Cli, rows_of: Rows) -> None:
    """Of folders of several sizes, and without --resize."""
    for name, protocol in ("inception", "inception-pytorch-fid"), ("inception-torch-fidelity",) * 2:
        done = fid("a", "b", "--features", name, "--json")
        assert done.returncode == 0, done.stderr
        (result,) = json.loads(done.stdout)["results"]
        wanted = distance(*rows_of(protocol).values())
        assert result["features"] == protocol and result["protocol"].startswith(f"{protocol}@")
        assert result["fid"] == pytest.approx(wanted, rel=1e-4)
        assert result["kid"] is not None and any("the covariance is singular" in line for line in result["warnings"])


def test_a_folder_against_a_file_of_pytorch_fid(fid: Cli, theirs: Path, rows_of: Rows) -> None:
    """Its pictures, of several sizes, are seen without --resize."""
    done = fid("a", theirs / "b.npz")
    assert done.returncode == 0
    name, *lines = done.stdout.splitlines()
    rows = dict(line.split() for line in lines)
    wanted = distance(*rows_of("inception-pytorch-fid").values())
    assert name == "inception-pytorch-fid" and float(rows["FID"]) == pytest.approx(wanted, rel=1e-4)
    assert list(rows) == ["FID", "floor", "n", "seconds", "protocol"]
    assert done.stderr.splitlines()[0].endswith(f"b.npz {ASSUMED}pytorch-fid, without KID, precision, recall")


@pytest.mark.slow
def test_files_of_pytorch_fid_on_either_side(fid: Cli, theirs: Path, rows_of: Rows) -> None:
    wanted = distance(*rows_of("inception-pytorch-fid").values())
    for a, b, said in (theirs / "a.npz", "b", 1), (theirs / "a.npz", theirs / "b.npz", 2):
        done = fid(a, b, "--json")
        (result,) = json.loads(done.stdout)["results"]
        assert result["fid"] == pytest.approx(wanted, rel=1e-4)
        assert result["kid"] is result["precision"] is result["recall"] is None
        assert done.stderr.count(ASSUMED + "pytorch-fid, without KID") == said


@pytest.mark.slow
def test_a_file_that_says_nothing_may_be_taken_as_of_the_other_protocol(fid: Cli, theirs: Path) -> None:
    done = fid(theirs / "a.npz", theirs / "b.npz", "--features", "inception-torch-fidelity", "--json")
    assert done.stderr.count(ASSUMED + "torch-fidelity") == 2
    assert json.loads(done.stdout)["results"][0]["features"] == "inception-torch-fidelity"
    refused = fid(theirs / "a.npz", theirs / "b.npz", "--features", "fashion")
    assert refused.returncode == 3 and "a.npz was not seen by fashion" in refused.stderr


@pytest.mark.slow
def test_statistics_are_what_pytorch_fid_reads(fid: Cli, theirs: Path, rows_of: Rows, tmp_path: Path) -> None:
    fid("--save-stats", tmp_path / "b.npz", "b", "--features", "inception")
    with np.load(tmp_path / "b.npz") as file:  # as pytorch-fid does
        mu, sigma = file["mu"][:], file["sigma"][:]
    of_b = rows_of("inception-pytorch-fid")["b"]
    np.testing.assert_allclose(mu, of_b.mean(0), atol=1e-3)
    np.testing.assert_allclose(sigma, np.cov(of_b, rowvar=False), atol=1e-3)
    done = fid(theirs / "a.npz", tmp_path / "b.npz", "--json")
    assert json.loads(done.stdout)["results"][0]["fid"] == pytest.approx(
        distance(*rows_of("inception-pytorch-fid").values()), rel=1e-4
    )
    fid("--save-stats", tmp_path / "t.npz", "b", "--features", "inception-torch-fidelity")
    mixed = fid(tmp_path / "t.npz", theirs / "a.npz")
    assert mixed.returncode == 3 and "name one extractor for both" in mixed.stderr
    mixed = fid(tmp_path / "b.npz", tmp_path / "t.npz")
    assert mixed.returncode == 3 and "was seen by inception-pytorch-fid@" in mixed.stderr


@pytest.mark.slow
def test_a_model_against_a_file(fid: Cli, theirs: Path, tiny_bundle: Path) -> None:
    run = ("--model", tiny_bundle, "--samples", 3, "--against", theirs / "b.npz", "--features", "inception")
    done = fid(*run, "--json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["features"] == "inception-pytorch-fid" and result["n"] == 3 and result["fid"] > 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(64), "sigma": np.eye(64)}, "holds moments of 64 features, not of the 2048 of FID's Inception"),
        ({"mu": np.zeros(2048), "sigma": np.eye(64)}, "its arrays do not fit each other"),
        ({"mu": np.full(2048, np.nan), "sigma": np.eye(2048)}, "its arrays do not fit each other"),
        ({"mu": np.zeros(2048)}, "is not a statistics file"),
        ({"images": np.zeros((3, 8, 8, 3), np.uint8)}, "is not a statistics file"),
    ],
)
def test_other_files_are_refused(
    fid: Cli, theirs: Path, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    done = fid(theirs / "a.npz", tmp_path / "x.npz")
    assert done.returncode == 3 and done.stdout == "" and message in done.stderr.splitlines()[-1]


def test_without_the_weights_a_line_says_how_to_get_them(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    done = cli("fid", "a", "b", "--features", "inception", cwd=pictures, env={"GENFAST_CACHE": str(tmp_path)})
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        "genfast: error: inception has no weights here; genfast pull inception fetches them (96 MB)\n"
    )
