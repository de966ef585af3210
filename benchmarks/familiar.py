"""How well the line that says that a picture is unlike what avatars1024 was trained on tells faces from other pictures.

python -m benchmarks.familiar [-n 50]

Other pictures are those that scikit-image brings (pip install scikit-image), as they are and cut to 1024x1024. A hit is
such a picture that is told, a false alarm a held-out face that is.
"""

import numpy as np
from PIL import Image, ImageOps

import genfast
from benchmarks.common import parser
from genfast.bundles import catalog
from genfast.models.base import Model
from genfast.types import Mask, Pixels
from training.data import avatars

NAMES = (
    *("astronaut", "brick", "camera", "cell", "checkerboard", "chelsea", "clock", "coffee", "coins", "colorwheel"),
    *("grass", "gravel", "horse", "hubble_deep_field", "immunohistochemistry", "logo", "moon", "page", "retina"),
    *("rocket", "shepp_logan_phantom", "text"),
)
SIDE = 1024


def hole(height: int, width: int, kind: int) -> Mask:
    """A small box, a large one, or the lower half."""
    mask = np.zeros((height, width), bool)
    top, bottom, left, right = ((1 / 3, 1 / 2, 1 / 4, 1 / 2), (0.6, 0.8, 0.3, 0.7), (0.5, 1, 0, 1))[kind % 3]
    mask[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
    return mask


def psnr_around(model: Model, picture: Pixels, kind: int) -> float:
    """In dB, in one step: the surroundings of a hole hardly depend on how it is filled."""
    mask = hole(picture.shape[0], picture.shape[1], kind)
    found = genfast.inpaint(model, picture, mask, options=genfast.MaskGITOptions(steps=1))[0].psnr_around
    assert found is not None
    return found


def others() -> list[Pixels]:
    """Each picture as it is and, if it is smaller, cut and enlarged."""
    import skimage.data

    pictures = []
    for name in NAMES:
        loaded = np.asarray(getattr(skimage.data, name)())
        levels = loaded if loaded.dtype == np.uint8 else np.rint(255.0 * loaded / loaded.max()).astype(np.uint8)
        image = Image.fromarray(levels[..., :3] if levels.ndim == 3 else levels)
        whole = ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BICUBIC)
        pictures += [np.atleast_3d(np.asarray(each)) for each in (whole, image)][: 2 if max(image.size) < SIDE else 1]
    return pictures


def main() -> None:
    count = parser(__doc__, "-n", n=50).parse_args().n
    model = genfast.load("avatars1024")
    threshold = catalog.entry("avatars1024").familiar_psnr or 0.0
    first = avatars.FIRST["validation"]
    faces = [psnr_around(model, avatars.draw(first + i, SIDE), i) for i in range(count)]
    photos = [psnr_around(model, picture, i) for i, picture in enumerate(others())]
    print(f"{len(faces)} held-out faces: {min(faces):.1f} to {max(faces):.1f} dB")
    print(f"{len(photos)} other pictures: {min(photos):.1f} to {max(photos):.1f} dB")
    print(f"below {threshold} dB: hits {np.mean(np.less(photos, threshold)):.0%}, ", end="")
    print(f"false alarms {np.mean(np.less(faces, threshold)):.0%}")


if __name__ == "__main__":
    main()
