import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genfast
from genfast.errors import InputError
from genfast.images import folder
from genfast.images.folder import Folder


def test_a_folder_is_read_in_order_and_in_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, name in enumerate(["a.png", "b/c.PNG", "d.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (3, 2), value).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (read,) = folder.read_folder(tmp_path)
    monkeypatch.setattr(folder, "_BATCH", 13)
    assert np.array_equal(np.concatenate([*folder.read_folder(tmp_path)]), read)
    assert read.shape == (3, 2, 3, 1)
    assert read[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_folders_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="missing is no folder"):
        next(folder.read_folder(tmp_path / "missing"))
    with pytest.raises(InputError, match="holds no images"):
        list(folder.read_folder(tmp_path))
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "b.png")
    for size in 2**26, 1:
        monkeypatch.setattr(folder, "_BATCH", size)
        with pytest.raises(InputError, match="differ in shape: .*a.png is 3x2 grey, .*b.png is 3x2 RGB"):
            list(folder.read_folder(tmp_path))


def test_a_folder_is_read_without_what_shows_several_of_its_images(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    cli("sample", "--model", tiny_bundle, "-n", 3, "--history", "--out", tmp_path, check=True)
    (tmp_path / "folder.png").mkdir()
    assert len([*folder.pictures(tmp_path)]) == len(Folder(tmp_path)) == 3
    assert np.array_equal(*folder.read_folder(tmp_path), genfast.load(str(tiny_bundle)).sample(3))


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_names_come_in_the_order_of_their_paths_without_hidden_ones(tmp_path: Path) -> None:
    names = ["a/b.png", "a/c/d.webp", "a!b.GIF", "a.jpg", "b.tiff", "é.bmp"]
    fill(
        tmp_path,
        *reversed(names),
        ".hidden.png",
        "a/._b.JPG",
        ".cache/a.png",
        "a/.b.png",
        "notes.txt",
        "a/png",
        "a.png.part",
    )
    (tmp_path / "folder.png").mkdir()
    found = Folder(tmp_path)
    assert [*found] == sorted(map(Path, names)) and len(found) == 6
    assert [*folder.pictures(tmp_path)] == [tmp_path / path for path in sorted(map(Path, names))]


def test_links_to_files_count_and_links_to_folders_do_not(tmp_path: Path) -> None:
    fill(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out" / "b.png")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "broken.png").symlink_to(tmp_path / "nowhere")
    assert [*Folder(tmp_path / "in")] == [Path("a.png"), Path("link.png")]


def test_paths_that_differ_in_their_suffix_alone(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "a.JPG", "a.x.png", "b/a.png", "c.gif", "b/d.webp", "b/d.bmp")
    found = Folder(tmp_path)
    assert [*found.twins()] == [(Path("a.JPG"), Path("a.png")), (Path("b/d.bmp"), Path("b/d.webp"))]
    assert found.like(Path("a.webp")) == Path("a.png") and found.like(Path("b/a.jpeg")) == Path("b/a.png")
    assert found.like(Path("a.x.bmp")) == Path("a.x.png") and found.like(Path("b/c.png")) is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    names = [os.fsdecode(name) for name in (b"a\xff/\xfe.png", b"\xff.png", b"\xff\n.gif")]
    fill(tmp_path, *names)
    found = Folder(tmp_path)
    assert {*map(str, found)} == {*names} and all((tmp_path / path).exists() for path in found)
    assert str(found.like(Path(names[1]).with_suffix(".bmp"))) == names[1]


def test_images_of_other_sizes_are_made_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, shape, np.uint8)) for shape in ((6, 8, 3), (12, 9), (20, 20, 3))]
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    with pytest.raises(InputError, match=r"0.png is 8x6 RGB, .*1.png is 9x12 grey; give --resize WxH$"):
        list(folder.read_folder(tmp_path))
    (read,) = folder.read_folder(tmp_path, (5, 4))
    assert read.shape == (3, 4, 5, 3)
    for found, image in zip(read, images, strict=True):
        assert np.array_equal(found, np.asarray(image.convert("RGB").resize((5, 4), Image.Resampling.BICUBIC)))
