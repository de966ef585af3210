"""What a machine has for genfast, what stands in the way, and what to do about it."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from itertools import takewhile

import numpy as np

from genfast import __version__
from genfast.bench.matmul import product
from genfast.bundles import hub
from genfast.errors import GenfastError, first_line
from genfast.runtime.cpu import affinity, cores, processor, quota
from genfast.runtime.session import built, has_driver

_CUDNN = "9"  # what onnxruntime is built for: it tells of CUDA alone


@dataclass(frozen=True)
class Finding:
    """Something that was looked at. Where there is a fault, there is a cure."""

    name: str
    found: str | None  # None where there is nothing
    wanted: str | None = None
    fault: str | None = None
    cure: str | None = None


def examine() -> list[Finding]:
    """Look at this machine, and try each of its devices. Takes a few seconds; writes nothing.

    The devices are findings by their names: "cpu", "cuda:0" ...; those that work have no fault.
    """
    system = f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    runtime, cuda = _runtime()
    findings = [Finding("genfast", system), runtime]
    driver, gpus = _driver(cuda) if has_driver() else (Finding("driver", None), [])
    findings += [driver, *_libraries(cuda, needed=bool(gpus))]
    findings += [_probe("cpu", processor()), *(_probe(f"cuda:{i}", gpu) for i, gpu in enumerate(gpus))]
    return [*findings, _cores(), _cache(), *_environment()]


def _runtime() -> tuple[Finding, str]:
    """onnxruntime, and the CUDA that it wants, "" for none."""
    wheels = sorted(set(packages_distributions().get("onnxruntime", ())))
    gpu = sys.platform != "darwin" and platform.machine() in ("x86_64", "AMD64")  # where there is one with CUDA
    cure = f"pip uninstall -y onnxruntime onnxruntime-gpu; pip install onnxruntime{'-gpu' if gpu else ''}"
    found = ", ".join(f"{wheel} {version(wheel)}" for wheel in wheels) or None
    try:
        number, cuda = built()
    except Exception as error:  # an ImportError, or whatever a file that is half overwritten raises
        return Finding("onnxruntime", found, fault=f"onnxruntime cannot be imported: {error}", cure=cure), ""
    if len(wheels) > 1:
        fault = f"{' and '.join(wheels)} overwrite each other's files"
        return Finding("onnxruntime", f"{found}; imports as {number}", fault=fault, cure=cure), cuda
    return Finding("onnxruntime", f"{found}, built for {f'CUDA {cuda}' if cuda else 'the CPU alone'}"), cuda


def _driver(cuda: str) -> tuple[Finding, list[str]]:
    """NVIDIA's driver and the names of the GPUs that CUDA_VISIBLE_DEVICES leaves, in its order."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,driver_version,name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout
        every = [tuple(line.split(", ", 3)) for line in answer.splitlines()]
        number, gpus = every[0][2], [name for *_, name in _visible(every)]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        fault = f"nvidia-smi does not answer: {first_line(error)}"
        return Finding("driver", None, fault=fault, cure="install NVIDIA's driver anew, and restart"), ["unknown"]
    able = _version("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1", "cuDriverGetVersion")
    found, wanted = number + (f", for CUDA {able} at most" if able else ""), f"for CUDA {cuda}" if cuda else None
    if able and cuda and int(able.split(".")[0]) < int(cuda.split(".")[0]):
        return Finding("driver", found, wanted, "the driver is too old", "install a newer one, and restart"), gpus
    return Finding("driver", found, wanted), gpus


def _visible(gpus: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Of GPUs (index, UUID, ...), those that CUDA shows: the ones named, up to the first that is unknown."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return gpus
    found = ([gpu for gpu in gpus if name == gpu[0] or (name and gpu[1].startswith(name))] for name in named.split(","))
    return [gpu[0] for gpu in takewhile(bool, found)]


def _libraries(cuda: str, needed: bool) -> list[Finding]:
    """CUDA and cuDNN, as far as onnxruntime wants them; that they are missing is a fault where they are `needed`."""
    if not cuda:
        return []
    major, windows = cuda.split(".")[0], sys.platform == "win32"
    runtime = _version(f"cudart64_{major}.dll" if windows else f"libcudart.so.{major}", "cudaRuntimeGetVersion")
    cudnn = _version(f"cudnn64_{_CUDNN}.dll" if windows else f"libcudnn.so.{_CUDNN}", "cudnnGetVersion")
    return [
        Finding(name, found, wanted)
        if found or not needed
        else Finding(name, None, wanted, f"{name} {wanted} was not found", "pip install 'genfast[cuda]'")
        for name, found, wanted in (("CUDA", runtime, major), ("cuDNN", cudnn, _CUDNN))
    ]


def _version(library: str, function: str) -> str | None:
    """The version of one of NVIDIA's libraries, such as "13.0", by its own word; None where it cannot be loaded."""
    try:
        ask = getattr(ctypes.CDLL(library), function)
    except (OSError, AttributeError):
        return None
    if function == "cudnnGetVersion":  # such as 91002
        number = ask()
        return f"{number // 10000}.{number // 100 % 100}"
    answer = ctypes.c_int()  # such as 13000
    ask(ctypes.byref(answer))
    return f"{answer.value // 1000}.{answer.value // 10 % 100}"


def _probe(device: str, name: str) -> Finding:
    """Whether a device multiplies matrices, and rightly."""
    try:
        result = np.asarray(product("float32", 256, device)())
    except GenfastError as error:
        fault, _, cure = str(error).partition("; ")
        return Finding(device, name, fault=fault, cure=cure)
    if np.abs(result - np.eye(256)).max() > 1e-3:
        return Finding(device, name, fault=f"{device} computes wrong results", cure="give another --device")
    return Finding(device, f"{name}, works")


def _cores() -> Finding:
    bound = quota()
    of = f"of {os.cpu_count()}; affinity {affinity()}, quota {'none' if bound is None else f'{bound:g}'}"
    return Finding("cores", f"{cores()} {of}")


def _cache() -> Finding:
    folder = hub.cache()
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.exists(place))  # False if hidden
    if not (there.is_dir() and os.access(there, os.W_OK)):
        cure = "set GENFAST_CACHE to a folder of your own"
        return Finding("cache", str(folder), fault=f"{there} cannot be written to", cure=cure)
    if not (free := shutil.disk_usage(there).free):
        return Finding("cache", str(folder), fault="there is no room", cure="set GENFAST_CACHE to a folder of your own")
    return Finding("cache", f"{folder}, {free / 1e9:.1f} GB free")


def _environment() -> list[Finding]:
    return [Finding(name, value) for name, value in sorted(os.environ.items()) if name.startswith("GENFAST_")]
