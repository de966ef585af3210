"""Others' inpainters in ONNX: a masked blur with LaMa's signature goes in, and `genfast inpaint` fills photographs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.importers.inpainter import lama, read
from genfast import api
from genfast.bundles import bundle
from genfast.errors import InputError, UsageError
from genfast.images import io
from tests.graphs.bundles import parse

ROOT = Path(__file__).parents[3]
Cli = Callable[..., CompletedProcess[str]]


def blur(side: int | None = 64, scale: float = 255) -> ModelProto:
    """What fills a hole with the mean of what is known within 15 pixels, by numbers up to `scale`."""
    model = parse("masked_blur")
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            if side:
                dim.dim_value = side
    for weight in model.graph.initializer:
        if weight.name == "scale":
            weight.CopyFrom(numpy_helper.from_array(np.array([scale], np.float32), "scale"))
    return model


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, by the real command."""
    folder = tmp_path_factory.mktemp("lama")
    onnx.save(blur(), folder / "blur.onnx")
    arguments = [folder / "blur.onnx", folder / "out", "--name", "blur", "--licence", "CC0-1.0", "--source", "a script"]
    command = [sys.executable, "-m", "export", "import", "lama", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{folder}/out: parity tolerance=1.0")
    return folder / "out"


def photograph(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width]
    waves = 120 + 60 * np.sin(y / 23)[..., None] + 40 * np.cos(x[..., None] / (17, 29, 41))
    noise = np.random.default_rng(0).normal(0, 3, waves.shape)
    mask = np.hypot(y - height / 2, x - width / 3) < height / 6
    return (waves + noise).clip(0, 255).astype(np.uint8), mask


def test_a_card_says_whence(imported: Path) -> None:
    manifest = bundle.load(imported).manifest
    assert (manifest.name, manifest.family, manifest.licence) == ("blur", "inpainter", "CC0-1.0")
    assert manifest.provenance.source == "a script" and manifest.provenance.weights_sha256
    assert manifest.image and (manifest.image.height, manifest.image.width) == (64, 64)
    assert manifest.parity and max(manifest.parity.max_abs_difference.values()) <= 0.51  # half a level is rounding


@pytest.mark.parametrize(("side", "scale"), [(64, 1), (64, 255), (None, 1), (None, 255)])
def test_both_ranges_and_sizes_fill_alike(side: int | None, scale: float, tmp_path: Path) -> None:
    onnx.save(blur(side, scale), tmp_path / "blur.onnx")
    lama(tmp_path / "blur.onnx", tmp_path / "out", "blur", "CC0-1.0", "")
    model = api.load(str(tmp_path / "out"), device="cpu")
    assert model.image.height == (side or 512)
    picture, hole = photograph(model.image.height, model.image.width)
    filling = model.fill(picture, hole)
    filled = filling.picture
    np.testing.assert_array_equal(filled[~hole], picture[~hole])
    assert (len(filling.logs), filling.label, filling.attributes) == (0, None, {})
    y, x = np.argwhere(hole)[0]  # at its edge
    seen = np.where(hole[..., None], 0, picture).astype(float)[y - 15 : y + 16, x - 15 : x + 16]
    wanted = seen.sum((0, 1)) / (~hole)[y - 15 : y + 16, x - 15 : x + 16].sum()
    np.testing.assert_allclose(filled[y, x], wanted, atol=0.51)


def test_a_photograph_is_filled_and_the_rest_kept(imported: Path, cli: Cli, tmp_path: Path) -> None:
    """By many windows; outside to the bit, and without a step at the edge."""
    picture, mask = photograph(150, 210)
    io.write(tmp_path / "photo.png", picture)
    io.write(tmp_path / "mask.png", np.where(mask, 255, 0).astype(np.uint8)[..., None])
    run = ("inpaint", tmp_path / "photo.png", tmp_path / "mask.png", "--model", imported)
    done = cli(*run, "--json", "--history")
    assert (done.returncode, done.stderr) == (0, "")
    (fill,) = json.loads(done.stdout)["images"][0]["fills"]
    assert "score" not in fill and Path(fill["history"]).exists()
    filled = io.read(Path(fill["path"]))
    np.testing.assert_array_equal(filled[~mask], picture[~mask])
    changed = (filled != picture).any(-1)
    assert changed[mask].mean() > 0.9
    edge = mask & ~np.roll(mask, 1, 1)  # the first pixel of each row
    step = np.abs(filled.astype(float) - np.roll(filled, 1, 1))[edge].mean()
    assert step < 8
    again = json.loads(cli("info", fill["path"], "--json").stdout)["command"].split()
    at = again.index("--model")
    assert again[at + 2 :] == ["--steps", "1", "--seed", "0", "-n", "1"]
    same = cli(*run, "--steps", 1, "--seed", 5, "--out", tmp_path / "same.png")
    assert same.returncode == 0 and same.stderr == "genfast: blur has one fill for a hole, whatever the seed\n"
    np.testing.assert_array_equal(io.read(tmp_path / "same.png"), filled)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("inpaint photo.png mask.png -n 3 --model", "blur has one fill for a hole, not 3; omit -n"),
        ("inpaint photo.png mask.png --steps 4 --model", "which fills in one step, not 4"),
        ("inpaint photo.png mask.png --temperature 2 --model", "which takes no temperature"),
        ("inpaint photo.png mask.png --class cat --model", "blur has no class 'cat'"),
        ("sample --model", "blur is of family inpainter and draws no images; give it some: genfast inpaint"),
        ("bench", "blur is of family inpainter and draws no images"),
        ("fid --model", "holds no statistics of an unnamed data set, only of: fashion-mnist-test; give --against"),
        ("fid --against photos --model", "blur is of family inpainter and draws no images"),
    ],
)
def test_what_an_inpainter_does_not_do(imported: Path, cli: Cli, tmp_path: Path, arguments: str, message: str) -> None:
    io.write(tmp_path / "photo.png", np.zeros((64, 64, 3), np.uint8))
    io.write(tmp_path / "mask.png", np.full((64, 64, 1), 255, np.uint8))
    (tmp_path / "photos").mkdir()
    for i in range(2):
        io.write(tmp_path / "photos" / f"{i}.png", np.full((9, 9, 3), i, np.uint8))
    done = cli(*arguments.split(), imported, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line


def test_it_fills_in_one_way(imported: Path) -> None:
    picture, mask = photograph(64, 64)
    with pytest.raises(UsageError, match="blur has one fill for a hole, not 2"):
        api.inpaint(api.load(str(imported), device="cpu"), picture, mask, n=2)


def foreign(kind: str) -> ModelProto:
    model = blur()
    graph = model.graph
    if kind == "one input":
        for node in graph.node:
            node.input[:] = ["little" if name == "mask" else name for name in node.input]
        del graph.input[1]
    elif kind == "two pictures":
        graph.input[1].type.tensor_type.shape.dim[1].dim_value = 3
    elif kind == "an odd size":
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.shape.dim[3].dim_value = 60
    elif kind == "half precision":
        graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        graph.node.insert(0, helper.make_node("Cast", ["photo"], ["full"], to=TensorProto.FLOAT))
        graph.node[2].input[0] = "full"
    elif kind == "a foreign operator":
        graph.node[-1].domain = "com.acme"
        model.opset_import.append(helper.make_opsetid("com.acme", 1))
    elif kind == "an old opset":
        model.opset_import[0].version = 9
    elif kind == "an unknown operator":
        graph.node[-1].op_type = "Paint"
    elif kind == "weights elsewhere":
        weight = graph.initializer[0]
        weight.ClearField("raw_data"), weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../../etc/passwd")
    elif kind == "another range":
        scale = next(weight for weight in graph.initializer if weight.name == "scale")
        scale.CopyFrom(numpy_helper.from_array(np.array([7], np.float32), "scale"))
    elif kind == "no numbers":
        scale = next(weight for weight in graph.initializer if weight.name == "scale")
        scale.CopyFrom(numpy_helper.from_array(np.array([np.nan], np.float32), "scale"))
    return model


FOREIGN = {
    "one input": "is no inpainter: it takes photo [1, 3, 64, 64], not float32",
    "two pictures": "is no inpainter: it takes photo [1, 3, 64, 64], mask [1, 3, 64, 64], not",
    "an odd size": "of sides in multiples of 8",
    "half precision": "not float32 [1, 3, H, W]",
    "a foreign operator": "needs operators that onnxruntime does not have: com.acme.Mul",
    "an old opset": "is of opset 9; export it anew with 13 or later",
    "an unknown operator": "is no valid ONNX model: No Op registered for Paint",
    "weights elsewhere": "keeps weights in other files; give one file",
    "another range": "neither 0 .. 1 nor 0 .. 255",
    "no numbers": "or no numbers, where a picture",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_graph_is_a_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(foreign(kind).SerializeToString())
    with pytest.raises(InputError) as caught:
        lama(path, tmp_path / "out", "x", "", "")
    assert FOREIGN[kind] in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04", bytes(range(256))])
def test_another_file_is_a_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="x.onnx is no ONNX model: "):
        read(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read(tmp_path / "nowhere.onnx")
