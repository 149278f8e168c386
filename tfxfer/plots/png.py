"""PNG files of arrays."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from tfxfer.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What tells a drawing from a photograph: a text at the beginning of the file.
_KEY, _DRAWN_BY = "Software", "tfxfer"
_BEGINNING = 128  # bytes that hold it


def png(pixels: np.ndarray, *, drawn: bool = False) -> bytes:
    """Return a PNG file, the same bytes for the same pixels.

    Args:
      pixels: uint8 [height, width, channels], of 1 (grey), 3 (RGB) or 4 (RGBA) channels.
      drawn: whether it is a drawing of ours, which `check_free` lets another one replace.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    file, texts = io.BytesIO(), PngInfo()
    if drawn:
        texts.add_text(_KEY, _DRAWN_BY)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG", pnginfo=texts)
    return file.getvalue()


def check_free(path: str | os.PathLike[str]) -> None:
    """Refuse to draw where something is that tfxfer did not draw, as a photograph.

    Raises:
      DataError: something is there that is not such a drawing.
    """
    if os.path.lexists(path) and not _is_drawing(Path(path)):
        raise DataError(f"{path} exists and is not a picture that tfxfer drew; take another name, or move it away")


def _is_drawing(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    return beginning.startswith(SIGNATURE) and f"tEXt{_KEY}\0{_DRAWN_BY}".encode() in beginning
