"""What was found in a data set, as lists, as a table, and as JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np

from tfxfer import notebook
from tfxfer.errors import DataError

# In the order in which they are shown.
KINDS = {
    "unreadable": "cannot be decoded",
    "exact": "the same file twice",
    "near": "the same picture in another file",
    "label": "another label is more probable",
    "outlier": "far from all others",
    "tiny": "too few pixels",
    "one-coloured": "nothing to be seen",
}


_COLUMNS = ("kind", "example", "class", "suggested or copy of", "score", "reason")


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about one example, or about a pair of them.

    Attributes:
      kind: one of `KINDS`.
      path: the example's file, or `example N`.
      index: its row in the features; -1 for a file that cannot be decoded.
      label, split: the names of its class and split; empty if not known.
      other, other_index, other_label, other_split: of a duplicate, the example that it is a copy of.
      suggested: of a label, the class that is more probable.
      score: of a label, how probable it is; of a near duplicate and an outlier, the cosine distance; else 0.
      reason: in words.
    """

    kind: str
    path: str
    index: int
    label: str = ""
    split: str = ""
    other: str = ""
    other_index: int = -1
    other_label: str = ""
    other_split: str = ""
    suggested: str = ""
    score: float = 0.0
    reason: str = ""

    @property
    def across_classes(self) -> bool:
        """Whether it is a copy under another label."""
        return bool(self.other) and self.label != self.other_label

    @property
    def across_splits(self) -> bool:
        """Whether it is a copy in another split."""
        return bool(self.other) and self.split != self.other_split


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Two classes that classifiers take for each other.

    Attributes:
      classes: their names.
      confused: how many examples of either were taken for the other.
      examples: how many examples both have.
    """

    classes: tuple[str, str]
    confused: int
    examples: int


@dataclasses.dataclass(frozen=True)
class DataCheck:
    """What `check_data` found.

    Attributes:
      examples: how many there are.
      findings: by kind, in the order of `KINDS`; within a kind the worst first, of duplicates those across classes,
        then those across splits.
      overlaps: pairs of classes, the most confused first.
      accuracy: the share of labels that are the most probable by classifiers that have not seen the example; None if
        labels were not checked.
      notes: what was not checked, and why.

    Example:
      >>> features = np.random.default_rng(0).normal(size=(50, 64))
      >>> features[7] = features[3]
      >>> check = tx.check_data(features)
      >>> [(each.path, each.other) for each in check.of_kind("near")]
      [('example 7', 'example 3')]
    """

    examples: int
    findings: tuple[Finding, ...]
    overlaps: tuple[Overlap, ...] = ()
    accuracy: float | None = None
    notes: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> list[Finding]:
        """Return the findings of a kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def counts(self) -> dict[str, int]:
        """Return how many findings of each kind there are."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in KINDS}

    def _repr_html_(self) -> str:
        found = ", ".join(f"{kind} {count:,}" for kind, count in self.counts().items() if count) or "nothing found"
        table = notebook.table(_COLUMNS, self.findings, _cells, numbers={"score"})
        notes = [f"{kind}: {KINDS[kind]}" for kind, count in self.counts().items() if count]
        return notebook.described(f"{self.examples:,} examples: {found}", table, notes=[*notes, *self.notes])

    def with_unreadable(self, reasons: dict[str, str]) -> DataCheck:
        """Add files that have no features, each with the reason."""
        more = tuple(Finding("unreadable", path, -1, reason=reason) for path, reason in reasons.items())
        return dataclasses.replace(self, findings=(*more, *self.findings))

    def left_out(self, kinds: Collection[str]) -> np.ndarray:
        """Return the rows to leave out, so that nothing of these kinds remains; int64, ascending.

        Of copies under one label the first stays; of copies under several labels none does.

        Raises:
          DataError: a kind is unknown.
        """
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown:
            raise DataError(f"{', '.join(unknown)} is not a kind of finding; the kinds are {', '.join(KINDS)}")
        chosen = [finding for finding in self.findings if finding.kind in kinds and finding.index >= 0]
        rows = {finding.index for finding in chosen}
        homes = {finding.other_index for finding in chosen if finding.across_classes}
        rows |= homes | {finding.index for finding in chosen if finding.other_index in homes}
        return np.array(sorted(rows), np.int64)

    def csv(self) -> str:
        """Return all findings as CSV, a line each, under the names of their attributes."""
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(Finding)])
        writer.writerows(dataclasses.astuple(finding) for finding in self.findings)
        return table.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Return everything, as JSON has it."""
        return {
            "examples": self.examples,
            "counts": self.counts(),
            "accuracy": self.accuracy,
            "notes": list(self.notes),
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "overlaps": [dataclasses.asdict(overlap) for overlap in self.overlaps],
        }


def _cells(finding: Finding) -> tuple[str, ...]:
    other = finding.suggested or finding.other
    score = f"{finding.score:.3f}" if finding.score else ""
    return finding.kind, finding.path, finding.label, other, score, finding.reason
