"""How the accuracy of a run lies beside those of the other folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfxfer.markup import Markup, section, soft, tag
from tfxfer.reports.tables import row, table
from tfxfer.statistics import intervals
from tfxfer.statistics.folds import Folds

COLUMNS = ("fold", "test accuracy", "right")


def fold_name(settings: Mapping[str, Any]) -> str:
    """Return which fold a run is of, as `fold 2 of 5`; the empty string where it is not one."""
    fold, folds = settings.get("fold"), settings.get("folds")
    return f"fold {fold} of {folds}" if fold and folds else ""


def folds_section(folds: Folds, name: str) -> Markup:
    """Return the accuracies of all folds, and their mean.

    Args:
      folds: the accuracies.
      name: of the directory of the run that the page is of.
    """
    right, count = sum(folds.right), sum(folds.counts)
    own = f" This page is of {name}." if name in folds.runs else ""
    text = (
        f"Each of {len(folds.runs)} networks was tested on another part of the examples and trained on the rest. Mean "
        f"{folds.accuracy:.4f}, standard deviation {folds.spread:.4f}; {right:,} of {count:,} right in all, "
        f"{intervals.shown(right, count)} (Wilson).{own}"
    )
    rows = zip(folds.runs, folds.accuracies, folds.right, folds.counts, strict=True)
    lines = [
        row(tag("b", run) if run == name else run, [], numbers=[f"{accuracy:.4f}", f"{right:,} of {count:,}"])
        for run, accuracy, right, count in rows
    ]
    box = table(COLUMNS, lines, label="Folds", numbers=COLUMNS[1:])
    return section("folds", "How far does it vary?", soft(text), box)
