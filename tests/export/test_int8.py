"""export/int8.py: weights in eight bits, exact in float32, close in int8."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from export.graph import export, parity
from export.int8 import FLOAT32, HALF, INT8, quantise, round_linear, store_int8
from genfast.bench import matmul
from genfast.runtime.session import Session


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(192, 384), nn.GELU(), nn.Linear(384, 192), nn.GELU(), nn.Linear(192, 3))
    round_linear(network)
    return network


def inputs(batch: int) -> dict[str, Tensor]:
    return {"x": torch.randn(batch, 5, 192)}


def store(network: nn.Module, product: str, folder: Path) -> Path:
    export(network, inputs(2), folder / "net.onnx", ["y"])
    store_int8(folder / "net.onnx", folder / "int8.onnx", product)
    return folder / "int8.onnx"


def test_quantise_rounds_to_the_nearest_of_255_levels_a_column() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3, 50, 40)).astype(np.float32) * np.logspace(-2, 2, 40, dtype=np.float32)
    weight[:, :, 7] = 0
    levels, scale = quantise(weight)
    assert levels.dtype == np.int8 and scale.shape == (3, 1, 40)
    assert np.abs(levels.astype(int)).max(1)[:, np.arange(40) != 7].tolist() == [[127] * 39] * 3
    assert (np.abs(levels * scale - weight) <= scale / 2 * 1.0001).all()
    again, _ = quantise(levels * scale)
    np.testing.assert_array_equal(again, levels)


def test_in_float32_rounded_weights_stay_what_they_are(network: nn.Sequential, tmp_path: Path) -> None:
    path = store(network, FLOAT32, tmp_path)
    assert path.stat().st_size < 0.3 * (tmp_path / "net.onnx").stat().st_size
    assert max(parity(network, path, inputs).values()) < 1e-5


def test_in_half_precision_products_are_closer_than_in_int8(network: nn.Sequential, tmp_path: Path) -> None:
    x = inputs(7)["x"]
    with torch.inference_mode():
        wanted = network(x).numpy()
    # onnxruntime leaves out on the CPU what it does not need there: to round to half precision.
    (got,) = ReferenceEvaluator(onnx.load(store(network, HALF, tmp_path))).run(None, {"x": x.numpy()})
    assert 1e-4 < np.abs(got - wanted).max() / np.abs(wanted).max() < 0.002


def test_what_is_added_to_a_product_is_a_part_of_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(192, 192), nn.Linear(192, 192, bias=False), nn.Linear(192, 192))
    round_linear(network)
    path = store(network, FLOAT32, tmp_path)
    assert [node.op_type for node in onnx.load(path).graph.node] == ["product"] * 3
    assert max(parity(network, path, inputs).values()) < 1e-5


def sums_are_cut_off() -> bool:
    """Whether this CPU, having no VNNI, adds up matmul in int8 by twos in 16 bits, which large ones overflow."""
    x, w = np.full((8, 64), 255, np.uint8), np.full((64, 8), 127, np.int8)
    session = Session(Path(matmul.__file__).with_name("matmul-int8.onnx"), "cpu")
    return bool((session.run(x=x, w=w)["y"] < 255 * 127 * 64).any())


@pytest.mark.skipif(
    sums_are_cut_off(), reason="of random weights, which are larger than trained ones, int8 is wrong here"
)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_in_int8_products_are_close(size: float, network: nn.Sequential, tmp_path: Path) -> None:
    session = Session(store(network, INT8, tmp_path), "cpu")
    x = size * inputs(7)["x"]
    with torch.inference_mode():
        wanted = network(x).numpy()
    assert 0 < np.abs(session.run(x=x.numpy())["y"] - wanted).max() < 0.03 * np.abs(wanted).max()


def test_in_int8_zeros_stay_zeros(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(192, 192, bias=False))
    session = Session(store(network, INT8, tmp_path), "cpu")
    assert not session.run(x=np.zeros((2, 5, 192), np.float32))["y"].any()


def test_weights_that_int8_does_not_hold_stay_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(192, 192), nn.Linear(192, 192))
    round_linear(network[1])
    path = store(network, INT8, tmp_path)
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node if node.op_type in ("MatMul", "product")] == ["MatMul", "product"]
