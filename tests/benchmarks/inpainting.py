"""Inpainting held-out faces, against OpenCV's Telea and Navier-Stokes on the same files; its speed and memory.

    python -m tests.benchmarks.inpainting [--model avatars1024] [-n 200] [--ring 0] [--threads 2] [--json]

A distance is that of the features of efficientnet-lite0 between a filled picture and the original. A step is the mean
difference of neighbours across the mask's edge, over that in the originals. Leakage is the share of tokens that change
when the hole is blanked before it is encoded, by how many tokens they are away from those that the hole touches.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import genfast
from genfast import images, inpainting, masks
from genfast.bench import medians
from genfast.cli.progress import progress
from genfast.metrics.features import Embedder
from genfast.models import TokenModel
from tests.benchmarks import holes
from tests.benchmarks.memory import peak
from training.data import avatars

SIZE = 1024
FILLED_TWICE = 20  # faces that are filled four times
RINGS = (1, 2, 3, 4)


def faces(n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Test faces with their masks."""
    with progress("inpainting", n) as advance:
        for index in range(n):
            yield avatars.draw(avatars.FIRST["test"] + index, SIZE), holes.hole(index, SIZE)
            advance(1)


def across(picture: np.ndarray, mask: np.ndarray) -> float:
    """The mean difference of neighbours of which one lies in the mask."""
    steps = []
    for axis in 0, 1:
        edge = np.diff(mask, axis=axis)
        steps.append(np.abs(np.diff(picture.astype(np.float32), axis=axis))[edge])
    return float(np.concatenate(steps).mean())


def psnr(picture: np.ndarray, original: np.ndarray, mask: np.ndarray) -> float:
    """Inside the mask."""
    error = np.square(picture[mask].astype(np.float64) - original[mask]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def quality(model: TokenModel, embed: Embedder, n: int, ring: int) -> dict[str, float]:
    """Fills against rivals, by the original; what is changed outside; the spread of four fills."""
    changed, spreads = 0, []
    rows: dict[str, list[list[float]]] = {"genfast": [], "Telea": [], "Navier-Stokes": []}
    own_steps = []
    for index, (original, mask) in enumerate(faces(n)):
        count = 4 if index < FILLED_TWICE else 1
        fills = [fill.image for fill in inpainting.inpaint(model, original, mask, n=count, ring=ring)]
        pictures = {
            "genfast": fills[0],
            "Telea": cv2.inpaint(original, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA),
            "Navier-Stokes": cv2.inpaint(original, mask.astype(np.uint8), 3, cv2.INPAINT_NS),
        }
        changed += sum(int((fill != original).any(2)[~mask].sum()) for fill in fills)
        of_original, *of_others = embed(np.stack([original, *pictures.values()]))
        for (name, picture), features in zip(pictures.items(), of_others, strict=True):
            distance = float(np.linalg.norm(features - of_original))
            rows[name].append([distance, psnr(picture, original, mask), across(picture, mask)])
        own_steps.append(across(original, mask))
        if count > 1:
            spreads += [float(np.linalg.norm(a - b)) for a, b in combinations(embed(np.stack(fills)), 2)]
    table = {name: np.array(values) for name, values in rows.items()}
    rivals = np.minimum(table["Telea"][:, 0], table["Navier-Stokes"][:, 0])
    figures: dict[str, float] = {"pixels changed outside the mask": changed}
    for name, values in table.items():
        figures[f"{name}: distance, median"] = float(np.median(values[:, 0]))
        figures[f"{name}: PSNR in the mask, median"] = float(np.median(values[:, 1]))
        figures[f"{name}: step at the edge, times that of the originals"] = float(
            values[:, 2].mean() / np.mean(own_steps)
        )
    wins = table["genfast"][:, 0] < rivals
    figures["share of faces on which genfast is nearer than both"] = float(wins.mean())
    for number, name in enumerate(holes.KINDS[:n]):
        figures[f"the same, {name}"] = float(wins[number :: len(holes.KINDS)].mean())
    figures[f"distance between two of four fills, mean over {min(n, FILLED_TWICE)} faces"] = float(np.mean(spreads))
    return figures


def leakage(model: TokenModel, n: int) -> dict[str, float]:
    """Which tokens the content of a hole reaches through the encoder."""
    grid = model.tokens.height, model.tokens.width
    changed: dict[int, list[float]] = {ring: [] for ring in RINGS}
    for original, mask in faces(n):
        blank = inpainting.smooth(original.astype(np.float32), ~mask).round().astype(np.uint8)
        seen = [model.encode().run(image=picture[None])["tokens"].reshape(grid) for picture in (original, blank)]
        for ring in RINGS:
            here = masks.tokens(mask, grid, ring=ring) & ~masks.tokens(mask, grid, ring=ring - 1)
            if here.any():
                changed[ring].append(float((seen[0] != seen[1])[here].mean()))
    return {f"share of tokens that change, {ring} away from the hole": float(np.mean(changed[ring])) for ring in RINGS}


def processes(model: str) -> dict[str, float]:
    """One fill of one megapixel from a cold start; a photo of 12 megapixels with a small mask, and its memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inpaint = [sys.executable, "-m", "genfast", "inpaint", "img.png", "mask.png", "--overwrite", "--model", model]

        def write(picture: np.ndarray, mask: np.ndarray) -> None:
            Image.fromarray(picture).save(folder / "img.png", compress_level=1)
            Image.fromarray(mask).save(folder / "mask.png")

        face, hole = next(faces(1))
        write(face, hole)
        fill = partial(subprocess.run, inpaint, cwd=folder, check=True, capture_output=True)
        figures = medians({"one fill of 1024x1024 from a cold start, seconds": fill}, 7)
        photo = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
        photo[1000:2024, 1500:2524] = face
        small = np.zeros(photo.shape[:2], bool)
        small[1400:1500, 1900:2060] = True
        write(photo, small)
        figures["12 megapixels, peak MB"] = peak(inpaint, folder)
        filled = images.read(folder / "img.inpainted.png")
        figures["12 megapixels, pixels changed outside the mask"] = float((filled != photo).any(2)[~small].sum())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars1024")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--ring", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = processes(str(Path(options.model).resolve()) if Path(options.model).is_dir() else options.model)
    model = genfast.load(options.model, device="cpu", threads=options.threads)
    assert isinstance(model, TokenModel)
    figures |= leakage(model, min(options.n, FILLED_TWICE))
    embed = Embedder.find("efficientnet-lite0", device="cpu", threads=options.threads)
    figures |= quality(model, embed, options.n, options.ring)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{value:10.3f}  {name}")


if __name__ == "__main__":
    main()
