from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tfxfer.plots.png import png


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_holds_its_pixels(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, channels)).astype(np.uint8)
    read = np.asarray(Image.open(io.BytesIO(png(pixels))))
    assert np.array_equal(read.reshape(pixels.shape), pixels)
    assert png(pixels) == png(pixels.copy())
