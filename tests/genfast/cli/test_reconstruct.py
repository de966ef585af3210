"""genfast reconstruct on the real command line: which files, and how near they are."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genfast.images import io


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture that is 3 levels of red off what tokens say, and nothing else."""
    path = tmp_path / "cwd" / "a.png"
    io.write(path, np.full((4, 6, 3), (8 * 9 + 3, 40, 50), np.uint8))
    return path


def palette(bundle: Path) -> np.ndarray:
    return np.load(bundle / "codebook.npy").astype(np.uint8)


def test_it_lies_beside_the_image_and_says_how_near(cli, picture: Path, vq_bundle: Path) -> None:
    done = cli("reconstruct", "a.png", "--model", vq_bundle, "--device", "cpu")
    colour = palette(vq_bundle)[9].astype(float)
    psnr = 10 * np.log10(255**2 / np.square(colour - (75, 40, 50)).mean())
    assert (done.returncode, done.stdout, done.stderr) == (0, f"a.reconstructed.png {psnr:.2f} dB\n", "")
    drawn = io.read(picture.with_name("a.reconstructed.png"))
    np.testing.assert_array_equal(drawn, np.broadcast_to(palette(vq_bundle)[9], (4, 6, 3)))
    again = cli("reconstruct", "a.png", "--model", vq_bundle)
    assert again.returncode == 2 and "a.reconstructed.png exists (files in the way: 1)" in again.stderr
    assert cli("reconstruct", ".", "--model", vq_bundle, "--skip-existing").stdout == ""


def test_several_have_a_mean_and_another_size_is_said(cli, picture: Path, vq_bundle: Path) -> None:
    Image.new("RGB", (12, 12), tuple(map(int, palette(vq_bundle)[4]))).save(picture.with_name("b.png"))
    line = ["reconstruct", "a.png", "b.png", "--model", vq_bundle, "--out", "out", "--device", "cpu", "--json"]
    done = cli(*line)
    document = json.loads(done.stdout)
    first, second = document["images"]
    assert (first["image"], second["path"]) == ("a.png", "out/b.reconstructed.png")
    assert second["psnr"] > 100 and document["psnr"] == pytest.approx((first["psnr"] + second["psnr"]) / 2)
    assert done.stderr == "genfast: of b.png, 12x12, the middle is seen at 6x4\n"
    assert io.read(picture.parent / "out" / "b.reconstructed.png").shape == (4, 6, 3)


@pytest.mark.parametrize("name", ["new.webp", "new.jpg"])
def test_a_file_can_be_named(cli, picture: Path, token_bundle: Path, name: str) -> None:
    done = cli("reconstruct", "a.png", "--model", token_bundle, "--out", name, "--device", "cpu")
    assert done.returncode == 0 and done.stdout.startswith(f"{name} ")
    assert io.read(picture.with_name(name)).shape == (4, 6, 3)


def test_what_cannot_be_read_in_a_folder_is_said(cli, picture: Path, vq_bundle: Path) -> None:
    picture.with_name("text.png").write_text("hello")
    done = cli("reconstruct", ".", "--model", vq_bundle, "--device", "cpu", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1 and [*document["images"][1]] == ["image", "error"]
    assert document["psnr"] == document["images"][0]["psnr"]


def test_two_images_never_become_one_file(cli, picture: Path, vq_bundle: Path) -> None:
    other = picture.parent / "sub" / "a.png"
    other.parent.mkdir()
    other.write_bytes(picture.read_bytes())
    done = cli("reconstruct", "a.png", "sub/a.png", "--model", vq_bundle, "--out", "out", "--device", "cpu")
    assert done.returncode == 2 and not picture.with_name("out").exists()
    assert "a.png and sub/a.png would both become out/a.reconstructed.png; rename one of them" in done.stderr


def test_one_of_several_that_cannot_be_read_leaves_the_others(cli, picture: Path, vq_bundle: Path) -> None:
    picture.with_name("text.png").write_text("hello")
    done = cli("reconstruct", "text.png", "a.png", "--model", vq_bundle, "--device", "cpu", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1 and [[*each][1] for each in document["images"]] == ["error", "path"]
