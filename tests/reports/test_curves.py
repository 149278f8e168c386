"""Charts as SVG: every line where its numbers are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.reports.pages import Parsed
from tfxfer.plots.curves import Line, chart
from tfxfer.reports import curves


def drawn(points: list[tuple[float, float]], **options) -> str:
    return curves.draw(chart("A", [Line("a", "train", points)], **options), describe="a")


def places(picture: str) -> list[tuple[float, float]]:
    """Return the points of the line of a chart; the first path is in its key."""
    paths = [tag["d"] for name, tag in Parsed(picture).tags if "line" in str(tag.get("class")).split()]
    points = paths[1].replace("M", "L").split("L")[1:]
    return [tuple(map(float, point.split())) for point in points]


def test_a_line_lies_where_its_numbers_are():
    first, middle, last = places(drawn([(0, 0.0), (5, 0.5), (10, 1.0)], last=10, share=True))
    assert (first[0], last[0]) == (curves.LEFT, curves.WIDTH - curves.RIGHT)
    assert (first[1], last[1]) == (curves.HEIGHT - curves.BOTTOM, curves.TOP)
    assert middle == pytest.approx(np.mean([first, last], axis=0))


def test_numbers_far_apart_get_a_logarithmic_scale():
    picture = drawn([(0, 10.0), (1, 1.0), (2, 0.1)], last=2)
    assert "(logarithmic scale)" in Parsed(picture).text
    (_, top), (_, middle), (_, bottom) = places(picture)
    assert middle == pytest.approx((top + bottom) / 2)


def test_gaps_and_long_lines_are_drawn():
    values = [(step, math.nan if step % 1000 < 20 else math.sin(step / 50)) for step in range(5000)]
    picture = drawn(values, last=5000)
    assert "nan" not in picture.replace("dominant", "")
    assert len(picture) < 12_000
    assert len(Parsed(picture).all("circle")) == 0
    line = [tag["d"] for tag in Parsed(picture).all("path") if tag["class"] == "line train"][1]
    assert line.count("M") == 5
    assert Parsed(drawn([(1, 2.0)])).all("circle")


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0], [-3.0, 4.0], [1e-30, 2e-30], [1e300, -1e300], [1e-9, 1e9]])
def test_any_numbers_have_a_scale(values):
    for _, y in places(drawn(list(enumerate(values)), last=1)):
        assert curves.TOP - 1e-6 <= y <= curves.HEIGHT - curves.BOTTOM + 1e-6
