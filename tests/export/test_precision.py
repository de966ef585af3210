"""export/precision.py: int8 is kept where it is faster and costs little."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export import precision
from export.precision import DIVERGENCE, Rivals


class Clocked:
    """A session whose clock its graph's name sets."""

    now = 0.0
    seconds = {"predict-int8.onnx": 1.0, "predict.onnx": 2.0}

    def __init__(self, path: Path, device: str) -> None:
        assert device == "cpu" and path.exists()
        self.path = path

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        type(self).now += self.seconds[self.path.name]
        return {"hidden": inputs["tokens"] + (self.path.name == "predict-int8.onnx")}


@pytest.fixture
def rivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rivals]:
    monkeypatch.setattr(precision, "Session", Clocked)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: Clocked.now)
    for name in Clocked.seconds:
        (tmp_path / name).touch()
    yield Rivals("predict", "a reference", tmp_path)


def measure(rivals: Rivals, int8: float, fp32: float) -> None:
    for _ in range(3):
        outputs = rivals.run(lambda outputs: int8 if outputs["hidden"].any() else fp32, tokens=np.zeros(2))
        assert outputs["hidden"].all()  # those of int8 are gone on with


def test_int8_that_is_faster_and_costs_little_is_kept(rivals: Rivals) -> None:
    measure(rivals, 0.5 + 0.9 * DIVERGENCE, 0.5)
    graphs, figures = rivals.choose()
    assert [(graph.precision, *graph.providers) for graph in graphs] == [
        ("int8", "cpu"),
        ("fp16", "cuda"),
        ("fp32", "cpu", "cuda"),
    ]
    assert [graph.path for graph in graphs] == ["predict-int8.onnx", "predict-fp16.onnx", "predict.onnx"]
    assert [(figure.name.split(":")[0], figure.value) for figure in figures] == [
        ("int8, predict", pytest.approx(0.5 + 0.9 * DIVERGENCE)),
        ("fp32, predict", 0.5),
        ("int8, predict", 2.0),
    ]
    assert figures[0].protocol == "against a reference, 3 steps of samples"
    assert rivals.paths["int8"].exists()


@pytest.mark.parametrize(("cost", "seconds"), [(1.1 * DIVERGENCE, 1.0), (0.0, 2.1), (np.nan, 1.0)])
def test_int8_that_costs_much_or_is_slower_goes(
    cost: float, seconds: float, rivals: Rivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Clocked.seconds, "predict-int8.onnx", seconds)
    measure(rivals, cost, 0.0)
    graphs, figures = rivals.choose()
    assert [graph.precision for graph in graphs] == ["fp16", "fp32"] and not figures
    assert not rivals.paths["int8"].exists() and rivals.paths["fp32"].exists()
