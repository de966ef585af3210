"""Strangers' checkpoints: what is read of them, that nothing in them runs, and that each bad one gets one line."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from export.importers.reading import STANDINS, read
from export.importers.state import load, tensors
from genfast.errors import InputError
from tests.export.importers.malformed import FILES, LEGACY, STATES, WEIGHTS, ZIP, saved

ROOT = Path(__file__).parents[3]
NETWORK = nn.Sequential()
NETWORK.add_module("a", nn.Linear(3, 4))


def one_line(error: pytest.ExceptionInfo[InputError], path: Path, part: str) -> None:
    said = str(error.value)
    assert said.startswith(f"{path} ") and part in said and "\n" not in said and len(said) < 300


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_gets_one_line_and_runs_nothing(name: str, tmp_path: Path) -> None:
    make, part = FILES[name]
    path, marker = tmp_path / "weights.pth", tmp_path / "ran"
    path.write_bytes(make(marker))
    with pytest.raises(InputError) as error:
        read(path)
    one_line(error, path, part)
    assert not marker.exists()


def test_a_command_would_run_where_pickles_are_trusted(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    path, marker = tmp_path / "weights.pth", tmp_path / "ran"
    path.write_bytes(FILES["a command"][0](marker))
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_neither_a_folder_nor_nothing_is_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "weights.pth")


@pytest.mark.parametrize("content", [ZIP, LEGACY], ids=["zip", "older"])
def test_both_formats_are_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    held = read(path)
    load(NETWORK, tensors(held, path), path, "a layer")
    assert held.keys() == WEIGHTS.keys() and torch.equal(NETWORK.a.weight, WEIGHTS["a.weight"])


def test_two_classes_have_stand_ins_which_keep_what_they_are_given(tmp_path: Path) -> None:
    path = tmp_path / "content.pth"
    path.write_bytes(saved({"args": argparse.Namespace(nz=100), "net": WEIGHTS}))
    held = read(path)
    assert vars(held["args"]) == {"nz": 100} and type(held["args"]) is STANDINS["argparse.Namespace"]
    assert set(STANDINS) == {
        "argparse.Namespace",
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    }
    allowed = torch.serialization.get_safe_globals()  # once the file is read
    assert not set(STANDINS.values()) & {each[0] if isinstance(each, tuple) else each for each in allowed}


@pytest.mark.parametrize("name", STATES)
def test_what_is_no_state_dict_gets_one_line(name: str) -> None:
    held, part = STATES[name]
    with pytest.raises(InputError) as error:
        tensors(held, Path("weights.pth"))
    one_line(error, Path("weights.pth"), part)


def test_a_prefix_is_taken_off_and_others_are_dropped() -> None:
    ones = torch.ones(1)
    path = Path("weights.pth")
    assert [*tensors({"module.a": ones, "module.loss.b": ones, "c": ones}, path, "module.", ("loss.",))] == ["a"]
    assert [*tensors({"a": ones, "loss.b": ones}, path, "module.", ("loss.",))] == ["a"]


def test_weights_of_another_network_get_one_line() -> None:
    path = Path("weights.pth")
    wrong = {"a.weight": torch.ones(4, 2), **{f"b.{i}": torch.ones(1) for i in range(5)}}
    with pytest.raises(InputError) as error:
        load(NETWORK, wrong, path, "a layer")
    assert str(error.value) == (
        "weights.pth does not fit a layer: it lacks a.bias; it holds the unknown b.0, b.1, b.2 and 2 more; "
        "it has another shape of a.weight (4x2 instead of 4x3)"
    )
    with pytest.raises(InputError, match=r"another type of a.bias \(torch.int64 instead of torch.float32\)"):
        load(NETWORK, {**WEIGHTS, "a.bias": torch.zeros(4, dtype=torch.int64)}, path, "a layer")
    load(NETWORK, {name: tensor.half() for name, tensor in WEIGHTS.items()}, path, "a layer")


MEMORY = """
import resource, sys
from pathlib import Path
from export.importers.reading import read
from export.importers.state import tensors
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = Path(sys.argv[1])
state = tensors(read(path)["state_dict"], path)
print(sum(float(tensor.sum()) for tensor in state.values()))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "older"])
def test_a_large_file_takes_no_more_memory_than_it_has_bytes(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    weights = {f"layer{i}.weight": torch.full((256, 1024, 32), 1 / 32) for i in range(10)}  # 32 MB each
    moments = {i: {"exp_avg": weight + 1, "exp_avg_sq": weight + 2} for i, weight in enumerate(weights.values())}
    held = {"state_dict": weights, "optimizer_states": [{"state": moments}]}
    torch.save(held, path, _use_new_zipfile_serialization=not legacy)
    assert path.stat().st_size > 10**9
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], cwd=ROOT, capture_output=True, text=True)
    total, megabytes = map(float, done.stdout.split())
    assert total == 10 * 2**18
    assert megabytes < (1100 if legacy else 400)
