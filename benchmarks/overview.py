"""README's picture: garments, faces and a repaired face, all of seed 0, none chosen.

python -m benchmarks.overview [OUT.webp]
"""

from pathlib import Path

import numpy as np

import genfast
from benchmarks import common
from genfast.images import io
from genfast.images.sheets import contact_sheet, shrink
from genfast.inpainting import masks
from genfast.types import Pixels

ASSETS = Path(__file__).parents[1] / "assets"
EXAMPLES, FIGURE = ASSETS / "examples", ASSETS / "figures" / "overview.webp"
GARMENTS, FACES, FILLS, TILE = 40, 5, 3, 256  # TILE: pixels along the side of a face


def overview() -> Pixels:
    """[H, 5 * TILE, 3]: two rows of garments, one of faces, one of a picture, its mask and its fills."""
    garments = genfast.sample("fashion28", GARMENTS)
    rows = contact_sheet(np.pad(garments, ((0, 0), (2, 2), (2, 2), (0, 0))).repeat(2, 1).repeat(2, 2), columns=20)
    model = genfast.load("avatars1024")
    faces = [shrink(model.sample(1, start=index)[0], TILE) for index in range(FACES)]
    picture = io.read(EXAMPLES / "stroke.png")
    mask = masks.read(EXAMPLES / "stroke-mask.png", picture.shape[:2])
    fills = genfast.inpaint(model, picture, mask, n=FILLS)
    white = np.where(mask[..., None], np.uint8(255), np.uint8(0)).repeat(3, 2)
    repaired = [shrink(image.astype(np.uint8), TILE) for image in (picture, white, *(fill.image for fill in fills))]
    return np.concatenate([rows.repeat(3, 2), np.hstack(faces), np.hstack(repaired)])


def main() -> None:
    given = common.parser(__doc__, "")
    given.add_argument("out", type=Path, nargs="?", default=FIGURE, help="picture to write (default: README's)")
    options = given.parse_args()
    common.write_figure(options.out, overview())


if __name__ == "__main__":
    main()
