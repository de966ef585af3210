import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

from genfast.errors import DeviceError, ModelError, UsageError
from genfast.runtime.session import Session

without_gpu = pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has an NVIDIA GPU")


@pytest.fixture
def graph(tiny_bundle: Path) -> Path:
    return tiny_bundle / "step.onnx"


def test_a_graph_runs_on_named_inputs(graph: Path) -> None:
    loaded = Session(graph, "cpu", threads=1)
    assert loaded.device == "cpu"
    x_t = np.full((2, 3, 6, 8), 3, np.float32)
    z = np.array([[1, 0], [0, 1]], np.float32)
    outputs = loaded.run(x_t=x_t, t=np.array([1, 2]), z=z, noise=np.ones_like(x_t))
    assert set(outputs) == {"x_prev", "x_0"}
    assert np.allclose(outputs["x_0"][:, 0, 0, 0], [3.4, 3])
    assert np.allclose(outputs["x_prev"][:, 0, 0, 0], [3.4, 3 * 0.5 + 0.25 + 0.1])


@pytest.mark.parametrize("once", [False, True])
def test_a_graph_gives_the_same_when_its_constants_are_not_computed_ahead(tmp_path: Path, once: bool) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 18]>
    squares (int64[B] x) => (float[B] y) <float[3] table = {1.0, 2.0, 3.0}>
    {
        squared = Mul (table, table)
        y = Gather (squared, x)
    }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "squares.onnx")
    loaded = Session(tmp_path / "squares.onnx", "cpu", once=once)
    assert loaded.run(x=np.array([2, 0]))["y"].tolist() == [9, 1]


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "CUDA", "cuda:-1", ""])
def test_an_unknown_device_is_refused(graph: Path, device: str) -> None:
    with pytest.raises(UsageError, match="unknown device .*; give auto, cpu, cuda or cuda:N"):
        Session(graph, device)


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_cuda_that_cannot_be_had_is_an_error_and_prints_nothing(
    graph: Path, device: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeviceError, match=f"^{device} cannot be used: .*; or give --device cpu$"):
        Session(graph, device)
    assert capfd.readouterr() == ("", "")


@without_gpu
def test_auto_without_a_gpu_is_the_silent_cpu(
    graph: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert Session(graph).device == "cpu"
    assert capfd.readouterr() == ("", "") and not caplog.records


@without_gpu
def test_auto_says_once_why_a_gpu_stays_idle(
    graph: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "nvidia-smi").touch(mode=0o755)  # a driver that works for nobody
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING, logger="genfast"):
        assert Session(graph).device == "cpu"
    (record,) = caplog.records
    assert record.getMessage().startswith("genfast: running on the CPU: ")
    assert capfd.readouterr() == ("", "")


def test_devices_may_have_graphs_of_their_own(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def choose(provider: str) -> Path:
        if provider == "cuda":
            raise ModelError("no graph for cuda")
        return graph

    assert Session(choose, "cpu").path == graph
    with pytest.raises(ModelError, match="no graph for cuda"):
        Session(choose, "cuda")
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Session(choose).device == "cpu"
    assert caplog.messages == ["genfast: running on the CPU: no graph for cuda"]


def test_what_is_printed_around_a_session_still_arrives(graph: Path, capfd: pytest.CaptureFixture[str]) -> None:
    print("before", flush=True)
    Session(graph)
    print("after", flush=True)
    assert capfd.readouterr().out == "before\nafter\n"


def test_a_graph_that_is_none_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "step.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ModelError, match="onnxruntime cannot load .*step.onnx: "):
        Session(path)
    assert capfd.readouterr() == ("", "")


def test_a_loop_over_bound_buffers_computes_what_runs_compute(graph: Path) -> None:
    loaded = Session(graph, "cpu")
    run = loaded.bind()
    rng = np.random.default_rng(0)
    for size in 3, 3, 5, 1:
        state: Any = rng.standard_normal((size, 3, 6, 8), np.float32)
        expected = state
        for t in 4, 3, 2, 1:
            given = {"t": np.full(size, t), "z": rng.standard_normal((size, 2), np.float32)}
            given["noise"] = rng.standard_normal((size, 3, 6, 8), np.float32)
            before = {name: value.copy() for name, value in given.items()}
            state = run(x_t=state, **given)["x_prev"]
            expected = loaded.run(x_t=expected, **given)["x_prev"]
            assert np.array_equal(np.asarray(state), expected)
            assert all(np.array_equal(value, before[name]) for name, value in given.items())


def test_buffers_are_allocated_once_and_outputs_hold_until_the_call_after_the_next(graph: Path) -> None:
    run = Session(graph, "cpu").bind()

    def call(size: int, value: float) -> Any:
        x_t = np.full((size, 3, 6, 8), value, np.float32)
        return run(x_t=x_t, t=np.ones(size, np.int64), z=np.zeros((size, 2), np.float32), noise=x_t)["x_0"]

    outputs = [call(2, value) for value in (1, 2, 3, 4)]
    places = [output.data_ptr() for output in outputs]
    assert len(set(places)) == 2 and places[:2] == places[2:]
    assert [np.asarray(output).flat[0] for output in outputs] == [3, 4, 3, 4]
    assert np.asarray(call(5, 9)).shape == (5, 3, 6, 8)
    assert np.asarray(outputs[3]).flat[0] == 4  # those of another size are left alone


def test_an_output_that_the_graph_lacks_is_an_error(graph: Path) -> None:
    session = Session(graph, "cpu")
    x, t = np.zeros((2, 3, 6, 8), np.float32), np.ones(2, np.int64)
    given = {"x_t": x, "t": t, "z": np.zeros((2, 2), np.float32), "noise": x}
    for run in session.run, session.bind():
        with pytest.raises(ModelError, match="step.onnx has no output x_2"):
            run(**given)["x_2"]


def test_inputs_that_do_not_fit_the_graph_are_an_error_and_timed(graph: Path) -> None:
    loaded = Session(graph)
    for work in loaded.run, loaded.bind():
        with pytest.raises(ModelError, match="step.onnx failed: "):
            work(x_t=np.zeros((1, 3, 6, 8), np.float32))
    assert loaded.seconds > 0


def test_threads_have_a_bound(graph: Path) -> None:
    """Beyond it, a machine hangs before a word is said."""
    most = 16 * (os.cpu_count() or 1)
    for threads in 0, -1, most + 1, 5000 * most, 2**31, 2**63:
        with pytest.raises(UsageError, match=rf"^threads must lie in 1 \.\. {most} on this machine, not {threads}$"):
            Session(graph, "cpu", threads)
    assert Session(graph, "cpu", 2).device == "cpu"
