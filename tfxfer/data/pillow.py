"""WebP and TIFF, which TensorFlow does not decode: Pillow does, where it is there, by the rules of all other pictures.

Transparency is left out, of 16 bits the upper 8 are taken, of several frames or pages the first, CMYK becomes RGB, and
a picture is turned upright as its EXIF tag says.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tfxfer.data import headers
from tfxfer.data.headers import Encoded
from tfxfer.errors import DataError
from tfxfer.input_spec import MAX_SIDE

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
DEEP = {"I;16", "I;16L", "I;16B", "I;16N"}  # 16 bits of grey
PLAIN = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
# What Pillow raises of files that are damaged, or that somebody made to do harm.
FAULTS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
    Warning,
)


def kind_of(start: bytes) -> str:
    """Return `WebP` or `TIFF` by the first bytes of a file, 12 are enough; the empty string for anything else."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    return "TIFF" if start.startswith(TIFF) else ""


def check(kind: str) -> None:
    """Refuse what cannot be decoded for want of Pillow.

    Raises:
      DataError: Pillow, or its part for WebP, is not installed. The subject of the message is the picture.
    """
    try:
        from PIL import features
    except ImportError:
        raise DataError(
            f"is a {kind} picture, which only Pillow decodes; `pip install pillow`, or save it as PNG"
        ) from None
    if kind == "WebP" and not features.check("webp"):
        raise DataError("is a WebP picture, which this build of Pillow does not decode; save it as PNG")


def read(data: bytes, most_pixels: int, hold: Callable[[int], AbstractContextManager]) -> Encoded:
    """Decode a WebP or a TIFF, and return it as what TensorFlow decodes: the same pixels as BMP.

    Args:
      data: the whole file.
      most_pixels: a picture of more is not decoded.
      hold: given how many pixels there are, waits until so many may be decoded, for as long as the context lasts.

    Returns:
      The picture, with its orientation; not yet turned.

    Raises:
      DataError: it has too many pixels, or cannot be decoded. The subject of the message is the picture.
    """
    kind = kind_of(data[:16])
    check(kind)
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
            check_size(image.height, image.width, most_pixels)
            with hold(image.height * image.width):
                image.load()  # Some versions turn a TIFF upright here; then the tag is gone.
                orientation = image.getexif().get(headers.ORIENTATION, 1)
                bmp = headers.read(_bmp(_pixels(image, kind)))
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"has more than {most_pixels:,} pixels") from None
    except FAULTS:
        raise DataError(f"{headers.DAMAGED}, cut short, or a {kind} of a rare kind; save it anew") from None
    return bmp._replace(orientation=orientation if orientation in range(1, 9) else 1)


def check_size(height: int, width: int, most_pixels: int) -> None:
    """Refuse a picture of too many pixels.

    Raises:
      DataError: it has more, or a side is too long. The subject of the message is the picture.
    """
    # Resizing takes memory by the width times the new height, so that no side may be longer than a JPEG's can be.
    if height * width > most_pixels or max(height, width) > MAX_SIDE:
        raise DataError(f"has {height:,} x {width:,} pixels, more than {most_pixels:,} or a side of {MAX_SIDE:,}")


def _pixels(image: Any, kind: str) -> np.ndarray:
    """Return uint8 [height, width, 3]."""
    if image.mode in DEEP:
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)
    if image.mode not in PLAIN:
        raise DataError(f"is a {kind} of a rare kind (mode {image.mode}); save it as PNG")
    straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)  # colours that were multiplied by their opacity
    return np.asarray((image.convert(straight) if straight else image).convert("RGB"))


def _bmp(pixels: np.ndarray) -> bytes:
    """Return a BMP of 24 bits: rows from the bottom up, each padded to a multiple of 4 bytes."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, -(-3 * width // 4) * 4), np.uint8)
    rows[:, : 3 * width] = pixels[::-1, :, ::-1].reshape(height, -1)
    # Of the file, where pixels begin; of the header, its size, 1 plane, 24 bits a pixel, not compressed.
    file = struct.pack("<2sIHHI", b"BM", 54 + rows.size, 0, 0, 54)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, rows.size, 0, 0, 0, 0)
    return file + head + rows.tobytes()
