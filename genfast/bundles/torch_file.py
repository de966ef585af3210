"""Tensors of a file that PyTorch saved before it used zip files: read without PyTorch, and without running anything.

Such a file is a row of pickles (a magic number, a version, sizes of types, the object, the keys of its storages), then
each storage as the number of its elements and their bytes. The object names storages by key. Pickles are programs; here
they are listed, not run: what builds dictionaries, lists, numbers and text is followed, and nothing is ever called.
"""

import pickletools
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from genfast.errors import InputError

Array = npt.NDArray[Any]

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_TYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
_TENSOR, _DICTIONARY = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"


class _Storage(NamedTuple):
    key: str
    type: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int  # in elements, as all
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: Path) -> dict[str, Array]:
    """The tensors of a state dict, float32 or int64, by name; they are views of the file, which is mapped.

    Raises InputError where it is none in that format, or damaged.
    """
    try:
        with path.open("rb") as file:
            magic, version, _, held, keys = (_parsed(file) for _ in range(5))
            place = file.tell()
        if (magic, version) != (_MAGIC, _VERSION) or not isinstance(held, dict):
            raise ValueError("another format")
        content = np.memmap(path, np.uint8, "r")
        types = {tensor.storage.key: tensor.storage.type for tensor in held.values()}
        storages = {}
        for key in keys:
            (size,) = content[place : place + 8].view("<i8").tolist()
            end = place + 8 + size * np.dtype(types[key]).itemsize
            if size < 0 or end > len(content):
                raise ValueError("it is cut off")
            storages[key] = content[place + 8 : end].view(types[key])
            place = end
        return {str(name): _view(storages[tensor.storage.key], tensor) for name, tensor in held.items()}
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except Exception as error:  # what a damaged pickle raises is anything
        raise InputError(f"{path} is no state dict in PyTorch's older format: {error or 'damaged'}") from error


def _parsed(file: BinaryIO) -> Any:
    """What the pickle that begins here holds. Raises ValueError where it asks for something else than a state dict."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        place = marks.pop()
        items = stack[place:]
        del stack[place:]
        return items

    for code, value, _ in pickletools.genops(file):
        match code.name:
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[code.name])
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[code.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE" | "SHORT_BINSTRING" | "GLOBAL":
                stack.append(value)
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(code.name[-1])
                stack[-length:] = [tuple(stack[-length:])]
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items = since_mark()
                stack[-1].extend(items)
            case "SETITEM":
                *_, key, item = stack
                del stack[-2:]
                stack[-1][key] = item
            case "SETITEMS":
                items = since_mark()
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "BINPERSID":
                _, kind, key, *_ = stack.pop()
                stack.append(_Storage(key, _TYPES[kind]))
            case "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                if called not in (_DICTIONARY, _TENSOR):
                    raise ValueError(f"it asks to call {called}, and nothing of a file is run")
                stack.append(dict(*arguments) if called == _DICTIONARY else _Tensor(*arguments[:4]))
            case "BUILD":
                stack.pop()  # attributes, such as versions of modules
            case other:
                raise ValueError(f"it holds something else than tensors ({other})")
    raise ValueError("it has no end")


def _view(storage: Array, tensor: _Tensor) -> Array:
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.offset, *tensor.strides, *tensor.shape, 0) < 0 or last >= len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [step * storage.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
