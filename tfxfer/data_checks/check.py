"""One look at a data set, by features of its examples: what is twice in it, mislabelled, far off or empty."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfxfer.data.batches import check_seed
from tfxfer.data.pictures import example_name
from tfxfer.data.splits import Images, labels_outside
from tfxfer.data_checks import duplicates, looks
from tfxfer.data_checks.findings import DataCheck, Finding, Overlap
from tfxfer.data_checks.neighbours import nearest
from tfxfer.data_checks.out_of_fold import check_folds, probabilities
from tfxfer.data_checks.unit_rows import UnitRows
from tfxfer.errors import DataError

NEIGHBOURS = 6
FAR = 3.0  # robust standard deviations of the logarithm of a distance
MOST_OVERLAPS = 20


def check_data(
    features: Any,
    labels: np.ndarray | None = None,
    images: Images | None = None,
    *,
    class_names: Sequence[str] = (),
    splits: Sequence[str] = (),
    folds: int = 5,
    seed: int = 0,
) -> DataCheck:
    """Look for duplicates, labels that are likely wrong, outliers and classes that overlap.

    Features are brought to unit length. Duplicates: see `tfxfer.data_checks.duplicates.near`. Labels: classifiers that
    have not seen an example say how probable its label is; those to which another class is more probable are listed,
    the least probable label first. Outliers: the logarithm of the distance to the sixth neighbour lies more than 3
    robust standard deviations above the median. Features that do not fit into memory are read a block at a time.

    Args:
      features: floats [n, ...], an array or rows of a store.
      labels: int64 [n], numbers of classes. Default: labels are not checked.
      images: the examples themselves, `tfxfer.data.Pictures` or uint8 [n, height, width, channels]. They give names
        and digests, near duplicates are compared by their pixels, and tiny and one-coloured ones are found. Default:
        only features are looked at.
      class_names: the name of each class. Default: its number.
      splits: the name of each example's split. Default: not known.
      folds: how many classifiers; each sees all but one part. No class may have fewer examples. 0: labels are not
        checked.
      seed: of the folds, 0 to 2**32 - 1.

    Raises:
      DataError: arguments do not fit together, a class has fewer examples than `folds`, or features are not finite; of
        these, the examples are named.

    Example:
      >>> generator = np.random.default_rng(0)
      >>> labels = np.arange(90) % 3
      >>> features = np.eye(3)[labels] + generator.normal(0, 0.1, (90, 3))
      >>> labels[5] = 0
      >>> found = tx.check_data(features, labels, class_names=("cat", "dog", "owl"))
      >>> [(each.path, each.label, each.suggested) for each in found.of_kind("label")]
      [('example 5', 'cat', 'owl')]
    """
    examples = _Examples(len(features), labels, images, tuple(class_names), tuple(splits))
    examples.check(folds, seed)
    rows = UnitRows(features, examples.name)
    copies = duplicates.exact(duplicates.digests(images)) if images is not None else []
    findings = list(_duplicates("exact", examples, copies))
    notes = list(examples.notes(folds))
    overlaps: list[Overlap] = []
    accuracy, far = None, []
    if len(rows) > 1:
        places, distances = nearest(rows, NEIGHBOURS)
        known = {place for place, _, _ in copies}
        pairs = [pair for pair in duplicates.near(places, distances, images) if pair[0] not in known]
        findings += _duplicates("near", examples, pairs)
        far = _outliers(examples, distances[:, -1])
    if labels is not None and folds and len(np.unique(labels)) > 1:
        of_class = probabilities(rows, labels, folds, seed)
        taken = of_class.argmax(axis=1)
        findings += _labels(examples, labels, of_class, taken)
        overlaps, accuracy = _overlaps(examples, labels, taken), float((taken == labels).mean())
    findings += far
    if images is not None:
        odd = list(looks.look(images))
        findings += [examples.finding(kind, place, reason=reason) for place, kind, reason in sorted(odd, key=_kind)]
    return DataCheck(len(rows), tuple(findings), tuple(overlaps), accuracy, tuple(notes))


def _kind(odd: tuple[int, str, str]) -> tuple[bool, int]:
    return odd[1] != "tiny", odd[0]


@dataclasses.dataclass(frozen=True)
class _Examples:
    """What is known of the examples beside their features."""

    count: int
    labels: np.ndarray | None
    images: Images | None
    class_names: tuple[str, ...]
    splits: tuple[str, ...]

    def check(self, folds: int, seed: int) -> None:
        check_seed(seed)
        sizes = {"labels": self.labels, "images": self.images, "splits": self.splits or None}
        wrong = [
            f"{len(each):,} {name}" for name, each in sizes.items() if each is not None and len(each) != self.count
        ]
        if wrong:
            raise DataError(f"there are {self.count:,} rows of features, but {' and '.join(wrong)}")
        if self.labels is None:
            return
        if self.labels.ndim != 1 or self.labels.dtype.kind not in "iu":
            raise DataError(f"labels are {self.labels.dtype} {self.labels.shape}, not int64 [n]")
        if outside := labels_outside(self.labels, len(self.class_names) or int(self.labels.max(initial=0)) + 1):
            raise DataError(outside)
        if folds and len(np.unique(self.labels)) > 1:
            names = tuple(self.class_name(number) for number in range(int(self.labels.max()) + 1))
            check_folds(self.labels, names, folds)

    def notes(self, folds: int) -> Iterator[str]:
        if self.labels is None:
            yield "labels were not checked: there are none"
        elif not folds:
            yield "labels were not checked: `folds=0`"
        elif len(np.unique(self.labels)) < 2:
            yield "labels were not checked: there is one class only"

    def name(self, index: int) -> str:
        return example_name(self.images, index)

    def class_name(self, number: int) -> str:
        return self.class_names[number] if self.class_names else str(number)

    def label(self, index: int) -> str:
        return "" if self.labels is None else self.class_name(int(self.labels[index]))

    def split(self, index: int) -> str:
        return self.splits[index] if self.splits else ""

    def finding(self, kind: str, index: int, other: int | None = None, **more: Any) -> Finding:
        if other is not None:
            more |= {
                "other": self.name(other),
                "other_index": other,
                "other_label": self.label(other),
                "other_split": self.split(other),
            }
        return Finding(kind, self.name(index), index, self.label(index), self.split(index), **more)


def _duplicates(kind: str, examples: _Examples, pairs: Sequence[duplicates.Pair]) -> list[Finding]:
    """Return copies, those across classes first, then those across splits."""
    findings = [examples.finding(kind, copy, home, score=distance) for copy, home, distance in pairs]
    findings = [dataclasses.replace(finding, reason=_where(finding)) for finding in findings]
    return sorted(findings, key=lambda each: (not each.across_classes, not each.across_splits, each.score))


def _where(finding: Finding) -> str:
    return " and ".join(
        text
        for text, true in (("across classes", finding.across_classes), ("across splits", finding.across_splits))
        if true
    )


def _labels(examples: _Examples, labels: np.ndarray, of_class: np.ndarray, taken: np.ndarray) -> list[Finding]:
    own = of_class[np.arange(len(labels)), labels]
    doubted = np.flatnonzero(taken != labels)
    return [
        examples.finding(
            "label",
            int(place),
            suggested=examples.class_name(int(taken[place])),
            score=float(own[place]),
            reason=f"{own[place]:.1%} probable, {of_class[place, taken[place]]:.1%} for the other",
        )
        for place in doubted[np.argsort(own[doubted], kind="stable")]
    ]


def _overlaps(examples: _Examples, labels: np.ndarray, taken: np.ndarray) -> list[Overlap]:
    counts = np.bincount(labels)
    wrong = taken != labels
    pairs = np.sort(np.stack([labels[wrong], taken[wrong]], axis=1), axis=1)
    both, confused = np.unique(pairs, axis=0, return_counts=True)
    overlaps = [
        Overlap((examples.class_name(left), examples.class_name(right)), times, int(counts[left] + counts[right]))
        for (left, right), times in zip(both.tolist(), confused.tolist(), strict=True)
    ]
    return sorted(overlaps, key=lambda each: -each.confused / each.examples)[:MOST_OVERLAPS]


def _outliers(examples: _Examples, distances: np.ndarray) -> list[Finding]:
    logarithms = np.log(np.maximum(distances, 1e-7))
    middle = np.median(logarithms)
    spread = 1.4826 * np.median(np.abs(logarithms - middle))  # the standard deviation, if they are normal
    far = np.flatnonzero(logarithms > middle + max(FAR * spread, 1e-3))
    return [
        examples.finding(
            "outlier",
            int(place),
            score=float(distances[place]),
            reason=f"{distances[place] / np.exp(middle):.1f} times as far as usual",
        )
        for place in far[np.argsort(-distances[far], kind="stable")]
    ]
