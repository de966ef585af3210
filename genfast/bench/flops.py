"""How many operations a graph takes, counted by what onnxruntime says that it ran."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from genfast.bench.matmul import Precision
from genfast.runtime.session import Ort, Session

_INT8 = frozenset({"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"})


class Counted(Session):
    """A session on the CPU that counts: slow, since it runs the graph as it is written."""

    def __init__(self, graph: Path) -> None:
        super().__init__(graph, "cpu")

    def _options(self, onnxruntime: Ort, threads: int) -> Ort:
        options = super()._options(onnxruntime, threads)
        options.enable_profiling = True
        self._folder = tempfile.TemporaryDirectory(prefix="genfast-")
        options.profile_file_prefix = str(Path(self._folder.name) / "profile")
        # What is fused or laid out anew no longer shows its shapes, nor do weights that are packed.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.disable_prepacking", "1")
        return options

    def flops(self) -> Counter[Precision]:
        """Multiplications and additions in the products of matrices and convolutions of all calls; ends the session."""
        with self._folder:
            events = json.loads(Path(self._session.end_profiling()).read_bytes())
        counts: Counter[Precision] = Counter()
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
                node = event["args"]
                counts["int8" if node["op_name"] in _INT8 else "float32"] += _flops(node)
        return counts


def _flops(node: dict[str, Any]) -> int:
    kind = node["op_name"]
    (x, *weights), (y, *_) = (_shapes(node[f"{side}_type_shape"]) for side in ("input", "output"))
    if kind == "MatMul" or kind in _INT8:
        return 2 * prod(y) * x[-1]
    if kind == "Gemm":  # either factor may be transposed
        return 2 * prod(x) * y[1]
    if kind == "Conv":  # weights [M, C / groups, ...]
        return 2 * prod(y) * prod(weights[0][1:])
    if kind == "ConvTranspose":  # weights [C, M / groups, ...]
        return 2 * prod(x) * prod(weights[0][1:])
    return 0


def _shapes(tensors: Sequence[Mapping[str, list[int]]]) -> list[list[int]]:
    """Each is given with its type, as {"float": [1, 3, 28, 28]}."""
    return [shape for tensor in tensors for shape in tensor.values()]
