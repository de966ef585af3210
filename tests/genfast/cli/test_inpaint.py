import json
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
from genfast import images
from tests.genfast.cli.test_bad_input import INPUT, USAGE, fails

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
    written = images.read(files / "img.inpainted.png")
    assert np.array_equal(written[~HOLE], PICTURE[~HOLE]) and (written != PICTURE).any(2)[HOLE].mean() > 0.9
    (fill,) = genfast.inpaint(genfast.load(str(token_bundle)), PICTURE, HOLE)
    assert np.array_equal(fill.image, written)


def test_the_command_in_an_image_fills_it_again(inpaint, cli, files: Path, token_bundle: Path) -> None:
    options = "-n 3 --seed 7 --steps 5 --grow 1 --feather 0 --context 3 --temperature 0.9 --rule all --history --invert"
    inpaint("img.png", "mask.png", *options.split(), "--class", "light blue", check=True, cwd=files)
    made = {path.name: path.read_bytes() for path in files.glob("*.inpainted*")}
    assert len(made) == 9
    for name in "img.inpainted-1.png", "img.inpainted-2-strip.png":
        recipe = json.loads(cli("info", files / name, "--json").stdout)
        assert recipe["inpainted"] == ["img.png", "mask.png"] and 0 <= recipe["index"] < 3
        command = [str(token_bundle) if word == "path/to/squares" else word for word in shlex.split(recipe["command"])]
        cli(*command[1:], "--out", files / "again", "--overwrite", check=True, cwd=files)
        assert {path.name: path.read_bytes() for path in (files / "again").iterdir()} == made


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
    assert single["images"][0]["fills"] == [{"path": "img.inpainted.png", "index": 0}]


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
    assert np.array_equal(images.read(files / "piped.png"), images.read(files / "named.png"))


def test_webp(inpaint, cli, files: Path, token_bundle: Path) -> None:
    inpaint("img.png", "mask.png", check=True, cwd=files)
    expected = images.read(files / "img.inpainted.png")
    for options in ["--format", "webp"], ["--out", "named.webp"], ["--history", "--format", "webp", "--out", "out"]:
        (path, *more) = inpaint("img.png", "mask.png", *options, check=True, cwd=files).stdout.splitlines()
        assert path.endswith(".webp") and np.array_equal(images.read(files / path), expected)
    assert [Path(path).name for path in more] == ["img.inpainted-history.png", "img.inpainted-strip.webp"]
    command = json.loads(cli("info", files / path, "--json").stdout)["command"].replace("path/to/squares", "{}")
    again = shlex.split(command.format(token_bundle))[1:]
    assert cli(*again, "--out", "again", cwd=files, check=True).stdout.startswith("again/img.inpainted.webp\n")
    assert (files / "again" / Path(path).name).read_bytes() == (files / path).read_bytes()


def test_what_webp_cannot_hold(inpaint, files: Path) -> None:
    Image.new("I;16", (14, 10)).save(files / "img.png")
    done = inpaint("img.png", "mask.png", "--format", "webp", cwd=files)
    fails(done, INPUT, "img.png has more bits or pixels than webp holds; give --format png")
    assert not list(files.glob("*.inpainted*"))


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
        "genfast: photos/masks/e.png is no image; known are BMP, GIF, JPEG, PNG, TIFF and WebP",
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
    assert inpaint(".", "mask.png", "--overwrite", cwd=files).stdout == first.stdout


def test_an_empty_mask(inpaint, files: Path) -> None:
    Image.new("L", (14, 10)).save(files / "mask.png")
    done = inpaint("img.png", "mask.png", "--history", cwd=files)
    assert (done.returncode, done.stdout) == (0, "img.inpainted.png\n")
    assert done.stderr == "genfast: mask.png repaints nothing; img.png comes out as it is\n"
    assert np.array_equal(images.read(files / "img.inpainted.png"), PICTURE)


def test_the_mask_is_that_of_the_upright_picture(inpaint, files: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it
    Image.fromarray(np.rot90(PICTURE)).save(files / "img.png", exif=exif)
    inpaint("img.png", "mask.png", check=True, cwd=files)
    written = images.read(files / "img.inpainted.png")
    assert np.array_equal(written[~HOLE], PICTURE[~HOLE])


def test_a_diffusion_model(cli, files: Path, tiny_bundle: Path, conv_bundle: Path) -> None:
    for model, options in (tiny_bundle, ["--resample", 3]), (conv_bundle, ["-n", 2]):
        cli("inpaint", "img.png", "mask.png", "--model", model, "--out", model.name, *options, check=True, cwd=files)
        for path in (files / model.name).iterdir():
            assert np.array_equal(images.read(path)[~HOLE], PICTURE[~HOLE])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--class blue", "squares has no class 'blue'; it has: red, light blue, green"),
        ("--steps 0", "steps must lie in 1 .. 1000, not 0"),
        ("--temperature 0", "temperature must lie in 0.01 .. 100"),
        ("--resample 2", "squares is of family vq-sundae, which takes no resample"),
        ("--rule most", "'--rule'"),
        ("--grow -1", "'--grow'"),
        ("--feather much", "'--feather'"),
        ("--context -1", "'--context'"),
        ("--grow 100001", "grow must lie in 0 .. 100000, not 100001"),
        ("-n 0", "'-n'"),
        ("--seed -1", "'--seed'"),
        ("--overwrite --skip-existing", "exclude each other"),
        ("--out a.jpg", "a.jpg would not keep every pixel; give a name that ends in .png"),
        ("--out img.png --overwrite", "img.png is not to be written over; give another --out"),
        ("--out mask.png --overwrite", "mask.png is not to be written over"),
        ("--out /proc/genfast", "cannot write into /proc/genfast"),
        ("--device gpu", "unknown device 'gpu'"),
    ],
)
def test_options(inpaint, files: Path, options: str, message: str) -> None:
    fails(inpaint("img.png", "mask.png", *options.split(), cwd=files), USAGE, message)
    assert sorted(path.name for path in files.iterdir()) == ["img.png", "mask.png"]


