"""Headers: kind, size and orientation, read from whatever bytes without harm."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.data.test_pictures import encoded, exif, photo, png
from tfxfer.data import decoding, headers
from tfxfer.errors import DataError


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda data: data[:28] + struct.pack("<H", 16) + data[30:], "16-bit"),
        (lambda data: data[:30] + struct.pack("<I", 1) + data[34:], "compressed"),
        (lambda data: data[:14] + struct.pack("<I", 12) + data[18:], "old"),
    ],
)
def test_a_bmp_that_would_come_out_as_noise_is_refused(change, how):
    with pytest.raises(DataError, match=rf"^is a BMP of a rare kind \({how}\); save it as PNG$"):
        decoding.decode(change(encoded(photo(), "BMP")), (9, 9), "plain")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_tag_is_read_in_either_byte_order(order, orientation):
    data = encoded(photo(), "JPEG", exif=exif(orientation, order))
    assert headers.read(data).orientation == orientation == Image.open(io.BytesIO(data)).getexif()[0x0112]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_that_is_stored_as_a_long_is_read_too(order, orientation):
    data = encoded(photo(), "JPEG", exif=exif(orientation, order, dtype=4))
    assert headers.read(data).orientation == orientation == Image.open(io.BytesIO(data)).getexif()[0x0112]


@pytest.mark.parametrize(
    "block",
    [
        exif(0),
        exif(9),
        exif(6, dtype=2),
        exif(1 << 16 | 6, dtype=4),
        b"Exif\0\0",
        exif(6)[:20],
        b"Exif\0\0QQ*\0" + bytes(40),
    ],
)
def test_a_tag_that_makes_no_sense_is_as_good_as_none(block):
    assert headers.read(encoded(photo(), "JPEG", exif=block)).orientation == 1


@given(st.binary(max_size=60), st.sampled_from([b"II*\0", b"MM\0*", b""]))
def test_no_exif_block_can_do_harm(block, magic):
    assert 1 <= headers.read_orientation(magic + block) <= 8


def test_a_picture_within_the_exif_block_is_no_end_of_the_jpeg():
    data = encoded(photo(), "JPEG", exif=exif(6) + encoded(photo(8, 8), "JPEG"))
    assert headers.read(data)[:3] == ("JPEG", 60, 80)
    with pytest.raises(DataError, match=r"^is cut short$"):
        headers.read(data[:-2])


@given(st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a"]), st.binary(max_size=80))
def test_no_header_does_harm(start, rest):
    try:
        found = headers.read(start + rest)
    except DataError:
        return
    assert found.height >= 1
    assert found.width >= 1


def test_a_picture_of_20000_by_20000_is_refused_by_its_header():
    data = png(struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0), zlib.compress(bytes(1000)))
    started = time.monotonic()
    with pytest.raises(DataError, match=r"^has 20,000 x 20,000 pixels, more than 100,000,000 or a side of 65,535$"):
        decoding.verify(data)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"subsampling": "4:2:0"}])
def test_the_end_of_a_jpegs_scans_is_its_end_whatever_lies_behind_it(options):
    data = encoded(photo(70, 90), "JPEG", quality=95, **options)
    for behind in (b"", b"\0" * 9, data):
        assert headers.end_of_scans(data + behind) == len(data) - 2


def test_what_stands_in_a_segment_between_scans_is_not_a_marker():
    data = encoded(photo(70, 90), "JPEG", progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    note = b"\xff\xfe\0\x06\xff\xd9\xff\x57"
    assert headers.end_of_scans(data[:second] + note + data[second:]) == len(data) + len(note) - 2


@pytest.mark.parametrize("marker", [0x02, 0x57, 0xC0, 0xC3, 0xC9, 0xD8, 0xF0])
def test_a_marker_that_no_decoder_takes_among_pixels_is_damage(marker):
    data = encoded(photo(70, 90), "JPEG")
    bad = data[:-40] + bytes([0xFF, marker]) + data[-38:]
    with pytest.raises(DataError, match=f"^is damaged: its pixels have the marker 0x{marker:02x}$"):
        headers.end_of_scans(bad)
    with pytest.raises(DataError):
        decoding.verify(bad)  # Whoever decodes it finds the same.


@pytest.mark.parametrize("block", [1, 2, 7])
def test_markers_are_seen_wherever_a_block_of_bytes_ends(monkeypatch, block):
    data = encoded(photo(70, 90), "JPEG", progressive=True)
    monkeypatch.setattr(headers, "BLOCK", block)
    assert headers.end_of_scans(data) == len(data) - 2
    for place in range(len(data) - 40, len(data) - 30):
        with pytest.raises(DataError, match="the marker 0xc0"):
            headers.end_of_scans(data[:place] + b"\xff\xc0" + data[place:])


def test_pixels_without_an_end_are_cut_short():
    with pytest.raises(DataError, match=r"^is cut short$"):
        headers.end_of_scans(encoded(photo(70, 90), "JPEG")[:-2])


@pytest.mark.parametrize("mark", [b"\xff\xd0", b"\xff\xff", b"\xff\x01"])
def test_pixels_that_are_all_markers_take_little_memory(mark):
    data = encoded(photo(70, 90), "JPEG")
    data = data[:-2] + mark * 1_000_000 + headers.END
    tracemalloc.start()
    try:
        assert headers.end_of_scans(data) == len(data) - 2
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    finally:
        tracemalloc.stop()
