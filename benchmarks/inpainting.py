"""Inpainting held-out faces, against OpenCV's Telea and Navier-Stokes on the same files; its speed and memory.

    python -m benchmarks.inpainting [--model avatars1024] [-n 200] [--threads 2] [--json]

A distance is that of the features of efficientnet-lite0 between a filled picture and the original. A step is the mean
difference of neighbours across the mask's edge, over that in the originals. Leakage is the share of tokens that change
when the hole is blanked before it is encoded, by how many tokens they are away from those that the hole touches.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import genfast
from benchmarks import common, holes
from genfast.bench.speed import medians
from genfast.images import io
from genfast.inpainting import blending, masks
from genfast.metrics.features import Embedder
from genfast.models.tokens import TokenModel
from genfast.progress import progress
from genfast.types import Levels, Mask
from training.data import avatars

SIZE = 1024
FILLED_TWICE = 20  # faces that are filled four times
RINGS = (1, 2, 3, 4)


def masked_faces(n: int) -> Iterator[tuple[Levels, Mask]]:
    """Test faces with their masks."""
    with progress("inpainting", n) as advance:
        for index in range(n):
            yield avatars.draw(avatars.FIRST["test"] + index, SIZE), holes.hole(index, SIZE)
            advance(1)


def across(picture: Levels, mask: Mask) -> float:
    """The mean difference of neighbours of which one lies in the mask."""
    steps = []
    for axis in 0, 1:
        edge = np.diff(mask, axis=axis)
        steps.append(np.abs(np.diff(picture.astype(np.float32), axis=axis))[edge])
    return float(np.concatenate(steps).mean())


def psnr(picture: Levels, original: Levels, mask: Mask) -> float:
    """Inside the mask."""
    error = np.square(picture[mask].astype(np.float64) - original[mask]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def quality(model: TokenModel, embed: Embedder, n: int, seed: int) -> dict[str, float]:
    """Fills against rivals, by the original; what is changed outside; the spread of four fills."""
    changed, spreads = 0, []
    rows: dict[str, list[list[float]]] = {"genfast": [], "Telea": [], "Navier-Stokes": []}
    own_steps = []
    for index, (original, mask) in enumerate(masked_faces(n)):
        count = 4 if index < FILLED_TWICE else 1
        fills = [fill.image for fill in genfast.inpaint(model, original, mask, n=count, seed=seed)]
        pictures: dict[str, Levels] = {
            "genfast": fills[0],
            "Telea": np.asarray(cv2.inpaint(original, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA), np.uint8),
            "Navier-Stokes": np.asarray(cv2.inpaint(original, mask.astype(np.uint8), 3, cv2.INPAINT_NS), np.uint8),
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
    for original, mask in masked_faces(n):
        blank = blending.smooth(original.astype(np.float32), ~mask).round().astype(np.uint8)
        seen = [model.encode(picture[None].astype(np.uint8)).reshape(grid) for picture in (original, blank)]
        touched = masks.tokens(mask, grid)
        for ring in RINGS:
            here = masks.grown(touched, ring) & ~masks.grown(touched, ring - 1)
            if here.any():
                changed[ring].append(float((seen[0] != seen[1])[here].mean()))
    return {f"share of tokens that change, {ring} away from the hole": float(np.mean(changed[ring])) for ring in RINGS}


def processes(model: str, device: str, threads: int) -> dict[str, float]:
    """One fill of one megapixel from a cold start; a photo of 12 megapixels with a small mask, and its memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inpaint = [*common.GENFAST, "inpaint", "img.png", "mask.png", "--overwrite", "--model", model]
        inpaint += ["--device", device, "--threads", str(threads)]

        def write(picture: Levels, mask: Mask) -> None:
            Image.fromarray(picture).save(folder / "img.png", compress_level=1)
            Image.fromarray(mask).save(folder / "mask.png")

        face, hole = next(masked_faces(1))
        write(face, hole)
        fill = partial(subprocess.run, inpaint, cwd=folder, check=True, capture_output=True)
        figures = medians({"one fill of 1024x1024 from a cold start, seconds": fill}, 9)
        photo = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
        photo[1000:2024, 1500:2524] = face
        small = np.zeros(photo.shape[:2], bool)
        small[1400:1500, 1900:2060] = True
        write(photo, small)
        figures["12 megapixels, peak MB"] = common.peak(inpaint, folder)
        filled = io.read(folder / "img.inpainted.png")
        figures["12 megapixels, pixels changed outside the mask"] = float((filled != photo).any(2)[~small].sum())
    return figures


def main() -> None:
    shared = "--model -n --seed --device --threads --json"
    given = common.parser(__doc__, shared, model="avatars1024", n=200, seed=0, device="cpu", threads=2)
    options = given.parse_args()
    # Commands run in a folder of their own.
    name = str(Path(options.model).resolve()) if Path(options.model).is_dir() else options.model
    figures = processes(name, options.device, options.threads)
    model = common.token_model(options.model, options.device, options.threads)
    figures |= leakage(model, min(options.n, FILLED_TWICE))
    figures |= quality(model, common.extractor(options.device, options.threads), options.n, options.seed)
    common.report(figures, options.json)


if __name__ == "__main__":
    main()
