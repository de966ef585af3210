"""Masks for measuring inpainting: strokes, boxes and halves of faces, 10 to 30 % of a picture.

python -m benchmarks.holes --out FOLDER [-n 3] [--size 1024]
"""

from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks import common
from genfast.types import Mask

KINDS = ("strokes", "box", "half face")
SHARE = 0.1, 0.3  # of the picture


def kind(index: int) -> str:
    """Kinds take turns."""
    return KINDS[index % len(KINDS)]


def hole(index: int, size: int) -> Mask:
    """Mask number `index`: bool [size, size]."""
    draw = {"strokes": strokes, "box": box, "half face": half_face}[kind(index)]
    for attempt in count():
        rng = np.random.default_rng([index, attempt])
        image = Image.new("1", (1024, 1024))
        draw(ImageDraw.Draw(image), rng)
        mask = np.asarray(image.resize((size, size), Image.Resampling.NEAREST))
        if SHARE[0] <= mask.mean() <= SHARE[1]:
            return mask
    raise AssertionError


def strokes(canvas: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """One to four brush strokes of several bends."""
    for _ in range(rng.integers(1, 5)):
        width = int(rng.integers(40, 130))
        points = [(x, y) for x, y in rng.integers(100, 924, (rng.integers(2, 6), 2)).tolist()]
        canvas.line(points, 1, width, "curve")
        for x, y in points:
            canvas.ellipse((x - width // 2, y - width // 2, x + width // 2, y + width // 2), 1)


def box(canvas: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """A rectangle anywhere."""
    width, height = rng.integers(250, 700, 2).tolist()
    left, top = int(rng.integers(0, 1024 - width)), int(rng.integers(0, 1024 - height))
    canvas.rectangle((left, top, left + width - 1, top + height - 1), 1)


def half_face(canvas: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Half of an ellipse about where faces are, cut in any direction."""
    angle = rng.uniform(0, 360)
    canvas.pieslice((512 - 340, 540 - 400, 512 + 340, 540 + 400), angle, angle + 180, 1)


def main() -> None:
    given = common.parser(__doc__, "--out -n", out=Path("holes"), n=len(KINDS))
    given.add_argument("--size", type=int, default=1024, help="side of a mask in pixels (default: 1024)")
    options = given.parse_args()
    out = common.folder(options.out)
    for index in range(options.n):
        Image.fromarray(hole(index, options.size)).save(out / f"{index:03}.png")


if __name__ == "__main__":
    main()
