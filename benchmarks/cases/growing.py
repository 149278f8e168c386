"""What more examples cost: the same for each, and no memory."""

from __future__ import annotations

from benchmarks.case import Case, Comparison, module

SHARES = {"all": 1, "a tenth": 10, "a hundredth": 100}
# By how little a figure may fall behind: within 10 %.
CONSTANT = 0.9


def sides(where: str) -> tuple:
    """Return one side a share."""
    return tuple(module(name, where, f"--part={part}") for name, part in SHARES.items())


PICTURES = Case(
    name="grow_pictures",
    title="tfxfer's extraction of more and more small JPEGs, by SqueezeNet 1.1",
    sides=sides("ours.growing_pictures"),
    comparisons=(
        Comparison("all", "a tenth", by="thousand", target=CONSTANT, words="cost a picture of a tenth against all"),
        Comparison("a tenth", "a hundredth", by="thousand", words="cost a picture of a hundredth against a tenth"),
        Comparison("all", "a tenth", by="peak", target=CONSTANT, words="memory of a tenth against all"),
    ),
    sizes={"pictures": 10_000, "side": 64},
    quick={"pictures": 3000, "side": 32},
    prepare="growing.pictures",
    notes=("The target is a ratio of 1: each example costs the same, whatever their number. All sides are tfxfer's.",),
)
ROWS = Case(
    name="grow_rows",
    title="tfxfer's store of more and more rows of 512 numbers: filled, then trained from for as many steps",
    sides=sides("ours.growing_rows"),
    comparisons=(
        Comparison("all", "a tenth", by="filling", target=CONSTANT, words="filling: a row of a tenth against all"),
        Comparison("all", "a tenth", by="training", target=CONSTANT, words="training: a row of a tenth against all"),
        Comparison("all", "a tenth", by="peak", target=CONSTANT, words="memory of a tenth against all"),
    ),
    sizes={"rows": 100_000},
    quick={"rows": 10_000},
    prepare="growing.rows",
    notes=PICTURES.notes,
)
CASES = (PICTURES, ROWS)
