"""PNG files of arrays."""

from __future__ import annotations

import io

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(pixels: np.ndarray) -> bytes:
    """Return a PNG file, the same bytes for the same pixels.

    Args:
      pixels: uint8 [height, width, channels], of 1 (grey), 3 (RGB) or 4 (RGBA) channels.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()
