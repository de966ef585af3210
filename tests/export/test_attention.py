"""export/attention.py: operators of onnxruntime compute what the network does."""

from pathlib import Path

import onnx
import torch
from torch import Tensor

from export.attention import fused
from export.graph import export, parity
from training.nets.hourglass import Layers


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


def test_afterwards_the_network_is_what_it_was() -> None:
    layers = Layers(depth=1, width=16, heads=2, head=8, side=2).eval()
    x = torch.randn(1, 4, 16)
    before = layers(x)
    with fused(layers):
        pass
    assert torch.equal(layers(x), before) and "forward" not in vars(layers.attention[0])
