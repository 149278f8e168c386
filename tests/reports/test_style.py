"""The style sheet: it uses no colour that it does not define, in either light."""

from __future__ import annotations

import re

from tfxfer.plots.palette import DARK, LIGHT, LINES
from tfxfer.reports.style import STYLE


def test_every_colour_is_defined_for_light_and_dark_and_every_line_has_a_look():
    assert LIGHT.keys() == DARK.keys()
    used = set(re.findall(r"var\(--([a-z]+)\)", STYLE)) - {"shadow", "c", "v"}
    assert used == set(LIGHT)
    for look in LINES:
        assert f".line.{look}{{" in STYLE
        assert f".dot.{look}{{" in STYLE
