"""How networks of convolutions lie in memory."""

from typing import TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


def channels_last(network: N, device: torch.device) -> N:
    """Move a network to a device, the weights of its convolutions with channels last, which is faster."""
    network.to(device)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(device, memory_format=torch.channels_last)
    return network
