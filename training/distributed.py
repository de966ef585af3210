"""What the processes of a run tell each other."""

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn


def _average_gradients(fabric: Fabric, network: nn.Module) -> None:
    """Replace gradients by their mean over all processes, in one collective.

    By hand rather than by DistributedDataParallel, which wants one backward pass for each forward pass: a GAN step has
    several, gradient penalties among them.
    """
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    mean = reduce(fabric, torch.cat([g.flatten() for g in gradients]), "mean")
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def descend(
    fabric: Fabric, network: nn.Module, loss: Tensor, *optimizers: torch.optim.Optimizer, clip: float | None = None
) -> None:
    """A step of a network's optimisers down a loss, which is averaged over all processes.

    `clip` is the norm that the gradient has at most.
    """
    network.zero_grad()
    loss.backward()
    _average_gradients(fabric, network)
    if clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()


def gather_rows(fabric: Fabric, x: Tensor) -> Tensor:
    """The rows of x (N, ...) of every process, in their order: (processes * N, ...)."""
    rows = torch.zeros(fabric.world_size, *x.shape, dtype=x.dtype, device=fabric.device)
    rows[fabric.global_rank] = x
    return reduce(fabric, rows, "sum").flatten(0, 1)


def reduce(fabric: Fabric, x: Tensor, how: str) -> Tensor:
    """The sum or the mean of a tensor over all processes."""
    result = fabric.all_reduce(x, reduce_op=how)
    assert isinstance(result, Tensor)  # as x is; fabric reduces collections too
    return result
