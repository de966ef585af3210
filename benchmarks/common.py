"""What the benchmarks share: arguments, the printing of figures, commands to measure, and the memory they take."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

import genfast
from genfast.metrics.features import Embedder
from genfast.models.tokens import TokenModel
from genfast.types import Pixels

GENFAST = (sys.executable, "-m", "genfast")
EXTRACTOR = "efficientnet-lite0"  # that faces are measured by: nothing was trained against it

_SHARED: dict[str, dict[str, Any]] = {
    "--model": {"help": "a model by name, or the folder of a bundle"},
    "-n": {"type": int, "help": "how many pictures"},
    "--seed": {"type": int, "help": "whose pictures are drawn"},
    "--seeds": {"type": int, "help": "how many seeds, from 0 on"},
    "--threads": {"type": int, "help": "on the CPU; by default one a core"},
    "--device": {"help": "cpu, cuda or cuda:N"},
    "--out": {"type": Path, "help": "folder to write to; made where it does not exist"},
    "--json": {"action": "store_true", "help": "print one JSON document instead of lines"},
}

# A process counts what the one that started it held: a small one starts it.
_STARTER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def parser(about: str | None, shared: str, **defaults: object) -> argparse.ArgumentParser:
    """A parser with the `shared` options, such as "-n --threads", and their `defaults`, such as threads=2."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in shared.split():
        arguments = dict(_SHARED[flag])
        if (default := defaults.pop(flag.strip("-"), None)) is not None:
            arguments |= {"default": default, "help": f"{arguments['help']} (default: {default})"}
        made.add_argument(flag, **arguments)
    assert not defaults, f"defaults of no option: {', '.join(defaults)}"
    return made


def folder(path: Path) -> Path:
    """A folder, made where it does not exist."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_figure(path: Path, picture: Pixels) -> None:
    """Write a picture for the docs as WebP, small rather than exact: the history keeps each that ever was."""
    Image.fromarray(picture).save(path, quality=60)


def report(figures: Mapping[str, float], as_json: bool) -> None:
    """Print figures by name."""
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{value:10.3f}  {name}")


def token_model(name: str, device: str = "cpu", threads: int | None = None) -> TokenModel:
    """Load a model of tokens. Ends the program where it is none."""
    model = genfast.load(name, device=device, threads=threads)
    if not isinstance(model, TokenModel):
        sys.exit(f"{name} is of family {model.bundle.manifest.family}, and this is about models of tokens")
    return model


def extractor(device: str = "cpu", threads: int | None = None) -> Embedder:
    """What faces are measured by."""
    return Embedder.find(EXTRACTOR, device, threads)


def peak(command: Sequence[str], cwd: Path | None = None) -> float:
    """The most that a command holds at once, in MB, on Linux. Raises CalledProcessError where it fails."""
    starter = [sys.executable, "-c", _STARTER, *command]
    done = subprocess.run(starter, cwd=cwd, check=True, capture_output=True, text=True)
    return int(done.stdout) / 1000  # kilobytes
