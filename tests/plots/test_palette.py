"""The colours: text in them is readable on the page, in light and dark."""

from __future__ import annotations

import numpy as np
import pytest

from tfxfer.plots.palette import DARK, LIGHT, LINES, rgb


def contrast(first: np.ndarray, second: np.ndarray) -> float:
    """Return the contrast ratio of the Web Content Accessibility Guidelines 2."""
    parts = (np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in (first / 255, second / 255))
    low, high = sorted(float(part @ [0.2126, 0.7152, 0.0722]) for part in parts)
    return (high + 0.05) / (low + 0.05)


def test_a_colour_is_red_green_and_blue():
    assert rgb("#0072b2").tolist() == [0, 114, 178]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_in_any_colour_stands_out_from_what_is_behind_it(colours):
    assert colours.keys() == LIGHT.keys()
    for name in ("ink", "soft", *(colour for colour, _ in LINES.values())):
        assert contrast(rgb(colours[name]), rgb(colours["card"])) >= 4.5, name


def test_no_two_lines_have_one_colour_or_one_dash():
    assert all(len(set(column)) == len(LINES) for column in zip(*LINES.values(), strict=True))
