"""A torch module as an ONNX graph: export with a dynamic batch, parity against torch, storage of its weights."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.int8 import quantise
from genfast.session import Session

TOLERANCE = 1e-4
BATCHES = (1, 2, 7)  # a batch of 1 catches what export specialised, 7 what it padded or divided

PAGE = 4096  # bytes; weights of so many lie outside their graph, each at the start of a page, to be mapped from disk
LARGEST = 90_000_000  # bytes of a file of weights

Arrays = Sequence[np.ndarray]
MakeInputs = Callable[[int], Mapping[str, Tensor]]  # batch size -> inputs by name, in the order of forward's parameters


def export(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    path: Path,
    output_names: Sequence[str],
    dynamic: Sequence[str] = ("batch",),
    fixed: Collection[str] = (),
) -> None:
    """Write `module`, in evaluation mode, to `path` as one self-contained ONNX file.

    `example_inputs` are tensors by name, in the order of forward's parameters, all of one batch size of at least 2
    (the exporter specialises a batch of 1). `output_names` name what forward returns, in its order. `dynamic` names
    the leading axes of every input that may be of any length, but for inputs that are `fixed`.
    """
    axes = {axis: torch.export.Dim(name) for axis, name in enumerate(dynamic)}
    # The exporter warns of its own deprecations, of torchvision's absence and of axes that share a name: parity judges.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(example_inputs.values()),
            input_names=list(example_inputs),
            output_names=list(output_names),
            dynamic_shapes=tuple(None if name in fixed else axes for name in example_inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None is for the exporter that is not dynamo
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]  # names of modules, and stack traces with paths of this machine
    onnx.save(model, path)


def let_broadcast(path: Path, name: str) -> None:
    """Let the last axis of an input be of any length, such as 1, rather than of that in the example."""
    model = onnx.load(path)
    (given,) = (given for given in model.graph.input if given.name == name)
    given.type.tensor_type.shape.dim[-1].dim_param = f"{name}_last"
    del model.graph.value_info[:]
    onnx.save(model, path)


def largest_difference(wanted: Arrays, got: Arrays) -> float:
    """The largest absolute difference between two lists of arrays."""
    return max(float(np.abs(w.astype(np.float64) - g).max()) for w, g in zip(wanted, got, strict=True))


def share_unequal(wanted: Arrays, got: Arrays) -> float:
    """The share of elements that are not equal, for tokens: near-tied ones may be exchanged."""
    return max(float((w != g).mean()) for w, g in zip(wanted, got, strict=True))


@torch.inference_mode()
def parity(
    module: Callable[..., Tensor | Sequence[Tensor]],
    path: Path,
    make_inputs: MakeInputs,
    tolerance: float = TOLERANCE,
    compare: Callable[[Arrays, Arrays], float] = largest_difference,
) -> dict[str, float]:
    """How far the outputs of torch and onnxruntime differ, by batch size, both on the CPU.

    The keys are the batch sizes as text, as the manifest's `parity.max_abs_difference` wants them. `module` is to be in
    evaluation mode; `compare` is given its outputs and those of the graph.

    Raises:
        ValueError: a difference exceeds `tolerance`, or is not a number.
    """
    session = Session(path, device="cpu")
    differences = {}
    for batch in BATCHES:
        inputs = make_inputs(batch)
        wanted = module(*inputs.values())
        got = session.run(**{name: tensor.numpy() for name, tensor in inputs.items()})
        outputs = [wanted] if isinstance(wanted, Tensor) else wanted
        differences[str(batch)] = compare([output.numpy() for output in outputs], list(got.values()))
    if not all(difference <= tolerance for difference in differences.values()):
        raise ValueError(f"{path}: torch and onnxruntime differ by more than {tolerance:g}: {differences}")
    return differences


@dataclass(frozen=True)
class Rounded:
    """Vectors [..., D] in eight bits: levels [..., D] int8 times a scale [D] f32, plus a start [..., D] f16."""

    levels: np.ndarray
    scale: np.ndarray
    start: np.ndarray | None = None  # zero by default

    @classmethod
    def of(cls, vectors: np.ndarray) -> Self:
        levels, scale = quantise(vectors.reshape(-1, vectors.shape[-1]))
        return cls(levels.reshape(vectors.shape), scale[0])

    @classmethod
    def near(cls, weights: np.ndarray, start: np.ndarray, unit: float) -> Self:
        """Weights of any shape as what float16 holds of `start`, and a difference in multiples of `unit`."""
        start = start.astype(np.float16)
        levels = np.rint((weights - start.astype(np.float32)) / np.float32(unit)).clip(-127, 127)
        return cls(levels.astype(np.int8), np.full(weights.shape[-1:], unit, np.float32), start)

    @property
    def values(self) -> np.ndarray:
        difference = self.levels * self.scale
        return difference if self.start is None else difference + self.start.astype(np.float32)

    def stands_for(self, values: np.ndarray) -> bool:
        """Whether `values` are these, perhaps in another shape [..., D]."""
        same = values.size == self.levels.size and values.shape[-1:] == self.scale.shape
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
        if found := next((each for each in rounded if each.stands_for(values)), None):
            stored = found.levels.reshape(values.shape)
            product = full if found.start is None else f"{full}.difference"
            nodes = [cast([f"{full}.levels"]), helper.make_node("Mul", [f"{full}.levels", f"{full}.scale"], [product])]
            graph.initializer.append(numpy_helper.from_array(found.scale, f"{full}.scale"))
            if found.start is not None:
                nodes.append(helper.make_node("Cast", [f"{full}.start"], [f"{full}.begun"], to=TensorProto.FLOAT))
                nodes.append(helper.make_node("Add", [product, f"{full}.begun"], [full]))
                graph.initializer.append(numpy_helper.from_array(found.start, f"{full}.start"))
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
        found[name] = torch.as_tensor(values + start if (start := arrays.get(f"{name}.start")) is not None else values)
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
            place = {"location": other.name, "offset": offset, "length": len(weight.raw_data)}
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
