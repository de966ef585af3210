"""Attention in operators of onnxruntime: rotation is one, attention another, where export would make forty nodes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from training.nets.hourglass import Attention


@contextmanager
def fused(network: nn.Module) -> Iterator[None]:
    """Within, a network's attention is what ONNX is to be written of; what it computes is void."""
    layers = [module for module in network.modules() if isinstance(module, Attention)]
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: Attention, x: Tensor, rotation: Tensor) -> Tensor:
    qkv = layer.qkv(layer.norm(x))  # (B, N, 3 * heads * head)
    width = qkv.shape[2] // 3
    qk, v = qkv.split([2 * width, width], dim=2)
    start = torch.zeros(1, dtype=torch.int64)
    q, k = _operator("RotaryEmbedding", 2 * layer.heads, qk, start, *rotation).chunk(2, dim=2)
    return layer.out(_operator("MultiHeadAttention", layer.heads, q, k, v))


def _operator(name: str, heads: int, first: Tensor, *more: Tensor) -> Tensor:
    """A node of onnxruntime's own, which gives what is like its first input."""
    inputs, attributes = [first, *more], {"num_heads": heads}
    return symbolic(f"com.microsoft::{name}", inputs, attributes, dtype=first.dtype, shape=first.shape, version=1)
