"""Figures as PNG files: of the size asked for, whatever the names, and nothing stays open."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tfxfer.plots import figures

NAMES = [
    "<b>daisy</b>",
    "$x_1 {",
    "sun \N{SUNFLOWER}",
    "a\nb\tc",
    "",
    "x" * 500,
    "lone \ud800",
    "\x00\x1b[31m",
    "日本語",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_drawn_and_the_same_figure_has_the_same_bytes(name):
    first, second = (
        figures.draw(lambda figure: figure.text(0.1, 0.5, figures.one_line(name)), 321, 123) for _ in range(2)
    )
    assert first == second
    assert Image.open(io.BytesIO(first)).size == (321, 123)


def test_a_long_name_keeps_both_ends():
    assert figures.one_line("a long name of class 12", 11) == "a lon…ss 12"
    assert figures.one_line("a long name", 11) == "a long name"
    assert figures.one_line("a\n b", 11) == "a b"
    assert all(len(figures.one_line("x" * 50, most)) == most for most in range(1, 40))


def test_no_figure_is_left_open():
    from matplotlib import pyplot

    figures.draw(lambda figure: figure.subplots(), 100, 100, constrained=True)
    assert pyplot.get_fignums() == []
