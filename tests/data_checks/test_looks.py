"""data_checks/looks.py: tiny pictures and such of one colour, of all kinds of files, and of arrays."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tfxfer.data import Pictures
from tfxfer.data_checks.looks import look


def test_tiny_and_one_coloured_pictures_are_told_apart_from_others(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 200
    shown = {"half.png": half, "tiny.png": half[:20], "narrow.webp": half[:, 20:44], "white.jpg": half * 0 + 255,
             "grey.tif": half * 0 + 128, "noisy.png": 120 + noise // 100, "half.webp": half}  # fmt: skip
    for name, pixels in shown.items():
        Image.fromarray(pixels).save(tmp_path / name)
    odd = {list(shown)[place]: (kind, reason) for place, kind, reason in
           look(Pictures([tmp_path / name for name in shown]))}  # fmt: skip
    assert {name: kind for name, (kind, _) in odd.items()} == {
        "tiny.png": "tiny", "narrow.webp": "tiny", "white.jpg": "one-coloured", "grey.tif": "one-coloured",
        "noisy.png": "one-coloured"}  # fmt: skip
    assert odd["narrow.webp"][1] == "24 x 64 pixels"


def test_a_picture_that_lies_on_its_side_is_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (20, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    assert [reason for _, _, reason in look(Pictures([tmp_path / "turned.jpg"]))] == ["20 x 60 pixels"]


def test_images_in_arrays_are_never_tiny():
    images = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 1)).astype(np.uint8)
    images[1] = 9
    assert [(place, kind) for place, kind, _ in look(images)] == [(1, "one-coloured")]
