"""What inpaint makes of files as people have them: what is kept, what goes, and what is said of it."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import jpeglib
import numpy as np
import pytest
from PIL import Image

import genfast
from genfast.bundles import catalog
from genfast.images import io
from tests.genfast.cli.conftest import Run
from tests.genfast.cli.world import photograph
from tests.genfast.images import test_previews as previews
from tests.genfast.images.test_photo import MEANING, chunk, chunks

PICTURE = photograph()
HOLE = np.zeros(PICTURE.shape[:2], bool)
HOLE[40:56, 30:62] = True
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(genfast.__file__).parents[1])}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token_bundle: Path, run: Run) -> Run:
    """Runs `genfast inpaint LINE` in a new folder that holds an image, its mask, and a model of small squares."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "squares").symlink_to(token_bundle)
    Image.fromarray(PICTURE).save("img.png")
    Image.fromarray(HOLE).save("mask.png")
    return lambda line: run(f"inpaint --model squares {line}")


def fill(here: Run, line: str, said: str = "") -> np.ndarray:
    """The picture that a command writes, of which `said` is all that it says on stderr."""
    code, out, err = here(line)
    assert (code, err) == (0, said), err
    return io.read(Path(out.removesuffix("\n")))


@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_no_preview_of_the_old_picture_survives(here: Run, source: str) -> None:
    previews.write(Path(source))
    hole = np.zeros(previews.PIXELS.shape[:2], np.uint8)
    hole[8:16, 8:24] = 255
    Image.fromarray(hole).save("mask.png")
    for out in "b.png", "b.webp", "b.jpg":
        code, _, err = here(f"{source} mask.png --out {out}")
        assert code == 0, err
        assert previews.is_clean(Path(out).read_bytes(), "jpeg" if out == "b.jpg" else "")


def test_how_colours_are_meant_is_kept_or_told(here: Run) -> None:
    content = Path("img.png").read_bytes()
    said = b"".join(chunk(name, MEANING[name]) for name in (b"gAMA", b"cHRM", b"cICP"))
    Path("img.png").write_bytes(content[:33] + said + content[33:])
    found = fill(here, "img.png mask.png --out a.png")
    assert np.array_equal(found[~HOLE], PICTURE[~HOLE])
    kept = chunks(Path("a.png").read_bytes())
    assert all(kept[name] == MEANING[name] for name in (b"gAMA", b"cHRM", b"cICP")) and b"sRGB" not in kept
    lost = "does not hold what img.png says of its colours, which may look different"
    fill(here, "img.png mask.png --out a.webp", f"genfast: webp {lost}\n")
    _, _, err = here("img.png mask.png --out a.jpg")
    assert err.splitlines()[0] == f"genfast: jpeg {lost}"


