"""Which other files an ONNX graph reads: told from its bytes, before onnxruntime opens any.

A walk along the messages of Protocol Buffers in which a tensor can lie. Everything else, weights above all, is skipped
by its length.
"""

from collections.abc import Iterator
from pathlib import Path

from genfast.errors import ModelError

# Of each message of onnx.proto, the fields that lead to tensors, and the messages that they hold.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}


def files(path: Path) -> set[str]:
    """The files, relative to its own folder, in which an ONNX model keeps tensors.

    Raises ModelError where it is damaged.
    """
    model = path.read_bytes()
    if b"location" not in model:  # the key of such a file's name, which nothing can split
        return set()
    found = set()
    todo = [("model", memoryview(model))]
    try:
        while todo:
            message, content = todo.pop()
            parts = [(_FIELDS[message][number], part) for number, part in _parts(content) if number in _FIELDS[message]]
            if message != "entry":
                todo += parts
            elif any(name == "key" and bytes(part) == b"location" for name, part in parts):
                found |= {bytes(part).decode() for name, part in parts if name == "value"}
    except (IndexError, ValueError) as error:
        raise ModelError(f"{path} is a damaged ONNX model; get the bundle again") from error
    return found


def _parts(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The numbers and contents of those fields of a message that have a length."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = (tag & 0xFFFFFFFF) >> 3, tag & 7
        if kind == 0:
            _, place = _varint(message, place)
        elif kind == 2:
            length, place = _varint(message, place)
            yield number, message[place : place + length]
            place += length
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError("a group")
    if place > len(message):
        raise ValueError("a field beyond the end")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The number that begins at a place, seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place + shift // 7]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place + shift // 7 + 1
    raise ValueError("a number of more than 64 bits")
