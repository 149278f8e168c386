"""Confusion matrices and mistakes, read back as pixels: of few classes and of many, whatever their names."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from matplotlib.image import imread

from tfxfer.plots import drawings
from tfxfer.plots.tiles import CARD

BLUE, RED = (0, 114, 178), (213, 94, 0)


def pixels(data: bytes) -> np.ndarray:
    return np.round(imread(io.BytesIO(data))[..., :3] * 255).astype(int)


def share(picture: np.ndarray, colour: tuple[int, ...], within: int = 3) -> int:
    return int((np.abs(picture - colour) <= within).all(-1).sum())


def test_right_is_blue_and_wrong_is_red():
    right, wrong = (
        pixels(drawings.confusion(np.diag([7, 9]), "ab")),
        pixels(drawings.confusion(np.diag([7, 9])[::-1], "ab")),
    )
    assert share(right, BLUE) > 5000 > 500 > share(right, RED)
    assert share(wrong, RED) > 5000 > 500 > share(wrong, BLUE)


def test_the_darker_the_larger_the_share_of_its_row():
    frame, cell, top, left = drawings._frame(("a", "b"), 2)
    drawn = pixels(drawings.confusion(np.array([[90, 10], [0, 50]]), "ab"))
    assert drawn.shape == frame.shape
    corner = lambda true, taken: drawn[top + true * cell + 2, left + taken * cell + 2].sum()  # noqa: E731
    assert corner(1, 1) < corner(0, 0) < corner(0, 1) < corner(1, 0) == 3 * 255


def test_a_number_stands_in_its_cell_and_nowhere_else():
    _, cell, top, left = drawings._frame(("a", "b"), 1)
    ones, twos = (pixels(drawings.confusion(np.array([[5, 0], [0, count]]), "ab")) for count in (1, 2))
    rows, columns = np.nonzero((ones != twos).any(-1))
    assert len(rows)
    assert rows.min() > top + cell
    assert rows.max() < top + 2 * cell
    assert columns.min() > left + cell
    assert columns.max() < left + 2 * cell


def test_a_matrix_of_ten_classes_fits_a_card_without_being_scaled():
    assert pixels(drawings.confusion(np.eye(10, dtype=int) * 99, [str(n) for n in range(10)])).shape[1] == CARD
    assert pixels(drawings.confusion(np.eye(2, dtype=int), ["cat", "dog"])).shape[1] == CARD
    long = [f"a long name of the class {n}" for n in range(10)]
    assert pixels(drawings.confusion(np.eye(10, dtype=int) * 99, long)).shape[1] == CARD


@pytest.mark.parametrize("classes", [2, 25, 26, 100, 1000])
def test_a_matrix_of_any_number_of_classes_is_of_a_size_that_can_be_looked_at(classes):
    counts = np.random.default_rng(0).integers(0, 3, (classes, classes)) + np.eye(classes, dtype=int) * classes * 9
    drawn = pixels(drawings.confusion(counts, [f"class {n}" for n in range(classes)]))
    assert 150 < drawn.shape[0] < 1000
    assert CARD <= drawn.shape[1] < 1200
    assert share(drawn, BLUE, 60) > 50


def test_of_many_classes_those_that_were_confused_most_are_named():
    counts = np.eye(40, dtype=int) * 10
    plain = pixels(drawings.confusion(counts, [f"n{n}" for n in range(40)]))
    counts[3, 7] = 9
    named = pixels(drawings.confusion(counts, [f"n{n}" for n in range(40)]))
    other = pixels(drawings.confusion(counts, [f"n{n}" if n != 7 else "OTHER" for n in range(40)]))
    assert share(plain[:, 590:], RED, 200) != share(named[:, 590:], RED, 200)
    assert (named != other)[:, 590:].any()
    assert not (named != other)[:, :560].any()


@pytest.mark.parametrize("name", [
    "<b>daisy</b>", "$x_1 {", "sun \N{SUNFLOWER}", "a\nb\tc", "", "x" * 500, "lone \ud800", "\x00\x1b[31m", "日本語",
])  # fmt: skip
def test_any_name_of_a_class_can_be_drawn(name):
    assert share(pixels(drawings.confusion(np.eye(2, dtype=int), [name, "b"])), BLUE) > 1000
    assert drawings.confusion(np.eye(30, dtype=int), [name] * 30)
    tile = np.zeros((1, drawings.TILE, drawings.TILE, 3), np.uint8)
    assert pixels(drawings.mistakes(tile, [(name, name, 0.5)])).shape[1] == CARD


def test_an_empty_matrix_is_white():
    assert share(pixels(drawings.confusion(np.zeros((3, 3), int), "abc")), RED) < 500


def test_drawing_again_is_quick_and_gives_the_same():
    counts = np.random.default_rng(0).integers(0, 99, (10, 10))
    first = drawings.confusion(counts, [str(n) for n in range(10)])
    began = time.perf_counter()
    assert all(drawings.confusion(counts, [str(n) for n in range(10)]) == first for _ in range(10))
    assert time.perf_counter() - began < 3


@pytest.mark.parametrize("count", [1, 3, 4, 18])
def test_each_mistake_is_shown_pixel_by_pixel(count):
    generator = np.random.default_rng(0)
    tiles = generator.integers(0, 256, (count, drawings.TILE, drawings.TILE, 3)).astype(np.uint8)
    drawn = pixels(drawings.mistakes(tiles, [("cat", "dog", 0.99)] * count))
    assert drawn.shape[1] == CARD
    rows = -(-count // drawings.ACROSS)
    assert drawn.shape[0] == 30 + rows * (drawings.TILE + 34 + drawings.GAP)
    for number, tile in enumerate(tiles):
        top = 30 + number // drawings.ACROSS * (drawings.TILE + 34 + drawings.GAP)
        left = drawings.GAP + number % drawings.ACROSS * (drawings.TILE + drawings.GAP)
        assert np.array_equal(drawn[top : top + drawings.TILE, left : left + drawings.TILE], tile)


def test_no_figure_is_left_open():
    from matplotlib import pyplot

    drawings.confusion(np.eye(3, dtype=int), "abc")
    assert pyplot.get_fignums() == []
