"""How the weights of a graph are stored: in half precision, in eight bits, near others', and large ones once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from export.int8 import quantise
from genfast.types import Floats

PAGE = 4096  # bytes; weights of so many lie outside their graph, each at the start of a page, to be mapped from disk
LARGEST = 90_000_000  # bytes of a file of weights


@dataclass(frozen=True)
class Rounded:
    """Weights in eight bits: levels int8 times a scale, plus others as a start.

    Of vectors [..., D] the scale is [D], of filters [O, ...] it is [O, 1, ...].
    """

    levels: npt.NDArray[np.int8]
    scale: Floats
    start: "Rounded | None" = None  # zero by default

    @classmethod
    def of(cls, vectors: Floats) -> Self:
        levels, scale = quantise(vectors.reshape(-1, vectors.shape[-1]))
        return cls(levels.reshape(vectors.shape), scale[0])

    @classmethod
    def filters(cls, weights: Floats) -> Self:
        """Weights [O, ...] of a convolution, each filter with a scale of its own."""
        levels, scale = quantise(weights.reshape(len(weights), -1).T)
        return cls(levels.T.reshape(weights.shape), scale.reshape(-1, *[1] * (weights.ndim - 1)))

    @classmethod
    def near(cls, weights: Floats, start: "Rounded", unit: float) -> Self:
        """Weights of any shape as a start, and a difference to that in multiples of `unit`."""
        levels = np.rint((weights - start.values) / np.float32(unit)).clip(-127, 127)
        return cls(levels.astype(np.int8), np.full(weights.shape[-1:], unit, np.float32), start)

    @classmethod
    def read(cls, path: Path) -> dict[str, Self]:
        """Those of a graph's constants that `store_half` keeps so, by name, without their starts."""
        arrays = {weight.name: numpy_helper.to_array(weight) for weight in onnx.load(path).graph.initializer}
        small = {name.removesuffix(".small"): levels for name, levels in arrays.items() if name.endswith(".small")}
        return {
            name: cls(levels, arrays[f"{name}.scale"]) for name, levels in small.items() if f"{name}.scale" in arrays
        }

    @property
    def values(self) -> Floats:
        own: Floats = self.levels * self.scale
        return own if self.start is None else own + self.start.values

    def stands_for(self, values: Floats) -> bool:
        """Whether `values` are these, perhaps in another shape [..., D]."""
        vectors = self.scale.ndim == 1
        same = values.shape[-1:] == self.scale.shape if vectors else values.shape == self.levels.shape
        same = same and values.size == self.levels.size
        return same and np.array_equal(values.reshape(self.levels.shape), self.values)


def store_half(path: Path, rounded: Sequence[Rounded] = ()) -> None:
    """Shrink the file: keep every float32 weight that float16 holds exactly as float16, with a cast back in the graph.

    Round the module's weights beforehand (`module.half().float()`); the graph then computes the same bits as before.
    A weight that one of `rounded` stands for is kept as that is. onnxruntime folds the arithmetic away when it loads,
    but for that of tables: of these, which start at zero, only what is looked up is cast.
    """
    model = onnx.load(path)
    graph = model.graph
    for weight in list(graph.initializer):
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < 64:
            continue
        lookup = _lookup(graph, weight.name)
        full, place = (weight.name, 0) if lookup is None else (lookup.output[0], list(graph.node).index(lookup) + 1)
        small = f"{full}.small"
        cast = partial(helper.make_node, "Cast", [small], to=TensorProto.FLOAT)
        with np.errstate(over="ignore"):  # what overflows is not exact
            half = values.astype(np.float16)
        stored: npt.NDArray[np.int8 | np.float16]
        if found := next((each for each in rounded if each.stands_for(values)), None):
            stored = found.levels.reshape(values.shape)
            product = full if found.start is None else f"{full}.difference"
            nodes = [cast([f"{full}.levels"]), helper.make_node("Mul", [f"{full}.levels", f"{full}.scale"], [product])]
            held: dict[str, npt.NDArray[Any]] = {"scale": found.scale}
            if found.start is not None:
                begun, start = f"{full}.begun", f"{full}.start"
                nodes.append(helper.make_node("Cast", [start], [f"{start}.levels"], to=TensorProto.FLOAT))
                nodes.append(helper.make_node("Mul", [f"{start}.levels", f"{start}.scale"], [begun]))
                nodes.append(helper.make_node("Add", [product, begun], [full]))
                held |= {"start": found.start.levels, "start.scale": found.start.scale}
            graph.initializer.extend(numpy_helper.from_array(x, f"{full}.{name}") for name, x in held.items())
        elif np.array_equal(half, values):
            stored, nodes = half, [cast([full])]
        else:
            continue
        for node in reversed(nodes):
            graph.node.insert(place, node)
        weight.CopyFrom(numpy_helper.from_array(stored, small if lookup is None else weight.name))
        if lookup is not None:
            lookup.output[0] = small
    del graph.value_info[:]  # types have changed
    onnx.checker.check_model(model)
    onnx.save(model, path)


