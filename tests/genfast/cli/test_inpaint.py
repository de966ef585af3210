import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genfast
from genfast.images import io
from genfast.samplers.options import MaskGITOptions, RandomOrderOptions, SundaeOptions
from tests.genfast.cli.malformed import USAGE
from tests.genfast.cli.test_bad_input import fails

rng = np.random.default_rng(0)
PICTURE = rng.integers(0, 256, (10, 14, 3), np.uint8)
HOLE = np.zeros((10, 14), bool)
HOLE[3:6, 4:9] = True


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with an image and its mask."""
    folder = tmp_path / "files"
    folder.mkdir()
    Image.fromarray(PICTURE).save(folder / "img.png")
    Image.fromarray(HOLE).save(folder / "mask.png")
    return folder


@pytest.fixture
def inpaint(cli, token_bundle: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *arguments, **options: cli("inpaint", *arguments, "--model", token_bundle, **options)


def test_an_image_beside_itself(inpaint, files: Path, token_bundle: Path) -> None:
    before = (files / "img.png").read_bytes()
    done = inpaint(files / "img.png", files / "mask.png")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{files}/img.inpainted.png\n")
    assert sorted(path.name for path in files.iterdir()) == ["img.inpainted.png", "img.png", "mask.png"]
    assert (files / "img.png").read_bytes() == before
    written = io.read(files / "img.inpainted.png")
    assert np.array_equal(written[~HOLE], PICTURE[~HOLE]) and (written != PICTURE).any(2)[HOLE].mean() > 0.9
    (fill,) = genfast.inpaint(genfast.load(str(token_bundle)), PICTURE, HOLE)
    assert np.array_equal(fill.image, written)


def test_the_command_in_an_image_fills_it_again(inpaint, cli, files: Path, token_bundle: Path) -> None:
    options = "-n 3 --seed 7 --steps 5 --grow 1 --feather 0 --context 3 --power 1.5 --history --invert"
    inpaint("img.png", "mask.png", *options.split(), "--class", "light blue", check=True, cwd=files)
    made = {path.name: path.read_bytes() for path in files.glob("*.inpainted*")}
    assert len(made) == 9
    pictures = {f"img.inpainted-{number}.png" for number in (1, 2, 3)}
    for name, drawn in ("img.inpainted-1.png", pictures), ("img.inpainted-2-strip.png", {*made}):
        card = json.loads(cli("info", files / name, "--json").stdout)
        assert card["inpainted"] == ["img.png", "mask.png"] and 0 <= card["index"] < 3
        command = [str(token_bundle) if word == "path/to/squares" else word for word in shlex.split(card["command"])]
        cli(*command[1:], "--out", files / "again", "--overwrite", check=True, cwd=files)
        found = {path.name: path.read_bytes() for path in (files / "again").iterdir()}
        assert found == {name: made[name] for name in drawn}


def test_json(inpaint, files: Path) -> None:
    done = json.loads(inpaint("img.png", "mask.png", "-n", 3, "--json", "--history", cwd=files).stdout)
    assert done["model"] == "squares"
    (one,) = done["images"]
    assert (one["image"], one["mask"]) == ("img.png", "mask.png")
    assert [fill["path"] for fill in one["fills"]] == [f"img.inpainted-{i}.png" for i in (1, 2, 3)]
    assert [fill["strip"] for fill in one["fills"]] == [f"img.inpainted-{i}-strip.png" for i in (1, 2, 3)]
    scores = [fill["score"] for fill in one["fills"]]
    assert scores == sorted(scores, reverse=True) and max(scores) < 0
    single = json.loads(inpaint("img.png", "mask.png", "--json", cwd=files).stdout)
    assert single["images"][0]["fills"] == [{"path": "img.inpainted.png", "index": 0, "class": "red"}]


def test_standard_input_to_standard_output(files: Path, token_bundle: Path, inpaint) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "genfast",
        "inpaint",
        "-",
        files / "mask.png",
        "--model",
        token_bundle,
    ]
    root = Path(genfast.__file__).parents[1]
    done = subprocess.run(command, cwd=root, input=(files / "img.png").read_bytes(), capture_output=True, check=True)
    assert done.stderr == b""
    (files / "piped.png").write_bytes(done.stdout)
    inpaint(files / "img.png", files / "mask.png", "--out", files / "named.png", check=True)
    assert np.array_equal(io.read(files / "piped.png"), io.read(files / "named.png"))


def test_webp(inpaint, cli, files: Path, token_bundle: Path) -> None:
    inpaint("img.png", "mask.png", check=True, cwd=files)
    expected = io.read(files / "img.inpainted.png")
    for options in ["--format", "webp"], ["--out", "named.webp"], ["--history", "--format", "webp", "--out", "out"]:
        (path, *more) = inpaint("img.png", "mask.png", *options, check=True, cwd=files).stdout.splitlines()
        assert path.endswith(".webp") and np.array_equal(io.read(files / path), expected)
    assert [Path(path).name for path in more] == ["img.inpainted-history.png", "img.inpainted-strip.webp"]
    command = json.loads(cli("info", files / path, "--json").stdout)["command"].replace("path/to/squares", "{}")
    again = shlex.split(command.format(token_bundle))[1:]
    assert cli(*again, "--out", "again", cwd=files, check=True).stdout.startswith("again/img.inpainted.webp\n")
    assert (files / "again" / Path(path).name).read_bytes() == (files / path).read_bytes()


def test_a_folder_with_a_mask_for_each(inpaint, files: Path) -> None:
    photos, painted = files / "photos", files / "photos" / "masks"
    for name in "a.png", "sub/b.jpg", "sub/c.webp", "d.png", "e.png":
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PICTURE).save(photos / name)
    (painted / "sub").mkdir(parents=True)
    for name in "a.gif", "sub/b.png", "sub/c.png":
        Image.fromarray(HOLE.astype(np.uint8) * 255).save(painted / name)
    (painted / "e.png").write_bytes(b"")
    done = inpaint("photos", "photos/masks", "--out", "out", "--json", cwd=files)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "genfast: photos/d.png has no mask: there is no d.* at its place in photos/masks",
        "genfast: photos/masks/e.png is no image; known are AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, TGA, TIFF and WebP",
    ]
    written = sorted(path.relative_to(files / "out").as_posix() for path in (files / "out").rglob("*.png"))
    assert written == ["a.inpainted.png", "sub/b.inpainted.png", "sub/c.inpainted.png"]
    listed = json.loads(done.stdout)["images"]
    assert [one["image"] for one in listed if "error" in one] == ["photos/d.png", "photos/e.png"]


def test_a_folder_with_one_mask_goes_on_where_it_stopped(inpaint, files: Path) -> None:
    shutil.copy(files / "img.png", files / "other.png")
    first = inpaint(".", "mask.png", cwd=files)
    assert (first.returncode, first.stdout) == (0, "img.inpainted.png\nother.inpainted.png\n")
    fails(
        inpaint(".", "mask.png", cwd=files), USAGE, "img.inpainted.png exists (files in the way: 2); give --overwrite"
    )
    (files / "other.inpainted.png").unlink()
    assert inpaint(".", "mask.png", "--skip-existing", cwd=files).stdout == "other.inpainted.png\n"
    fails(
        inpaint(".", "mask.png", "--skip-existing", "--seed", "9", cwd=files),
        USAGE,
        "img.inpainted.png was drawn otherwise",
    )
    assert inpaint(".", "mask.png", "--overwrite", cwd=files).stdout == first.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_name_that_is_no_text(files: Path, inpaint) -> None:
    (files / "img.png").rename(files / os.fsdecode(b"\xff.png"))
    strict = {"PYTHONIOENCODING": "utf-8:strict"}  # as where a language is set
    done = inpaint(os.fsdecode(b"\xff.png"), "mask.png", cwd=files, env=strict, errors="surrogateescape")
    assert (done.returncode, done.stdout) == (0, os.fsdecode(b"\xff.inpainted.png\n"))


def test_an_empty_mask(inpaint, files: Path) -> None:
    Image.new("L", (14, 10)).save(files / "mask.png")
    done = inpaint("img.png", "mask.png", "--history", cwd=files)
    assert (done.returncode, done.stdout) == (0, "img.inpainted.png\n")
    assert done.stderr == "genfast: mask.png repaints nothing; img.png comes out as it is\n"
    assert np.array_equal(io.read(files / "img.inpainted.png"), PICTURE)


def test_the_mask_is_that_of_the_upright_picture(inpaint, files: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it
    Image.fromarray(np.rot90(PICTURE)).save(files / "img.png", exif=exif)
    inpaint("img.png", "mask.png", check=True, cwd=files)
    written = io.read(files / "img.inpainted.png")
    assert np.array_equal(written[~HOLE], PICTURE[~HOLE])


def test_a_diffusion_model(cli, files: Path, tiny_bundle: Path, conv_bundle: Path) -> None:
    for model, options in (tiny_bundle, ["--resample", 3]), (conv_bundle, ["-n", 2]):
        cli("inpaint", "img.png", "mask.png", "--model", model, "--out", model.name, *options, check=True, cwd=files)
        for path in (files / model.name).iterdir():
            assert np.array_equal(io.read(path)[~HOLE], PICTURE[~HOLE])


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGBA"])
def test_one_pixel(inpaint, files: Path, mode: str) -> None:
    Image.new(mode, (1, 1)).save(files / "img.png")
    Image.new("L", (1, 1), 255).save(files / "mask.png")
    inpaint("img.png", "mask.png", check=True, cwd=files)
    with Image.open(files / "img.inpainted.png") as written:
        assert (written.mode, written.size) == (mode, (1, 1))


def test_the_suffix_is_the_one_asked_for(inpaint, files: Path) -> None:
    assert inpaint("img.png", "mask.png", "--out", "R.PNG", cwd=files).stdout == "R.PNG\n"
    assert inpaint("img.png", "mask.png", "--out", "S.WebP", "-n", 2, cwd=files).stdout == "S-1.WebP\nS-2.WebP\n"
    assert {"R.PNG", "S-1.WebP", "S-2.WebP"} <= {path.name for path in files.iterdir()}
    (files / "folder").mkdir()
    (files / "img.png").rename(files / "folder" / "img.png")
    (files / "done.png").mkdir()
    run = ("folder", "mask.png", "--out", "done.png", "--format", "webp")
    assert inpaint(*run, cwd=files).stdout == "done.png/img.inpainted.webp\n"


def test_any_sampler_of_tokens(inpaint, files: Path, token_bundle: Path) -> None:
    """What is not given is as the model's card says of inpainting."""
    for options, expected in (
        ("--sampler sundae --redraw-ratio 0.9 --min-steps 0", SundaeOptions(steps=4, redraw_ratio=0.9, min_steps=0)),
        ("--sampler random-order --steps 3", RandomOrderOptions(steps=3)),
        ("--refine 0.5", MaskGITOptions(steps=4, refine=0.5)),
    ):
        inpaint("img.png", "mask.png", "--overwrite", *options.split(), check=True, cwd=files)
        (fill,) = genfast.inpaint(genfast.load(str(token_bundle)), PICTURE, HOLE, options=expected)
        assert np.array_equal(io.read(files / "img.inpainted.png"), fill.image)
