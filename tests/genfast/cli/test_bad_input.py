"""Bad input ends in one line on stderr and the right exit code, and leaves nothing behind."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from genfast import images

USAGE, INPUT, MODEL, DEVICE = 2, 3, 4, 5


def fails(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("genfast: error: ") and message in line


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--model dalle", MODEL, "unknown model 'dalle'; give the folder of a bundle or one of: fashion28"),
        ("--model ./nowhere", MODEL, "unknown model './nowhere'"),
        ("--model .", MODEL, ". is no bundle: cannot read manifest.json"),
        ("--model fashion28 --steps 3", USAGE, "fashion28 has no weights for 3 steps; weights exist for: "),
        ("--model efficientnet-lite0 --steps 3", USAGE, "efficientnet-lite0 takes no number of steps"),
        ("--steps 2", USAGE, "has no weights for 2 steps; weights exist for: 3"),
        ("--steps 0", USAGE, "has no weights for 0 steps"),
        ("-n 0", USAGE, "'-n'"),
        ("-n -3", USAGE, "'-n'"),
        ("-n many", USAGE, "'-n'"),
        ("--seed -1", USAGE, "'--seed'"),
        ("--seed 9223372036854775808", USAGE, "must lie in 0 .. 2**63 - 1"),
        ("--start -1", USAGE, "'--start'"),
        ("--start 9223372036854775807 -n 2", USAGE, "must lie in 0 .. 2**63 - 1"),
        ("--batch 0", USAGE, "'--batch'"),
        ("--threads 0", USAGE, "'--threads'"),
        ("--class boot", USAGE, "tiny is of family ddgan, which takes no class"),
        ("--order random --min-steps 3", USAGE, "tiny is of family ddgan, which takes no min-steps, order"),
        ("--device gpu", USAGE, "unknown device 'gpu'; give auto, cpu, cuda or cuda:N"),
        ("--overwrite --skip-existing", USAGE, "exclude each other"),
        ("--colour red", USAGE, "--colour"),
        ("picture.png", USAGE, "picture.png"),
    ],
)
def test_options(cli, tiny_bundle: Path, tmp_path: Path, options: str, code: int, message: str) -> None:
    arguments = options.split()
    if "--model" not in arguments:
        arguments += ["--model", str(tiny_bundle)]
    fails(cli("sample", "--out", tmp_path / "out", *arguments), code, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--class blue", "squares has no class 'blue'; it has: red, light blue, green"),
        ("--steps 0", "steps must lie in 1 .. 1000, not 0"),
        ("--temperature 0", "temperature must lie in 0.01 .. 100, not 0.0"),
        ("--temperature nan", "temperature must lie in 0.01 .. 100, not nan"),
        ("--temperature hot", "'--temperature'"),
        ("--temperature-end -1", "temperature-end must lie in"),
        ("--order random --share 0", "share must lie in 0.001 .. 1, not 0.0"),
        ("--order random --share-end 2", "share-end must lie in"),
        ("--order raster", "'--order'"),
        ("--share 0.5", "order confidence takes no share"),
        ("--order random --choice-temperature 2", "order random takes no choice-temperature"),
        ("--guidance -1", "guidance must lie in 0 .. 100, not -1.0"),
        ("--min-steps -1", "min-steps must lie in"),
        ("--history --class blue", "squares has no class 'blue'"),
    ],
)
def test_options_of_models_of_tokens(cli, token_bundle: Path, tmp_path: Path, options: str, message: str) -> None:
    done = cli("sample", "--model", token_bundle, "--out", tmp_path / "out", *options.split())
    fails(done, USAGE, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has an NVIDIA GPU")
def test_cuda_where_there_is_none(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    done = cli("sample", "--model", tiny_bundle, "--device", "cuda", "--out", tmp_path / "out")
    fails(done, DEVICE, "cuda cannot be used: ")
    assert not (tmp_path / "out").exists()


def change(**fields: Any) -> Callable[[Path], None]:
    """The damage that sets fields of the manifest."""

    def damage(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return damage


def change_path(path: str) -> Callable[[Path], None]:
    return change(files=[{"path": path, "size": 1, "sha256": "0" * 64}])


def truncate(folder: Path) -> None:
    os.truncate(folder / "step.onnx", 100)


def tamper(folder: Path) -> None:
    content = bytearray((folder / "step.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "step.onnx").write_bytes(content)


def link_out(folder: Path) -> None:
    (folder / "step.onnx").rename(folder.parent / "outside.onnx")
    (folder / "step.onnx").symlink_to(folder.parent / "outside.onnx")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "step.onnx has 100 bytes instead of"),
        (tamper, "step.onnx is not the file that its manifest names (SHA-256 differs)"),
        (lambda folder: (folder / "step.onnx").unlink(), "step.onnx cannot be read (No such file or directory)"),
        (link_out, "step.onnx is a link that leaves the bundle"),
        (change_path("../step.onnx"), "stay inside the bundle"),
        (change_path("/etc/passwd"), "stay inside the bundle"),
        (change(colour="red"), "colour: Extra inputs are not permitted"),
        (change(format=2), "format: Input should be 1"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 1,'), "Invalid JSON"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "Invalid JSON"),
        (lambda folder: (folder / "manifest.json").unlink(), "is no bundle: cannot read manifest.json"),
    ],
)
def test_bundles(cli, tiny_bundle: Path, tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    damage(folder)
    fails(cli("sample", "--model", folder, "--out", tmp_path / "out"), MODEL, message)
    fails(cli("info", folder), MODEL, message)
    assert not (tmp_path / "out").exists()


def test_a_graph_that_onnxruntime_refuses(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    (folder / "step.onnx").write_bytes(b"graph")
    change(files=[{"path": "step.onnx", "size": 5, "sha256": hashlib.sha256(b"graph").hexdigest()}])(folder)
    fails(cli("sample", "--model", folder, "--out", tmp_path / "out"), MODEL, "onnxruntime cannot load")


@pytest.mark.parametrize("place", ["file", "file/under", "/proc/genfast"])
def test_output_folders(cli, tiny_bundle: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    done = cli("sample", "--model", tiny_bundle, "--out", tmp_path / place)
    fails(done, USAGE, f"cannot write into {tmp_path / place}: ")
    assert (tmp_path / "file").read_bytes() == b""


def test_a_file_size_limit_leaves_nothing_half_written(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    wrapper = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300));"
        "runpy.run_module('genfast', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", wrapper, "sample", "--model", tiny_bundle, "--out", tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(images.__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    fails(done, 1, f"cannot write {tmp_path}/out/tiny-0-0.png: File too large")
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_leaves_whole_images(cli, tiny_bundle: Path, small_disk: Path) -> None:
    done = cli("sample", "--model", tiny_bundle, "-n", 20, "--out", small_disk)
    fails(done, 1, "No space left on device")
    left = list(small_disk.iterdir())
    assert 0 < len(left) < 20
    assert images.read_all(left).shape[1:] == (6, 8, 3) and all(path.suffix == ".png" for path in left)


def no_image(path: Path) -> None:
    path.write_text("hello")


def no_recipe(path: Path) -> None:
    Image.new("L", (2, 2)).save(path)


@pytest.mark.parametrize(("make", "message"), [(no_image, "a.png is no image"), (no_recipe, "a.png carries no recipe")])
def test_info_on_files(cli, tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "a.png")
    fails(cli("info", tmp_path / "a.png"), INPUT, message)


def test_info_on_nothing(cli) -> None:
    fails(cli("info", "a.png"), MODEL, "unknown model 'a.png'")
    fails(cli("info"), USAGE, "Missing argument")
