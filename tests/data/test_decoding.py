"""Decoding: pixels as Pillow gives them, turned, cut and resized; what cannot be decoded; memory."""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.data.test_pictures import KINDS, animated, as_stored, encoded, exif, farthest, photo, pillow, png, with_masks
from tfxfer.data import crops, decoding, headers
from tfxfer.errors import DataError


def weights(old: int, new: int) -> np.ndarray:
    """How much of each old pixel is in each new one: a triangle, as wide as two pixels of the coarser grid."""
    scale = old / new
    distance = np.abs((np.arange(new)[:, None] + 0.5) * scale - (np.arange(old) + 0.5)) / max(scale, 1)
    triangle = np.maximum(1 - distance, 0)
    return triangle / triangle.sum(axis=1, keepdims=True)


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    by_rows = np.einsum("ij,jkc->ikc", weights(pixels.shape[0], height), pixels.astype(float))
    return np.einsum("ij,kjc->kic", weights(pixels.shape[1], width), by_rows)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"quality": 35}),
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": "4:4:4"}),
        ("RGB", {"restart_marker_blocks": 2}),
        ("L", {}),
        ("CMYK", {"quality": 95}),
    ],
)
def test_a_jpeg_has_the_pixels_that_pillow_decodes(mode, options):
    data = encoded(Image.fromarray(photo()).convert(mode), "JPEG", **options)
    assert np.array_equal(as_stored(data), pillow(data))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_a_png_has_the_pixels_that_pillow_decodes(mode):
    data = encoded(Image.fromarray(photo()).convert(mode))
    assert np.array_equal(as_stored(data), pillow(data))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_png_with_a_small_palette_is_decoded(bits):
    data = encoded(Image.fromarray(photo()).quantize(2**bits), bits=bits, transparency=1)
    assert np.array_equal(as_stored(data), pillow(data))


