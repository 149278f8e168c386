from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tfxfer.errors import DataError
from tfxfer.plots.png import check_free, png


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_holds_its_pixels(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, channels)).astype(np.uint8)
    read = np.asarray(Image.open(io.BytesIO(png(pixels))))
    assert np.array_equal(read.reshape(pixels.shape), pixels)
    assert png(pixels) == png(pixels.copy())


def test_a_drawing_may_be_replaced_and_nothing_else(tmp_path):
    pixels = np.zeros((2, 3, 4), np.uint8)
    check_free(tmp_path / "new.png")
    (tmp_path / "drawing.png").write_bytes(png(pixels, drawn=True))
    check_free(tmp_path / "drawing.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "drawing.png")), pixels)
    (tmp_path / "photograph.png").write_bytes(png(pixels))
    (tmp_path / "text.png").write_text("tEXtSoftware\0tfxfer")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("nowhere")
    for name in ("photograph", "text", "empty", "folder", "link"):
        with pytest.raises(DataError, match=rf"{name}\.png exists and is not a picture that tfxfer drew; take another"):
            check_free(tmp_path / f"{name}.png")
