"""Images in files: PNG, WebP and JPEG with their recipe, contact sheets, folders."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genfast.errors import InputError
from genfast.files import atomic

Pixels = npt.NDArray[np.uint8]
Format = Literal["png", "webp", "jpeg"]

_KEY = "genfast"  # of the PNG text chunk that holds the recipe
_DEFLATE = 4  # of 9: files are 5 % larger than at the usual 6, and written in two fifths of the time
_COMMENT = b"ASCII\0\0\0"  # begins the EXIF user comment that holds it in WebP and JPEG
_CODING: dict[str, dict[str, Any]] = {
    "png": {"compress_level": _DEFLATE},
    "webp": {"lossless": True, "exact": True},  # exact: colours keep under full transparency, too
    "jpeg": {"quality": 95},
}
_BATCH = 2**26  # bytes of the images of a folder that are read at a time
_TILE = 96  # pixels: a contact sheet enlarges smaller images to about this
_STRIP = 8  # pictures at most
_STRIP_TILE = 256  # pixels: a strip shrinks larger pictures to this at most
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_READ = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # Pillow has more, of which one runs Ghostscript


OptionName = Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")]
OptionValue = bool | int | float | Annotated[str, Field(pattern=r"^\w[\w ./+-]*$")]


class Recipe(BaseModel):
    """What draws an image again. A contact sheet shows the `n` images from `index` on.

    `options` are those of the command that are not the defaults, and the class of the image. Where an image was
    `inpainted`, it is fill `index` of `n`.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    bundle: str = Field(pattern=r"^[0-9a-f]{64}$")  # SHA-256 of its manifest
    steps: int = Field(gt=0)
    seed: int = Field(ge=0)
    index: int = Field(ge=0)
    n: int = Field(default=1, gt=0)
    options: Mapping[OptionName, OptionValue] = {}
    inpainted: tuple[str, str] | None = None  # names of the files of image and mask
    version: str = Field(pattern=r"^[\w.+-]+$")  # of genfast


def write(path: Path, image: Pixels, recipe: Recipe | None = None) -> None:
    """Write uint8 [H, W, C] (C is 1 or 3) as .png, .webp or .jpeg, whole or not at all, with its recipe."""
    with atomic(path) as file:
        encode(file, _to_pillow(image), path.suffix[1:], recipe)


def encode(file: BinaryIO, image: Image.Image, format: str, recipe: Recipe | None = None, **kept: Any) -> None:
    """Write an image in a Format, with what Pillow is to keep beside its pixels, and a recipe.

    PNG holds a recipe as text; WebP, without loss, and JPEG, of quality 95, as EXIF user comment, in the place of one
    that was there. WebP has no grey: its channels are equal.
    """
    if recipe and format == "png":
        kept["pnginfo"] = PngImagePlugin.PngInfo()
        kept["pnginfo"].add_text(_KEY, recipe.model_dump_json())
    elif recipe:
        exif = Image.Exif()
        exif.load(kept.get("exif", b""))
        comment = json.dumps(recipe.model_dump(mode="json", exclude_none=True))
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _COMMENT + comment.encode()
        kept["exif"] = exif.tobytes()
    image.save(file, format, **_CODING[format], **kept)


def write_animation(path: Path, frames: Sequence[Pixels], recipe: Recipe | None = None) -> None:
    """Write frames as one animated PNG that stays on the last of them for longer, with a recipe as `write` does.

    Who does not animate it shows the last frame.
    """
    last = _to_pillow(frames[-1])
    with atomic(path) as file:
        encode(
            file,
            last,
            "png",
            recipe,
            save_all=True,
            default_image=True,
            append_images=[_to_pillow(frame) for frame in frames],
            duration=[150] * (len(frames) - 1) + [2000],  # milliseconds
        )


def _to_pillow(image: Pixels) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def read(path: Path) -> Pixels:
    """Read an image as a person sees it (EXIF orientation applied): uint8 [H, W, 1] where grey, else [H, W, 3].

    Transparency is dropped. WebP has no grey, so that one of equal channels is grey. Raises InputError for what is no
    image, deeper than 8 bits, or beyond 89 million pixels.
    """
    with opened(path) as image:
        if image.mode[0] in "IF" or is_rounded(image):
            raise InputError(f"{path} has more than 8 bits a channel; convert it to 8 bits first")
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in ("1", "L", "LA")
        pixels = np.atleast_3d(np.asarray(upright.convert("L" if grey else "RGB")))
        if image.format == "WEBP" and (pixels == pixels[..., :1]).all():
            return pixels[..., :1]
    return pixels