def test_transparency_is_left_out():
    pixels = np.dstack([photo(), np.zeros((60, 80), np.uint8)])
    assert np.array_equal(as_stored(encoded(pixels)), pixels[..., :3])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_of_16_bits_the_upper_8_are_taken(channels):
    colours = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    pixels = np.random.default_rng(0).integers(0, 2**16, (6, 9, channels), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    data = png(struct.pack(">IIBBBBB", 9, 6, 16, colours, 0, 0, 0), zlib.compress(rows))
    upper = (pixels >> 8).astype(np.uint8)
    expected = upper[..., :3] if channels > 2 else np.repeat(upper[..., :1], 3, axis=2)
    assert np.array_equal(decoding.decode(data, (6, 9), "plain"), expected)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("width", [80, 81, 83])
def test_a_bmp_has_the_pixels_that_pillow_decodes(mode, width):
    data = encoded(Image.fromarray(photo(width=width)).convert(mode), "BMP")
    assert np.array_equal(as_stored(data), pillow(data))


def test_a_bmp_from_top_to_bottom_or_with_something_behind_it_is_decoded():
    data = encoded(photo(), "BMP")
    upside_down = data[:22] + struct.pack("<i", -60) + data[26:]
    assert np.array_equal(as_stored(upside_down), photo()[::-1])
    assert np.array_equal(as_stored(data + b"\0\0"), photo())


def test_a_bmp_that_spells_out_its_usual_masks_is_decoded():
    data = encoded(Image.fromarray(photo()).convert("RGBA"), "BMP")
    assert np.array_equal(as_stored(with_masks(data, 0xFF0000, 0xFF00, 0xFF)), photo())
    with pytest.raises(DataError, match=r"^is a BMP of a rare kind \(compressed\)"):
        headers.read(with_masks(data, 0xFF, 0xFF00, 0xFF0000))


@pytest.mark.parametrize("options", [{}, {"interlace": 1}, {"interlace": 0}, {"comment": b"a" * 700}])
def test_a_gif_has_the_pixels_that_pillow_decodes(options):
    data = encoded(Image.fromarray(photo()).quantize(64), "GIF", **options)
    assert np.array_equal(as_stored(data), pillow(data))


def test_of_a_gif_the_first_frame_is_taken():
    assert np.array_equal(as_stored(animated()), pillow(animated()))
    assert len(headers.read(animated()).data) < len(animated()) / 3


def test_a_gif_whose_frame_lies_inside_a_larger_canvas_gives_the_frame():
    data = bytearray(encoded(Image.fromarray(photo()).quantize(64), "GIF", optimize=False))
    expected = as_stored(bytes(data))
    data[6:10] = struct.pack("<HH", 200, 100)  # the canvas
    at = data.index(b"," + struct.pack("<HHHH", 0, 0, 80, 60))
    data[at + 1 : at + 5] = struct.pack("<HH", 50, 20)  # the frame in it
    assert headers.read(bytes(data))[:3] == ("GIF", 60, 80)
    assert np.array_equal(decoding.decode(bytes(data), (60, 80), "plain"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(80, 60), (60, 80), (31, 31), (20, 50)])
@pytest.mark.parametrize("resize", ["crop", "plain"])
def test_a_jpeg_is_turned_upright_as_pillow_turns_it(orientation, size, resize):
    data = encoded(photo(61, 84), "JPEG", exif=exif(orientation), quality=95)
    upright = np.asarray(pillow(data))
    y, x, h, w = crops.centred(*upright.shape[:2], *size) if resize == "crop" else (0, 0, *upright.shape[:2])
    expected = resized(upright[y : y + h, x : x + w], *size)
    assert farthest(decoding.decode(data, size, resize), expected.round()) <= 1


@pytest.mark.parametrize("size", [(224, 224), (31, 47), (47, 31), (300, 7), (60, 80), (1, 1), (200, 200)])
@pytest.mark.parametrize("resize", ["crop", "plain"])
def test_resizing_is_bilinear_by_an_independent_computation_and_by_pillow(size, resize):
    pixels = photo(121, 160)
    y, x, h, w = crops.centred(121, 160, *size) if resize == "crop" else (0, 0, 121, 160)
    ours = decoding.decode(encoded(pixels), size, resize)
    assert ours.shape == (*size, 3)
    assert ours.dtype == np.uint8
    assert farthest(ours, np.rint(resized(pixels[y : y + h, x : x + w], *size))) <= 1
    box = Image.fromarray(pixels).crop((x, y, x + w, y + h))
    assert farthest(ours, np.asarray(box.resize(size[::-1], Image.Resampling.BILINEAR))) <= 1


def test_halves_are_rounded_to_even():
    pixels = np.zeros((1, 8, 3), np.uint8)
    pixels[0, :, :] = np.array([0, 1, 1, 2, 2, 3, 254, 255])[:, None]
    means = resized(pixels, 1, 4)[0, 1:3, 0]
    assert means.tolist() == [1.5, 33.875]  # by a triangle over four pixels: 1/8, 3/8, 3/8, 1/8
    assert decoding.decode(encoded(pixels), (1, 4), "plain")[0, 1:3, 0].tolist() == [2, 34]


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_cut_short_anywhere_is_refused(kind):
    data = encoded(photo(), kind)
    for percent in range(0, 100, 5):
        with pytest.raises(DataError, match=r"^is (empty|cut short|not a JPEG|damaged)"):
            decoding.decode(data[: len(data) * percent // 100], (9, 9), "crop")
        with pytest.raises(DataError, match=r"^is (empty|cut short|not a JPEG|damaged)"):
            decoding.verify(data[: len(data) * percent // 100])
    with pytest.raises(DataError, match=r"^is (cut short|damaged)"):
        decoding.verify(data[:-2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_picture_is_refused_or_gives_pixels_and_nothing_else_happens(kind, fuzz_cases):
    random = np.random.default_rng(0)
    whole = encoded(photo(20, 30), kind)
    for _ in range(fuzz_cases // 4):
        data = bytearray(whole)
        for place in random.integers(0, min(len(data), random.choice([60, len(data)])), random.integers(1, 5)):
            data[place] = random.integers(0, 256)
        with contextlib.suppress(DataError):
            assert decoding.decode(bytes(data), (5, 7), "crop").shape == (5, 7, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_of_pixels_holds_for_every_kind(kind):
    data = encoded(photo(), kind)
    assert decoding.decode(data, (9, 9), "crop", most_pixels=4800).shape == (9, 9, 3)
    with pytest.raises(DataError, match="has 60 x 80 pixels, more than 4,799 or"):
        decoding.decode(data, (9, 9), "crop", most_pixels=4799)


def test_a_side_that_would_need_much_memory_to_resize_is_refused():
    data = png(struct.pack(">IIBBBBB", 70000, 1, 8, 0, 0, 0, 0), zlib.compress(bytes(70001)))
    with pytest.raises(DataError, match=r"has 1 x 70,000 pixels, more than .* a side of 65,535"):
        decoding.decode(data, (224, 224), "plain")


def test_threads_never_hold_more_pixels_than_the_budget():
    budget, held, most, lock = decoding.Budget(100), 0, 0, threading.Lock()

    def work(pixels: int) -> None:
        nonlocal held, most
        for _ in range(20):
            with budget.hold(pixels):
                with lock:
                    held += min(pixels, 100)
                    most = max(most, held)
                time.sleep(1e-4)
                with lock:
                    held -= min(pixels, 100)

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (10, 30, 60, 99, 100, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert held == 0
    assert 60 <= most <= 100


# --- decoded smaller ---

SIZES = [(801, 643), (643, 911), (457, 459)]  # decoded to 57 x 43 at an eighth, a quarter or a half; none a multiple


def both_ways(data: bytes, size: tuple[int, int], resize: str, drawn: list[int] | None = None) -> list[np.ndarray]:
    return [decoding.decode(data, size, resize, drawn=drawn, way=way).astype(int) for way in ("exact", "scaled")]


@pytest.mark.parametrize("resize", ["crop", "plain"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_decoded_smaller_is_the_same_picture_however_it_is_turned_and_cut(orientation, resize):
    for number, (height, width) in enumerate(SIZES):
        tag = exif(orientation)
        data = encoded(photo(height, width, number), "JPEG", quality=95, exif=tag, subsampling=2 * (number % 2))
        for drawn in (None, crops.draw(decoding.sha256(data), 1, number)):
            exact, scaled = both_ways(data, (57, 43), resize, drawn)
            assert 0 < np.abs(exact - scaled).mean() < 1.2


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_sharp_edge_stays_where_it_is_in_a_jpeg_decoded_smaller(factor):
    side = 101 * factor + factor // 2 + 1
    upright = np.zeros((side, side + 3, 3), np.uint8)
    upright[:, side // 3 :] = 255
    for axis, pixels in ((1, upright), (0, upright.transpose(1, 0, 2))):
        data = encoded(np.ascontiguousarray(pixels), "JPEG", quality=98, subsampling="4:4:4")
        exact, scaled = both_ways(data, (97, 97), "crop")
        # The sum across the edge changes by 255 where the edge moves by a pixel.
        moved = (exact.sum(axis) - scaled.sum(axis)) / 255
        assert np.abs(moved).max() < 0.15
        assert 0 < exact.sum() < 255 * exact.size


def test_a_gradient_keeps_its_slope_and_place_in_a_jpeg_decoded_smaller():
    steps = (np.arange(811) * 255 / 811).astype(np.uint8)
    means = []
    for levels in (steps, steps[::-1]):
        pixels = np.ascontiguousarray(np.broadcast_to(levels[:, None, None], (811, 805, 3)))
        exact, scaled = both_ways(encoded(pixels, "JPEG", quality=98), (90, 90), "crop")
        assert np.abs(exact - scaled).max() <= 1
        means.append((exact - scaled).mean())
    # Rounding makes both brighter; a shift would make one of them darker. A row is 2.8 levels from the next.
    assert abs(means[0] - means[1]) / 2 < 0.15


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": "4:4:4"}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_all_kinds_of_jpeg_are_decoded_smaller(mode, options):
    data = encoded(Image.fromarray(photo(333, 421)).convert(mode), "JPEG", quality=95, **options)
    exact, scaled = both_ways(data, (37, 41), "crop")
    assert 0 < np.abs(exact - scaled).mean() < 1.2


def test_what_is_not_twice_as_large_or_not_a_jpeg_has_its_exact_pixels():
    for data in (encoded(photo(79, 81), "JPEG"), encoded(photo(400, 400)), encoded(photo(1, 1), "JPEG")):
        exact, scaled = both_ways(data, (40, 40), "crop")
        assert np.array_equal(exact, scaled)


def test_a_quarter_is_what_pillow_makes_of_it_too():
    data = encoded(photo(400, 480), "JPEG", subsampling="4:4:4")
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (120, 100))
    assert image.size == (120, 100)
    assert farthest(decoding.decode(data, (100, 120), "plain", way="scaled"), np.asarray(image)) <= 1


def cut_inside(data: bytes) -> bytes:
    """Leave out the second half of the pixels, and end it as it was."""
    return data[: len(data) // 2] + headers.END


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_ends_among_its_pixels_is_not_shown_half_grey(mode):
    data = encoded(Image.fromarray(photo(300, 300)).convert(mode), "JPEG", quality=95)
    decoding.verify(cut_inside(data), whole=False)
    for side in (300, 20):
        with pytest.raises(DataError, match=r"^is cut short: it ends among its pixels, and the rest would be grey$"):
            decoding.decode(cut_inside(data), (side, side), "crop", way="scaled")


def test_a_jpeg_that_is_grey_at_its_end_is_a_picture():
    pixels = photo(300, 300).copy()
    pixels[200:] = 128
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 5}):
        data = encoded(pixels, "JPEG", **options)
        assert decoding.decode(data, (20, 20), "crop", way="scaled")[-1, -1].tolist() == [128, 128, 128]


def test_a_look_without_the_pixels_refuses_what_the_pixels_would_show():
    data = encoded(photo(300, 300), "JPEG", quality=95)
    middle = len(data) // 2
    damaged = data[:middle] + b"\xff\x57" + data[middle + 2 :]
    kind = data.index(b"\xff\xc0")
    lossless = data[: kind + 1] + b"\xc3" + data[kind + 2 :]
    for bad in (damaged, lossless, data[:-2], data[:middle], data[:150]):
        for whole in (True, False):
            with pytest.raises(DataError, match=r"is damaged|is cut short"):
                decoding.verify(bad, whole=whole)


def test_a_picture_is_measured_upright_without_being_decoded():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "JPEG", exif=exif)
    assert decoding.measure(file.getvalue()) == (30, 20)
    with pytest.raises(DataError):
        decoding.measure(b"no picture at all")
