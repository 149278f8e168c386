"""Tables of plain text."""

from __future__ import annotations

from tfxfer.weight_tools.tables import number, table

ROWS = [("conv1/kernel", "(3, 3)", "9"), ("b", "(16,)", "1,600")]


def test_columns_are_aligned_to_the_left_or_to_the_right():
    assert table(("name", "shape", ">parameters"), ROWS) == [
        "name          shape   parameters",
        "conv1/kernel  (3, 3)           9",
        "b             (16,)        1,600",
    ]


def test_a_table_without_rows_has_its_headings():
    assert table(("name", ">bytes"), []) == ["name  bytes"]


def test_a_table_that_is_too_wide_puts_names_on_lines_of_their_own_and_cuts_none():
    long = [("a" * 60, "(3, 3)", "9"), *ROWS]
    lines = table(("name", "shape", ">parameters"), long, width=40)
    assert lines == [
        "name",
        "    shape   parameters",
        "a" * 60,
        "    (3, 3)           9",
        "conv1/kernel",
        "    (3, 3)           9",
        "b",
        "    (16,)        1,600",
    ]
    assert table(("name", "shape", ">parameters"), long) == table(("name", "shape", ">parameters"), long, width=80)


def test_numbers_are_short():
    assert [number(value) for value in (None, 0, 12345, 0.123456, 1.5e-9, -2.0)] == [
        "-", "0", "12,345", "0.1235", "1.5e-09", "-2",
    ]  # fmt: skip
