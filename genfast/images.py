"""Images in files: PNG with its recipe, contact sheets, folders."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genfast.errors import InputError
from genfast.files import atomic

Pixels = npt.NDArray[np.uint8]

_KEY = "genfast"  # of the PNG text chunk that holds the recipe
_TILE = 96  # pixels: a contact sheet enlarges smaller images to about this
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class Recipe(BaseModel):
    """What draws an image again. A contact sheet shows the `n` images from `index` on."""

    model_config = ConfigDict(frozen=True)

    model: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    bundle: str = Field(pattern=r"^[0-9a-f]{64}$")  # SHA-256 of its manifest
    steps: int = Field(gt=0)
    seed: int = Field(ge=0)
    index: int = Field(ge=0)
    n: int = Field(default=1, gt=0)
    version: str = Field(pattern=r"^[\w.+-]+$")  # of genfast


def write(path: Path, image: Pixels, recipe: Recipe | None = None) -> None:
    """Write uint8 [H, W, C] (C is 1 or 3) as PNG, whole or not at all, with its recipe as text metadata."""
    text = PngImagePlugin.PngInfo()
    if recipe is not None:
        text.add_text(_KEY, recipe.model_dump_json())
    with atomic(path) as file:
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "PNG", pnginfo=text)


def read(path: Path) -> Pixels:
    """Read an image as a person sees it (EXIF orientation applied): uint8 [H, W, 1] where grey, else [H, W, 3].

    Transparency is dropped. Raises InputError for what is no image, deeper than 8 bits, or beyond 89 million pixels.
    """
    with _open(path) as image:
        if image.mode[0] in "IF":
            raise InputError(f"{path} has more than 8 bits a channel; convert it to 8 bits first")
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in ("1", "L", "LA")
        pixels = np.asarray(upright.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


def read_recipe(path: Path) -> Recipe:
    """The recipe in a PNG that `genfast sample` wrote. Raises InputError where there is none."""
    with _open(path) as image:
        text = image.info.get(_KEY)
    if text is None:
        raise InputError(f"{path} carries no recipe; only PNG files written by genfast do")
    try:
        return Recipe.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path} carries a recipe that this version cannot read") from error


def read_all(paths: Sequence[Path]) -> Pixels:
    """Read images of one shape: uint8 [N, H, W, C]. Raises InputError as `read` does, and where shapes differ."""
    first = read(paths[0])
    images = np.empty((len(paths), *first.shape), np.uint8)
    for row, path in zip(images, paths, strict=True):
        image = read(path)
        if image.shape != first.shape:
            raise InputError(f"images differ in shape: {paths[0]} is {_shape(first)}, {path} is {_shape(image)}")
        row[:] = image
    return images


def find(folder: Path) -> list[Path]:
    """Images under a folder, chosen by suffix, in the order of their paths. Raises InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(_SUFFIXES))})")
    return paths


def read_folder(folder: Path) -> Pixels:
    """Read all images under a folder: uint8 [N, H, W, C]. Raises InputError as `find` and `read_all` do."""
    return read_all(find(folder))


def _shape(image: Pixels) -> str:
    height, width, channels = image.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"


def contact_sheet(images: Pixels) -> Pixels:
    """Lay uint8 [N, H, W, C] out on a sheet, row by row: uint8 [H', W', C].

    Small images are enlarged by a whole factor, pixel by pixel; cells that stay empty are black.
    """
    n, height, width, channels = images.shape
    root = math.isqrt(n - 1) + 1  # the square root, rounded up
    # Up to twice as wide as high, where that leaves no cell empty.
    columns = next((columns for columns in range(root, 2 * root + 1) if n % columns == 0), root)
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[:n] = images
    sheet = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # [rows, H, columns, W, C]
    factor = max(1, _TILE // max(height, width))
    return sheet.reshape(rows * height, columns * width, channels).repeat(factor, 0).repeat(factor, 1)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image") from error
    except Exception as error:  # decoders raise all sorts
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read as an image: {reason}") from error
