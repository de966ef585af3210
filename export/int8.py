"""Weights in eight bits: products by a constant in float32, in half precision for GPUs, or in int8 for the CPU.

A weight (K, N) is stored as int8 with a scale for each column. Where a product is computed in int8, the other factor is
rounded to 256 levels of its range. That is one for all its rows: images that are not to depend on each other are to be
given one at a time. A range for each row costs more than the product, and is no nearer to float32 here.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import GraphProto, NodeProto, helper, numpy_helper, parser
from torch import nn

SMALLEST = 2**14  # weights in a matrix that is worth it

FLOAT32 = """
<domain: "genfast", opset_import: ["": 20]>
product (x, weight, scale, bias) => (y)
{
    levels = Cast <to = 1> (weight)
    exact = Mul (levels, scale)
    z = MatMul (x, exact)
    y = Add (z, bias)
}
"""

HALF = """
<domain: "genfast", opset_import: ["": 20]>
product (x, weight, scale, bias) => (y)
{
    levels = Cast <to = 1> (weight)
    exact = Mul (levels, scale)
    half_weight = Cast <to = 10> (exact)
    half_x = Cast <to = 10> (x)
    half_z = MatMul (half_x, half_weight)
    z = Cast <to = 1> (half_z)
    y = Add (z, bias)
}
"""

INT8 = """
<domain: "genfast", opset_import: ["": 20, "com.microsoft": 1]>
product (x, weight, scale, bias) => (y)
{
    columns = Squeeze (scale)
    zero = Constant <value = int8 {0}> ()
    y = com.microsoft.DynamicQuantizeMatMul (x, weight, columns, zero, bias)
}
"""

PRODUCTS = {"int8": INT8, "fp16": HALF, "fp32": FLOAT32}  # by precision


def quantise(weight: np.ndarray, largest: int = 127) -> tuple[np.ndarray, np.ndarray]:
    """Round weights [..., K, N] to int8, -largest .. largest.

    Returns these and the scales [..., 1, N] that they are to be multiplied by.
    """
    scale = np.maximum(np.abs(weight).max(axis=-2, keepdims=True), 1e-12).astype(np.float32) / largest
    return np.rint(weight / scale).astype(np.int8), scale


@torch.no_grad()
def round_linear(*modules: nn.Module) -> None:
    """Round the weights of every large linear layer to what int8 holds, in place: `store_int8` finds them by that."""
    for layer in (layer for module in modules for layer in module.modules()):
        if isinstance(layer, nn.Linear) and layer.weight.numel() >= SMALLEST:
            levels, scale = quantise(layer.weight.numpy().T)
            layer.weight.copy_(torch.from_numpy((levels * scale).T))


def store_int8(source: Path, path: Path, product: str) -> None:
    """Write the graph at `source` to `path` with every matrix that it multiplies by, and that int8 holds, as int8.

    `product` is FLOAT32, which any device runs and which changes nothing, HALF, for GPUs, or INT8, for the CPU. A
    constant that is added to a product becomes a part of it.
    """
    model = onnx.load(source)
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    scales: dict[str, str] = {}  # by weight
    for node in list(graph.node):
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or len(weight.dims) != 2 or np.prod(weight.dims) < SMALLEST:
            continue
        if weight.name not in scales:
            values = numpy_helper.to_array(weight)
            levels, scale = quantise(values)
            if not np.allclose(levels * scale, values, rtol=1e-5, atol=0):
                continue
            weight.CopyFrom(numpy_helper.from_array(levels, weight.name))
            scales[weight.name] = f"{weight.name}.scale"
            graph.initializer.append(numpy_helper.from_array(scale, scales[weight.name]))
        node.op_type, node.domain = "product", "genfast"
        node.input.extend([scales[weight.name], _take_bias(graph, node, weight.dims[1])])
    model.functions.append(parser.parse_function(product))
    known = {domain.domain for domain in model.opset_import}
    model.opset_import.extend(
        helper.make_opsetid(name, 1) for name in ("genfast", "com.microsoft") if name not in known
    )
    onnx.save(model, path)


def _take_bias(graph: GraphProto, product: NodeProto, width: int) -> str:
    """The constant that is added to a product, by name, and no longer is; zeros where nothing is."""
    bias = f"{product.input[1]}.zeros"
    users = [node for node in graph.node if product.output[0] in node.input]
    vectors = {weight.name for weight in graph.initializer if list(weight.dims) == [width]}
    if len(users) == 1 and users[0].op_type == "Add" and users[0].input[1] in vectors:
        product.output[0], bias = users[0].output[0], users[0].input[1]
        graph.node.remove(users[0])
    elif bias not in vectors:
        graph.initializer.append(numpy_helper.from_array(np.zeros(width, np.float32), bias))
    return bias
