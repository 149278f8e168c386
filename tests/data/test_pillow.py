"""WebP and TIFF: the same pixels as of a PNG that holds the same, by the rules of all other pictures."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tfxfer.data import Pictures, decoding, folder
from tfxfer.errors import DataError

LOSSLESS = {"WEBP": {"lossless": True, "exact": True}, "TIFF": {}, "PNG": {}}


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **LOSSLESS.get(kind, {}), **options)
    return out.getvalue()


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def decoded(data: bytes, size: tuple[int, int] = (5, 7), resize: str = "plain") -> np.ndarray:
    decoding.verify(data)
    return decoding.decode(data, size, resize)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_the_pixels_are_those_of_a_png_at_any_size(kind):
    image = Image.fromarray(noise(20, 33, 3))
    for size in ((20, 33), (9, 9), (31, 40)):
        for resize in ("plain", "crop"):
            assert np.array_equal(
                decoded(encoded(image, kind), size, resize), decoded(encoded(image, "PNG"), size, resize)
            )


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_it_is_turned_upright_as_its_tag_says(kind, orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    pixels = noise(5, 7, 3)
    data = encoded(Image.fromarray(pixels), kind, exif=tags)
    stored = Image.open(io.BytesIO(encoded(Image.fromarray(pixels), "PNG", exif=tags)))
    upright = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(decoded(data, upright.shape[:2]), upright)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_transparency_is_left_out(kind):
    pixels = noise(5, 7, 4)
    assert np.array_equal(decoded(encoded(Image.fromarray(pixels), kind)), pixels[..., :3])


def test_of_16_bits_the_upper_8_are_taken():
    pixels = noise(5, 7, dtype=np.uint16)
    upper = np.repeat((pixels >> 8).astype(np.uint8)[..., np.newaxis], 3, -1)
    assert np.array_equal(decoded(encoded(Image.fromarray(pixels), "TIFF")), upper)
    assert np.array_equal(decoded(encoded(Image.fromarray(pixels), "PNG")), upper)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGBA"])
def test_every_usual_mode_becomes_rgb(mode):
    image = Image.fromarray(noise(5, 7, 3)).convert("L" if mode == "LA" else mode).convert(mode)
    assert np.array_equal(decoded(encoded(image, "TIFF")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind):
    first, second = (Image.fromarray(noise(5, 7, 3) ^ mask) for mask in (0, 255))
    data = encoded(first, kind, save_all=True, append_images=[second])
    assert np.array_equal(decoded(data), np.asarray(first))


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_that_are_no_colours_are_refused(mode):
    data = encoded(Image.fromarray(noise(5, 7)).convert(mode), "TIFF")
    with pytest.raises(DataError, match=f"is a TIFF of a rare kind .mode {mode}.; save it as PNG"):
        decoding.verify(data)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_damaged_files_are_refused_and_never_anything_else(kind):
    whole = encoded(Image.fromarray(noise(20, 33, 3)), kind)
    random = np.random.default_rng(1)
    for _ in range(100):
        data = bytearray(whole)
        for place in random.integers(4, len(data), 3):
            data[place] = random.integers(256)
        data = data[: random.integers(16, len(data) + 1)]
        with contextlib.suppress(DataError):
            assert decoding.decode(bytes(data), (5, 7), "crop").shape == (5, 7, 3)
    with pytest.raises(DataError, match=r"is damaged, cut short, or a .* of a rare kind; save it anew"):
        decoding.verify(whole[: len(whole) // 2])


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_too_many_pixels_are_refused_before_they_are_decoded(kind, monkeypatch):
    data = encoded(Image.fromarray(noise(20, 33, 3)), kind)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match="has 20 x 33 pixels, more than 100 "):
        decoding.verify(data, most_pixels=100)


def test_without_pillow_they_are_set_aside_with_the_cure(tmp_path: Path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(10):
            pixels = noise(5, 7, 3) ^ (number + 100 * (name == "dog"))
            (tmp_path / name / f"{number}.png").write_bytes(encoded(Image.fromarray(pixels), "PNG"))
    path = tmp_path / "cat" / "a.webp"
    path.write_bytes(encoded(Image.fromarray(noise(5, 7, 3)), "WEBP"))
    assert folder(tmp_path).set_aside == {}
    monkeypatch.setitem(sys.modules, "PIL", None)
    reason = "is a WebP picture, which only Pillow decodes; `pip install pillow`, or save it as PNG"
    assert folder(tmp_path).set_aside == {str(path): reason}
    with pytest.raises(DataError, match=r"a\.webp is a WebP picture, which only Pillow decodes"):
        Pictures([path])[0]


def test_without_its_part_for_webp_the_message_says_so(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    with pytest.raises(
        DataError, match="is a WebP picture, which this build of Pillow does not decode; save it as PNG"
    ):
        decoding.check_kind(encoded(Image.fromarray(noise(5, 7, 3)), "WEBP")[:32])
    decoding.check_kind(encoded(Image.fromarray(noise(5, 7, 3)), "TIFF")[:32])
