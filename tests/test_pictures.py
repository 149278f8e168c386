"""The picture of a prediction: a photograph and its bars a row, whatever the names are."""

from __future__ import annotations

import os

import numpy as np
import pytest
from matplotlib.image import imread

from tfxfer import pictures


def draw(path, count: int = 2, name: str = "a daisy") -> np.ndarray:
    photographs = [np.full((20, 20, 3), (250, 10, 10), np.uint8)] * count
    pictures.predictions(path, photographs, ["x.jpg"] * count, [[name, "b"]] * count, [[0.75, 0.25]] * count)
    return imread(path)


def test_each_photograph_is_a_row_with_its_bars(tmp_path):
    one, three = draw(tmp_path / "1.png", 1), draw(tmp_path / "3.png", 3)
    assert three.shape[0] == 3 * one.shape[0]
    assert one.shape == (240, 800, 4)
    red, blue = ((one[..., :3] * 255).round() == colour for colour in ((250, 10, 10), (31, 119, 180)))
    assert red.all(-1)[:, :400].sum() > 10_000
    widths = np.unique(blue.all(-1).sum(1))
    assert widths[-1] == pytest.approx(3 * widths[widths > 0][0], rel=0.05)


def test_names_are_no_formulas(tmp_path):
    draw(tmp_path / "odd.png", name="$x_1 {")
    assert (tmp_path / "odd.png").stat().st_size > 0


def test_what_is_there_stays_if_it_cannot_be_written(tmp_path):
    draw(tmp_path / "kept.png")
    with pytest.raises(OSError, match="No such file"):
        draw(tmp_path / "nowhere" / "x.png")
    assert sorted(os.listdir(tmp_path)) == ["kept.png"]
