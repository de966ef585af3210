"""JPEG in, JPEG out: blocks that a hole does not touch keep their DCT coefficients. Needs jpeglib (genfast[jpeg])."""

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, JpegImagePlugin

from genfast.errors import UsageError
from genfast.images import io
from genfast.images.photo import Photo
from genfast.types import Mask, Pixels

_BLOCK = 8  # pixels along the side of a block of coefficients
# What undoes each EXIF orientation (EXIF 2.32, tag 0x0112), by Pillow's names.
_UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def repainted(source: bytes, photo: Photo, hole: Mask, comment: str | None = None) -> bytes | None:
    """The JPEG file `source` with the pixels of a photo in the blocks that the hole [H, W] touches; None for no JPEG.

    Photo and hole are the right way up, as a person sees them; the file keeps its orientation. Its quantisation tables,
    its subsampling and the coefficients of all other blocks stay as they are; beside the pixels it says what the photo
    keeps, and the comment. None as well where colours are not grey or YCbCr, where Pillow does not write such a
    subsampling, and where the photo has transparency. Raises UsageError where jpeglib is missing.
    """
    if not source.startswith(b"\xff\xd8") or photo.alpha is not None or photo.colours.dtype != np.uint8:
        return None
    try:
        import jpeglib
    except ImportError as error:
        raise UsageError("--format jpeg keeps blocks of a JPEG by jpeglib; pip install 'genfast[jpeg]'") from error
    with Image.open(BytesIO(source)) as old:
        assert isinstance(old, JpegImagePlugin.JpegImageFile)
        orientation = old.getexif().get(ExifTags.Base.Orientation, 1)
        kept = dict(photo.kept)
        if orientation in _UNDO:
            exif = Image.Exif()
            if isinstance(held := kept.get("exif"), bytes):
                exif.load(held)
            exif[ExifTags.Base.Orientation] = orientation
            kept["exif"] = exif.tobytes()
        # Quality -1 is that of the tables.
        kept |= {"quality": -1, "qtables": old.quantization, "subsampling": JpegImagePlugin.get_sampling(old)}
    encoded = BytesIO()
    io.encode(encoded, _turned(photo.colours.astype(np.uint8), orientation), "jpeg", comment, **kept)
    where = np.asarray(_turned(hole[..., None].astype(np.uint8), orientation)) > 0
    with TemporaryDirectory() as folder:
        before, after, out = (Path(folder) / f"{name}.jpg" for name in ("before", "after", "out"))
        before.write_bytes(source)
        after.write_bytes(encoded.getvalue())
        held, drawn = jpeglib.read_dct(str(before)), jpeglib.read_dct(str(after))
        if not np.array_equal(_layout(held), _layout(drawn)):
            return None
        for name, (_, down, across) in zip(("Y", "Cb", "Cr"), _layout(held), strict=False):
            blocks = getattr(held, name)  # (rows, columns, 8, 8)
            touched = _touched(where, blocks.shape[:2], (_BLOCK * down, _BLOCK * across))
            blocks[touched] = getattr(drawn, name)[touched]
        held.write_dct(str(out))
        return _spliced(encoded.getvalue(), out.read_bytes())


def _layout(dct: Any) -> npt.NDArray[np.int64]:
    """Of each component of a JPEG: its quantisation table, and how often it is subsampled down and across."""
    components = dct.samp_factor.max(0) // dct.samp_factor
    # By its name: jpeglib's colour spaces all equal one another.
    known = dct.jpeg_color_space.name in ("JCS_GRAYSCALE", "JCS_YCbCr")
    return np.column_stack([dct.quant_tbl_no if known else np.full(len(components), -1), components])


def _turned(picture: Pixels, orientation: int) -> Image.Image:
    """A picture that is the right way up, as a file of that orientation has it."""
    image, undo = io.to_pillow(picture), _UNDO.get(orientation)
    return image if undo is None else image.transpose(undo)


def _touched(hole: Mask, shape: tuple[int, int], size: tuple[int, int]) -> Mask:
    """Which of a grid of blocks, each of so many pixels down and across, a hole [H, W] touches."""
    (rows, columns), (tall, wide) = shape, size
    padded = np.pad(hole, ((0, rows * tall - hole.shape[0]), (0, columns * wide - hole.shape[1])))
    return np.asarray(padded.reshape(rows, tall, columns, wide).any((1, 3)))


def _spliced(said: bytes, drawn: bytes) -> bytes:
    """What one JPEG says beside its pixels, and all else of another."""
    return said[: _header(said)] + drawn[_header(drawn) :]


def _header(jpeg: bytes) -> int:
    """Where the segments end that say something beside the pixels: applications' (APPn) and comments."""
    place = 2
    while jpeg[place] == 0xFF and (0xE0 <= jpeg[place + 1] <= 0xEF or jpeg[place + 1] == 0xFE):
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4])
    return place
