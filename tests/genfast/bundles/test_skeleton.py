"""Bundles filled from others' files: a small one in full, by a closed form."""

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
import torch
from onnx import TensorProto

from genfast.bundles import bundle, catalog, hub, skeleton, torch_file
from genfast.errors import AbsentError, InputError, ModelError
from genfast.metrics.features import Embedder
from tests.graphs.bundles import ABOUT, BOTH

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
means (uint8[B, H, W, 3] image) => (float[B, 2] features)
<float[2, 3, 1, 1] weight, float[2] bias>
{
    x = Cast <to = 1> (image)
    y = Transpose <perm = [0, 3, 1, 2]> (x)
    z = Conv (y, weight, bias)
    axes = Constant <value_ints = [2, 3]> ()
    features = ReduceMean <keepdims = 0> (z, axes)
}
"""


def state(**replaced: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    parts = {"conv.weight": (2, 3, 1, 1), **{f"bn.{part}": (2,) for part in ("weight", "bias", "running_mean")}}
    named = {f"unit.{name}": torch.randn(shape, generator=generator) for name, shape in parts.items()}
    named["unit.bn.running_var"] = torch.rand(2, generator=generator) + 0.5
    return {**named, "unit.bn.num_batches_tracked": torch.tensor(3), "fc.weight": torch.zeros(5, 2)} | replaced


def save(path: Path, held: object) -> Path:
    torch.save(held, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture
def source(server) -> Path:
    """The public file, at a server."""
    return save(server.folder / "public.pth", state())


@pytest.fixture
def small(server, source: Path, tmp_path: Path, nothing_shipped: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A skeleton in the place of Inception's, which is not on this machine, and has no mirror."""
    folder = tmp_path / "skeletons" / "inception"
    folder.mkdir(parents=True)
    model = onnx.parser.parse_model(GRAPH)
    del model.graph.value_info[:]
    for name, shape, offset in ("weight", (2, 3, 1, 1), 0), ("bias", (2,), 24):
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        for key, value in {"location": skeleton.WEIGHTS, "offset": offset, "length": 4 * int(np.prod(shape))}.items():
            tensor.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(tensor)
    (folder / "embed.onnx").write_bytes(model.SerializeToString())
    index = {
        "format": 1,
        "name": "inception",
        "source": {
            "url": "http://nowhere.invalid/public.pth",
            "size": source.stat().st_size,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        },
        "epsilon": 0.001,
        "units": [{"name": "unit", "shape": [2, 3, 1, 1]}],
        "manifest": {
            "name": "inception",
            "family": "features",
            "feature_dim": 2,
            "graphs": {"embed": [{"path": "embed.onnx", **BOTH}]},
            "protocols": {"inception-pytorch-fid": "embed"},
            **ABOUT,
        },
    }
    (folder / skeleton.INDEX).write_text(json.dumps(index))
    monkeypatch.setattr(skeleton, "_SHIPPED", (folder.parent,))
    monkeypatch.setenv("GENFAST_MIRROR", "")
    monkeypatch.setenv("GENFAST_INCEPTION_URL", f"{server.url}/public.pth")
    return folder


def test_a_pull_fills_the_graph_with_what_is_published(server, small: Path, nothing_shipped: Path) -> None:
    assert hub.pull("inception") == nothing_shipped / "inception"
    assert server.asked == ["public.pth"]
    assert {path.name for path in (nothing_shipped / "inception").iterdir()} == {
        "embed.onnx",
        "manifest.json",
        "weights.bin",
    }
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    held = {name: values.double().numpy() for name, values in state().items()}
    conv = images.mean((1, 2)) @ held["unit.conv.weight"][:, :, 0, 0].T
    normal = (conv - held["unit.bn.running_mean"]) / np.sqrt(held["unit.bn.running_var"] + 1e-3)
    embedder = Embedder.find("inception", "cpu")
    np.testing.assert_allclose(
        embedder(images), normal * held["unit.bn.weight"] + held["unit.bn.bias"], rtol=1e-4, atol=1e-3
    )
    assert hub.pull("inception") and server.asked == ["public.pth"]  # it stays


def test_the_hash_of_weights_is_of_the_protocol(small: Path, nothing_shipped: Path, tmp_path: Path) -> None:
    hub.pull("inception")
    (tmp_path / "other").mkdir()
    other = save(tmp_path / "other.pth", state(**{"unit.bn.bias": torch.ones(2)}))
    skeleton.fill(small, other, tmp_path / "other")
    one, two = (Embedder.find(name, "cpu") for name in ("inception", str(tmp_path / "other")))
    assert one.bundle.graph("embed").read_bytes() == two.bundle.graph("embed").read_bytes()
    assert one.graph_sha256 != two.graph_sha256


