"""onnxruntime: devices, threads, and silence. The only module that imports it."""

import logging
import math
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy.typing as npt

from genfast.errors import DeviceError, ModelError, UsageError

_log = logging.getLogger("genfast")
_lock = threading.Lock()  # file descriptors belong to the whole process


class Session:
    """A graph, loaded on a device.

    `graph` is its file, or a function that gives the file for "cpu" or "cuda", like Bundle.graph. `device` is "auto"
    (CUDA where it works, else the CPU), "cpu", "cuda" or "cuda:N". `threads` is for the CPU, by default one for each
    core that this process may use. Raises UsageError for another device, DeviceError where CUDA is asked for and
    cannot be had, ModelError where onnxruntime cannot load the graph, and what `graph` raises.
    """

    device: str  # where the graph really is: "cpu" or "cuda:N"
    path: Path

    def __init__(self, graph: Path | Callable[[str], Path], device: str = "auto", threads: int | None = None) -> None:
        match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", device)
        if match is None:
            raise UsageError(f"unknown device {device!r}; give auto, cpu, cuda or cuda:N")
        choose = graph if callable(graph) else lambda _: graph
        obstacle = None
        if device.startswith("cuda") or (device == "auto" and _has_driver()):
            ordinal = int(match[1] or 0)
            try:
                self.path = choose("cuda")
                # TensorFloat-32 would cut the significand of fp32 graphs to 10 bits.
                obstacle = self._open(threads, ("CUDAExecutionProvider", {"device_id": ordinal, "use_tf32": 0}))
            except ModelError as error:  # there is no graph for it
                if device != "auto":
                    raise
                obstacle = str(error)
            if obstacle is None:
                self.device = f"cuda:{ordinal}"
                return
            if device != "auto":
                raise DeviceError(f"{device} cannot be used: {obstacle}; or give --device cpu")
        self.path = choose("cpu")
        if reason := self._open(threads):
            raise ModelError(f"onnxruntime cannot load {self.path}: {reason}")
        self.device = "cpu"
        if obstacle:
            _log.warning("genfast: running on the CPU: %s", obstacle)

    def _open(self, threads: int | None, *accelerator: tuple[str, dict[str, int]]) -> str | None:
        """Load the graph on an accelerator, or on the CPU alone. Returns what stands in the way, None on success."""
        with _silence():
            import onnxruntime

            if accelerator and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                return "this onnxruntime has no CUDA; install onnxruntime-gpu (x86-64 Linux or Windows)"
            if accelerator:
                onnxruntime.preload_dlls()  # finds the libraries that come with the extra `cuda`
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = threads or cores()
            try:
                # Its own fallback would change the device behind our back, and print.
                self._session = onnxruntime.InferenceSession(
                    self.path, options, [*accelerator, "CPUExecutionProvider"], enable_fallback=0
                )
            except Exception as error:  # onnxruntime's errors share no base
                return _first_line(error)
        # get_available_providers() and get_device() name CUDA on machines that have none; a session does not.
        if not accelerator or "CUDAExecutionProvider" in self._session.get_providers():
            return None
        if not _has_driver():
            return "there is no NVIDIA driver on this machine"
        return "CUDA 13 and cuDNN 9 were not found; pip install 'genfast[cuda]'"

    def run(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Run the graph on named inputs, all with the batch as their first axis; returns its outputs by name."""
        try:
            outputs = self._session.run(None, inputs)
        except Exception as error:
            if self.device == "cpu":
                raise ModelError(f"{self.path} failed: {_first_line(error)}") from error
            raise DeviceError(
                f"{self.path} failed on {self.device}: {_first_line(error)}; try a smaller batch"
            ) from error
        return dict(zip((output.name for output in self._session.get_outputs()), outputs, strict=True))


def _has_driver() -> bool:
    return shutil.which("nvidia-smi") is not None or os.path.exists("/dev/nvidiactl")


def cores() -> int:
    """The cores that this process may use: its affinity, bounded by its container's quota (cgroup 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or a quota of "max"
        return cores


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def _silence() -> Iterator[None]:
    """Send stdout and stderr to nowhere: onnxruntime prints to both, from Python and from C++.

    Signals wait, since an import of onnxruntime that is interrupted fails for reasons that nobody understands.
    """
    with _signals_wait(), _lock, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        for descriptor in saved:
            os.dup2(nowhere.fileno(), descriptor)
        try:
            yield
        finally:
            for descriptor, copy in saved.items():
                os.dup2(copy, descriptor)
                os.close(copy)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM, where the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