def test_other_families_have_other_options(cli, files: Path, tiny_bundle: Path, means: Path) -> None:
    done = cli("inpaint", "img.png", "mask.png", "--model", tiny_bundle, "--rule", "all", cwd=files)
    fails(done, USAGE, "tiny is of family ddgan, which takes no rule")
    fails(cli("inpaint", "img.png", "mask.png", "--model", means, cwd=files), USAGE, "draws nothing")


@pytest.mark.parametrize("options", ["-n 2", "--json", "--history"])
def test_standard_output_takes_one_image(inpaint, files: Path, options: str) -> None:
    fails(inpaint("-", "mask.png", *options.split(), cwd=files, input=""), USAGE, "standard output takes one image")


def truncated(path: Path) -> None:
    Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])


def moving(path: Path) -> None:
    frames = [Image.new("L", (14, 10), level) for level in (0, 99, 200)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


DAMAGE = {
    "text": (lambda path: path.write_text("hello"), "is no image"),
    "empty": (lambda path: path.write_bytes(b""), "is no image"),
    "truncated": (truncated, "cannot be read as an image"),
    "folder": (lambda path: path.mkdir(), None),
    "missing": (lambda path: None, None),
    "bomb": (lambda path: Image.new("1", (30000, 10000)).save(path), "cannot be read as an image: Image size"),
    "floats": (lambda path: Image.new("F", (14, 10)).save(path, "TIFF"), None),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("which", ["img.png", "mask.png"])
def test_files(inpaint, files: Path, damage: str, which: str) -> None:
    make, message = DAMAGE[damage]
    (files / which).unlink()
    make(files / which)
    other = "mask.png" if which == "img.png" else "img.png"
    before = (files / other).read_bytes()
    done = inpaint("img.png", "mask.png", cwd=files)
    fails(done, INPUT, f"{which} {message or ''}".strip())
    assert (files / other).read_bytes() == before
    assert not list(files.glob("*.inpainted*"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (moving, "img.png has 3 frames"),
        (lambda path: Image.new("CMYK", (14, 10)).save(path, "JPEG"), "img.png is of mode CMYK; convert it to RGB"),
    ],
)
def test_pictures_that_cannot_be_kept(inpaint, files: Path, make: Callable[[Path], None], message: str) -> None:
    make(files / "img.png")
    fails(inpaint("img.png", "mask.png", cwd=files), INPUT, message)


def test_a_mask_of_another_size(inpaint, files: Path) -> None:
    Image.new("L", (14, 11)).save(files / "mask.png")
    fails(inpaint("img.png", "mask.png", cwd=files), INPUT, "mask.png is 14x11, which does not fit an image of 14x10")


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGBA"])
def test_one_pixel(inpaint, files: Path, mode: str) -> None:
    Image.new(mode, (1, 1)).save(files / "img.png")
    Image.new("L", (1, 1), 255).save(files / "mask.png")
    inpaint("img.png", "mask.png", check=True, cwd=files)
    with Image.open(files / "img.inpainted.png") as written:
        assert (written.mode, written.size) == (mode, (1, 1))


def test_folders_that_do_not_pair(inpaint, files: Path) -> None:
    (files / "none").mkdir()
    fails(inpaint("none", "mask.png", cwd=files), INPUT, "none holds no images")
    fails(inpaint(".", "none", cwd=files), INPUT, "none holds no images")
    fails(inpaint(".", ".", cwd=files), USAGE, ". cannot hold both the images and their masks; give two folders")
    Image.fromarray(PICTURE).save(files / "img.bmp")
    fails(inpaint(".", "mask.png", cwd=files), USAGE, "img.bmp and img.png would both become img.inpainted.png")
    fails(inpaint("nowhere/img.png", "mask.png", cwd=files), INPUT, "nowhere/img.png does not exist")
    assert not (files / "nowhere").exists() and not list(files.glob("*.inpainted*"))
