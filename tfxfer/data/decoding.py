"""One picture: from the bytes of a file to pixels of the size asked for.

TensorFlow decodes, in a graph and a session of its own that has no threads: the thread that asks for a picture computes
it. It is loaded with the first picture. WebP and TIFF are Pillow's; see `data.pillow`. Messages begin with a verb,
whose subject, the path, the caller puts before it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfxfer import callables
from tfxfer.data import crops, headers, pillow
from tfxfer.data.headers import Encoded
from tfxfer.errors import DataError

EIGHTH = 8
MOST_PIXELS = 100_000_000  # 300 MB decoded
BYTES_A_PIXEL = 4  # no larger than this is a file of pixels as they are

# What turns stored pixels upright, by EXIF's orientation: transpose, then reverse the rows, then reverse the columns.
TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def warm_up() -> None:
    """Load TensorFlow and build the graph now, and not in several threads at once."""
    _decoder()


def sha256(data: bytes) -> str:
    """Return the digest in hex."""
    return hashlib.sha256(data).hexdigest()


def read_file(path: str, most_pixels: int = MOST_PIXELS) -> bytes:
    """Read a file that begins as a picture does and is not larger than one of so many pixels can be.

    Raises:
      DataError: it is none, is too large, or cannot be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is not a regular file")
        with open(path, "rb") as file:
            check_kind(file.peek(32)[:32])
            if status.st_size > BYTES_A_PIXEL * most_pixels:
                raise DataError(f"has {status.st_size:,} bytes, too many for {most_pixels:,} pixels")
            return file.read()
    except FileNotFoundError:
        raise DataError("is not there") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None


def check_kind(start: bytes) -> None:
    """Refuse what is not a picture by its first bytes; 32 are enough.

    Raises:
      DataError: it is none of the kinds that can be decoded here; the message says what it may be instead.
    """
    other = pillow.kind_of(start)
    if other:
        pillow.check(other)
    else:
        headers.check_kind(start)


