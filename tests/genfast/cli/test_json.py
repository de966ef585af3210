"""Every command prints one JSON document when asked for it, and docs/json.md says what is in it."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from genfast import cli
from tests.genfast.cli.conftest import Run

ROOT = Path(__file__).parents[3]
DOCUMENTED = (ROOT / "docs" / "json.md").read_text("utf-8")

# {name} stands for the folder of a bundle.
LINES = {
    "sample": ["-n 2 --model {squares} --history", "-n 1 --model {tiny}", "-n 2 --model {dolls} --set hair=bun"],
    "inpaint": ["photos masks --out out -n 2 --history --model {squares}"],
    "fid": [
        "photos masks --features {means}",
        "--model {strides} --samples 9 --features {halves} --steps 2,4 --seeds 2",
        "--save-stats new.npz photos --features {means}",
        "--model {strides} --samples 9 --features {halves} --shard 0/2 --out parts",
    ],
    "models": [""],
    "info": ["photos/drawn.png", "{squares}", "fashion28", "{dolls}", "{dolls} --attributes"],
    "pull": ["fashion28"],
    "cache": [""],
    "doctor": [""],
    "reconstruct": ["photos/a.png photos/b.png --model {squares}"],
    "tokenize": ["photos tokens --model {squares}"],
    "bench": ["{tiny}"],
}


@pytest.fixture
def folders(
    tiny_bundle: Path, token_bundle: Path, attribute_bundle: Path, ddpm_bundle: Path, means: Path, halves: Path
) -> dict[str, Path]:
    found = tiny_bundle, token_bundle, attribute_bundle, ddpm_bundle, means, halves
    return {folder.name: folder for folder in found}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, tiny_bundle: Path) -> Run:
    """Runs a command line in a folder of photos, one of them drawn, with masks, one of which is missing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENFAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for processes that commands start
    assert run(f"sample -n 1 --model {tiny_bundle} --out photos")[0] == 0
    Path("photos/tiny-0-0.png").rename("photos/drawn.png")
    Path("masks").mkdir()
    for path in "photos/a.png", "photos/b.png", "masks/a.png", "masks/b.png":
        Image.fromarray(np.full((6, 8, 3), 200, np.uint8)).save(path)
    return run


def keys(value: object, place: str = "") -> Iterator[str]:
    """The places of all fields of a document, such as images[].path."""
    if isinstance(value, list):
        for item in value:
            yield from keys(item, f"{place}[]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            path = f"{place}.{key}" if place else key
            yield path
            yield from keys(inner, path)


def test_every_command_with_json_is_tried() -> None:
    commands = typer.main.get_command(cli.app).commands
    assert LINES.keys() == {
        name for name, command in commands.items() if any(p.name == "as_json" for p in command.params)
    }


@pytest.mark.parametrize(("command", "line"), [(name, line) for name, lines in LINES.items() for line in lines])
def test_documents_are_as_documented(here: Run, folders: dict[str, Path], command: str, line: str) -> None:
    code, out, _ = here(f"{command} {line.format(**folders)} --json")
    assert code == (1 if command == "inpaint" else 0)
    document = json.loads(out, parse_constant=pytest.fail)
    assert next(iter(document.items())) == ("schema", 2)
    (section,) = re.findall(rf"^## genfast {command}\n(.*?)(?=^## |\Z)", DOCUMENTED, re.M | re.S)
    known = {"schema", *re.findall(r"`([\w.\[\]]+)`", section)}
    # Where nothing is said of what lies in a field, anything may.
    open_ended = [path for path in known if not any(other.startswith((f"{path}.", f"{path}[")) for other in known)]
    inside = tuple(f"{path}{mark}" for path in open_ended for mark in ".[")
    assert not [path for path in keys(document) if path not in known and not path.startswith(inside)]


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has an NVIDIA GPU")
@pytest.mark.parametrize(
    "line",
    ["sample --model {tiny}", "inpaint photos/a.png masks/a.png --model {tiny}", "fid photos masks --features {means}"],
)
def test_without_cuda_there_is_a_document_as_well(here: Run, folders: dict[str, Path], line: str) -> None:
    line = line.format(**folders)
    code, out, err = here(f"{line} --device cuda --json")
    document = json.loads(out)
    assert code == document["exit_code"] == 5 and document["schema"] == 2
    assert document["error"].startswith("cuda cannot be used: ") and err == f"genfast: error: {document['error']}\n"
    code, out, _ = here(f"{line} --device auto --json")
    assert code == 0 and json.loads(out)["schema"] == 2
