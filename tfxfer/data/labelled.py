"""From labelled paths to a data set: bad pictures are set aside, the others divided, and what is odd is noted."""

from __future__ import annotations

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
NO_TEST = "there is no test split: the validation split serves as test too"


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
        """Return some of them (integers [m])."""
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


def examples(
    found: Labelled,
    *,
    size: tuple[int, int],
    resize: str,
    seed: int,
    split: str,
    proportions: Sequence[float],
    most_bad: float,
    index: str | os.PathLike[str] | None,
) -> Data:
    """Make a data set of labelled pictures; see `folder` for the arguments.

    Raises:
      DataError: an argument is out of range; there are fewer than two classes, one without a picture, or one with too
        few for the splits; or more than `most_bad` of the pictures cannot be decoded.
    """
    _check_arguments(seed, split, proportions, most_bad)
    Pictures(found.paths, size, resize)  # looks at its arguments
    there = None if found.parts is None else np.unique(found.parts)
    still = len(SPLITS) if there is None else 2 if _lacks_validation(there) else 1
    check_classes(found, still)
    scanned = scan(found.paths, index=index)
    set_aside = {path: one.reason for path, one in zip(found.paths, scanned, strict=True) if one.reason}
    _check_share(found, set_aside, most_bad)
    kept = np.array([place for place, one in enumerate(scanned) if one.digest], np.int64)
    good, digests = found.only(kept), [scanned[place].digest for place in kept]
    check_classes(good, still, " that can be decoded")
    parts = _parts(good, there, digests, split, proportions, seed)
    whole = Split(Pictures(good.paths, size, resize, digests=digests), good.labels)
    splits = [whole.subset(part) for part in parts]
    notes = (*found.notes, *_set_aside_note(found, set_aside), *_class_notes(good, parts))
    notes += tuple(_twin_notes(good, digests, parts))
    # Of two, the second serves as test too.
    data = Data(splits[0], splits[1], splits[-1], good.class_names, notes, set_aside)
    _check_data(good, data)
    return data


# --- refusals ---


def _check_arguments(seed: int, split: str, proportions: Sequence[float], most_bad: float) -> None:
    check_seed(seed)
    if split not in METHODS:
        raise DataError(f"`split` is {split!r}; take one of {', '.join(map(repr, METHODS))}")
    if len(proportions) != len(SPLITS) or not all(0 < share < np.inf for share in proportions):
        raise DataError(f"proportions are {tuple(proportions)}; give three above 0, as in (8, 1, 1)")
    if not 0 <= most_bad <= 1:
        raise DataError(f"`most_bad` is {most_bad}; it is a share of all pictures, from 0 to 1")


def check_classes(found: Labelled, parts: int, kind: str = "") -> None:
    """Refuse classes that no classifier can be trained and measured on.

    Args:
      found: the pictures.
      parts: into how many splits they are still to be divided, 1 if they are.
      kind: what messages say of pictures.

    Raises:
      DataError: a class has no picture, there are fewer than two classes, or some have fewer pictures than `parts`.
    """
    counts = np.bincount(found.labels, minlength=len(found.class_names))
    empty = [name for name, count in zip(found.class_names, counts, strict=True) if not count]
    cure = "add some, or take these classes out"
    if empty:
        held = f"{len(empty)} of {len(counts)} classes have no picture{kind}"
        raise DataError(f"{found.origin}: {held}: {names.listed(empty)}; {cure}")
    if len(counts) < 2:
        held = f"only one, {found.class_names[0]} ({counts[0]:,} pictures)" if len(counts) else "none"
        raise DataError(f"{found.origin}: a classifier needs two classes or more, and there is {held}")
    rare = [f"{name} ({count})" for name, count in zip(found.class_names, counts, strict=True) if count < parts]
    if rare:
        held = f"{len(rare)} of {len(counts)} classes have fewer pictures{kind} than there are splits, {parts}"
        raise DataError(f"{found.origin}: {held}: {names.listed(rare)}; {cure}")


