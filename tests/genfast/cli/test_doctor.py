import json
import os
from pathlib import Path
from typing import Any

import pytest

from genfast import doctor

ROOT = Path(__file__).parents[3]
without_gpu = pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has an NVIDIA GPU")


@without_gpu
def test_a_machine_without_a_gpu_is_well(cli, tmp_path: Path) -> None:
    done = cli("doctor", env={"GENFAST_CACHE": str(tmp_path / "new"), "GENFAST_DEVICE": "cpu"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["driver"] == "none" and lines["cpu"].endswith(", works") and lines["GENFAST_DEVICE"] == "cpu"
    assert lines["cache"].startswith(f"{tmp_path}/new, ") and not (tmp_path / "new").exists()
    assert done.stdout.endswith("genfast can draw on: cpu\n")


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def second_wheel(folder: Path) -> None:
    about = folder / "onnxruntime-1.31.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.31.0\n")
    (about / "RECORD").write_text("onnxruntime/__init__.py,,\n")


def broken_wheel(folder: Path) -> None:
    (folder / "onnxruntime").mkdir()
    (folder / "onnxruntime/__init__.py").write_text("raise ImportError('libcudart.so.13: no such file')")


@without_gpu
@pytest.mark.parametrize(
    ("spoil", "name", "fault", "cure"),
    [
        (
            lambda f: program(f / "nvidia-smi", "echo 0, GPU-3a, 580.65, NVIDIA H200"),
            "cuda:0",
            "cannot be used: ",
            "pip install",
        ),
        (lambda f: program(f / "nvidia-smi", "exit 9"), "driver", "nvidia-smi does not answer: ", "driver anew"),
        (second_wheel, "onnxruntime", "onnxruntime and onnxruntime-gpu overwrite each other", "pip uninstall -y"),
        (broken_wheel, "onnxruntime", "cannot be imported: libcudart.so.13: no such file", "pip uninstall -y"),
        (broken_wheel, "cpu", "cannot be imported: libcudart.so.13: no such file", "see genfast doctor"),
        (lambda f: (f / "cache").touch(), "cache", "/cache cannot be written to", "set GENFAST_CACHE"),
    ],
)
def test_each_fault_has_its_cure(cli, tmp_path: Path, spoil: Any, name: str, fault: str, cure: str) -> None:
    spoil(tmp_path)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = cli("doctor", "--json", env={**environment, "GENFAST_CACHE": str(tmp_path / "cache")})
    document = json.loads(done.stdout)
    assert (done.returncode, document["schema"], document["works"]) == (1, 2, False)
    assert document["devices"] == ([] if spoil is broken_wheel else ["cpu"])
    (finding,) = (finding for finding in document["findings"] if finding["name"] == name)
    assert fault in finding["fault"] and cure in finding["cure"]
    assert f"genfast: {finding['fault']}; {finding['cure']}" in done.stderr.splitlines()
    assert done.stderr.count("\n") == sum(finding["fault"] is not None for finding in document["findings"])


@pytest.mark.parametrize(
    ("shown", "names"), [(None, "abc"), ("", ""), ("-1", ""), ("2,0", "ca"), ("GPU-1,9,0", "b"), ("1,", "b"), ("7", "")]
)
def test_gpus_are_those_that_cuda_shows(shown: str | None, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    gpus = [(str(i), f"GPU-{i}f", "580.65", name) for i, name in enumerate("abc")]
    assert "".join(name for *_, name in doctor._visible(gpus)) == names
