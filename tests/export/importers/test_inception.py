"""The file of FID's Inception in, features as the originals compute them out."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.importers import reading
from export.importers.inception import PROTOCOLS, write_skeleton
from export.importers.inception_net import Inception, PytorchFID, TorchFidelity
from genfast.bundles import bundle, skeleton
from genfast.bundles.skeleton import INDEX
from genfast.metrics.features import Embedder
from tests.inception import IO

ROOT = Path(__file__).parents[3]
REFERENCE = Path(os.environ.get("GENFAST_REFERENCE", "/nowhere")) / "inception"
FEATURES = {"inception-pytorch-fid": "features2048", "inception-torch-fidelity": "tfid_2048"}


@pytest.fixture(scope="module")
def io() -> dict[str, np.ndarray]:
    return dict(np.load(IO))


@pytest.fixture(scope="module")
def network(inception_file: Path) -> Inception:
    network = Inception()
    network.load_state_dict(reading.read(inception_file), strict=True)
    return network.eval()


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export", "import", "inception", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


@torch.inference_mode()
def test_the_network_computes_what_the_original_does(network: Inception, io: dict[str, np.ndarray]) -> None:
    for i in (1, 2, 3):
        image = torch.from_numpy(io[f"image{i}"])[None]
        x = PytorchFID(network).seen(image.permute(0, 3, 1, 2).float())
        np.testing.assert_allclose(x[0, :, :8, :8], io[f"resized{i}_corner"], atol=2e-6)
        of_64, of_192, _, of_2048 = network.taps(x)
        np.testing.assert_allclose(of_64[0], io["features64"][i - 1], atol=1e-6)
        np.testing.assert_allclose(of_192[0], io["features192"][i - 1], atol=1e-6)
        np.testing.assert_allclose(of_2048[0], io["features2048"][i - 1], atol=1e-3)
        np.testing.assert_allclose(TorchFidelity(network)(image)[0], io["tfid_2048"][i - 1], atol=1e-3)


@pytest.mark.parametrize("size", [(400, 300), (299, 299), (17, 640), (1, 1), (2, 298)])
def test_resizing_is_that_of_pytorch(network: Inception, size: tuple[int, int]) -> None:
    x = torch.randint(256, (1, 3, *size), generator=torch.Generator().manual_seed(0)).float()
    wanted = 2 * torch.nn.functional.interpolate(x / 255, (299, 299), mode="bilinear", align_corners=False) - 1
    np.testing.assert_allclose(PytorchFID(network).seen(x), wanted, atol=5e-5)


@pytest.mark.parametrize("protocol", FEATURES)
def test_the_bundle_gives_the_features_of_each_protocol(
    inception: Path, io: dict[str, np.ndarray], protocol: str
) -> None:
    embedder = Embedder.find(f"{inception}/{protocol}", "cpu")
    assert embedder.name == protocol
    for i, wanted in enumerate(io[FEATURES[protocol]], 1):
        (features,) = embedder(io[f"image{i}"][None])
        np.testing.assert_allclose(features, wanted, atol=1e-3)
        (both, _) = embedder(np.stack([io[f"image{i}"]] * 2))
        np.testing.assert_allclose(both, wanted, atol=1e-3)


def test_protocols_differ_and_grey_is_three_times_itself(inception: Path, io: dict[str, np.ndarray]) -> None:
    first, other = (Embedder.find(f"{inception}/{protocol}", "cpu") for protocol in FEATURES)
    assert first.graph_sha256 != other.graph_sha256
    assert Embedder.find(str(inception), "cpu").name == first.name
    grey = io["image3"]
    assert (grey == grey[..., :1]).all()
    np.testing.assert_array_equal(first(grey[None, ..., :1]), first(grey[None]))
    assert np.abs(first(grey[None]) - other(grey[None])).max() > 0.01


@pytest.mark.skipif(not REFERENCE.exists(), reason="GENFAST_REFERENCE names no folder with the originals' outputs")
def test_every_image_of_the_reference(inception: Path) -> None:
    whole = np.load(REFERENCE / "io.npz")
    for protocol, name in FEATURES.items():
        embedder = Embedder.find(f"{inception}/{protocol}", "cpu")
        for i in range(4):
            np.testing.assert_allclose(embedder(whole[f"image{i}"][None])[0], whole[name][i], atol=1e-3)


@pytest.mark.slow
def test_an_import_proves_itself_and_says_whence(inception_file: Path, inception: Path, tmp_path: Path) -> None:
    done = run(inception_file, tmp_path / "out", "--any-weights", "--source", "a rule", "--licence", "CC0-1.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path}/out: parity tolerance=0.001 ")
    manifest = bundle.load(tmp_path / "out").manifest
    assert manifest.parity and len(manifest.parity.max_abs_difference) == 6
    assert (manifest.licence, manifest.provenance.source) == ("CC0-1.0", "a rule")
    assert manifest.provenance.weights_sha256 and not (tmp_path / ".out.partial").exists()
    ours = (tmp_path / "out" / "weights.bin").read_bytes()
    assert ours == (inception / "weights.bin").read_bytes()


class Attack:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch attacked",)


def damaged(kind: str, file: Path, folder: Path) -> Path:
    """A file that is not the one that is wanted."""
    path = folder / "x.pth"
    state = torch.load(file, weights_only=True)
    if kind == "another network":
        torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    elif kind == "a missing key":
        del state["Mixed_7c.branch_pool.conv.weight"]
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "another shape":
        state["Conv2d_1a_3x3.conv.weight"] = torch.zeros(32, 1, 3, 3)
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "cut off":
        path.write_bytes(file.read_bytes()[:1_000_000])
    elif kind == "a page":
        path.write_text("<!DOCTYPE html><title>Sign in</title>")
    elif kind == "an attack":
        path.write_bytes(pickle.dumps(Attack(), protocol=2))
    return path


FOREIGN = {
    "another network": "does not fit FID's Inception: it lacks Conv2d_1a_3x3.conv.weight",
    "a missing key": "does not fit FID's Inception: it lacks Mixed_7c.branch_pool.conv.weight",
    "another shape": "it has another shape of Conv2d_1a_3x3.conv.weight (32x1x3x3 instead of 32x3x3x3)",
    "cut off": "is cut off, damaged or no checkpoint",
    "a page": "is a web page",
    "an attack": "names posix.system, which is not loaded",
    "none": "does not exist",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_a_line(
    inception_file: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from export.importers.inception import inception
    from genfast.errors import InputError

    monkeypatch.chdir(tmp_path)
    path = damaged(kind, inception_file, tmp_path)
    with pytest.raises(InputError) as caught:
        inception(path, tmp_path / "out", None, None, any_weights=True)
    assert FOREIGN[kind] in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "attacked").exists() and not (tmp_path / "out").exists()


def test_only_the_public_file_is_taken_unasked(inception_file: Path, tmp_path: Path) -> None:
    done = run(inception_file, GENFAST_CACHE=str(tmp_path))
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("export: error: ") and "its SHA-256 begins with" in line and "6726825d" in line


@pytest.mark.slow
def test_what_ships_is_what_export_makes(tmp_path: Path) -> None:
    write_skeleton(tmp_path / "made")
    here = skeleton.locate("inception")
    assert here
    assert json.loads((here / INDEX).read_text()) == json.loads((tmp_path / "made" / INDEX).read_text())
    for _, path, _ in PROTOCOLS.values():
        folders = here, tmp_path / "made"
        shipped, made = (onnx.load(folder / path, load_external_data=False).graph for folder in folders)
        assert [node.op_type for node in shipped.node] == [node.op_type for node in made.node]
        assert shipped.ByteSize() < 90_000
