"""Checkpoints of PyTorch that strangers wrote: read without running what they hold, and without a copy of it."""

import re
import warnings
import zipfile
from pathlib import Path
from textwrap import shorten

import torch

from genfast.errors import InputError


class Standin:
    """An object of a class that is not loaded: it keeps the attributes that the file gives it, and does nothing."""


# Of what a pickle may name beside tensors, numbers and text, these alone; whatever the class does, it is not done here.
STANDINS = {
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint": type("ModelCheckpoint", (Standin,), {}),
    "argparse.Namespace": type("Namespace", (Standin,), {}),
}


def read(path: Path) -> dict[str, object]:
    """What a checkpoint holds, by name, on the CPU, in the zip format of PyTorch or the one before.

    Tensors of a zip file are mapped from the file, which has to stay as it is while they are used. What a pickle may
    name is what `torch.load(weights_only=True)` allows and STANDINS: nothing of a file is ever run.

    Raises:
        InputError: there is no such file, it is damaged or something else, or it would take more memory than it has
            bytes.
    """
    zipped = _is_zip(path)
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of pickles that it may not read: it says so
            torch.serialization.safe_globals([(standin, name) for name, standin in STANDINS.items()]),
        ):
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} {_reason(error)}") from error
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
        raise InputError(f"{path} holds a {type(held).__name__}, but a checkpoint is a dictionary of tensors by name")
    return held


def _is_zip(path: Path) -> bool:
    """Whether a file is a checkpoint in the zip format. Raises InputError where it can be no checkpoint at all."""
    if not path.is_file():
        raise InputError(f"{path} is a folder, not a checkpoint" if path.is_dir() else f"{path} does not exist")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    if start.startswith(b"PK\x03\x04"):
        _check_zip(path)
        return True
    if not start:
        raise InputError(f"{path} is empty; download it again")
    if start.lstrip().startswith(b"<"):
        raise InputError(f"{path} is a web page, not a checkpoint; open the address in a browser and download the file")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a pointer of Git LFS, not the checkpoint itself; run git lfs pull")
    if not start.startswith(b"\x80\x02"):  # PyTorch's protocol
        raise InputError(f"{path} is no checkpoint of PyTorch: it begins as neither its zip file nor its pickle")
    return False


def _check_zip(path: Path) -> None:
    """Raises InputError where a zip file is cut off, would unpack to more than it is, or is no checkpoint."""
    try:
        with zipfile.ZipFile(path) as file:
            parts = file.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise InputError(f"{path} is cut off or damaged: a zip file without its table of contents") from error
    names = {part.filename.rpartition("/")[2] for part in parts}
    if "data.pkl" not in names:
        raise InputError(f"{path} is a zip file, but no checkpoint: it holds no data.pkl")
    if "constants.pkl" in names:
        raise InputError(f"{path} is a TorchScript program, not a checkpoint; give the file of its weights")
    # PyTorch stores without compression, and each part once.
    size = sum(part.file_size for part in parts)
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or size > path.stat().st_size:
        raise InputError(f"{path} would unpack to {size} bytes from {path.stat().st_size}, and a checkpoint to no more")


def _reason(error: Exception) -> str:
    """What stands in the way, behind the name of the file, without torch's advice to trust it."""
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"names {found[1]}, which is not loaded: it could run anything; weights are tensors, numbers and text"
    first = shorten(text.splitlines()[0], 100) if text else type(error).__name__
    return f"is cut off, damaged or no checkpoint of PyTorch: {first}"
