"""Which part of a picture is cut out: the largest centred one, or one drawn by the picture, a seed and a number.

Random crops are those that VGG was trained on (Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale
Image Recognition, arXiv:1409.1556, section 3.1): the shorter side of a picture is brought to a length from 256 to 512,
all equally likely; a square of 224 is cut out anywhere, and one in two is mirrored. Here that part is cut out
first, and is resized once.
"""

from __future__ import annotations

import numpy as np

SIDE, LEAST, MOST = 224, 256, 512

Box = tuple[int, int, int, int]


def draw(digest: str, seed: int, number: int) -> list[int]:
    """Return four numbers from 0 to 2**64 - 1.

    They are the raw output of PCG64 seeded by SeedSequence, two streams that NumPy guarantees for all versions and
    platforms. Other pictures do not matter, so that a picture keeps its crops as others are added.

    Args:
      digest: SHA-256 of the picture's file, in hex.
      seed: 0 to 2**32 - 1.
      number: of the crop, 0 to 2**32 - 1.
    """
    words = np.frombuffer(bytes.fromhex(digest.zfill(64)), ">u4").tolist()
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(*words, number))).random_raw(4).tolist()


def place(height: int, width: int, largest: tuple[int, int], drawn: list[int]) -> tuple[Box, bool]:
    """Return the part of a picture that is cut out, and whether it is mirrored; in integers alone.

    Args:
      height, width: of the picture.
      largest: height and width of the largest part that has the proportions wanted.
      drawn: what `draw` returned.

    Returns:
      Top, left, height and width; and True for one crop in two.
    """
    scale, down, right, side = drawn
    length = LEAST + _below(scale, MOST - LEAST + 1)
    h, w = (max(1, (2 * whole * SIDE + length) // (2 * length)) for whole in largest)
    return (_below(down, height - h + 1), _below(right, width - w + 1), h, w), bool(_below(side, 2))


def _below(drawn: int, count: int) -> int:
    """Return one of 0..count-1, all as likely."""
    return drawn * count >> 64


def centred(height: int, width: int, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the largest centred part of the proportions rows : columns."""
    if height * columns <= width * rows:
        h, w = height, max(1, _rounded(height * columns, rows))
    else:
        h, w = max(1, _rounded(width * rows, columns)), width
    return (height - h) // 2, (width - w) // 2, h, w


def _rounded(a: int, b: int) -> int:
    return (2 * a + b) // (2 * b)


def text(seed: int, number: int) -> str:
    """Say which crop it is; part of the keys of stored rows, so that it names all that decides about one."""
    return f"cropped at random, {SIDE} of {LEAST} to {MOST}, seed {seed}, number {number}"
