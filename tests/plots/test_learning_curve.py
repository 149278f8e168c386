"""What is drawn of a learning curve, and that it is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from tests.statistics.test_learning_curve import SIZES, made
from tfxfer.plots.learning_curve import draw, panel
from tfxfer.plots.palette import LIGHT, rgb


def test_all_that_was_measured_lies_within_the_scales():
    curve = made(examples=80)
    what = panel(curve)
    for examples, accuracy in (*what.each, *what.measured, *what.curve, *what.low, *what.high):
        assert -1e-9 <= what.across.place(examples) <= 1 + 1e-9
        assert -1e-9 <= what.up.place(accuracy) <= 1 + 1e-9
    assert [examples for examples, _ in what.measured] == SIZES
    assert what.measured[0][1] == pytest.approx(np.mean(curve.points[0].accuracies))
    assert [round(tick) for tick in what.across.ticks] == [100, 400, 1000, 4000]
    assert len(what.each) == 25


def test_it_is_drawn_and_the_same_curve_gives_the_same_bytes():
    picture = draw(made(), title="flowers")
    pixels = imread(io.BytesIO(picture))[..., :3] * 255
    assert pixels.shape == (460, 700, 3)
    assert picture == draw(made(), title="flowers")
    assert (np.abs(pixels - rgb(LIGHT["blue"])).max(axis=-1) < 2).sum() > 500
    assert (np.abs(pixels - rgb(LIGHT["orange"])).max(axis=-1) < 2).sum() > 100
