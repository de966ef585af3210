"""Everything that a command may be given and cannot use: the files, and what is to be said of them."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

ERROR, USAGE, INPUT, MODEL, DEVICE = 1, 2, 3, 4, 5

SAMPLE = [
    ("--model dalle", MODEL, "unknown model 'dalle'; give the folder of a bundle or one of: fashion28"),
    ("--model ./nowhere", MODEL, "unknown model './nowhere'"),
    ("--model none", MODEL, "none is no bundle: cannot read manifest.json"),
    ("--model fashion28 --steps 3", USAGE, "fashion28 has no weights for 3 steps; weights exist for: "),
    ("--model efficientnet-lite0 --steps 3", USAGE, "efficientnet-lite0 takes no number of steps"),
    ("--model ffhq1024 --no-stand-in", MODEL, "ffhq1024's weights are not published: train them"),
    ("--model tiny --steps 2", USAGE, "has no weights for 2 steps; weights exist for: 3"),
    ("--model tiny --steps 0", USAGE, "has no weights for 0 steps"),
    ("--model tiny --loss hellinger", USAGE, "tiny holds one set of weights"),
    ("-n 0", USAGE, "'-n'"),
    ("-n -3", USAGE, "'-n'"),
    ("-n many", USAGE, "'-n'"),
    ("--seed -1", USAGE, "'--seed'"),
    ("--seed 9223372036854775808 --model tiny", USAGE, "must lie in 0 .. 2**63 - 1"),
    ("--start -1", USAGE, "'--start'"),
    ("--start 9223372036854775807 -n 2 --model tiny", USAGE, "must lie in 0 .. 2**63 - 1"),
    ("--batch 0", USAGE, "'--batch'"),
    ("--threads 0", USAGE, "'--threads'"),
    ("--class boot --model tiny", USAGE, "tiny has no class 'boot'; it has: none"),
    (
        "--sampler sundae --min-steps 3 --model tiny",
        USAGE,
        "tiny is of family ddgan, which takes no min-steps, sam",
    ),
    ("--sampler repaint --model tiny", USAGE, "'--sampler'"),
    ("--resample 2 --model tiny", USAGE, "--resample"),
    ("--device gpu --model tiny", USAGE, "unknown device 'gpu'; give auto, cpu, cuda or cuda:N"),
    ("--overwrite --skip-existing", USAGE, "exclude each other"),
    ("--format gif", USAGE, "'--format'"),
    ("--colour red", USAGE, "--colour"),
    ("picture.png", USAGE, "picture.png"),
    ("--model tiny --seed 9 --out made", USAGE, "tiny-9-1.png exists (files in the way: 1); give --overwrite"),
    ("--model tiny --out text.png", USAGE, "cannot write into text.png: "),
    ("--model tiny --out text.png/under", USAGE, "cannot write into text.png/under: "),
    ("--model tiny --out /proc/genfast", USAGE, "cannot write into /proc/genfast: "),
    ("--model squares --class blue", USAGE, "squares has no class 'blue'; it has: red, light blue, green"),
    ("--model squares --steps 0", USAGE, "steps must lie in 1 .. 1000, not 0"),
    ("--model squares --temperature 0", USAGE, "temperature must lie in 0.01 .. 100, not 0.0"),
    ("--model squares --temperature nan", USAGE, "temperature must lie in 0.01 .. 100, not nan"),
    ("--model squares --temperature hot", USAGE, "'--temperature'"),
    ("--model squares --temperature-end -1", USAGE, "temperature-end must lie in"),
    ("--model squares --sampler sundae --redraw-ratio 0", USAGE, "redraw-ratio must lie in 0.001 .. 1, not 0.0"),
    ("--model squares --sampler sundae --redraw-ratio-end 2", USAGE, "redraw-ratio-end must lie in"),
    ("--model squares --sampler raster", USAGE, "'--sampler'"),
    ("--model squares --redraw-ratio 0.5", USAGE, "sampler maskgit takes no redraw-ratio"),
    ("--model squares --sampler sundae --choice-temperature 2", USAGE, "sampler sundae takes no choice-temperature"),
    (
        "--model squares --sampler random-order --choice-temperature 2",
        USAGE,
        "random-order takes no choice-temp",
    ),
    ("--model squares --sampler random-order --redraw-ratio 0.5", USAGE, "sampler random-order takes no redraw-ratio"),
    ("--model squares --sampler sundae --power 2 --refine 0", USAGE, "sampler sundae takes no power, refine"),
    ("--model squares --power 0.5", USAGE, "power must lie in 1 .. 100, not 0.5"),
    ("--model squares --refine 0.95", USAGE, "refine must lie in 0 .. 0.9, not 0.95"),
    ("--model squares --refine -0.1", USAGE, "refine must lie in"),
    ("--model squares --guidance -1", USAGE, "guidance must lie in 0 .. 100, not -1.0"),
    ("--model squares --sampler sundae --min-steps -1", USAGE, "min-steps must lie in"),
    ("--model squares --history --class blue", USAGE, "squares has no class 'blue'"),
]
if not os.path.exists("/dev/nvidiactl"):
    SAMPLE.append(("--model tiny --device cuda", DEVICE, "cuda cannot be used: "))

INPAINT = [
    ("img.png mask.png --class blue", USAGE, "squares has no class 'blue'; it has: red, light blue, green"),
    ("img.png mask.png --steps 0", USAGE, "steps must lie in 1 .. 1000, not 0"),
    ("img.png mask.png --temperature 0", USAGE, "temperature must lie in 0.01 .. 100"),
    ("img.png mask.png --resample 2", USAGE, "sampler maskgit takes no resample"),
    ("img.png mask.png --sampler repaint", USAGE, "'--sampler'"),
    ("img.png mask.png --sampler sundae --power 2", USAGE, "sampler sundae takes no power"),
    ("img.png mask.png --refine 1", USAGE, "refine must lie in 0 .. 0.9, not 1.0"),
    ("img.png mask.png --grow -1", USAGE, "'--grow'"),
    ("img.png mask.png --feather much", USAGE, "'--feather'"),
    ("img.png mask.png --context -1", USAGE, "'--context'"),
    ("img.png mask.png --grow 100001", USAGE, "grow must lie in 0 .. 100000, not 100001"),
    ("img.png mask.png -n 0", USAGE, "'-n'"),
    ("img.png mask.png --seed -1", USAGE, "'--seed'"),
    ("img.png mask.png --overwrite --skip-existing", USAGE, "exclude each other"),
    ("img.png mask.png --format jpeg", USAGE, "'jpeg' is not one of 'png', 'webp'"),
    ("img.png mask.png --format webp --out new.png", USAGE, "new.png and --format webp contradict each other"),
    ("img.png mask.png --out a.jpg", USAGE, "a.jpg would not keep every pixel; give a name that ends in .png or .webp"),
    ("img.png mask.png --out img.png --overwrite", USAGE, "img.png is not to be written over; give another --out"),
    ("img.png mask.png --out mask.png --overwrite", USAGE, "mask.png is not to be written over"),
    ("img.png mask.png --out /proc/genfast", USAGE, "cannot write into /proc/genfast"),
    ("img.png mask.png --device gpu", USAGE, "unknown device 'gpu'"),
    ("img.png mask.png --model tiny --power 2", USAGE, "sampler repaint takes no power"),
    ("img.png mask.png --model tiny --sampler maskgit", USAGE, "tiny is of family ddgan, which takes no sampler"),
    ("img.png mask.png --model tiny --resample 0", USAGE, "resample must lie in 1 .. 1000, not 0"),
    ("img.png mask.png --model means", USAGE, "means is of family features and draws nothing"),
    ("img.png", USAGE, "Missing argument 'mask'"),
    ("- mask.png -n 2", USAGE, "standard output takes one image"),
    ("- mask.png --history", USAGE, "standard output takes one image"),
    ("nowhere/img.png mask.png", INPUT, "nowhere/img.png does not exist"),
    ("none mask.png", INPUT, "none holds no images"),
    ("pair none", INPUT, "none holds no images"),
    ("pair pair", USAGE, "pair cannot hold both the images and their masks; give two folders"),
    ("pair mask.png", USAGE, "img.bmp and pair/img.png would both become pair/img.inpainted.png"),
    ("img.png wide.png", INPUT, "wide.png is 14x11, which does not fit an image of 14x10"),
    ("moving.gif mask.png", INPUT, "moving.gif has 3 frames; give one of them as a file of its own"),
    ("cmyk.jpg mask.png", INPUT, "cmyk.jpg is of mode CMYK; convert it to RGB of 8 bits first"),
    ("deep.png mask.png", INPUT, "deep.png is of 16 bits a channel; convert it to RGB of 8 bits first"),
    (
        "deep-grey.png mask.png --format webp",
        INPUT,
        "deep-grey.png has more bits or pixels than webp holds; give",
    ),
    ("text.png mask.png", INPUT, "text.png is no image; known are BMP, GIF, JPEG, PNG, TIFF and WebP"),
    ("empty.png mask.png", INPUT, "empty.png is no image"),
    ("cut.png mask.png", INPUT, "cut.png cannot be read as an image"),
    ("script.png mask.png", INPUT, "script.png is no image"),
    ("bomb.png mask.png", INPUT, "bomb.png cannot be read as an image: Image size (300000000 pixels) exceeds"),
    ("floats.tif mask.png", INPUT, "floats.tif is of mode F; convert it to RGB of 8 bits first"),
    ("img.png text.png", INPUT, "text.png is no image"),
    ("img.png empty.png", INPUT, "empty.png is no image"),
    ("img.png cut.png", INPUT, "cut.png cannot be read as an image"),
    ("img.png none", INPUT, "none cannot be read as an image: Is a directory"),
    ("img.png nowhere.png", INPUT, "nowhere.png cannot be read as an image: No such file or directory"),
    ("img.png bomb.png", INPUT, "bomb.png cannot be read as an image: Image size"),
    ("img.png floats.tif", INPUT, "floats.tif has more than 16 bits a channel"),
]

FID = [
    ("missing good", INPUT, "missing is no folder"),
    ("none good", INPUT, "none holds no images"),
    ("texts good", INPUT, "a.png is no image"),
    ("mixed good", INPUT, "differ in shape"),
    ("depths good", INPUT, "deep.png has more than 8 bits a channel; convert it to 8 bits first"),
    ("one good", INPUT, "one has 1 image"),
    ("good missing.npz", INPUT, "missing.npz does not exist"),
    ("good corrupt.npz", INPUT, "corrupt.npz is not a statistics file"),
    ("good pickled.npz", INPUT, "pickled.npz is not a statistics file"),
    ("good bomb.npz", INPUT, "bomb.npz is not a statistics file"),
    ("good array.npz", INPUT, "array.npz is not a statistics file"),
    ("good other --features halves", INPUT, "halves takes images of 28x28 with 1 channel(s), not 8x6 with 3"),
    ("good garments.npz", INPUT, "fashion takes images of 28x28"),
    ("other saved.npz --features halves", INPUT, "other was seen by halves@"),
    ("good good --features nonsense", MODEL, "nonsense"),
    ("good good --features tiny", USAGE, "tiny is not an extractor"),
    ("good", USAGE, "nothing to measure"),
    ("good good --seed 3", USAGE, "--seed"),
    ("good good --plot new.png", USAGE, "--plot is about images to draw"),
    ("good good good", USAGE, "unexpected extra argument"),
    ("--steps 1,two", USAGE, "--steps takes a number, or several as in 1,2,4,8; not '1,two'"),
    ("--loss hinge", USAGE, "fashion28 has no weights for 4 steps by hinge; weights exist for: "),
    ("--seeds 0", USAGE, "--seeds"),
    ("--plot new.jpg", USAGE, "give a name that ends in .png"),
    ("--plot img.png", USAGE, "exists; give --overwrite"),
    ("--model tiny --loss hellinger", USAGE, "holds one set of weights"),
    ("--samples 0", USAGE, "--samples"),
    ("--samples 1", USAGE, "--samples"),
    ("--model tiny --samples 9 --steps 4", USAGE, "tiny has no weights for 4 steps"),
    ("--model tiny --samples 9 --features halves", INPUT, "halves takes images of 28x28"),
    ("--save-stats new.npz", USAGE, "--save-stats takes one folder"),
    ("--save-stats new.npz good good", USAGE, "--save-stats takes one folder"),
    ("--save-stats saved.npz good", USAGE, "exists"),
    ("--save-stats new.txt good", USAGE, "ends in .npz"),
    ("--save-stats nowhere/new.npz good", USAGE, "in a folder that exists"),
    ("--save-stats new.npz one --features means", INPUT, "one has 1 image"),
]

OTHERS = [
    ("info", USAGE, "Missing argument"),
    ("info a.png", MODEL, "unknown model 'a.png'"),
    ("info text.png", INPUT, "text.png is no image"),
    ("info img.png", INPUT, "img.png does not say what drew it; only images written by genfast do"),
    ("info forged.png", INPUT, "forged.png says what drew it in a way that this version cannot read"),
    ("info ffhq1024", MODEL, "ffhq1024's weights are not published"),
    ("models fashion28 fashion29", USAGE, "unexpected extra argument"),
    ("models --colour", USAGE, "--colour"),
    ("knit", USAGE, "No such command 'knit'"),
    ("--colour", USAGE, "--colour"),
]


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

ROWS: list[tuple[str, int, str]] = [
    *((f"sample --out new {options}", code, message) for options, code, message in SAMPLE if "--out" not in options),
    *((f"sample {options}", code, message) for options, code, message in SAMPLE if "--out" in options),
    *(
        (f"inpaint {line}" if "--model" in line else f"inpaint --model squares {line}", code, message)
        for line, code, message in INPAINT
    ),
    *((f"fid {line}", code, message) for line, code, message in FID),
    *OTHERS,
    *((f"sample --out new --model {name}", MODEL, message) for name, (_, message) in DAMAGE.items()),
    *((f"info {name}", MODEL, message) for name, (_, message) in DAMAGE.items()),
    ("sample --out new --model graphless", MODEL, "onnxruntime cannot load"),
]


def write(world: Path, tiny: Path, squares: Path, means: Path, halves: Path, garments: Path) -> None:
    """Lay out in a new folder what the rows speak of, from sound bundles and statistics."""
    for source in tiny, squares, means, halves:
        shutil.copytree(source, world / source.name)
    for name, (damage, _) in DAMAGE.items():
        damage(shutil.copytree(tiny, world / name))
    regraph(b"graph")(shutil.copytree(tiny, world / "graphless"))

    rng = np.random.default_rng(0)
    colour, grey = (6, 8, 3), (28, 28)
    for name, n, shape in ("one", 1, colour), ("mixed", 1, colour), ("good", 5, colour), ("other", 5, grey):
        (world / name).mkdir()
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(world / name / f"{i:03}.png")
    Image.new("L", (8, 6)).save(world / "mixed" / "001.png")
    for name in "none", "texts", "depths", "pair", "made":
        (world / name).mkdir()
    (world / "texts" / "a.png").write_text("no image")
    (world / "made" / "tiny-9-1.png").write_bytes(b"mine")

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
