"""Layers as ONNX is to have them: one operator for normalisation, rotation or attention, where export makes dozens."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.onnx.ops import symbolic

from training.nets.normalisation import EPSILON, AdaptiveGroupNorm
from training.nets.transformer import Attention


@contextmanager
def fused(network: nn.Module) -> Iterator[None]:
    """Within, a network is what ONNX is to be written of; do not compute with it.

    Its attention is operators of onnxruntime, which PyTorch has not; its normalisation is one of ONNX.
    """
    layers = list(network.modules())
    for layer in layers:
        if isinstance(layer, Attention):
            vars(layer)["forward"] = partial(_attend, layer)
        elif isinstance(layer, AdaptiveGroupNorm):
            vars(layer)["forward"] = partial(_normalise, layer)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _attend(layer: Attention, x: Tensor, rotation: Tensor, shift: Tensor | None = None) -> Tensor:
    normal = layer.norm(x) if shift is None else layer.norm(x) + shift
    qkv = layer.qkv(normal)  # (B, N, 3 * heads * head)
    width = qkv.shape[2] // 3
    qk, v = qkv.split([2 * width, width], dim=2)
    start = torch.zeros(1, dtype=torch.int64)
    q, k = _operator("RotaryEmbedding", 2 * layer.heads, qk, start, *rotation).chunk(2, dim=2)
    result: Tensor = layer.out(_operator("MultiHeadAttention", layer.heads, q, k, v))
    return result


def _operator(name: str, heads: int, first: Tensor, *more: Tensor) -> Tensor:
    """A node of onnxruntime's own, which gives what is like its first input."""
    return symbolic(
        f"com.microsoft::{name}",
        [first, *more],
        {"num_heads": heads},
        dtype=first.dtype,
        shape=first.shape,
        version=1,
    )


def _normalise(layer: AdaptiveGroupNorm, x: Tensor, style: Tensor) -> Tensor:
    scale, shift = style[:, :, None, None].chunk(2, dim=1)
    by_group = x.unflatten(1, (layer.groups, -1)).flatten(2)  # (B, groups, ...)
    return F.instance_norm(by_group, eps=EPSILON).view_as(x) * (1 + scale) + shift
