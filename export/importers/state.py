"""Tensors by name, out of a checkpoint and into a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from genfast.errors import InputError

_SHOWN = 3  # of many names, in a message


def tensors(held: object, path: Path, prefix: str = "", drop: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors of a state dict, without those whose names begin with one of `drop`.

    Where names begin with `prefix`, these alone are taken, and lose it. `path` is the file, for messages.
    Raises InputError where `held` is no state dict.
    """
    if not isinstance(held, Mapping):
        raise InputError(f"{path} holds a {type(held).__name__} where tensors by name were expected")
    behind = {name.removeprefix(prefix): value for name, value in held.items() if str(name).startswith(prefix)}
    found = {name: value for name, value in (behind or held).items() if not str(name).startswith(tuple(drop))}
    for name, value in found.items():
        if isinstance(value, Mapping):
            raise InputError(
                f"{path} holds tables of tensors, such as {name}: is it of another kind? "
                "python -m export import --help lists the kinds"
            )
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized:
            raise InputError(f"{path} holds a {type(value).__name__} as {name}, where a dense tensor was expected")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InputError(f"{path} holds {name} as {_shape(value)}, which is more than the file has bytes of it")
    if not found:
        raise InputError(f"{path} holds no tensors")
    return found


def load(module: nn.Module, state: Mapping[str, Tensor], path: Path, expected: str) -> None:
    """Copy a state dict into a network, which it must fit exactly; one on the device "meta" gets memory if it does.

    `expected` is what the network is, for the message: "the generator of cifar10". Raises InputError where a name or a
    shape differs, or floating-point numbers are expected and others found.
    """
    own = module.state_dict()
    shared = own.keys() & state.keys()
    faults = {
        "lacks": [name for name in own if name not in state],
        "holds the unknown": [name for name in state if name not in own],
        "has another shape of": [
            f"{name} ({_shape(state[name])} instead of {_shape(own[name])})"
            for name in own
            if name in shared and state[name].shape != own[name].shape
        ],
        "has another type of": [
            f"{name} ({state[name].dtype} instead of {own[name].dtype})"
            for name in own
            if name in shared and state[name].is_floating_point() != own[name].is_floating_point()
        ],
    }
    if any(faults.values()):
        said = "; ".join(f"it {verb} {_some(names)}" for verb, names in faults.items() if names)
        raise InputError(f"{path} does not fit {expected}: {said}")
    if any(value.is_meta for value in own.values()):
        module.to_empty(device="cpu")
    module.load_state_dict(dict(state), strict=True)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