def test_a_mirror_comes_first(
    server, small: Path, nothing_shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = hub.pull("inception").rename(tmp_path / "filled")
    server.asked.clear()
    monkeypatch.setenv("GENFAST_MIRROR", server.url)
    (server.folder / "index.json").write_text('{"format": 1, "bundles": {}}')
    hub.pull("inception").rename(tmp_path / "again")
    assert server.asked == ["index.json", "public.pth"]
    server.publish(filled, "inception")
    hub.pull("inception")
    assert "inception/weights.bin" in server.asked


def test_another_file_is_refused_and_leaves_nothing(
    server, small: Path, nothing_shipped: Path, impatient: None
) -> None:
    content = (server.folder / "public.pth").read_bytes()
    (server.folder / "public.pth").write_bytes(content[:-1] + b"x")
    with pytest.raises(ModelError, match=f"^cannot fetch {server.url}/public.pth: SHA256 hash"):
        hub.pull("inception")
    assert hub.locate("inception") is None
    (server.folder / "public.pth").write_bytes(content)
    hub.pull("inception")


def test_a_file_on_this_machine_does(
    server, small: Path, nothing_shipped: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENFAST_INCEPTION_URL", source.as_uri())
    bundle.load(hub.pull("inception"))
    assert server.asked == []


def test_nothing_is_fetched_unasked(server, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "inception", "inception-torch-fidelity":
        with pytest.raises(AbsentError, match="inception has no weights here; genfast pull inception fetches them"):
            hub.find(name)
    monkeypatch.setenv("GENFAST_MIRROR", server.url)
    (server.folder / "index.json").write_text('{"format": 1, "bundles": {}}')
    with pytest.raises(AbsentError, match=f"inception is neither here nor at {server.url}"):
        hub.find("inception")
    assert server.asked == ["index.json"]
    server.asked.clear()
    monkeypatch.setenv("GENFAST_MIRROR", "")
    monkeypatch.setenv("GENFAST_OFFLINE", "1")
    with pytest.raises(AbsentError, match="GENFAST_OFFLINE forbids fetching"):
        hub.pull("inception")
    assert server.asked == []


def test_what_the_catalogue_says_is_what_the_skeleton_holds() -> None:
    folder = skeleton.locate("inception")
    assert folder
    entry, held = catalog.entry("inception"), skeleton.read(folder)
    assert tuple(held.manifest["protocols"]) == entry.protocols
    assert held.manifest["licence"] == entry.licence
    assert catalog.entry("inception-torch-fidelity") == entry
    assert catalog.protocol("inception") == entry.protocols[0] and catalog.protocol("fashion") == "fashion"


def test_tensors_are_read_as_pytorch_reads_them(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    held = {
        "plain": torch.randn(2, 3),
        "turned": torch.randn(4, 5).T,
        "window": base[5:11].view(2, 3),
        "overlap": base[7:13],
        "spread": torch.randn(1, 3).expand(4, 3),
        "number": torch.tensor(7),
        "none": torch.zeros(0, 3),
    }
    found = torch_file.read(save(tmp_path / "x.pth", held))
    assert found.keys() == held.keys()
    for name, values in held.items():
        np.testing.assert_array_equal(found[name], values.numpy())
        assert found[name].shape == tuple(values.shape)


class Attack:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return print, ("attacked",)


def test_a_file_of_pytorch_itself_is_read(tmp_path: Path) -> None:
    """With what a module adds to its state dict, and in the way that Python 2 pickled one."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    found = torch_file.read(save(tmp_path / "x.pth", module.state_dict()))
    assert list(found) == list(module.state_dict()) and hasattr(module.state_dict(), "_metadata")
    for name, values in module.state_dict().items():
        np.testing.assert_array_equal(found[name], values.numpy())
    older = b"\x80\x02ccollections\nOrderedDict\n]q\x00]q\x01(U\x01aq\x02K\x07eaq\x03\x85Rq\x04."
    assert torch_file._parsed(io.BytesIO(older)) == pickle.loads(older) == {"a": 7}


def test_no_other_file_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pth"
    good = save(path, state()).read_bytes()
    for size in range(0, len(good) - 1, 37):
        path.write_bytes(good[:size])
        with pytest.raises(InputError, match="is no state dict in PyTorch's older format: "):
            torch_file.read(path)
    far = torch_file._Tensor(torch_file._Storage("0", "<f4"), 3, (2,), (1,))
    with pytest.raises(ValueError, match="beyond"):
        torch_file._view(np.zeros(4, np.float32), far)
    for held in (
        {"x": torch.zeros(2, dtype=torch.float16)},
        {"x": torch.nn.Linear(1, 1)},
        {"x": Attack()},
        [torch.zeros(2)],
        {"x": 3},
    ):
        save(path, held)
        with pytest.raises(InputError, match="x.pth is no state dict"):
            torch_file.read(path)
    torch.save(state(), path)
    path.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="x.pth is no state dict"):
        torch_file.read(path)
    path.write_bytes(pickle.dumps(Attack(), protocol=2))
    with pytest.raises(InputError, match="it asks to call __builtin__ print, and nothing of a file is run"):
        torch_file.read(path)
    with pytest.raises(InputError, match="nowhere.pth does not exist"):
        torch_file.read(tmp_path / "nowhere.pth")
    assert "attacked" not in capfd.readouterr().out
