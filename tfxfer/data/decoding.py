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
from typing import Any, NamedTuple

import numpy as np

from tfxfer import callables
from tfxfer.data import crops, headers, pillow
from tfxfer.data.headers import Encoded
from tfxfer.errors import DataError

RATIOS = (8, 4, 2, 1)  # how many times smaller libjpeg decodes
EIGHTH = RATIOS[0]
GREY = 128  # what libjpeg shows where a scan has no more data
FILLER = b"\x55" * 1024
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
    """Load TensorFlow now, and not in several threads at once."""
    with _building:
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
        with open(path, "rb", buffering=0) as file:  # Through a buffer, all bytes would be copied once more.
            check_kind(file.read(32))
            if status.st_size > BYTES_A_PIXEL * most_pixels:
                raise DataError(f"has {status.st_size:,} bytes, too many for {most_pixels:,} pixels")
            file.seek(0)
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


def verify(data: bytes, most_pixels: int = MOST_PIXELS, *, whole: bool = True, way: str = "exact") -> None:
    """Check that a picture can be decoded.

    Args:
      data: the whole file.
      most_pixels: a picture of more cannot.
      whole: whether the pixels of a JPEG are decoded too, to an eighth of its size: all of its data is read, as ever,
        in half the time. Otherwise its header is read, and the markers among its pixels, to the end.
      way: as `decode` takes it. A JPEG that ends among its pixels is refused by `scaled` if it is decoded whole here.

    Raises:
      DataError: it cannot.
    """
    encoded = _checked(data, most_pixels)
    ratio = EIGHTH if encoded.kind == "JPEG" and whole else 1
    if encoded.kind == "JPEG" and not whole:
        headers.end_of_scans(data)
    shape, *last = _run("shape", encoded, ratio, (0, 0, 1, 1), (1, 1))
    if tuple(shape) != (-(-encoded.height // ratio), -(-encoded.width // ratio), 3):
        raise DataError(f"{headers.DAMAGED}: its header gives another size than it has")
    if way == "scaled" and last:
        _check_is_whole(encoded, last[0])


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
    *,
    way: str = "exact",
) -> np.ndarray:
    """Decode a picture, turn it upright, and bring it, or a part of it, to a size.

    Args:
      data: the whole file.
      size: height and width.
      resize: `crop` or `plain`, as in `Pictures`.
      most_pixels: a picture of more is not decoded.
      drawn: what `crops.draw` returned, for a random part; default: the part that `resize` names.
      way: `exact` or `scaled`, as `decode` in `Pictures`. A JPEG that ends among its pixels is refused by `scaled`.

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
    box, goal = (*_swapped((y, x), transposed), *_swapped((h, w), transposed)), _swapped(size, transposed)
    scaled = way == "scaled" and encoded.kind == "JPEG"
    small, last = _run("pixels", encoded, _ratio(box[2:], goal) if scaled else 1, box, goal)
    if scaled:
        _check_is_whole(encoded, last)
    small = small.transpose(1, 0, 2) if transposed else small
    return small[:: -1 if rows else 1, :: -1 if columns != mirrored else 1]


def _ratio(extent: Sequence[int], goal: Sequence[int]) -> int:
    """Return how many times smaller a part (height and width) may be decoded that is to come to a size."""
    most = min(old // new for old, new in zip(extent, goal, strict=True))
    return next(ratio for ratio in RATIOS if ratio <= max(most, 1))


def _check_is_whole(encoded: Encoded, last: np.ndarray) -> None:
    """Refuse a JPEG whose last pixel is grey for want of data: with other data behind its own, it is another picture.

    Raises:
      DataError: it ends among its pixels.
    """
    if (last != GREY).any():
        return
    end = headers.end_of_scans(encoded.data)
    filled = encoded._replace(data=encoded.data[:end] + FILLER + headers.END)
    box, size = (0, 0, encoded.height, encoded.width), (-(-encoded.height // EIGHTH), -(-encoded.width // EIGHTH))
    first, second = (_run("pixels", each, EIGHTH, box, size)[0] for each in (encoded, filled))
    if (first != second).any():
        raise DataError(f"{headers.CUT}: it ends among its pixels, and the rest would be grey")


def _swapped(pair: tuple[int, int], swap: bool) -> tuple[int, int]:
    return (pair[1], pair[0]) if swap else pair


def _checked(data: bytes, most_pixels: int) -> Encoded:
    if pillow.kind_of(data[:16]):
        return pillow.read(data, most_pixels, _memory.hold)
    encoded = headers.read(data)
    pillow.check_size(encoded.height, encoded.width, most_pixels)
    return encoded


def _run(output: str, encoded: Encoded, ratio: int, box: Sequence[int], size: Sequence[int]) -> list[np.ndarray]:
    import tensorflow.compat.v1 as tf

    palette = np.frombuffer(encoded.palette, np.uint8).reshape(-1, 4)
    try:
        with _memory.hold(encoded.height * encoded.width):
            return _call(output, encoded.kind, ratio)(encoded.data, box, size, palette)
    except tf.errors.InvalidArgumentError:
        # Its message only says where in our graph it was.
        kind = encoded.kind.removesuffix("8")
        raise DataError(f"{headers.DAMAGED}, cut short, or a {kind} of a rare kind; save it anew") from None


class _Decoder(NamedTuple):
    """A session whose graph grows by each kind of picture that is met, and what it is fed, as `resized` takes it."""

    sess: Any
    data: Any
    box: Any
    size: Any
    palette: Any


_building = threading.RLock()  # A graph takes ops from one thread at a time.


@functools.cache
def _decoder() -> _Decoder:
    import tensorflow.compat.v1 as tf

    # Or else all sessions of a process have the threads that the first one asks for: after a picture was decoded, a
    # network would be computed by a single one. It is read when a process opens its first session.
    os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")
    with tf.Graph().as_default() as graph:
        data, box, size = tf.placeholder(tf.string, []), tf.placeholder(tf.int32, [4]), tf.placeholder(tf.int32, [2])
        palette = tf.placeholder(tf.uint8, [None, 4])
    # -1: ops run in the thread that calls. No GPU: its memory is for the network.
    alone = {"inter_op_parallelism_threads": -1, "intra_op_parallelism_threads": 1, "device_count": {"GPU": 0}}
    return _Decoder(tf.Session(graph=graph, config=tf.ConfigProto(**alone)), data, box, size, palette)


def _call(output: str, kind: str, ratio: int) -> Callable[..., list[np.ndarray]]:
    """Return a function (data, box, size, palette) for a kind of picture, and for a ratio of a JPEG.

    That of `pixels` gives these as `resized` has them, and the last pixel of all; that of `shape`, height, width and 3,
    and of a JPEG at an eighth the last pixel too.
    """
    with _building:
        return _compiled(output, kind, ratio)


@functools.cache
def _compiled(output: str, kind: str, ratio: int) -> Callable[..., list[np.ndarray]]:
    decoder = _decoder()
    with decoder.sess.graph.as_default():
        fetches = _shape(decoder, kind, ratio) if output == "shape" else _pixels(decoder, kind, ratio)
    return callables.compiled(decoder.sess, fetches, list(decoder[1:]))


def _pixels(decoder: _Decoder, kind: str, ratio: int) -> list[Any]:
    pixels = _whole(decoder, kind, ratio)
    return [resized(pixels, decoder.box, decoder.size, ratio), pixels[-1, -1]]


def _shape(decoder: _Decoder, kind: str, ratio: int) -> list[Any]:
    import tensorflow.compat.v1 as tf

    if kind != "JPEG":
        return [tf.shape(_whole(decoder, kind, ratio))]
    if ratio == 1:  # Its depth is 3, whatever it is in the file.
        return [tf.concat([tf.image.extract_jpeg_shape(decoder.data)[:2], [3]], axis=0)]
    # Nobody sees the pixels but the last, which tells whether there are all: so they are decoded in the quickest way.
    looked_at = tf.image.decode_jpeg(decoder.data, channels=3, ratio=ratio)
    return [tf.shape(looked_at), looked_at[-1, -1]]


def _whole(decoder: _Decoder, kind: str, ratio: int) -> Any:
    """Return all pixels of a picture, uint8 [h, w, 3]."""
    import tensorflow.compat.v1 as tf

    data = decoder.data
    if kind == "JPEG":
        return jpeg(data, ratio)
    if kind == "PNG":
        return tf.image.decode_png(data, channels=3)
    if kind == "GIF":
        return tf.image.decode_gif(data)[0]
    bmp = tf.image.decode_bmp(data)
    return tf.gather(decoder.palette[:, 2::-1], tf.cast(bmp[..., 0], tf.int32)) if kind == "BMP8" else bmp[..., :3]


def jpeg(data: Any, ratio: int) -> Any:
    """Add the op that decodes a JPEG to 1/ratio of its size; it returns a tensor uint8 [h, w, 3]."""
    import tensorflow.compat.v1 as tf

    # The slow and exact ways; others may differ from one build of the library to the next.
    return tf.image.decode_jpeg(
        data, channels=3, ratio=ratio, fancy_upscaling=True, dct_method="INTEGER_ACCURATE", name=f"JPEG_{ratio}"
    )


def resized(pixels: Any, box: Any, size: Any, ratio: Any = 1) -> Any:
    """Add the ops that cut a box out of a picture and bring it to a size.

    Args:
      pixels: tensor uint8 [ceil(h / ratio), ceil(w / ratio), 3].
      box: tensor int32 [4]: top, left, height and width in the picture of h x w pixels.
      size: tensor int32 [2]: height and width.
      ratio: of the whole picture's sides to those of `pixels`, an integer or a tensor int32.

    Returns:
      Tensor uint8 [height, width, 3].
    """
    import tensorflow.compat.v1 as tf

    corner, extent = box[:2], box[2:]
    first, end = corner // ratio, (corner + extent + ratio - 1) // ratio
    part = tf.slice(pixels, tf.concat([first, [0]], axis=0), tf.concat([end - first, [3]], axis=0))
    scale = tf.cast(size * ratio, tf.float32) / tf.cast(extent, tf.float32)
    # The box may begin within a pixel.
    offset = -scale * tf.cast(corner - first * ratio, tf.float32) / tf.cast(ratio, tf.float32)
    # Each side by itself, the other laid out as channels: the same sums, which the kernel computes faster so.
    rows = _rows_resized(part, size[0], scale[0], offset[0])
    both = _rows_resized(tf.transpose(rows, [1, 0, 2]), size[1], scale[1], offset[1])
    return tf.transpose(tf.cast(tf.round(both), tf.uint8), [1, 0, 2])


def _rows_resized(pixels: Any, rows: Any, scale: Any, offset: Any) -> Any:
    """Return float32 [rows, w, 3] of pixels [h, w, 3], as tf.image.resize of TF 2 does with antialias=True."""
    import tensorflow.compat.v1 as tf

    height, width = tf.unstack(tf.shape(pixels)[:2])
    resized_rows = tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(pixels, [1, height, 1, 3 * width]),
        size=tf.stack([rows, 1]),
        scale=tf.stack([scale, 1.0]),
        translation=tf.stack([offset, 0.0]),
        kernel_type="triangle",
        antialias=True,
    )
    return tf.reshape(resized_rows, [rows, width, 3])


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
