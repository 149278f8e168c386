"""From labelled paths to a data set: bad pictures are set aside, the others divided, and what is odd is noted."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tfxfer import names
from tfxfer.data.batches import check_seed
from tfxfer.data.pictures import Pictures, shortened
from tfxfer.data.scan import scan
from tfxfer.data.splits import Data, Split, by_digest, check, stratified
from tfxfer.errors import DataError

SPLITS = ("train", "validation", "test")
METHODS = ("shuffle", "digest")
NO_TEST = "a test split is missing: the validation split serves as test too"


class Labelled(NamedTuple):
    """Pictures with labels.

    Attributes:
      origin: where they were found, for messages.
      paths: of the files.
      labels: int64 [n], numbers of classes.
      class_names: the name of each class, at the place of its number.
      parts: int64 [n], the place in `SPLITS` of the split that each belongs to; None if they are still to be divided.
        Without a validation split, a part of train becomes that.
      notes: what was odd so far.
    """

    origin: str
    paths: Sequence[str]
    labels: np.ndarray
    class_names: tuple[str, ...]
    parts: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def only(self, kept: np.ndarray) -> Labelled:
        """Return some of the pictures (integers [m])."""
        parts = None if self.parts is None else self.parts[kept]
        return self._replace(paths=[self.paths[place] for place in kept], labels=self.labels[kept], parts=parts)


def number(labels: Sequence[object], classes: Sequence[object] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number classes in the order of their labels, by scikit-learn's LabelEncoder.

    Args:
      labels: [n], all text or all integers.
      classes: all there are, where some may have no picture.

    Returns:
      int64 [n], and the name of each class.
    """
    from sklearn.preprocessing import LabelEncoder  # takes a second, which `--help` should not

    encoder = LabelEncoder().fit(np.asarray(classes or labels))
    return encoder.transform(np.asarray(labels)).astype(np.int64), tuple(str(name) for name in encoder.classes_)


@dataclasses.dataclass(frozen=True)
class Division:
    """How pictures are divided into train, validation and test; see `folder` for the arguments.

    Raises:
      DataError: when it is made: an argument is out of range.
    """

    split: str
    proportions: Sequence[float]
    seed: int

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.split not in METHODS:
            raise DataError(f"`split` is {self.split!r}; take one of {', '.join(map(repr, METHODS))}")
        if len(self.proportions) != len(SPLITS) or not all(0 < share < np.inf for share in self.proportions):
            raise DataError(f"proportions are {tuple(self.proportions)}; give three above 0, as in (8, 1, 1)")

    def divide(self, pictures: Labelled, digests: Sequence[str], parts: int = len(SPLITS)) -> list[np.ndarray]:
        """Return the places of the pictures that go to each split, of which the first `parts` are made."""
        if self.split == "digest":
            return by_digest(digests, self.proportions[:parts])
        try:
            class_of = np.array(pictures.class_names)[pictures.labels]
            return stratified(class_of, self.proportions[:parts], self.seed)
        except DataError as error:
            raise DataError(f"{pictures.origin}: {error}") from None


def make_data(
    pictures: Labelled,
    division: Division,
    *,
    size: tuple[int, int],
    resize: str,
    most_bad: float,
    index: str | os.PathLike[str] | None,
    decode: str = "exact",
) -> Data:
    """Make a data set of labelled pictures; see `folder` for the arguments.

    Raises:
      DataError: an argument is out of range; there are fewer than two classes, one without a picture, or one with too
        few for the splits; or more than `most_bad` of the pictures cannot be decoded.
    """
    if not 0 <= most_bad <= 1:
        raise DataError(f"`most_bad` is {most_bad}; it is a share of all pictures, from 0 to 1")
    # Refuses a wrong size, resize or decode before the work.
    all_pictures = Pictures(
        pictures.paths, size, resize, decode=decode, index=os.path.abspath(index) if index else None
    )
    there = None if pictures.parts is None else np.unique(pictures.parts)
    missing = len(SPLITS) if there is None else 2 if _lacks_validation(there) else 1
    check_classes(pictures, missing)
    good, digests, set_aside = _decodable(pictures, most_bad, index, whole=decode == "exact")
    check_classes(good, missing, " that can be decoded")
    parts = _parts(good, there, digests, division)
    whole = Split(Pictures(**{**all_pictures.to_json(), "paths": good.paths, "digests": digests}), good.labels)
    splits = [whole.subset(part) for part in parts]
    notes = (*pictures.notes, *_set_aside_note(pictures, set_aside), *_class_notes(good, parts))
    notes += tuple(_twin_notes(good, digests, parts))
    # Of two, the second serves as test too.
    fixed_test = pictures.parts is not None
    data = Data(splits[0], splits[1], splits[-1], good.class_names, notes, set_aside, fixed_test)
    try:
        check(data)
    except DataError as error:
        raise DataError(f"{good.origin}: {error}\nadd pictures, or divide them in another way") from None
    return data


