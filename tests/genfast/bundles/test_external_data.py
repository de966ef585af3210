"""A graph reads files that its bundle lists, and no others."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from genfast.bundles import bundle, external_data, hub
from genfast.errors import ModelError
from genfast.runtime.session import Session

DATA = np.arange(4, dtype=np.float32).tobytes()
SUM = '<ir_version: 10, opset_import: ["": 17]> g (float[4] x) => (float[4] y) { y = Add (x, w) }'
PLAIN = '<ir_version: 10, opset_import: ["": 17]> g (float[4] x) => (float[4] y) { y = Identity (x) }'


def outside(location: str) -> TensorProto:
    """A tensor of four numbers that lies in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"offset": "0", "location": location, "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def as_weight(tensor: TensorProto) -> ModelProto:
    model = onnx.parser.parse_model(SUM)
    model.graph.initializer.append(tensor)
    return model


def as_constant(tensor: TensorProto) -> ModelProto:
    model = onnx.parser.parse_model(PLAIN)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    return model


def in_a_branch(tensor: TensorProto) -> ModelProto:
    model = onnx.parser.parse_model(PLAIN)
    branch = as_constant(tensor).graph
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))
    return model


def in_a_function(tensor: TensorProto) -> ModelProto:
    model = onnx.parser.parse_model(PLAIN)
    nodes = [helper.make_node("Constant", [], ["w"], value=tensor)]
    model.functions.append(helper.make_function("own", "F", [], ["w"], nodes, [helper.make_opsetid("", 17)]))
    return model


def in_a_sparse_tensor(tensor: TensorProto) -> ModelProto:
    model = onnx.parser.parse_model(PLAIN)
    indices = numpy_helper.from_array(np.arange(4))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [9]))
    return model


def in_training(tensor: TensorProto) -> ModelProto:
    model = onnx.parser.parse_model(PLAIN)
    model.training_info.add().initialization.CopyFrom(as_weight(tensor).graph)
    return model


@pytest.mark.parametrize(
    "place",
    [as_weight, as_constant, in_a_branch, in_a_function, in_a_sparse_tensor, in_training],
    ids=lambda f: f.__name__,
)
def test_wherever_a_tensor_lies_its_file_is_found(tmp_path: Path, place: Callable[[TensorProto], ModelProto]) -> None:
    (tmp_path / "a.onnx").write_bytes(place(outside("w.bin")).SerializeToString())
    assert external_data.files(tmp_path / "a.onnx") == {"w.bin"}


def test_a_name_cannot_hide_behind_another(tmp_path: Path) -> None:
    """Later values win, lengths may be written in more bytes than they need, and order is free."""
    key, good, evil = b"\x0a\x08location", b"\x12\x05a.bin", b"\x12\x05b.bin"
    path = tmp_path / "a.onnx"
    for entry in key + good + evil, good + evil + key, b"\x0a\x03xyz" + evil + key, evil + b"\x0a\x88\x80\x00location":
        tensor = b"\x6a" + bytes([len(entry)]) + entry
        graph = b"\x2a" + bytes([len(tensor) | 128, 0]) + tensor
        path.write_bytes(b"\x3a" + bytes([len(graph)]) + graph)
        says = ModelProto.FromString(path.read_bytes()).graph.initializer[0].external_data[0]
        assert (says.key, says.value) == ("location", "b.bin")
        assert "b.bin" in external_data.files(path)


def test_shipped_graphs_read_what_their_manifests_list() -> None:
    folder = hub.find("avatars1024")
    listed = {file.path for file in bundle.load(folder).manifest.files}
    found = {path.name: external_data.files(path) for path in folder.glob("*.onnx")}
    assert found["draw.onnx"] and set().union(*found.values()) == {path for path in listed if path.endswith(".bin")}


@pytest.fixture
def reading(tiny_bundle: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a bundle whose graph reads the file of that name; a.bin alone is listed."""
    (tmp_path / "outside.bin").write_bytes(DATA)
    folder = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    for name in "a.bin", "unlisted.bin":
        (folder / name).write_bytes(DATA)
    for link, target in ("link.bin", "../outside.bin"), ("up", ".."):
        (folder / link).symlink_to(target)

    def write(name: str) -> Path:
        graph = as_weight(outside(name)).SerializeToString()
        (folder / "step.onnx").write_bytes(graph)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"] = [
            {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in (("a.bin", DATA), ("step.onnx", graph))
        ]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return write


OUTSIDE = ["../outside.bin", "link.bin", "up/outside.bin", "/etc/hostname", "*/_ORT_MEM_ADDR_/*"]


@pytest.mark.parametrize("name", [*OUTSIDE, "unlisted.bin", "x/../a.bin", "a.bin\0", "..\\outside.bin", ""])
def test_a_file_that_is_not_listed_is_refused_before_it_is_opened(reading: Callable[[str], Path], name: str) -> None:
    with pytest.raises(ModelError, match="step.onnx reads the file .*, which the manifest does not list"):
        bundle.load(reading(name))


def test_a_file_that_is_listed_is_read(reading: Callable[[str], Path]) -> None:
    loaded = bundle.load(reading("a.bin"))
    outputs = Session(loaded.graph("step"), "cpu").run(x=np.ones(4, np.float32))
    assert outputs["y"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "name", ["../outside.bin", "link.bin", "up/outside.bin", "/etc/hostname", "*/_ORT_MEM_ADDR_/*"]
)
def test_onnxruntime_would_not_leave_the_folder_either(reading: Callable[[str], Path], name: str) -> None:
    with pytest.raises(ModelError, match="onnxruntime cannot load"):
        Session(reading(name) / "step.onnx", "cpu")
