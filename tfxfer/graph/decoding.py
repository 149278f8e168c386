"""From the bytes of pictures to pixels, inside the graph: what `data.decoding` does, by TensorFlow's ops alone.

So a graph that is served elsewhere takes the files as they are, and sees the pixels that it was trained on.
"""

from __future__ import annotations

import functools

import tensorflow.compat.v1 as tf

from tfxfer.data.decoding import RATIOS, TURNS, jpeg, resized
from tfxfer.data.headers import ALONE, APP1, GREYS, LONG, MAGIC, ORIENTATION, SCAN, SHORT

# So many are looked at, that no file takes a server for long: segments before a JPEG's pixels, blocks before a GIF's.
MOST_SEGMENTS = 1000
MOST_BLOCKS = 10_000
WINDOW = 1 << 16  # bytes in which the next segment is looked for
UPRIGHT = 1
EXIF = int.from_bytes(b"Exif\0\0", "big")
LUMA = (19595, 38470, 7471)  # of R, G, B in 1/65536: ITU-R BT.601, as Pillow's convert("L") has it


def decode(image_bytes: tf.Tensor, size: tuple[int, int], resize: str, way: str = "exact") -> tf.Tensor:
    """Decode pictures, turn them upright, and bring them to a size.

    The pixels are those of `data.decoding.decode`, bit for bit. Pictures of more than 100,000,000 pixels, which that
    refuses, are decoded here as far as TensorFlow does (about 178,000,000); and a JPEG stays as its pixels lie if more
    than MOST_SEGMENTS stand before its EXIF tag. A JPEG that ends among its pixels is grey from there on.

    Args:
      image_bytes: string [n], each the whole file of a JPEG, PNG, GIF (its first frame is taken) or BMP.
      size: height and width.
      resize: `crop` or `plain`, as in `data.Pictures`.
      way: `exact` or `scaled`, as `decode` in `data.Pictures`.

    Returns:
      uint8 [n, height, width, 3]. One picture that cannot be decoded fails the whole batch.
    """
    with tf.name_scope("DECODE"):
        decode_picture = functools.partial(_picture, size=size, resize=resize, way=way)
        return tf.map_fn(decode_picture, image_bytes, fn_output_signature=tf.TensorSpec([*size, 3], tf.uint8))


def grey(pixels: tf.Tensor) -> tf.Tensor:
    """Turn uint8 RGB [n, h, w, 3] into uint8 [n, h, w, 1], as Pillow's `convert("L")` does; grey stays what it is."""
    sums = tf.reduce_sum(tf.cast(pixels, tf.int32) * tf.constant(LUMA), axis=-1, keepdims=True)
    return tf.cast((sums + (1 << 15)) // (1 << 16), tf.uint8)


def _picture(data: tf.Tensor, size: tuple[int, int], resize: str, way: str) -> tf.Tensor:
    pixels, box, orientation, ratio = tf.case(
        [
            (_starts(data, "JPEG"), functools.partial(_jpeg, data, size, resize, way)),
            (_starts(data, "GIF"), lambda: _whole(_gif(data), size, resize)),
            (_starts(data, "BMP"), lambda: _whole(_bmp(data), size, resize)),
        ],
        default=lambda: _whole(_png(data), size, resize),
    )
    transposed, rows, columns = _turn(orientation)
    small = resized(pixels, box, _swapped(tf.constant(size), transposed), ratio)
    small = tf.cond(transposed, lambda: tf.transpose(small, [1, 0, 2]), lambda: small)
    small = tf.where(rows, small[::-1], small)
    return tf.ensure_shape(tf.where(columns, small[:, ::-1], small), [*size, 3])


def _whole(pixels: tf.Tensor, size: tuple[int, int], resize: str) -> tuple[tf.Tensor, ...]:
    """Return the pixels of an upright picture, the box that is cut out, the orientation and the ratio."""
    upright = _int(UPRIGHT)
    return pixels, _box(tf.shape(pixels)[:2], upright, size, resize), upright, tf.constant(1)


def _turn(orientation: tf.Tensor) -> tuple[tf.Tensor, ...]:
    parts = (tf.constant([turn[part] for turn in TURNS.values()]) for part in range(3))
    return tuple(tf.gather(part, orientation - 1) for part in parts)


def _box(shape: tf.Tensor, orientation: tf.Tensor, size: tuple[int, int], resize: str) -> tf.Tensor:
    """Return top, left, height and width (int32) of what is cut out, in the picture as it is stored."""
    transposed, rows, columns = _turn(orientation)
    height, width = tf.unstack(_swapped(tf.cast(shape, tf.int64), transposed))
    y, x, h, w = _centre(height, width, *size) if resize == "crop" else (_int(0), _int(0), height, width)
    # The box is one of the upright picture; in that as stored, it lies elsewhere. What is turned is the small result.
    corner = tf.stack([tf.where(rows, height - h - y, y), tf.where(columns, width - w - x, x)])
    box = tf.concat([_swapped(corner, transposed), _swapped(tf.stack([h, w]), transposed)], axis=0)
    return tf.cast(box, tf.int32)


def _starts(data: tf.Tensor, kind: str) -> tf.Tensor:
    return tf.reduce_any([tf.equal(tf.strings.substr(data, 0, len(start)), start) for start in MAGIC[kind]])


def _swapped(pair: tf.Tensor, swap: tf.Tensor) -> tf.Tensor:
    return tf.where(swap, pair[::-1], pair)


def _centre(height: tf.Tensor, width: tf.Tensor, rows: int, columns: int) -> tuple[tf.Tensor, ...]:
    """Return top, left, height and width (int64) of the largest centred part of the proportions rows : columns."""
    wide = height * columns <= width * rows
    h = tf.where(wide, height, tf.maximum(_rounded(width * rows, columns), 1))
    w = tf.where(wide, tf.maximum(_rounded(height * columns, rows), 1), width)
    return (height - h) // 2, (width - w) // 2, h, w


def _rounded(a: tf.Tensor, b: int) -> tf.Tensor:
    return (2 * a + b) // (2 * b)


def _number(raw: tf.Tensor, at: tf.Tensor | int, count: int, little: tf.Tensor | bool = True) -> tf.Tensor:
    """Return the unsigned integers (int64) of so many bytes at places of a file; beyond its end, of its last byte."""
    places = tf.cast(at, tf.int64)[..., tf.newaxis] + tf.range(count, dtype=tf.int64)
    values = tf.gather(raw, tf.clip_by_value(places, 0, tf.size(raw, out_type=tf.int64) - 1))
    powers = tf.constant([256**place for place in range(count)], tf.int64)
    return tf.reduce_sum(tf.cast(values, tf.int64) * tf.where(little, powers, powers[::-1]), axis=-1)


def _signed(number: tf.Tensor) -> tf.Tensor:
    return tf.where(number < 1 << 31, number, number - (1 << 32))


def _checked(data: tf.Tensor, fine: tf.Tensor, complaint: str) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(fine, [complaint])]):
        return tf.identity(data)


