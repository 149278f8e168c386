"""Tables of the page."""

from __future__ import annotations

import pytest

from tests.reports.pages import Parsed
from tfxfer.reports.tables import counted, named, row, table


def test_a_table_has_its_cells_and_scrolls_by_keys():
    parsed = Parsed(table(("a", "n"), [row("x", ["<y>"], numbers=[3])], label="Some", numbers=["n"], tall=True))
    assert parsed.text == "a n x <y> 3"
    assert parsed.all("div") == [{"class": "scroll tall", "tabindex": "0", "role": "region", "aria-label": "Some"}]
    assert [cell.get("class") for cell in parsed.all("th") + parsed.all("td")] == [None, "number", None, None, "number"]


@pytest.mark.parametrize(("count", "text"), [(0, "0 rows"), (1, "1 row"), (1200, "1,200 rows")])
def test_one_is_singular(count, text):
    assert counted(count, "row") == text


def test_a_long_name_can_be_read_in_full():
    assert 'title="' + "x" * 41 in named("x" * 41)
    assert "title" not in named("x" * 40)