def read_recipe(path: Path) -> Recipe:
    """The recipe in an image that genfast wrote. Raises InputError where there is none."""
    with opened(path) as image:
        found = image.info.get(_KEY)
        # To look for EXIF, the whole of a PNG is read.
        comment = None if found else image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(comment, bytes) and comment.startswith(_COMMENT + b"{"):
        found = comment.removeprefix(_COMMENT)
    if not found:
        raise InputError(f"{path} carries no recipe; only images written by genfast do")
    try:
        return Recipe.model_validate_json(found)
    except ValidationError as error:
        raise InputError(f"{path} carries a recipe that this version cannot read") from error


def read_all(paths: Sequence[Path], side: int | None = None) -> Pixels:
    """Read images of one shape: uint8 [N, H, W, C], those larger than `side` shrunk by a whole factor.

    Raises InputError as `read` does, and where shapes differ.
    """
    return np.stack([shrink(image, side or max(image.shape)) for image in _alike(paths)])


def _alike(paths: Sequence[Path]) -> Iterator[Pixels]:
    """Read images one by one. Raises InputError as `read_all` does."""
    first = None
    for path in paths:
        image = read(path)
        first = image if first is None else first
        if image.shape != first.shape:
            raise InputError(f"images differ in shape: {paths[0]} is {_shape(first)}, {path} is {_shape(image)}")
        yield image


def shrink(image: Pixels, side: int) -> Pixels:
    """Average uint8 [H, W, C] over squares of pixels, until no side is longer than `side`."""
    small = np.asarray(_to_pillow(image).reduce(-(-max(image.shape) // side)))
    return small.reshape(*small.shape[:2], image.shape[2])


def find(folder: Path) -> list[Path]:
    """Images under a folder, chosen by suffix, in the order of their paths. Raises InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return paths


def read_folder(folder: Path) -> Iterator[Pixels]:
    """Read all images under a folder, some 64 MB at a time: uint8 [B, H, W, C].

    Sheets and histories that genfast wrote beside its images are left out. Raises InputError as `find` and `read_all`
    do.
    """
    every = find(folder)
    paths = [path for path in every if not _shows_several(path)] or every
    images = _alike(paths)
    for first in images:
        yield np.stack([first, *islice(images, max(1, _BATCH // first.nbytes) - 1)])


def _shows_several(path: Path) -> bool:
    """Whether an image is a sheet, strip or history of several that were drawn."""
    if not any(mark in path.stem for mark in ("-grid-", "-history", "-strip")):
        return False
    try:
        recipe = read_recipe(path)
    except InputError:
        return False
    return not recipe.inpainted and (recipe.n > 1 or "history" in recipe.options)


def is_rounded(image: Image.Image) -> bool:
    """Whether Pillow, without a word, reads the 16 bits of an opened image's colours as 8."""
    return not image.mode.startswith("I;16") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _shape(image: Pixels) -> str:
    height, width, channels = image.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"


def contact_sheet(images: Pixels, columns: int | None = None) -> Pixels:
    """Lay uint8 [N, H, W, C] out on a sheet, row by row: uint8 [H', W', C].

    Small images are enlarged by a whole factor, pixel by pixel; cells that stay empty are black.
    """
    n, height, width, channels = images.shape
    if columns is None:
        root = math.isqrt(n - 1) + 1  # the square root, rounded up
        # Up to twice as wide as high, where that leaves no cell empty.
        columns = next((columns for columns in range(root, 2 * root + 1) if n % columns == 0), root)
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[:n] = images
    sheet = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # [rows, H, columns, W, C]
    factor = max(1, _TILE // max(height, width))
    return sheet.reshape(rows * height, columns * width, channels).repeat(factor, 0).repeat(factor, 1)


def strip(frames: Sequence[Pixels]) -> Pixels:
    """Lay up to eight of uint8 [H, W, C] side by side, from the first to the last: uint8 [H', W', C]."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), _STRIP)).round().astype(int)
    tiles = [shrink(frames[i], _STRIP_TILE) for i in chosen]
    return contact_sheet(np.stack(tiles), columns=len(tiles))


def name(source: Path | BinaryIO) -> str:
    """What to call a file in a message. A stream is standard input."""
    return str(source) if isinstance(source, Path) else "standard input"


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open an image for the block, in which whatever its decoder raises becomes an InputError.

    So does a picture beyond 89 million pixels.
    """
    path = name(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders have much to say
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Not by its path: Pillow maps uncompressed TIFFs into memory with their sides swapped, if they lie on one.
            file = source.open("rb") if isinstance(source, Path) else nullcontext(source)
            with file as stream, Image.open(stream, formats=_READ) as image:
                yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image; known are BMP, GIF, JPEG, PNG, TIFF and WebP") from error
    except Exception as error:  # decoders raise all sorts
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read as an image: {reason}") from error