def _int(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)


# --- PNG, GIF, BMP ---


def _png(data: tf.Tensor) -> tf.Tensor:
    data = _checked(data, _starts(data, "PNG"), "a picture is not a JPEG, PNG, BMP or GIF")
    return tf.image.decode_png(data, channels=3)


def _gif(data: tf.Tensor) -> tf.Tensor:
    raw = tf.io.decode_raw(data, tf.uint8)
    at = _first_frame(raw)
    data = _checked(data, tf.equal(_number(raw, at, 1), ord(",")), "a GIF is damaged: it has no frame")
    # Moved to the corner, where TensorFlow looks for it.
    rest = tf.strings.substr(data, at + 5, tf.size(raw, out_type=tf.int64))
    data = tf.strings.join([tf.strings.substr(data, _int(0), at + 1), tf.constant(bytes(4)), rest])
    pixels = tf.image.decode_image(data, channels=3, expand_animations=False)
    return pixels[: _number(raw, at + 7, 2), : _number(raw, at + 5, 2)]


def _first_frame(raw: tf.Tensor) -> tf.Tensor:
    """Return where a GIF's first block is that is not an extension."""
    size, flags = tf.size(raw, out_type=tf.int64), _number(raw, 10, 1)
    table = tf.where(flags >= 0x80, tf.gather(tf.constant([6 << bits for bits in range(8)], tf.int64), flags % 8), 0)

    def step(at: tf.Tensor, inside: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        byte = _number(raw, at, 1)
        extension = tf.equal(byte, ord("!"))
        after = tf.where(inside, at + 1 + byte, tf.where(extension, at + 2, at))
        return after, tf.where(inside, byte > 0, extension), tf.logical_or(inside, extension)

    def goes_on(at: tf.Tensor, _: tf.Tensor, more: tf.Tensor) -> tf.Tensor:
        return more & (at < size)

    begin = (table + 13, tf.constant(False), tf.constant(True))
    return tf.while_loop(goes_on, step, begin, maximum_iterations=MOST_BLOCKS)[0]


def _bmp(data: tf.Tensor) -> tf.Tensor:
    raw = tf.io.decode_raw(data, tf.uint8)
    start, header, compression = (_number(raw, at, 4) for at in (10, 14, 30))
    width, height, bits = _signed(_number(raw, 18, 4)), _signed(_number(raw, 22, 4)), _number(raw, 28, 2)
    masks = tf.equal(_number(raw, [54, 58, 62], 4), [0xFF0000, 0xFF00, 0xFF])
    plain = tf.equal(compression, 0) | (tf.equal(bits, 32) & tf.equal(compression, 3) & tf.reduce_all(masks))
    usual = (header >= 40) & tf.reduce_any(tf.equal(bits, [8, 24, 32])) & plain & (width > 0)
    # TensorFlow looks at none of these and would give noise; and it wants nothing behind the pixels.
    data = _checked(data, usual, "a BMP is of a rare kind; save it as PNG")
    end = start + (bits * width + 31) // 32 * 4 * tf.abs(height)
    pixels = tf.image.decode_bmp(tf.strings.substr(data, _int(0), end))
    coloured = functools.partial(_coloured, raw, header, pixels)
    return tf.cond(tf.equal(bits, 8), coloured, lambda: pixels[..., :3])


def _coloured(raw: tf.Tensor, header: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Look the places of a BMP up in its palette: blue, green, red and a byte of padding a colour."""
    colours = _number(raw, 46, 4)
    count = tf.minimum(tf.where(tf.equal(colours, 0), tf.constant(256, tf.int64), colours), 256)
    places = header + 14 + tf.range(len(GREYS), dtype=tf.int64)
    there = places < tf.minimum(header + 14 + 4 * count, tf.size(raw, out_type=tf.int64))
    palette = tf.reshape(tf.where(there, _number(raw, places, 1), tf.zeros_like(places)), [-1, 4])[:, 2::-1]
    return tf.cast(tf.gather(palette, tf.cast(pixels[..., 0], tf.int32)), tf.uint8)


# --- JPEG ---


def _jpeg(data: tf.Tensor, size: tuple[int, int], resize: str, way: str) -> tuple[tf.Tensor, ...]:
    """Return the pixels, the box that is cut out, the orientation, and how many times smaller they were decoded."""
    raw = tf.io.decode_raw(data, tf.uint8)
    orientation = _orientation(raw, *_exif(raw))
    if way == "exact":
        pixels = jpeg(data, 1)
        return pixels, _box(tf.shape(pixels)[:2], orientation, size, resize), orientation, tf.constant(1)
    box = _box(tf.image.extract_jpeg_shape(data)[:2], orientation, size, resize)
    goal = _swapped(tf.constant(size), _turn(orientation)[0])
    fits = [tf.reduce_all(ratio * goal <= box[2:]) for ratio in RATIOS[:-1]]
    place = tf.argmax(tf.stack([*fits, True]), output_type=tf.int32)
    branches = [functools.partial(jpeg, data, ratio) for ratio in RATIOS]
    return tf.switch_case(place, branches), box, orientation, tf.gather(tf.constant(RATIOS), place)


def _exif(raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where the first EXIF block of a JPEG begins and ends; 0 and 0 where it has none."""
    size = tf.size(raw, out_type=tf.int64)

    def step(at: tf.Tensor, start: tf.Tensor, end: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Whatever lies between segments is passed over, as libjpeg does.
        marks = tf.equal(raw[at : at + WINDOW], 0xFF)
        has_mark = tf.reduce_any(marks)
        at += tf.where(has_mark, tf.argmax(tf.cast(marks, tf.uint8)), WINDOW)
        marker, length = _number(raw, at + 1, 1), _number(raw, at + 2, 2, little=False)
        empty = tf.reduce_any(tf.equal(marker, [0, *sorted(ALONE)]))
        segment = has_mark & ~empty & tf.not_equal(marker, 0xFF)
        exif = segment & tf.equal(marker, APP1) & tf.equal(_number(raw, at + 4, 6, little=False), EXIF)
        more = ~exif & ~(segment & tf.equal(marker, SCAN))
        start, end = tf.where(exif, at + 10, start), tf.where(exif, tf.minimum(at + 2 + length, size), end)
        at += tf.where(segment, 2 + length, tf.where(has_mark, tf.where(empty, _int(2), _int(1)), _int(0)))
        return at, start, end, more

    def goes_on(at: tf.Tensor, _start: tf.Tensor, _end: tf.Tensor, more: tf.Tensor) -> tf.Tensor:
        return more & (at < size)

    begin = (_int(2), _int(0), _int(0), tf.constant(True))
    _, start, end, _ = tf.while_loop(goes_on, step, begin, maximum_iterations=MOST_SEGMENTS)
    return start, end


def _orientation(raw: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return the orientation that the first directory of an EXIF block has; 1 where it has none that can be read."""
    order = _number(raw, start, 2, little=False)
    little = tf.equal(order, int.from_bytes(b"II", "big"))
    at = _number(raw, start + 4, 4, little)
    # An entry is 12 bytes; of the last, the 10 must be there that are read.
    count = tf.clip_by_value((end - start - at) // 12, 0, _number(raw, start + at, 2, little))
    entries = start + at + 2 + 12 * tf.range(count)
    tags = tf.concat([_number(raw, entries, 2, little), [ORIENTATION]], axis=0)
    place = tf.argmax(tf.cast(tf.equal(tags, ORIENTATION), tf.uint8))
    entry = start + at + 2 + 12 * place
    dtype = _number(raw, entry + 2, 2, little)
    # A LONG takes all 12 bytes of the entry.
    long = tf.equal(dtype, LONG) & (entry + 12 <= end)
    value = tf.where(long, _number(raw, entry + 8, 4, little), _number(raw, entry + 8, 2, little))
    known = little | tf.equal(order, int.from_bytes(b"MM", "big"))
    fine = known & (place < count) & (tf.equal(dtype, SHORT) | long) & (value >= 1) & (value <= 8)
    return tf.where(fine, value, tf.ones_like(value))
