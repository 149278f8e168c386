"""Confusion matrices: what page, terminal and TensorBoard show of them, and the picture for TensorBoard."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.plots.test_figures import NAMES
from tfxfer.plots import confusion
from tfxfer.plots.figures import CARD
from tfxfer.plots.palette import LIGHT, rgb


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def share(picture: np.ndarray, colour: str, within: int = 3) -> int:
    return int((np.abs(picture - rgb(LIGHT[colour])) <= within).all(-1).sum())


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_blocks_keep_every_example(classes, most, seed):
    counts = np.random.default_rng(seed).integers(0, 9, (classes, classes))
    matrix = confusion.blocks(counts, most)
    assert len(matrix.right) == len(matrix.wrong) <= most
    starts = range(0, classes, matrix.size)
    totals = [max(counts[start : start + matrix.size].sum(), 1) for start in starts]
    assert (matrix.right * totals).sum() == pytest.approx(np.trace(counts))
    assert (matrix.shares * np.array(totals)[:, None]).sum() == pytest.approx(counts.sum())
    assert matrix.shares[0, -1] * totals[0] == pytest.approx(counts[: matrix.size, starts[-1] :].sum())


def test_few_classes_are_blocks_of_one():
    matrix = confusion.blocks(np.array([[3, 1], [0, 0]]))
    assert (matrix.size, matrix.right.tolist(), matrix.wrong.tolist()) == (1, [0.75, 0], [[0, 0.25], [0, 0]])


def test_the_most_confused_pairs_come_first():
    counts = np.array([[9, 1, 0], [4, 5, 2], [0, 0, 7]])
    assert confusion.confused_pairs(counts) == [(1, 0, 4), (1, 2, 2), (0, 1, 1)]
    assert confusion.confused_pairs(counts, 1) == [(1, 0, 4)]
    assert confusion.confused_pairs(np.diag([3, 4])) == []


def test_right_is_blue_wrong_is_orange_and_the_darker_the_larger_the_share_of_the_row():
    colours = confusion.colours(confusion.blocks(np.array([[90, 10], [0, 50]])))
    dark = colours.sum(axis=2)
    assert dark[1, 1] < dark[0, 0] < dark[0, 1] < dark[1, 0] == 3 * 255
    assert colours[1, 1].tolist() == rgb(LIGHT["blue"]).tolist()
    swapped = confusion.colours(confusion.blocks(np.array([[0, 9], [9, 0]])))
    assert swapped[0, 1].tolist() == rgb(LIGHT["orange"]).tolist()


def test_a_number_stands_in_its_cell_and_nowhere_else():
    first, second = (pixels(confusion.draw(np.array([[5, 0], [0, count]]), "ab")) for count in (1, 2))
    rows, columns = np.nonzero((first != second).any(-1))
    cells = np.nonzero(share_mask(first, "blue"))
    for changed, cell in zip((rows, columns), cells, strict=True):
        middle = (cell.min() + cell.max()) / 2
        assert len(changed)
        assert middle < changed.min() <= changed.max() < cell.max()


def share_mask(picture: np.ndarray, colour: str) -> np.ndarray:
    below_the_key = np.arange(len(picture))[:, None] > confusion.HEAD
    return (picture == rgb(LIGHT[colour])).all(-1) & below_the_key


@pytest.mark.parametrize("name", ["{}", "class {}", "a long name of the class {}"])
@pytest.mark.parametrize("classes", [2, 10])
def test_a_matrix_of_up_to_ten_classes_fits_a_card_without_being_scaled(classes, name):
    counts = np.eye(classes, dtype=int) * 99
    assert pixels(confusion.draw(counts, [name.format(n) for n in range(classes)])).shape[1] == CARD


@pytest.mark.parametrize("classes", [2, 25, 26, 200, 1000])
def test_a_matrix_of_any_number_of_classes_is_of_a_size_that_can_be_looked_at(classes):
    counts = np.random.default_rng(0).integers(0, 3, (classes, classes)) + np.eye(classes, dtype=int) * classes * 9
    drawn = pixels(confusion.draw(counts, [f"class {n}" for n in range(classes)]))
    assert 150 < drawn.shape[0] < 1000
    assert CARD <= drawn.shape[1] < 1200
    assert share(drawn, "blue", 60) > 50


def test_of_many_classes_those_that_were_confused_most_are_named():
    counts = np.eye(40, dtype=int) * 10
    names = [f"n{n}" for n in range(40)]
    plain = pixels(confusion.draw(counts, names))
    counts[3, 7] = 9
    drawn, other = (pixels(confusion.draw(counts, [*names[:7], name, *names[8:]])) for name in ("n7", "OTHER"))
    assert (plain != drawn)[:, 590:].any()
    assert (drawn != other)[:, 590:].any()
    assert not (drawn != other)[:, :560].any()


@pytest.mark.parametrize("classes", [2, 30])
def test_any_names_of_classes_and_an_empty_matrix_can_be_drawn(classes):
    drawn = pixels(confusion.draw(np.zeros((classes, classes), int), (NAMES * 4)[:classes]))
    assert share(drawn, "card") > 0.8 * drawn.shape[0] * drawn.shape[1]
