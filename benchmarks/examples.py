"""Makes assets/examples: three test faces with a stroke, a box and lettering as masks, and fills of them.

python -m benchmarks.examples --out assets/examples [--model avatars1024]
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import genfast
from benchmarks import common
from genfast.images import io, sheets
from training.data import avatars

SIZE = 1024


def stroke(canvas: ImageDraw.ImageDraw) -> None:
    canvas.line([(250, 420), (480, 360), (620, 520), (800, 450)], 1, 90, "curve")


def box(canvas: ImageDraw.ImageDraw) -> None:
    canvas.rectangle((330, 560, 710, 800), 1)


def lettering(canvas: ImageDraw.ImageDraw) -> None:
    canvas.text((SIZE // 2, SIZE // 2), "SAMPLE", 1, ImageFont.load_default(240), "mm")


# Faces that show what their masks are about, by index in the test split.
EXAMPLES = {"stroke": (stroke, 4), "box": (box, 2), "lettering": (lettering, 0)}


def main() -> None:
    given = common.parser(__doc__, "--out --model --seed", out=Path("assets/examples"), model="avatars1024", seed=0)
    options = given.parse_args()
    out, model = common.folder(options.out), genfast.load(options.model)
    rows = []
    for name, (paint, index) in EXAMPLES.items():
        image = Image.new("1", (SIZE, SIZE))
        paint(ImageDraw.Draw(image))
        mask = np.asarray(image)
        shown = np.where(mask, np.uint8(255), np.uint8(0))[..., None]  # (H, W, 1)
        face = avatars.draw(avatars.FIRST["test"] + index, SIZE)
        first, second, *_ = genfast.inpaint(model, face, mask, n=4, seed=options.seed)
        io.write(out / f"{name}.png", face)
        io.write(out / f"{name}-mask.png", shown)
        rows += [face, shown.repeat(3, 2), first.image.astype(np.uint8), second.image.astype(np.uint8)]
    sheet = sheets.contact_sheet(np.stack([sheets.shrink(picture, 256) for picture in rows]), columns=4)
    common.write_figure(out / "inpainting.webp", sheet)


if __name__ == "__main__":
    main()
