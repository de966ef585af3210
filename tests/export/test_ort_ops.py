"""export/fused.py: operators compute what the network does."""

from pathlib import Path

import onnx
import torch
from torch import Tensor

from export.graph import export, parity
from export.ort_ops import fused
from training.nets.normalisation import AdaptiveGroupNorm
from training.nets.transformer import Layers


def inputs(batch: int) -> dict[str, Tensor]:
    return {"x": torch.randn(batch, 36, 48)}


def test_attention_is_two_nodes_a_layer_that_compute_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = Layers(depth=2, width=48, heads=3, head=8, side=6).eval()
    for attention in layers.attention:
        torch.nn.init.normal_(attention.qkv.weight, std=0.3)  # sharp: far from the mean of all values
    with fused(layers):
        export(layers, inputs(2), tmp_path / "layers.onnx", ["y"])
    nodes = [node.op_type for node in onnx.load(tmp_path / "layers.onnx").graph.node]
    assert nodes.count("RotaryEmbedding") == nodes.count("MultiHeadAttention") == 2 and "Softmax" not in nodes
    assert max(parity(layers, tmp_path / "layers.onnx", inputs).values()) < 1e-4


def test_normalisation_is_one_operator_that_computes_the_same(tmp_path: Path) -> None:
    norm, path = AdaptiveGroupNorm(12, groups=4).eval(), tmp_path / "norm.onnx"

    def pictures(batch: int) -> dict[str, Tensor]:
        return {"x": 3 + torch.randn(batch, 12, 7, 5), "style": torch.randn(batch, 24)}

    with fused(norm):
        export(norm, pictures(2), path, ["y"])
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    assert nodes.count("InstanceNormalization") == 1 and "ReduceMean" not in nodes
    assert max(parity(norm, path, pictures).values()) < 1e-5


def test_afterwards_the_network_is_what_it_was() -> None:
    layers = Layers(depth=1, width=16, heads=2, head=8, side=2).eval()
    x = torch.randn(1, 4, 16)
    before = layers(x)
    with fused(layers):
        pass
    assert torch.equal(layers(x), before) and "forward" not in vars(layers.attention[0])