def _decodable(
    pictures: Labelled, most_bad: float, index: str | os.PathLike[str] | None, *, whole: bool
) -> tuple[Labelled, list[str], dict[str, str]]:
    """Return the pictures that can be decoded, the digest of each, and why the others cannot be, by path."""
    scanned = scan(pictures.paths, index=index, whole=whole)
    set_aside = {path: result.reason for path, result in zip(pictures.paths, scanned, strict=True) if result.reason}
    _check_share(pictures, set_aside, most_bad)
    kept = np.array([place for place, result in enumerate(scanned) if result.digest], np.int64)
    return pictures.only(kept), [scanned[place].digest for place in kept], set_aside


# --- refusals ---


def check_classes(pictures: Labelled, parts: int, kind: str = "") -> None:
    """Refuse classes that no classifier can be trained and measured on.

    Args:
      pictures: the pictures.
      parts: into how many splits they are still to be divided; 1: they are divided already.
      kind: what messages add to "picture".

    Raises:
      DataError: a class has no picture, there are fewer than two classes, or some have fewer pictures than `parts`.
    """
    counts = np.bincount(pictures.labels, minlength=len(pictures.class_names))
    empty = [name for name, count in zip(pictures.class_names, counts, strict=True) if not count]
    cure = "add some, or take these classes out"
    if empty:
        problem = f"{len(empty)} of {len(counts)} classes have no picture{kind}"
        raise DataError(f"{pictures.origin}: {problem}: {names.listed(empty)}; {cure}")
    if len(counts) < 2:
        there = f"only one, {pictures.class_names[0]} ({counts[0]:,} pictures)" if len(counts) else "none"
        raise DataError(f"{pictures.origin}: a classifier needs two classes or more, and there is {there}")
    rare = [f"{name} ({count})" for name, count in zip(pictures.class_names, counts, strict=True) if count < parts]
    if rare:
        problem = f"{len(rare)} of {len(counts)} classes have fewer pictures{kind} than there are splits, {parts}"
        raise DataError(f"{pictures.origin}: {problem}: {names.listed(rare)}; {cure}")


def _check_share(pictures: Labelled, set_aside: Mapping[str, str], most_bad: float) -> None:
    total = len(set(pictures.paths))
    if len(set_aside) <= most_bad * total:
        return
    bad = f"{len(set_aside):,} of {total:,} pictures cannot be used, more than `most_bad={most_bad:g}`:"
    lines = [f"{pictures.origin}: {bad}", *_reasons(set_aside)]
    raise DataError("\n  ".join(lines) + "\nmend or remove them, or allow more by `most_bad`")


def _reasons(set_aside: Mapping[str, str]) -> list[str]:
    return shortened([f"{path} {reason}" for path, reason in set_aside.items()])


# --- splits ---


def _lacks_validation(there: np.ndarray) -> bool:
    return there.tolist() == [SPLITS.index("train"), SPLITS.index("test")]


def _parts(
    pictures: Labelled, there: np.ndarray | None, digests: Sequence[str], division: Division
) -> list[np.ndarray]:
    """Return the places of each split: as the pictures lie (in the splits `there`), or divided."""
    if there is None:
        return division.divide(pictures, digests)
    parts = [np.flatnonzero(pictures.parts == part) for part in there]
    if not _lacks_validation(there):
        return parts
    both, test = parts
    halves = division.divide(pictures.only(both), [digests[int(place)] for place in both], 2)
    return [both[halves[0]], both[halves[1]], test]


# --- notes ---


def _set_aside_note(pictures: Labelled, set_aside: Mapping[str, str]) -> list[str]:
    if not set_aside:
        return []
    head = f"set aside {len(set_aside):,} of {len(set(pictures.paths)):,} pictures:"
    return ["\n  ".join([head, *_reasons(set_aside)])]


def _class_notes(pictures: Labelled, parts: Sequence[np.ndarray]) -> list[str]:
    missing = [np.setdiff1d(np.arange(len(pictures.class_names)), pictures.labels[part]) for part in parts]
    return [
        f"{split} has no picture of {names.listed(pictures.class_names[label] for label in labels)}"
        for split, labels in zip(SPLITS, missing, strict=False)
        if len(labels)
    ]


def _twin_notes(pictures: Labelled, digests: Sequence[str], parts: Sequence[np.ndarray]) -> Iterator[str]:
    """Say which files are identical though in two splits, or in two classes."""
    split_of = {int(place): name for name, part in zip(SPLITS, parts, strict=False) for place in part}
    class_of = {place: pictures.class_names[label] for place, label in enumerate(pictures.labels)}
    places: dict[str, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        places[digest].append(place)
    twins = [each for each in places.values() if len(each) > 1]
    cure = "" if pictures.parts is not None else "; `split='digest'` keeps them together"
    in_two_splits = f"identical in two splits, whose numbers are then not independent{cure}"
    yield from _apart(in_two_splits, pictures, twins, split_of)
    yield from _apart("identical under two labels", pictures, twins, class_of)


def _apart(fault: str, pictures: Labelled, twins: Sequence[Sequence[int]], home: Mapping[int, str]) -> Iterator[str]:
    apart = [each for each in twins if len({home[place] for place in each}) > 1]
    if apart:
        lines = [" = ".join(f"{pictures.paths[place]} ({home[place]})" for place in each) for each in apart]
        yield "\n  ".join([f"{len(apart):,} pictures are {fault}:", *shortened(lines)])
