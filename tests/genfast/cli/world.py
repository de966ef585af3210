"""The folder that rows of malformed input are run in: damaged bundles, images, masks and statistics."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from genfast.bundles import bundle


def change(**fields: Any) -> Callable[[Path], None]:
    """The damage that sets fields of the manifest."""

    def damage(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return damage


def change_path(path: str) -> Callable[[Path], None]:
    return change(files=[{"path": path, "size": 1, "sha256": "0" * 64}])


def tamper(folder: Path) -> None:
    content = bytearray((folder / "step.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "step.onnx").write_bytes(content)


def link_out(folder: Path) -> None:
    outside = folder.with_suffix(".outside")
    (folder / "step.onnx").rename(outside)
    (folder / "step.onnx").symlink_to(outside)


def rearray(name: str, content: bytes) -> Callable[[Path], None]:
    """The damage that puts in another array, with its right hash."""

    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)
        bundle.write(folder, **bundle.read(folder).manifest.model_dump(exclude={"format", "files"}))

    return damage


def regraph(graph: bytes) -> Callable[[Path], None]:
    """The damage that puts in another graph, with its right hash."""

    def damage(folder: Path) -> None:
        (folder / "step.onnx").write_bytes(graph)
        digest = hashlib.sha256(graph).hexdigest()
        change(files=[{"path": "step.onnx", "size": len(graph), "sha256": digest}])(folder)

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda folder: os.truncate(folder / "step.onnx", 100), "step.onnx has 100 bytes instead of"),
    "tampered": (tamper, "step.onnx is not the file that its manifest names (SHA-256 differs)"),
    "lacking": (lambda f: (f / "step.onnx").unlink(), "step.onnx cannot be read (No such file or directory)"),
    "linked": (link_out, "step.onnx is a link that leaves the bundle"),
    "climbing": (change_path("../step.onnx"), "stay inside the bundle"),
    "absolute": (change_path("/etc/passwd"), "stay inside the bundle"),
    "addressed": (change_path("*/_ORT_MEM_ADDR_/*"), "stay inside the bundle"),
    "coloured": (change(colour="red"), "colour: Extra inputs are not permitted"),
    "older": (change(format=1), "is of format 1, and this version reads 2; fetch the bundle again (genfast pull)"),
    "digits": (
        lambda f: (f / "manifest.json").write_text(f'{{"format": {"1" * 5000}}}'),
        "is not a manifest that this",
    ),
    "newer": (change(format=3), "format: Input should be 2"),
    "endless": (change(latent=10**12), "latent: Input should be less than or equal to 1048576"),
    "half": (lambda folder: (folder / "manifest.json").write_text('{"format": 2,'), "Invalid JSON"),
    "binary": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "Invalid JSON"),
    "huge": (lambda folder: os.truncate(folder / "manifest.json", 2**21), "a file of at most 1 MB"),
    "bare": (lambda folder: (folder / "manifest.json").unlink(), "is no bundle: cannot read manifest.json"),
}


def photograph() -> npt.NDArray[np.uint8]:
    """Soft spots of all colours, uint8 [100, 140, 3]."""
    spots = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(spots, (140, 100), interpolation=cv2.INTER_CUBIC)


def write_photographs(world: Path) -> None:
    """A photograph, and what people take for its mask."""
    picture = photograph()
    grey = picture.mean(2)
    hole = np.zeros(grey.shape, bool)
    hole[30:50, 40:80] = True
    Image.fromarray(picture).save(world / "photo.jpg")
    Image.fromarray(grey.astype(np.uint8)).save(world / "grey.png")
    Image.fromarray((grey * 257).astype(np.uint16)).save(world / "grey-16.png")
    for name, alpha in ("holed.png", 0), ("veiled.png", 100):
        layers = np.dstack([picture, np.where(hole, alpha, 255)])
        layers[0, 0, 3] = 0
        Image.fromarray(layers.astype(np.uint8)).save(world / name)
    Image.fromarray(np.where(hole[..., None], [255, 0, 0], picture).astype(np.uint8)).save(world / "stroked.png")
    Image.new("L", (139, 99)).save(world / "near.png")
    Image.new("L", (140, 99)).save(world / "nearer.png")


def write(world: Path, tiny: Path, squares: Path, dolls: Path, means: Path, halves: Path, garments: Path) -> None:
    """Lay out in a new folder what the rows speak of, from sound bundles and statistics."""
    for source in tiny, squares, dolls, means, halves:
        shutil.copytree(source, world / source.name)
    rearray("attributes.npy", b"no array")(shutil.copytree(dolls, world / "arrayless"))
    rearray("draft_scale.npy", (dolls / "draft_mean.npy").read_bytes())(shutil.copytree(dolls, world / "scaleless"))
    for name, (damage, _) in DAMAGE.items():
        damage(shutil.copytree(tiny, world / name))
    regraph(b"graph")(shutil.copytree(tiny, world / "graphless"))

    rng = np.random.default_rng(0)
    colour, grey = (6, 8, 3), (28, 28)
    for name, n, shape in (
        ("one", 1, colour),
        ("mixed", 1, colour),
        ("sizes", 1, colour),
        ("good", 5, colour),
        ("other", 5, grey),
    ):
        (world / name).mkdir()
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(world / name / f"{i:03}.png")
    Image.new("L", (8, 6)).save(world / "mixed" / "001.png")
    Image.new("RGB", (9, 6)).save(world / "sizes" / "001.png")
    for name in "none", "texts", "depths", "pair", "made":
        (world / name).mkdir()
    (world / "texts" / "a.png").write_text("no image")
    (world / "made" / "tiny-9-1.png").write_bytes(b"mine")

    write_photographs(world)
    picture = Image.fromarray(rng.integers(0, 256, (10, 14, 3), np.uint8))
    for name in "img.png", "pair/img.png", "pair/img.bmp":
        picture.save(world / name)
    Image.new("L", (14, 10), 255).save(world / "mask.png")
    Image.new("L", (14, 11)).save(world / "wide.png")
    Image.new("CMYK", (14, 10)).save(world / "cmyk.jpg")
    Image.new("F", (14, 10)).save(world / "floats.tif")
    Image.new("1", (30000, 10000)).save(world / "bomb.png")
    frames = [Image.new("L", (14, 10), level) for level in (0, 99, 200)]
    frames[0].save(world / "moving.gif", save_all=True, append_images=frames[1:])
    for name, channels in ("deep.png", 3), ("depths/deep.png", 3), ("deep-grey.png", 1):
        cv2.imwrite(str(world / name), np.full((10, 14, channels), 1000, np.uint16))
    deep = np.full((64, 64, 3), 1000, np.uint16)
    cv2.imwrite(str(world / "deep.jp2"), deep)
    cv2.imwrite(str(world / "deep.avif"), deep, [cv2.IMWRITE_AVIF_DEPTH, 10])
    (world / "text.png").write_text("hello")
    (world / "empty.png").touch()
    (world / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 14 10\n%%EndComments\nshowpage\n")
    cv2.imwrite(str(world / "cut.png"), rng.integers(0, 256, (64, 64), np.uint8))
    os.truncate(world / "cut.png", 1000)
    forged = PngImagePlugin.PngInfo()
    forged.add_text("genfast", '{"model": "\\u001b[2J"}')
    picture.save(world / "forged.png", pnginfo=forged)

    shutil.copy(means / "none.npz", world / "saved.npz")
    shutil.copy(garments, world / "garments.npz")
    (world / "corrupt.npz").write_bytes(b"PK\x03\x04 and then nothing")
    np.savez(world / "pickled.npz", mean=np.array([{}]), allow_pickle=True)
    np.savez_compressed(world / "bomb.npz", mean=np.zeros(2**23), covariance=np.zeros(2), about=np.array("{}"))
    with open(world / "array.npz", "wb") as file:
        np.save(file, np.zeros(3))