def test_an_image_alone_whose_transparency_is_its_hole(here: Run, run: Run, token_bundle: Path) -> None:
    alpha = np.where(HOLE, 0, 255).astype(np.uint8)
    Image.fromarray(np.dstack([PICTURE, alpha])).save("holed.png")
    found = fill(here, "holed.png")
    assert np.array_equal(found, fill(here, "img.png mask.png"))
    with Image.open("holed.inpainted.png") as written:
        assert written.mode == "RGB"
    card = json.loads(run("info holed.inpainted.png --json")[1])
    assert card["inpainted"] == ["holed.png"]
    again = card["command"].replace("path/to/squares", str(token_bundle)).removeprefix("genfast ")
    assert run(f"{again} --out again.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("holed.inpainted.png").read_bytes()
    alpha[0] = 100  # is seen through, and no hole
    Image.fromarray(np.dstack([PICTURE, alpha])).save("veiled.png")
    fill(here, "veiled.png")
    with Image.open("veiled.inpainted.png") as written:
        layers = np.asarray(written)
    assert np.array_equal(layers[..., :3], found) and np.array_equal(layers[..., 3], np.where(HOLE, 255, alpha))


def test_a_folder_without_masks(here: Run) -> None:
    Path("in").mkdir()
    for name, hole in ("a.png", HOLE), ("b.png", np.zeros_like(HOLE)), ("c.webp", HOLE), ("._c.JPG", HOLE):
        layers = np.dstack([PICTURE, np.where(hole, 0, 255).astype(np.uint8)])
        Image.fromarray(layers).save(f"in/{name}", "webp" if name == "c.webp" else "png", lossless=True)
    code, out, err = here("in --out out --json")
    assert code == 1
    assert err == "genfast: in/b.png has no transparent pixels to fill; give a mask, in which white repaints\n"
    listed = json.loads(out)["images"]
    assert [(one["image"], one["mask"], "error" in one) for one in listed] == [
        (f"in/{name}", None, name == "b.png") for name in ("a.png", "b.png", "c.webp")
    ]
    assert sorted(os.listdir("out")) == ["a.inpainted.png", "c.inpainted.png"]


def test_a_mask_of_another_scale_is_told(here: Run) -> None:
    Image.fromarray(HOLE[::2, ::2]).save("half.png")
    command = [sys.executable, "-m", "genfast", *shlex.split("inpaint --model squares img.png half.png")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "img.inpainted.png\n")
    assert done.stderr == "genfast: half.png is scaled from 70x50 to 140x100\n"
    assert np.array_equal(io.read(Path("img.inpainted.png")), fill(here, "img.png mask.png --overwrite"))


def test_standard_output_gets_an_image_and_nothing_else(here: Run, tmp_path: Path) -> None:
    before = sorted(os.listdir())
    for options, out in ("", "a.png"), ("--format webp", "a.webp"), ("--skip-existing", "b.png"):
        command = [sys.executable, "-m", "genfast", *f"inpaint --model squares img.png mask.png {options}".split()]
        done = subprocess.run([*command, "--out", "-"], env=ENVIRONMENT, capture_output=True, check=True)
        assert done.stderr == b"" and sorted(os.listdir()) == before
        written = [*before, out, "img.inpainted.png"]
        subprocess.run([*command, "--out", out], env=ENVIRONMENT, capture_output=True, check=True)
        assert Path(out).read_bytes() == done.stdout
        Path("img.inpainted.png").write_bytes(b"in the way")
        before = sorted({*written})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_standard_output_is_named(here: Run) -> None:
    command = [sys.executable, "-m", "genfast", *shlex.split("inpaint --model squares img.png mask.png --out -")]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "genfast: error: cannot write to standard output: No space left on device\n"


def test_surroundings_that_the_model_does_not_know_are_told(here: Run, run: Run, token_bundle: Path) -> None:
    (known,) = genfast.inpaint(genfast.load(str(token_bundle)), PICTURE, HOLE)
    assert known.psnr_around is not None
    entry = replace(catalog.entry("avatars1024"), name="squares", summary="Squares")
    for threshold, said in (known.psnr_around - 0.1, ""), (known.psnr_around + 0.1, "unlike"), (None, ""):
        entries = {**catalog.entries(), "squares": replace(entry, familiar_psnr=threshold)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(catalog, "entries", lambda entries=entries: entries)
            code, _, err = run("inpaint --model ./squares img.png mask.png --overwrite")
        line = "genfast: img.png is unlike what squares was trained on (Squares): its fill may not suit it\n"
        assert (code, err) == (0, line if said else "")


def test_blocks_of_a_jpeg_keep_their_coefficients(here: Run, run: Run) -> None:
    Image.fromarray(PICTURE).save("img.jpg", quality=77, subsampling=2)
    for options in "--out new.jpg", "--format jpeg", "--format jpeg -n 2", "--out new.JPEG --grow 3":
        code, out, err = here(f"img.jpg mask.png {options}")
        assert (code, err) == (0, "")
        for path in out.splitlines():
            old, new = jpeglib.read_dct("img.jpg"), jpeglib.read_dct(path)
            assert np.array_equal(old.qt, new.qt) and np.array_equal(old.samp_factor, new.samp_factor)
            hole = HOLE if "grow" not in options else cv2.dilate(HOLE.astype(np.uint8), np.ones((7, 7))) > 0
            for name, size in ("Y", 8), ("Cb", 16), ("Cr", 16):
                changed = (getattr(old, name) != getattr(new, name)).any((2, 3))
                padded = np.pad(hole, [(0, -length % size) for length in hole.shape])
                shape = padded.shape[0] // size, size, padded.shape[1] // size, size
                touched = padded.reshape(shape).any((1, 3))
                assert changed.any() and not changed[~touched[: changed.shape[0], : changed.shape[1]]].any()
            assert json.loads(run(f"info {path} --json")[1])["model"] == "squares"
    code, out, _ = here("img.jpg mask.png --out img.inpainted.png")
    assert np.array_equal(io.read(Path("img.inpainted.png"))[~HOLE], io.read(Path("img.jpg"))[~HOLE])


def test_what_is_encoded_anew_as_jpeg_is_told(here: Run) -> None:
    line = "genfast: {} is encoded anew as JPEG: what is outside the mask keeps its looks, not its bits\n"
    found = fill(here, "img.png mask.png --format jpeg", line.format("img.png"))
    assert 0 < np.abs(found[~HOLE].astype(int) - PICTURE[~HOLE]).mean() < 3
    cv2.imwrite("tall.jpg", PICTURE, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440])
    Image.fromarray(PICTURE).save("rgb.jpg", keep_rgb=True, quality=95)
    for name in "tall", "rgb":
        found = fill(here, f"{name}.jpg mask.png --out new-{name}.jpg", line.format(f"{name}.jpg"))
        assert np.abs(found[~HOLE].astype(int) - io.read(Path(f"{name}.jpg"))[~HOLE]).mean() < 3


@pytest.mark.parametrize("name", ["a.avif", "a.jp2", "a.tga", "a.bmp", "a.tif"])
def test_formats_that_are_read(here: Run, name: str) -> None:
    Image.fromarray(PICTURE).save(name)
    found = fill(here, f"{name} mask.png")
    with Image.open(name) as image:
        expected = np.asarray(image)
    assert np.array_equal(found[~HOLE], expected[~HOLE]) and (found != expected)[HOLE].any()


def test_standard_input_has_a_name(here: Run) -> None:
    file = BytesIO()
    Image.fromarray(PICTURE).save(file, "png")
    command = [sys.executable, "-m", "genfast", *shlex.split("inpaint --model squares -")]
    done = subprocess.run(command, input=file.getvalue(), env=ENVIRONMENT, capture_output=True)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"genfast: error: standard input has no transparent pixels to fill; give a mask")
