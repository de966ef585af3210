from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from genfast.bench import matmul
from genfast.bench.matmul import product

GRAPHS = {
    "float32": "product (float[N, K] x, float[K, M] w) => (float[N, M] y) { y = MatMul (x, w) }",
    "int8": "product (uint8[N, K] x, int8[K, M] w) => (int32[N, M] y) { y = MatMulInteger (x, w) }",
}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_graph_is_a_product_and_nothing_else(precision: str) -> None:
    graph = onnx.load(Path(matmul.__file__).with_name(f"matmul-{precision}.onnx"))
    assert graph == parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {GRAPHS[precision]}')


def test_a_product_can_be_computed_again_and_again() -> None:
    multiply = product("float32", 64)
    for _ in range(5):
        assert np.allclose(np.asarray(multiply()), np.eye(64), atol=1e-5)
    multiply = product("int8", 64)
    first = np.asarray(multiply())
    assert first.dtype == np.int32 and abs(first).max() > 1000 and np.array_equal(multiply(), first)
