"""Decoding inside the graph: the pixels of tfxfer.data.decoding, bit for bit, whatever the file."""

from __future__ import annotations

import functools
import struct
import zlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.data.test_pictures import animated, encoded, exif, photo, png, with_masks
from tfxfer.data import decoding as files
from tfxfer.errors import DataError
from tfxfer.graph import decoding


@functools.cache
def decoder(size: tuple[int, int], resize: str):
    """Return a function from a list of files to pixels."""
    with tf.Graph().as_default() as graph:
        data = tf.placeholder(tf.string, [None])
        pixels = decoding.decode(data, size, resize)
    run = tf.Session(graph=graph).make_callable(pixels, [data])
    return lambda many: run(np.array(many, object))


def same(data: bytes, size: tuple[int, int] = (31, 47), resize: str = "crop") -> None:
    [pixels] = decoder(size, resize)([data])
    assert np.array_equal(pixels, files.decode(data, size, resize))


def deep_png(channels: int) -> bytes:
    """A PNG of 16 bits a channel."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (40, 60, channels), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 60, 40, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return png(header, zlib.compress(rows))


def converted(mode: str, kind: str, **options) -> bytes:
    return encoded(Image.fromarray(photo()).convert(mode), kind, **options)


def offset_gif() -> bytes:
    """A GIF whose frame lies inside a larger canvas."""
    data = bytearray(encoded(Image.fromarray(photo()).quantize(64), "GIF", optimize=False, comment=b"a" * 700))
    data[6:10] = struct.pack("<HH", 200, 100)
    at = data.index(b"," + struct.pack("<HHHH", 0, 0, 80, 60))
    data[at + 1 : at + 5] = struct.pack("<HH", 50, 20)
    return bytes(data)


def growing_gif() -> bytes:
    """An animated GIF whose second frame is larger than the first: by hand, since Pillow makes them all as large."""
    small, large = (encoded(Image.fromarray(photo(*side)).quantize(64), "GIF") for side in ((30, 40), (60, 80)))
    start = small.index(b"," + struct.pack("<HHHH", 0, 0, 40, 30))
    other = large.index(b"," + struct.pack("<HHHH", 0, 0, 80, 60))
    # The second frame brings the colours that its file has for all frames as its own.
    colours = large[13 : 13 + 3 * 64]
    frame = large[other : other + 9] + bytes([0x85]) + colours + large[other + 10 :]
    return small[:start] + small[start:-1] + frame


PICTURES = {
    "JPEG": encoded(photo(), "JPEG"),
    "progressive JPEG": encoded(photo(), "JPEG", progressive=True),
    "JPEG without subsampling": encoded(photo(), "JPEG", subsampling="4:4:4"),
    "JPEG with restarts": encoded(photo(), "JPEG", restart_marker_blocks=2),
    "grey JPEG": converted("L", "JPEG"),
    "CMYK JPEG": converted("CMYK", "JPEG"),
    **{f"{mode} PNG": converted(mode, "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")},
    **{f"16-bit PNG, {channels} channels": deep_png(channels) for channels in (1, 2, 3, 4)},
    **{f"{mode} BMP": converted(mode, "BMP") for mode in ("RGB", "RGBA", "L", "P")},
    "BMP from top to bottom": (lambda data: data[:22] + struct.pack("<i", -60) + data[26:])(encoded(photo(), "BMP")),
    "BMP with more behind it": encoded(photo(), "BMP") + b"\0\0",
    "BMP with masks": with_masks(converted("RGBA", "BMP"), 0xFF0000, 0xFF00, 0xFF),
    "BMP of few colours": encoded(Image.fromarray(photo()).quantize(9), "BMP"),
    "GIF": encoded(Image.fromarray(photo()).quantize(64), "GIF"),
    "animated GIF": animated(),
    "offset GIF": offset_gif(),
    "growing GIF": growing_gif(),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("resize", ["crop", "plain"])
def test_every_kind_has_the_pixels_that_files_have(kind, resize):
    same(PICTURES[kind], resize=resize)


@pytest.mark.parametrize("size", [(224, 224), (47, 31), (300, 7), (60, 80), (1, 1)])
@pytest.mark.parametrize("resize", ["crop", "plain"])
def test_whatever_the_size(size, resize):
    for shape in ((60, 80), (121, 160), (160, 33), (5, 200)):
        same(encoded(photo(*shape)), size, resize)


def test_a_batch_may_mix_kinds_and_sizes_and_may_be_empty():
    many = [*PICTURES.values(), encoded(photo(200, 90), "JPEG")]
    expected = np.stack([files.decode(data, (31, 47), "crop") for data in many])
    assert np.array_equal(decoder((31, 47), "crop")(many), expected)
    assert decoder((31, 47), "crop")([]).shape == (0, 31, 47, 3)


# --- EXIF ---


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["crop", "plain"])
def test_a_jpeg_is_turned_upright(orientation, resize):
    for size in ((31, 47), (60, 20), (31, 31)):
        for order in "<>":
            same(encoded(photo(61, 84), "JPEG", exif=exif(orientation, order)), size, resize)


def turned(block: bytes) -> bool:
    """Whether a JPEG with this EXIF block comes out as its pixels lie."""
    data = encoded(photo(), "JPEG", exif=block)
    same(data)
    return not np.array_equal(decoder((31, 47), "crop")([data]), decoder((31, 47), "crop")([PICTURES["JPEG"]]))


@pytest.mark.parametrize(
    "block", [exif(0), exif(9), exif(6, dtype=2), b"Exif\0\0", exif(6)[:20], b"Exif\0\0QQ*\0" + bytes(40), exif(6)[:34]]
)
def test_a_tag_that_makes_no_sense_is_as_good_as_none(block):
    assert not turned(block)


def test_a_block_that_ends_with_the_orientation_is_read():
    # Six for the name, eight for the head, two for the count, twelve for the entry before, and ten of the entry.
    assert turned(exif(6)[:38])
    assert not turned(exif(6)[:37])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_that_is_stored_as_a_long_is_read_as_from_files(orientation, order):
    same(encoded(photo(61, 84), "JPEG", exif=exif(orientation, order, dtype=4)), (31, 47))
    assert turned(exif(orientation, order, dtype=4)) == (orientation > 1)


def test_a_long_takes_the_whole_entry():
    assert turned(exif(6, dtype=4)[:40])
    assert not turned(exif(6, dtype=4)[:39])
    assert not turned(exif(1 << 16 | 6, dtype=4))


@given(st.binary(max_size=60), st.sampled_from([b"II*\0", b"MM\0*", b"", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0"]))
def test_whatever_is_in_the_block_it_is_read_as_from_files(block, magic):
    same(encoded(photo(9, 12), "JPEG", exif=b"Exif\0\0" + magic + block), (9, 12))


def test_the_first_block_counts_and_what_lies_between_segments_is_passed_over():
    plain = PICTURES["JPEG"]
    first, second = (encoded(photo(), "JPEG", exif=exif(which)) for which in (6, 3))
    block, other = (data[2 : 4 + struct.unpack(">H", data[4:6])[0]] for data in (first, second))
    note = b"\xff\xe1" + struct.pack(">H", 30) + b"http://ns.adobe.com/xap/1.0/"
    for start in (block + other, note + block, b"\xff\xff" + block, b"\xff\x01" + other, other + block):
        same(plain[:2] + start + plain[2:], (40, 20))


def test_a_picture_within_the_exif_block_does_no_harm():
    same(encoded(photo(), "JPEG", exif=exif(6) + encoded(photo(8, 8), "JPEG", exif=exif(3))))


# --- what cannot be decoded ---


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a JPEG, PNG, BMP or GIF"),
        (b"a text", "not a JPEG, PNG, BMP or GIF"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "not a JPEG, PNG, BMP or GIF"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"BM", "rare kind"),
        (b"GIF89a", "no frame"),
        (PICTURES["JPEG"][:600], "JPEG"),
        (PICTURES["JPEG"][:-2], "JPEG"),
        (PICTURES["RGB PNG"][:600], "PNG"),
        (PICTURES["RGB BMP"][:600], "Input size should match"),
        (PICTURES["GIF"][:13], "no frame"),
    ],
)
def test_what_is_not_a_picture_is_an_invalid_argument(data, message):
    with pytest.raises(DataError):
        files.decode(data, (31, 47), "crop")
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decoder((31, 47), "crop")([data])


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:28] + struct.pack("<H", 16) + data[30:],
        lambda data: data[:30] + struct.pack("<I", 1) + data[34:],
        lambda data: data[:14] + struct.pack("<I", 12) + data[18:],
        lambda data: with_masks(converted("RGBA", "BMP"), 0xFF, 0xFF00, 0xFF0000),
    ],
)
def test_a_bmp_that_would_come_out_as_noise_is_refused(change):
    with pytest.raises(tf.errors.InvalidArgumentError, match="a BMP is of a rare kind; save it as PNG"):
        decoder((31, 47), "crop")([change(PICTURES["RGB BMP"])])


def test_a_header_without_an_end_does_not_take_long():
    # Segments and blocks of no use, more than are looked at.
    jpeg = PICTURES["JPEG"][:2] + b"\xff\xe0\0\2" * 100_000 + encoded(photo(), "JPEG", exif=exif(6))[2:]
    assert decoder((31, 47), "crop")([jpeg]).shape == (1, 31, 47, 3)
    gif = PICTURES["GIF"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="no frame"):
        decoder((31, 47), "crop")([gif[:13] + b"!\xfe" + b"\1a" * 100_000])


# --- grey ---


def test_grey_is_what_pillow_makes_of_colours_and_leaves_grey_as_it_is():
    with tf.Graph().as_default(), tf.Session() as sess:
        pixels = tf.placeholder(tf.uint8, [None, None, None, 3])
        run = sess.make_callable(decoding.grey(pixels), [pixels])
        levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
        assert np.array_equal(run(np.repeat(levels, 3, axis=3)), levels)
        picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        assert np.array_equal(run(picture[np.newaxis])[0, ..., 0], np.asarray(Image.fromarray(picture).convert("L")))


# --- decoded smaller ---


@pytest.mark.parametrize("resize", ["crop", pytest.param("plain", marks=pytest.mark.slow)])
def test_jpegs_decoded_smaller_have_the_bits_of_files(resize):
    with tf.Graph().as_default(), tf.Session() as sess:
        data = tf.placeholder(tf.string, [None])
        run = sess.make_callable(decoding.decode(data, (31, 47), resize, "scaled"), [data])
        pictures = [*PICTURES.values()]
        for number, (height, width) in enumerate([(61, 95), (62, 94), (63, 200), (133, 190), (250, 390), (500, 401)]):
            for orientation in (1, 6, 7):
                pictures.append(encoded(photo(height, width, number), "JPEG", exif=exif(orientation)))
        pixels = run(np.array(pictures, object))
        assert np.array_equal(pixels, [files.decode(each, (31, 47), resize, way="scaled") for each in pictures])
        assert not np.array_equal(pixels, [files.decode(each, (31, 47), resize) for each in pictures])
