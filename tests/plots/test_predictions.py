"""Pictures with what a model says of them: a photograph and its bars a row; mistakes pixel by pixel."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from tfxfer.errors import DataError
from tfxfer.plots import predictions
from tfxfer.plots.figures import CARD
from tfxfer.plots.palette import LIGHT, rgb


def pixels(file) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"))


def draw(path, count: int = 2, name: str = "a daisy") -> np.ndarray:
    photographs = [np.full((20, 20, 3), (250, 10, 10), np.uint8)] * count
    predictions.predictions(path, photographs, ["x.jpg"] * count, [[name, "b"]] * count, [[0.75, 0.25]] * count)
    return pixels(path)


def test_each_photograph_is_a_row_with_its_bars(tmp_path):
    one, three = draw(tmp_path / "1.png", 1), draw(tmp_path / "3.png", 3, name="$x_1 {")
    assert three.shape[0] == 3 * one.shape[0]
    assert one.shape == (predictions.HEIGHT, predictions.WIDTH, 3)
    red, blue = ((one == colour).all(-1) for colour in ((250, 10, 10), rgb(LIGHT["blue"])))
    assert red[:, :400].sum() > 10_000
    widths = np.unique(blue.sum(1))
    assert widths[-1] == pytest.approx(3 * widths[widths > 0][0], rel=0.05)


def test_a_drawing_is_drawn_again_and_a_photograph_is_not_drawn_over(tmp_path):
    assert draw(tmp_path / "x.png", 1).shape != draw(tmp_path / "x.png", 2).shape
    Image.new("RGB", (4, 4)).save(tmp_path / "rose.png")
    before = (tmp_path / "rose.png").read_bytes()
    with pytest.raises(DataError, match=r"rose\.png exists and is not a picture that tfxfer drew"):
        draw(tmp_path / "rose.png")
    assert (tmp_path / "rose.png").read_bytes() == before


def test_what_is_there_stays_if_it_cannot_be_written(tmp_path):
    draw(tmp_path / "kept.png")
    with pytest.raises(OSError, match="No such file"):
        draw(tmp_path / "nowhere" / "x.png")
    assert sorted(os.listdir(tmp_path)) == ["kept.png"]


@pytest.mark.parametrize("count", [1, 4, 18])
def test_each_mistake_is_shown_pixel_by_pixel(count):
    side, gap, across = predictions.TILE, predictions.GAP, predictions.ACROSS
    tiles = np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    drawn = pixels(io.BytesIO(predictions.mistakes(tiles, [("cat", "a long name of dog", 0.99)] * count)))
    row = side + predictions.CAPTION + gap
    assert drawn.shape[:2] == (predictions.HEAD + -(-count // across) * row, CARD)
    for number, tile in enumerate(tiles):
        top, left = predictions.HEAD + number // across * row, gap + number % across * (side + gap)
        assert np.array_equal(drawn[top : top + side, left : left + side], tile)