def verify(data: bytes, most_pixels: int = MOST_PIXELS) -> None:
    """Check that a picture can be decoded.

    A JPEG is decoded to an eighth of its size: all of its data is read, as ever, in half the time.

    Raises:
      DataError: it cannot.
    """
    encoded = _checked(data, most_pixels)
    shape = _run("shape", encoded, (0, 0, 1, 1), (1, 1))
    part = EIGHTH if encoded.kind == "JPEG" else 1
    if tuple(shape) != (-(-encoded.height // part), -(-encoded.width // part), 3):
        raise DataError(f"{headers.DAMAGED}: its header gives another size than it has")


def measure(data: bytes) -> tuple[int, int]:
    """Return height and width of a picture, upright, as its header has them.

    Raises:
      DataError: it cannot be decoded.
    """
    encoded = _checked(data, MOST_PIXELS)
    return _swapped((encoded.height, encoded.width), TURNS[encoded.orientation][0])


def decode(
    data: bytes,
    size: tuple[int, int],
    resize: str,
    most_pixels: int = MOST_PIXELS,
    drawn: list[int] | None = None,
) -> np.ndarray:
    """Decode a picture, turn it upright, and bring it, or a part of it, to a size.

    Args:
      data: the whole file.
      size: height and width.
      resize: `crop` or `plain`, as in `Pictures`.
      most_pixels: a picture of more is not decoded.
      drawn: what `crops.draw` returned, for a random part; default: the part that `resize` names.

    Returns:
      uint8 [height, width, 3].

    Raises:
      DataError: it cannot be decoded.
    """
    encoded = _checked(data, most_pixels)
    transposed, rows, columns = TURNS[encoded.orientation]
    height, width = _swapped((encoded.height, encoded.width), transposed)
    y, x, h, w = crops.centred(height, width, *size) if resize == "crop" else (0, 0, height, width)
    mirrored = False
    if drawn is not None:
        (y, x, h, w), mirrored = crops.place(height, width, (h, w), drawn)
    # The box is one of the upright picture; in that as stored, it lies elsewhere. What is turned is the small result.
    y, x = height - h - y if rows else y, width - w - x if columns else x
    box = (*_swapped((y, x), transposed), *_swapped((h, w), transposed))
    small = _run("pixels", encoded, box, _swapped(size, transposed))
    small = small.transpose(1, 0, 2) if transposed else small
    return small[:: -1 if rows else 1, :: -1 if columns != mirrored else 1]


def _swapped(pair: tuple[int, int], swap: bool) -> tuple[int, int]:
    return (pair[1], pair[0]) if swap else pair


def _checked(data: bytes, most_pixels: int) -> Encoded:
    if pillow.kind_of(data[:16]):
        return pillow.read(data, most_pixels, _memory.hold)
    encoded = headers.read(data)
    pillow.check_size(encoded.height, encoded.width, most_pixels)
    return encoded


def _run(output: str, encoded: Encoded, box: Sequence[int], size: Sequence[int]) -> np.ndarray:
    import tensorflow.compat.v1 as tf

    palette = np.frombuffer(encoded.palette, np.uint8).reshape(-1, 4)
    try:
        with _memory.hold(encoded.height * encoded.width):
            (value,) = _decoder()[output, encoded.kind](encoded.data, box, size, palette)
            return value
    except tf.errors.InvalidArgumentError:
        # Its message only says where in our graph it was.
        kind = encoded.kind.removesuffix("8")
        raise DataError(f"{headers.DAMAGED}, cut short, or a {kind} of a rare kind; save it anew") from None


@functools.cache
def _decoder() -> dict[tuple[str, str], Callable[..., list[np.ndarray]]]:
    """Return a function (data, box, size, palette) for `pixels` and for `shape` of each kind of picture."""
    import tensorflow.compat.v1 as tf

    # Or else all sessions of a process have the threads that the first one asks for: after a picture was decoded, a
    # network would be computed by a single one. It is read when a process opens its first session.
    os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")
    with tf.Graph().as_default() as graph:
        data, box, size = tf.placeholder(tf.string, []), tf.placeholder(tf.int32, [4]), tf.placeholder(tf.int32, [2])
        palette = tf.placeholder(tf.uint8, [None, 4])
        bmp = tf.image.decode_bmp(data)
        whole = {
            # The slow and exact ways; others may differ from one build of the library to the next.
            "JPEG": tf.image.decode_jpeg(data, channels=3, fancy_upscaling=True, dct_method="INTEGER_ACCURATE"),
            "PNG": tf.image.decode_png(data, channels=3),
            "GIF": tf.image.decode_gif(data)[0],
            "BMP": bmp[..., :3],
            "BMP8": tf.gather(palette[:, 2::-1], tf.cast(bmp[..., 0], tf.int32)),
        }
        fetches = {("pixels", kind): resized(pixels, box, size) for kind, pixels in whole.items()}
        seen = {**whole, "JPEG": tf.image.decode_jpeg(data, channels=3, ratio=EIGHTH)}
        fetches |= {("shape", kind): tf.shape(pixels) for kind, pixels in seen.items()}
    # -1: ops run in the thread that calls. No GPU: its memory is for the network.
    alone = {"inter_op_parallelism_threads": -1, "intra_op_parallelism_threads": 1, "device_count": {"GPU": 0}}
    sess = tf.Session(graph=graph, config=tf.ConfigProto(**alone))
    feeds = [data, box, size, palette]
    return {key: callables.compiled(sess, [tensor], feeds) for key, tensor in fetches.items()}


def resized(pixels: Any, box: Any, size: Any) -> Any:
    """Add the ops that cut a box out of pixels and bring it to a size.

    Args:
      pixels: tensor uint8 [h, w, 3].
      box: tensor int32 [4]: top, left, height and width.
      size: tensor int32 [2]: height and width.

    Returns:
      Tensor uint8 [height, width, 3].
    """
    import tensorflow.compat.v1 as tf

    part = tf.slice(pixels, [box[0], box[1], 0], [box[2], box[3], 3])
    # What tf.image.resize of TF 2 does with antialias=True.
    small = tf.raw_ops.ScaleAndTranslate(
        images=part[tf.newaxis],
        size=size,
        scale=tf.cast(size, tf.float32) / tf.cast(box[2:], tf.float32),
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )
    return tf.cast(tf.round(small[0]), tf.uint8)


class Budget:
    """A semaphore that counts pixels: threads share so many, and wait for those of others."""

    def __init__(self, whole: int) -> None:
        """Begin with all of them free."""
        self._whole = self._free = whole
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Hold so many pixels, or all there are, for as long as the context lasts; wait until they are free."""
        pixels = min(pixels, self._whole)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_memory = Budget(MOST_PIXELS)
