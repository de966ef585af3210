"""Images in files: PNG, WebP and JPEG, with a comment that says what drew them."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from genfast.errors import InputError
from genfast.files import atomic
from genfast.types import Levels, Pixels

_KEY = "genfast"  # of the PNG text chunk that holds the comment
_DEFLATE = 4  # of 9: files are 5 % larger than at the usual 6, and written in two fifths of the time
_COMMENT = b"ASCII\0\0\0"  # begins the EXIF user comment that holds it in WebP and JPEG
_CODING: dict[str, dict[str, object]] = {
    "png": {"compress_level": _DEFLATE},
    "webp": {"lossless": True, "exact": True},  # exact: colours keep under full transparency, too
    "jpeg": {"quality": 95},
}
_log = logging.getLogger("genfast")

# Pillow has more, of which one runs Ghostscript. The first four are there without importing all of them; TGA, which
# nothing marks, is the last.
_READ = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "JPEG2000", "TGA")


def write(path: Path, image: Pixels, comment: str | None = None) -> None:
    """Write uint8 [H, W, C] (C is 1 or 3) as .png, .webp or .jpeg, whole or not at all, with a comment in ASCII."""
    with atomic(path) as file:
        encode(file, to_pillow(image), path.suffix[1:], comment)


def encoded(image: Pixels, format: str, comment: str | None = None) -> bytes:
    """The file that `write` writes in a Format."""
    file = BytesIO()
    encode(file, to_pillow(image), format, comment)
    return file.getvalue()


def encode(file: BinaryIO, image: Image.Image, format: str, comment: str | None = None, **kept: object) -> None:
    """Write an image in a Format, with what Pillow is to keep beside its pixels, and a comment.

    PNG holds the comment as text; WebP, without loss, and JPEG, of quality 95, as EXIF user comment, in the place of
    one that was there. WebP has no grey: its channels are equal.
    """
    chunks = kept.pop("png_chunks", ())
    if format == "png":
        kept["pnginfo"] = info = PngImagePlugin.PngInfo()
        for name, content in chunks if isinstance(chunks, tuple) else ():
            info.add(name, content)
        if comment:
            info.add_text(_KEY, comment)
    elif comment:
        exif = Image.Exif()
        if isinstance(old := kept.get("exif"), bytes):
            exif.load(old)
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _COMMENT + comment.encode("ascii")
        kept["exif"] = exif.tobytes()
    image.save(file, format, **{**_CODING[format], **kept})


def animation(frames: Sequence[Pixels], comment: str | None = None) -> bytes:
    """The file of one animated PNG of frames that stays on the last of them for longer, with a comment as in `write`.

    Who does not animate it shows the last frame.
    """
    last, file = to_pillow(frames[-1]), BytesIO()
    encode(
        file,
        last,
        "png",
        comment,
        save_all=True,
        default_image=True,
        append_images=[to_pillow(frame) for frame in frames],
        duration=[150] * (len(frames) - 1) + [2000],  # milliseconds
    )
    return file.getvalue()


def to_pillow(image: Pixels) -> Image.Image:
    """An image [H, W, C] as Pillow has it."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def eight_bits(image: Levels) -> Pixels:
    """An image of 8 or 16 bits in 8."""
    return (image // (np.iinfo(image.dtype).max // 255)).astype(np.uint8)


def fit(image: Pixels, width: int, height: int, channels: int = 3) -> Pixels:
    """The largest middle part of the shape of height x width, resized to it: uint8 [height, width, channels]."""
    mode = "L" if channels == 1 else "RGB"
    fitted = ImageOps.fit(to_pillow(image).convert(mode), (width, height), Image.Resampling.LANCZOS)
    return np.asarray(fitted).reshape(height, width, channels)


def read(path: Path) -> Pixels:
    """Read an image as a person sees it (EXIF orientation applied): uint8 [H, W, 1] where grey, else [H, W, 3].

    What is transparent is seen on white. WebP has no grey, so that one of equal channels is grey. Raises InputError for
    what is no image, deeper than 8 bits, or beyond 89 million pixels.
    """
    with opened(path) as image:
        if (frames := frame_count(image)) > 1:
            _log.warning("genfast: %s has %d frames; the first is read", path, frames)
        if image.mode[0] in "IF" or is_rounded(image):
            raise InputError(f"{path} has more than 8 bits a channel; convert it to 8 bits first")
        upright = on_white(ImageOps.exif_transpose(image))
        grey = upright.mode in ("1", "L", "LA")
        pixels = np.atleast_3d(np.asarray(upright.convert("L" if grey else "RGB")))
        if image.format == "WEBP" and (pixels == pixels[..., :1]).all():
            return pixels[..., :1]
    return pixels


def on_white(image: Image.Image) -> Image.Image:
    """An image without its transparency, as it is seen on white paper."""
    if not image.has_transparency_data:
        return image
    grey = image.mode in ("1", "L", "LA")
    seen = image.convert("RGBA")
    if seen.getchannel("A").getextrema() == (255, 255):
        return image
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("L" if grey else "RGB")


def read_comment(path: Path) -> str | bytes | None:
    """The comment of an image that genfast wrote, None where there is none. Raises InputError for what is no image."""
    with opened(path) as image:
        if found := image.info.get(_KEY):
            return str(found)
        # To look for EXIF, the whole of a PNG is read.
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(comment, bytes) and comment.startswith(_COMMENT + b"{"):
        return comment.removeprefix(_COMMENT)
    return None


def is_rounded(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow, without a word, reads more than 8 bits of an opened image's colours as 8."""
    if image.mode.startswith("I;16"):
        return False
    if image.format == "AVIF":  # the box av1C says so, in two bits of its third byte
        return bool(_after(image, b"av1C", 3)[2] & 0x60)
    if image.format == "JPEG2000":  # the marker SIZ, after SOC, says the bits of the first channel, less one
        return bool(_after(image, b"\xff\x4f\xff\x51", 39)[38] & 0x7F > 7)
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _after(image: ImageFile.ImageFile, mark: bytes, length: int) -> bytes:
    """The bytes that follow a mark near the beginning of an opened image's file, zeros where there is none."""
    file = image.fp
    assert file
    place = file.tell()
    file.seek(0)
    head = file.read(2**16)
    file.seek(place)
    _, _, rest = head.partition(mark)
    return rest[:length].ljust(length, b"\0")


def frame_count(image: Image.Image) -> int:
    """How many pictures an opened image shows. An MPO, which cameras write, shows one: the others are previews."""
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def check_still(image: Image.Image, name: str) -> None:
    """Raise InputError for an opened image that moves, or has several pages."""
    if (frames := frame_count(image)) > 1:
        raise InputError(f"{name} has {frames} frames; give one of them as a file of its own")


def name(source: Path | BinaryIO) -> str:
    """What to call a file in a message. A stream without a name is standard input."""
    return str(source if isinstance(source, Path) else getattr(source, "name", "standard input"))


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[ImageFile.ImageFile]:
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
        raise InputError(
            f"{path} is no image; known are AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, TGA, TIFF and WebP"
        ) from error
    except Exception as error:  # decoders raise all sorts
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read as an image: {reason}") from error
