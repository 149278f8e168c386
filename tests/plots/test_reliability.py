"""Reliability diagrams: which bars they have, and that they are drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from tests.statistics.test_calibration import drawn
from tfxfer.plots.palette import LIGHT, rgb
from tfxfer.plots.reliability import bars, draw
from tfxfer.statistics.calibration import measure


def test_each_bin_with_examples_is_a_bar():
    measured = measure(*drawn(300))
    shown = bars(measured)
    assert sum(bar.examples for bar in shown) == 300
    assert sum(bar.share for bar in shown) == pytest.approx(1)
    assert all(bar.low < bar.confidence <= bar.high and bar.high - bar.low == pytest.approx(1 / 15) for bar in shown)
    error = sum(bar.share * abs(bar.accuracy - bar.confidence) for bar in shown)
    assert error == pytest.approx(measured.ece)


def test_before_and_after_stand_side_by_side_and_the_same_numbers_give_the_same_bytes():
    before, after = measure(*drawn(300)), measure(*drawn(300), 3.0)
    picture = draw(before, after)
    pixels = imread(io.BytesIO(picture))[..., :3] * 255
    assert pixels.shape == (460, 700, 3)
    assert picture == draw(before, after) != draw(after, before)
    blue = np.abs(pixels - rgb(LIGHT["blue"])).max(axis=-1) < 2
    assert blue[:, :350].sum() > 2000
    assert blue[:, 350:].sum() > 2000