def constants(path: Path) -> dict[str, Tensor]:
    """The constants of a graph by name, as float32 however `store_half` keeps them."""
    weights = onnx.load(path).graph.initializer
    arrays = {weight.name.removesuffix(".small"): numpy_helper.to_array(weight) for weight in weights}
    found = {}
    for name, array in arrays.items():
        values = array.astype(np.float32) * arrays.get(f"{name}.scale", 1)
        if (start := arrays.get(f"{name}.start")) is not None:
            values += start.astype(np.float32) * arrays[f"{name}.start.scale"]
        found[name] = torch.as_tensor(values)
    return found


def read_starts(path: Path, other: Path) -> None:
    """Let a graph read the starts of its weights out of a file beside it, where it finds their bytes.

    Raises ValueError where they are not there.
    """
    model, content = onnx.load(path), other.read_bytes()
    for weight in model.graph.initializer:
        if weight.name.endswith(".start"):
            offset = content.find(weight.raw_data)
            if offset < 0:
                raise ValueError(f"{other} does not hold {weight.name}")
            place: dict[str, str | int] = {"location": other.name, "offset": offset, "length": len(weight.raw_data)}
            _place_outside(weight, place)
    onnx.save(model, path)


def _place_outside(weight: TensorProto, place: Mapping[str, str | int]) -> None:
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        weight.external_data.add(key=key, value=str(value))


def _lookup(graph: GraphProto, table: str) -> NodeProto | None:
    """The node that looks rows up in a table, perhaps reshaped, if that is all the table is used for."""
    users = [node for node in graph.node if table in node.input]
    if len(users) != 1 or users[0].input[0] != table:
        return None
    if users[0].op_type == "Reshape":
        return _lookup(graph, users[0].output[0])
    return users[0] if users[0].op_type == "Gather" else None


def share_weights(paths: Sequence[Path]) -> None:
    """Move the large weights of graphs in one folder to files GRAPH-N.bin beside them, equal ones to one place.

    A file holds what no graph before had: where one network of several learns on, the files of the others stay.
    """
    places: dict[bytes, tuple[str, int]] = {}  # by hash: file, offset
    for path in paths:
        number, end = 0, 0
        model = onnx.load(path)
        for weight in model.graph.initializer:
            content = numpy_helper.to_array(weight).tobytes()
            if len(content) < PAGE:
                continue
            digest = hashlib.sha256(content).digest()
            if digest not in places:
                if end and end + len(content) > LARGEST:
                    number, end = number + 1, 0
                places[digest] = f"{path.stem}-{number}.bin", end
                with (path.parent / places[digest][0]).open("ab") as file:
                    file.write(content + bytes(-len(content) % PAGE))
                    end = file.tell()
            name, offset = places[digest]
            _place_outside(weight, {"location": name, "offset": offset, "length": len(content)})
        onnx.save(model, path)