def _check_share(found: Labelled, set_aside: Mapping[str, str], most_bad: float) -> None:
    total = len(set(found.paths))
    if len(set_aside) <= most_bad * total:
        return
    head = (
        f"{found.origin}: {len(set_aside):,} of {total:,} pictures cannot be used, more than `most_bad={most_bad:g}`:"
    )
    raise DataError("\n  ".join([head, *_reasons(set_aside)]) + "\nmend or remove them, or allow more by `most_bad`")


def _reasons(set_aside: Mapping[str, str]) -> list[str]:
    return shortened([f"{path} {reason}" for path, reason in set_aside.items()])


def _check_data(found: Labelled, data: Data) -> None:
    try:
        check(data)
    except DataError as error:
        raise DataError(f"{found.origin}: {error}\nadd pictures, or divide them in another way") from None


# --- splits ---


def _lacks_validation(there: np.ndarray) -> bool:
    return there.tolist() == [SPLITS.index("train"), SPLITS.index("test")]


def _parts(
    found: Labelled,
    there: np.ndarray | None,
    digests: Sequence[str],
    split: str,
    proportions: Sequence[float],
    seed: int,
) -> list[np.ndarray]:
    """Return the places of each split: as they were found (`there` are the splits that were), or divided."""
    if there is None:
        return _divide(found, digests, split, proportions, seed)
    parts = [np.flatnonzero(found.parts == part) for part in there]
    if not _lacks_validation(there):
        return parts
    both, test = parts
    halves = _divide(found.only(both), [digests[int(place)] for place in both], split, proportions[:2], seed)
    return [both[halves[0]], both[halves[1]], test]


def _divide(
    found: Labelled, digests: Sequence[str], split: str, proportions: Sequence[float], seed: int
) -> list[np.ndarray]:
    if split == "digest":
        return by_digest(digests, proportions)
    try:
        return stratified(np.array(found.class_names)[found.labels], proportions, seed)
    except DataError as error:
        raise DataError(f"{found.origin}: {error}") from None


# --- notes ---


def _set_aside_note(found: Labelled, set_aside: Mapping[str, str]) -> list[str]:
    if not set_aside:
        return []
    head = f"set aside {len(set_aside):,} of {len(set(found.paths)):,} pictures:"
    return ["\n  ".join([head, *_reasons(set_aside)])]


def _class_notes(found: Labelled, parts: Sequence[np.ndarray]) -> list[str]:
    missing = [np.setdiff1d(np.arange(len(found.class_names)), found.labels[part]) for part in parts]
    return [
        f"{split} has no picture of {names.listed(found.class_names[label] for label in labels)}"
        for split, labels in zip(SPLITS, missing, strict=False)
        if len(labels)
    ]


def _twin_notes(found: Labelled, digests: Sequence[str], parts: Sequence[np.ndarray]) -> Iterator[str]:
    """Say which files are identical though in two splits, or in two classes."""
    split_of = {int(place): name for name, part in zip(SPLITS, parts, strict=False) for place in part}
    class_of = {place: found.class_names[label] for place, label in enumerate(found.labels)}
    places: dict[str, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        places[digest].append(place)
    twins = [each for each in places.values() if len(each) > 1]
    cure = "" if found.parts is not None else "; `split='digest'` keeps them together"
    yield from _apart(f"identical in two splits, whose numbers are then not independent{cure}", found, twins, split_of)
    yield from _apart("identical under two labels", found, twins, class_of)


def _apart(what: str, found: Labelled, twins: Sequence[Sequence[int]], home: Mapping[int, str]) -> Iterator[str]:
    apart = [each for each in twins if len({home[place] for place in each}) > 1]
    if apart:
        lines = [" = ".join(f"{found.paths[place]} ({home[place]})" for place in each) for each in apart]
        yield "\n  ".join([f"{len(apart):,} pictures are {what}:", *shortened(lines)])
