"""A torch module as an ONNX graph: export with a dynamic batch, and parity against torch."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper, parser
from torch import Tensor, nn

from genfast.runtime.session import Session

TOLERANCE = 1e-4
BATCHES = (1, 2, 7)  # a batch of 1 catches what export specialised, 7 what it padded or divided

Array = npt.NDArray[Any]
Arrays = Sequence[Array]
MakeInputs = Callable[[int], Mapping[str, Tensor]]  # batch size -> inputs by name, in the order of forward's parameters


def export(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    path: Path,
    output_names: Sequence[str],
    dynamic: Sequence[str] = ("batch",),
) -> None:
    """Write `module`, in evaluation mode, to `path` as one self-contained ONNX file.

    `example_inputs` are tensors by name, in the order of forward's parameters, all of one batch size of at least 2
    (the exporter specialises a batch of 1). `output_names` name what forward returns, in its order. `dynamic` names
    the leading axes of every input that may be of any length.
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
            dynamic_shapes=(axes,) * len(example_inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None is for the exporter that is not dynamo
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]  # names of modules, and stack traces with paths of this machine
    onnx.save(model, path)


def write(text: str, constants: Mapping[str, Array], path: Path) -> None:
    """Write a graph in ONNX's own language to `path`, with the constants that it uses and does not define."""
    model = parser.parse_model(text)
    arrays = (numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items())
    model.graph.initializer.extend(arrays)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def largest_difference(wanted: Arrays, got: Arrays) -> float:
    """The largest absolute difference between two lists of arrays."""
    return max(float(np.abs(w.astype(np.float64) - g).max()) for w, g in zip(wanted, got, strict=True))


def share_unequal(wanted: Arrays, got: Arrays) -> float:
    """The share of elements that are not equal, for tokens: near-tied ones may be exchanged."""
    return max(float((w != g).mean()) for w, g in zip(wanted, got, strict=True))


def relative(wanted: Arrays, got: Arrays) -> float:
    """The largest difference between two lists of arrays, as a share of the largest value."""
    return largest_difference(wanted, got) / max(float(np.abs(w).max()) for w in wanted)


@torch.inference_mode()
def parity(
    module: Callable[..., Tensor | Sequence[Tensor]],
    path: Path,
    make_inputs: MakeInputs,
    tolerance: float = TOLERANCE,
    compare: Callable[[Arrays, Arrays], float] = largest_difference,
    batches: Sequence[int] = BATCHES,
) -> dict[str, float]:
    """How far the outputs of torch and onnxruntime differ, by batch size, both on the CPU.

    The keys are the batch sizes as text, as the manifest's `parity.max_abs_difference` wants them. `module` is to be in
    evaluation mode; `compare` is given its outputs and those of the graph.

    Raises:
        ValueError: a difference exceeds `tolerance`, or is not a number.
    """
    session = Session(path, device="cpu")
    differences = {}
    for batch in batches:
        inputs = make_inputs(batch)
        wanted = module(*inputs.values())
        got = session.run(**{name: tensor.numpy() for name, tensor in inputs.items()})
        outputs = [wanted] if isinstance(wanted, Tensor) else wanted
        differences[str(batch)] = compare([output.numpy() for output in outputs], list(got.values()))
    if not all(difference <= tolerance for difference in differences.values()):
        raise ValueError(f"{path}: torch and onnxruntime differ by more than {tolerance:g}: {differences}")
    return differences
