"""A torch module as an ONNX graph: export with a dynamic batch, parity against torch, half-precision storage."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from genfast.session import Session

TOLERANCE = 1e-4
BATCHES = (1, 2, 7)  # a batch of 1 catches what export specialised, 7 what it padded or divided

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
            dynamic_shapes=tuple(axes for _ in example_inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None is for the exporter that is not dynamo
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]  # names of modules, and stack traces with paths of this machine
    onnx.save(model, path)


@torch.inference_mode()
def parity(module: nn.Module, path: Path, make_inputs: MakeInputs, tolerance: float = TOLERANCE) -> dict[str, float]:
    """The largest absolute difference over all outputs between torch and onnxruntime, by batch size, both on the CPU.

    The keys are the batch sizes as text, as the manifest's `parity.max_abs_difference` wants them.

    Raises:
        ValueError: a difference exceeds `tolerance`, or is not a number.
    """
    session = Session(path, device="cpu")
    differences = {}
    for batch in BATCHES:
        inputs = make_inputs(batch)
        wanted = module.eval()(*inputs.values())
        got = session.run(**{name: tensor.numpy() for name, tensor in inputs.items()})
        pairs = zip((wanted,) if isinstance(wanted, Tensor) else wanted, got.values(), strict=True)
        differences[str(batch)] = max(float(np.abs(w.numpy() - g).max()) for w, g in pairs)
    if not all(difference <= tolerance for difference in differences.values()):
        raise ValueError(f"{path}: torch and onnxruntime differ by more than {tolerance:g}: {differences}")
    return differences


def store_half(path: Path) -> None:
    """Halve the file: keep every float32 weight that float16 holds exactly as float16, with a cast back in the graph.

    Round the module's weights beforehand (`module.half().float()`); the graph then computes the same bits as before,
    and onnxruntime folds the casts away when it loads.
    """
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):  # what overflows is not exact
            half = values.astype(np.float16)
        if weight.data_type != TensorProto.FLOAT or values.size < 64 or not np.array_equal(half, values):
            continue
        casts.append(helper.make_node("Cast", [f"{weight.name}.half"], [weight.name], to=TensorProto.FLOAT))
        weight.CopyFrom(numpy_helper.from_array(half, f"{weight.name}.half"))
    nodes = [*casts, *graph.node]  # a cast goes before its first use
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)
