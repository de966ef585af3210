"""onnxruntime: devices, threads, and silence. The only module that imports it."""

import logging
import os
import re
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from genfast.errors import DeviceError, ModelError, UsageError, first_line
from genfast.runtime.cpu import cores

Ort = Any  # objects of onnxruntime, which has no types
Array = npt.NDArray[Any]

_MOST = 16  # threads a core

_log = logging.getLogger("genfast")
_lock = threading.Lock()  # file descriptors belong to the whole process


class Session:
    """A graph, loaded on a device.

    `graph` is its file, or a function that gives the file for "cpu" or "cuda", like Bundle.graph. `device` is "auto"
    (CUDA where it works, else the CPU), "cpu", "cuda" or "cuda:N". `threads` is for the CPU, by default one for each
    core that this process may use. A graph that is called but `once` or twice is loaded without computing its constants
    ahead, which would take longer than the calls. Raises UsageError for another device, DeviceError where CUDA is asked
    for and cannot be had, ModelError where onnxruntime cannot load the graph, and what `graph` raises.
    """

    device: str  # where the graph really is: "cpu" or "cuda:N"
    path: Path
    seconds: float  # spent in running the graph so far

    def __init__(
        self,
        graph: Path | Callable[[str], Path],
        device: str = "auto",
        threads: int | None = None,
        once: bool = False,
    ) -> None:
        ordinal = parse(device)
        most = _MOST * (os.cpu_count() or 1)
        if threads is not None and not 1 <= threads <= most:
            raise UsageError(f"threads must lie in 1 .. {most} on this machine, not {threads}")
        self.seconds = 0.0
        self._once = once
        choose = graph if callable(graph) else lambda _: graph
        obstacle = None
        if device.startswith("cuda") or (device == "auto" and has_driver()):
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
            _warn(obstacle)

    def _open(self, threads: int | None, *accelerator: tuple[str, dict[str, int]]) -> str | None:
        """Load the graph on an accelerator, or on the CPU alone. Returns what stands in the way, None on success."""
        with _silence():
            try:
                import onnxruntime
            except ImportError as error:
                raise DeviceError(f"onnxruntime cannot be imported: {first_line(error)}; see genfast doctor") from error

            if accelerator and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                return "this onnxruntime has no CUDA; install onnxruntime-gpu (x86-64 Linux or Windows)"
            if accelerator:
                onnxruntime.preload_dlls()  # finds the libraries that come with the extra `cuda`
            options = self._options(onnxruntime, threads or cores())
            try:
                # Its own fallback would change the device behind our back, and print.
                self._session = onnxruntime.InferenceSession(
                    self.path,
                    options,
                    [*accelerator, "CPUExecutionProvider"],
                    enable_fallback=0,
                    disabled_optimizers=["ConstantFolding"] if self._once else None,
                )
            except Exception as error:  # onnxruntime's errors share no base
                return first_line(error)
        # get_available_providers() and get_device() name CUDA on machines that have none; a session does not.
        if not accelerator or "CUDAExecutionProvider" in self._session.get_providers():
            return None
        if not has_driver():
            return "there is no NVIDIA driver on this machine"
        return "CUDA 13 and cuDNN 9 were not found; pip install 'genfast[cuda]'"

    def _options(self, onnxruntime: Ort, threads: int) -> Ort:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        # Threads wait in a loop for the next node, but not for the next call: other graphs take turns with this one.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the graph on named inputs, all with the batch as their first axis; returns its outputs by name."""
        with self._timed():
            outputs = self._session.run(None, inputs)
        return self._named(outputs)

    def bind(self) -> Callable[..., dict[str, npt.ArrayLike]]:
        """`run` for a loop, whose outputs stay on the device; for one batch, and one thread.

        An output is an onnxruntime.OrtValue: give it to a graph on the same device as an input, or bring it here by
        np.asarray. Buffers are allocated once for each shape of the inputs. Calls take turns at two sets for outputs,
        so that one state comes out while another is read: an output holds until the call after the next.
        """
        from onnxruntime import OrtValue

        place = ("cpu", 0) if self.device == "cpu" else ("cuda", int(self.device.removeprefix("cuda:")))
        binding = self._session.io_binding()
        names = [output.name for output in self._session.get_outputs()]
        given: dict[str, Ort] = {}  # buffers of the inputs that come from here
        held: deque[dict[str, Ort]] = deque()  # the outputs of the last two calls

        def run(**inputs: npt.ArrayLike) -> dict[str, npt.ArrayLike]:
            with self._timed():
                for name, value in inputs.items():
                    if isinstance(value, np.ndarray):
                        if name not in given or given[name].shape() != list(value.shape):
                            given[name] = OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype, *place)
                            held.clear()
                        given[name].update_inplace(value)
                        value = given[name]
                    binding.bind_ortvalue_input(name, value)
                spare = held.popleft() if len(held) == 2 else {}
                for name in names:
                    if name in spare:
                        binding.bind_ortvalue_output(name, spare[name])
                    else:
                        binding.bind_output(name, *place)
                self._session.run_with_iobinding(binding)
            held.append(self._named(binding.get_outputs()))
            return held[-1]

        return run

    def _named(self, outputs: Sequence[Ort]) -> dict[str, Ort]:
        named = _Outputs(zip((output.name for output in self._session.get_outputs()), outputs, strict=True))
        named.path = self.path
        return named

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Time a call of onnxruntime, and turn what it raises into a known error."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:  # onnxruntime's errors share no base
            if self.device == "cpu":
                raise ModelError(f"{self.path} failed: {first_line(error)}") from error
            raise DeviceError(
                f"{self.path} failed on {self.device}: {first_line(error)}; try a smaller batch"
            ) from error
        finally:
            self.seconds += time.perf_counter() - began


class _Outputs(dict[str, Ort]):
    """The outputs of a graph; it is corrupt where one that is asked for is not among them."""

    path: Path

    def __missing__(self, name: str) -> Ort:
        raise ModelError(f"{self.path} has no output {name}")


def built() -> tuple[str, str]:
    """The version of onnxruntime, and that of the CUDA that it is built for: "" where it is for the CPU alone.

    Loads what there is of that CUDA and its cuDNN. Raises ImportError where onnxruntime is broken.
    """
    with _silence():
        import onnxruntime

        onnxruntime.preload_dlls()
    return onnxruntime.__version__, onnxruntime.cuda_version


def parse(device: str) -> int:
    """The number of the GPU that a device names, 0 where it names none. Raises UsageError for no device."""
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", device)
    if match is None:
        raise UsageError(f"unknown device {device!r}; give auto, cpu, cuda or cuda:N")
    return int(match[1] or 0)


def has_driver() -> bool:
    """Whether there is an NVIDIA driver, as far as can be seen without loading it."""
    return shutil.which("nvidia-smi") is not None or os.path.exists("/dev/nvidiactl")


@cache
def _warn(obstacle: str) -> None:
    """Once: a command may have many sessions."""
    _log.warning("genfast: running on the CPU: %s", obstacle)


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
