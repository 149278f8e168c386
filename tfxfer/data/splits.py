"""Examples in three splits: how they are held, divided, thinned out and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tfxfer import names
from tfxfer.data.batches import check_seed, order
from tfxfer.errors import DataError


class Images(Protocol):
    """What a split needs of its images: an array has it, and so can pictures that are decoded when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, height, width, channels]."""

    @property
    def dtype(self) -> Any:
        """The dtype of what indexing gives."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Any, /) -> Any: ...


# eq=False: comparing arrays by == has no single truth value, so splits are equal only if they are the same object.
@dataclass(frozen=True, eq=False)
class Split:
    """Some examples.

    Attributes:
      images: uint8 [n, height, width, channels]; an array, or anything that an array of integers indexes.
      labels: int64 [n], numbers of classes, or one-hot rows [n, classes]; None where the examples have no labels.
      features: tensors computed from the images once, by the tensors' names, each [n, ...]; None where there are none.

    Example:
      >>> split = tx.Split(np.zeros((6, 28, 28, 1), np.uint8), np.array([0, 1, 2, 0, 1, 2]))
      >>> len(split), split.take(np.array([4, 5])).labels.tolist()
      (6, [1, 2])
    """

    images: Images
    labels: np.ndarray | None = None
    features: Mapping[str, Images] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> Split:
        """Return the examples at `indices` (integers [m]), in that order; features in a store stay there."""
        labels = None if self.labels is None else self.labels[indices]
        features = self.features and {name: _subset(rows, indices) for name, rows in self.features.items()}
        return Split(self.images[indices], labels, features)

    def subset(self, indices: np.ndarray) -> Split:
        """Return what `take` returns, except that pictures in files stay there until they are asked for."""
        labels = None if self.labels is None else self.labels[indices]
        features = self.features and {name: _subset(rows, indices) for name, rows in self.features.items()}
        return Split(_subset(self.images, indices), labels, features)


def _subset(rows: Images, indices: np.ndarray) -> Images:
    subset = getattr(rows, "subset", rows.__getitem__)
    return subset(indices)


def as_split(examples: Any, name: str) -> Split:
    """Return examples as a split: one as it is, or a pair (images, labels) of arrays, or images alone.

    Raises:
      DataError: they are something else, as a whole data set.
    """
    if isinstance(examples, Split):
        return examples
    if isinstance(examples, Data):
        raise DataError(f"{name} is a whole data set; give one split of it, as data.test")
    pair = examples if isinstance(examples, (tuple, list)) else (examples, None)
    if len(pair) != 2 or not hasattr(pair[0], "shape"):
        raise DataError(f"{name} is a {type(examples).__name__}; give a Split, or a pair of arrays (images, labels)")
    return Split(pair[0], None if pair[1] is None else np.asarray(pair[1]))


def class_numbers(labels: np.ndarray) -> np.ndarray:
    """Return the number of each example's class, int64 [n], for labels that are these or one-hot rows [n, classes]."""
    return (labels.argmax(axis=1) if labels.ndim == 2 else labels).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Data:
    """A data set.

    Attributes:
      train, validation, test: its splits; pairs (images, labels) of arrays become splits.
      class_names: the name of each class, at the place of its number.
      notes: what whoever uses it should be told, as that pictures were left out; each may have several lines.
      set_aside: why each file that is left out cannot be used, by its path.
      fixed_test: whether the test examples are given, as by a folder or a listing of their own, and not drawn from all.

    Example:
      >>> x, y = np.zeros((60, 28, 28, 1), np.uint8), np.arange(60) % 3
      >>> train, validation, test = tx.data.splits.stratified(y, (8, 1, 1), seed=0)
      >>> data = tx.Data(
      ...     (x[train], y[train]), (x[validation], y[validation]), (x[test], y[test]), class_names=("a", "b", "c")
      ... )
      >>> len(data.train), len(data.validation), len(data.test)
      (48, 6, 6)
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)
    fixed_test: bool = False

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            object.__setattr__(self, name, as_split(getattr(self, name), name))

    def few(self, examples: int, seed: int) -> Data:
        """Keep only some training examples, each class at its share and with one at least.

        With the same seed, a smaller number gives a subset of a larger, so that learning curves compare like with like.

        Args:
          examples: how many to keep, from one a class to all.
          seed: 0 to 2**32 - 1.

        Raises:
          DataError: there are fewer examples, or more classes, than `examples`; or train has no labels.
        """
        labels = self.train.labels
        if labels is None:
            raise DataError("train has no labels, so no stratified subset of it can be drawn")
        labels = class_numbers(labels)
        classes = len(np.unique(labels))
        if not max(classes, 1) <= examples <= len(labels):
            raise DataError(
                f"cannot take {examples:,} training examples of {len(labels):,} in {classes} classes; "
                f"ask for {classes:,} (one a class) to {len(labels):,} (all)"
            )
        return dataclasses.replace(self, train=self.train.subset(few(labels, examples, seed)))

    def folds(self, count: int, seed: int) -> list[Data]:
        """Divide the examples into folds, each of which is the test of one data set, for an accuracy with its spread.

        The folds are those of scikit-learn's StratifiedKFold. A ninth of the examples beside each is for validation,
        each class at its share. A test that is given (`fixed_test`) stays out, so that the folds divide the rest; else
        they divide all examples.

        Args:
          count: how many folds, 2 or more.
          seed: 0 to 2**32 - 1.

        Returns:
          A data set for each fold, its notes left out.

        Raises:
          DataError: a class has fewer examples than folds, or too few to train and validate on beside a fold; examples
            have no labels; or features were computed from them already.

        Example:
          >>> accuracies = []
          >>> for data in tx.data.digits().folds(5, seed=0):
          ...     x, y = data.train.images.reshape(-1, 784), data.train.labels
          ...     centroids = np.stack([x[y == digit].mean(axis=0) for digit in range(10)])
          ...     far = np.square(data.test.images.reshape(-1, 1, 784) - centroids).sum(axis=2)
          ...     accuracies.append(np.mean(far.argmin(axis=1) == data.test.labels))
          >>> print(f"{np.mean(accuracies):.2f} +- {np.std(accuracies, ddof=1):.2f}")
          0.89 +- 0.01
        """
        check_seed(seed)
        whole = _joined(self._own())
        if whole.labels is None:
            raise DataError("the examples have no labels, so no stratified folds of them can be drawn")
        labels = class_numbers(whole.labels)
        parts = []
        for rest, fold in make_folds(labels, count, seed, self.class_names, rest=2):
            size = max(len(np.unique(labels)), round(len(rest) / 9))
            train, validation = stratified(labels[rest], (len(rest) - size, size), seed)
            parts.append([whole.subset(places) for places in (rest[train], rest[validation], fold)])
        return [dataclasses.replace(self, train=a, validation=b, test=c, notes=()) for a, b, c in parts]

    def _own(self) -> list[Split]:
        """Return the splits without a test that is given; one that serves as validation too is in it once."""
        splits = [self.train] if self.validation is self.test else [self.train, self.validation]
        return splits if self.fixed_test else [*splits, self.test]

    def augmented(self, count: int, seed: int) -> Data:
        """Put random crops of each training picture, one in two mirrored, in its place; see `Pictures.augmented`.

        Validation and test stay as they are.

        Args:
          count: crops a picture, 1 or more.
          seed: 0 to 2**32 - 1.

        Raises:
          DataError: the training images are not pictures in files, or features were computed from them already; or
            count or seed is out of range.
        """
        train = self.train
        augment = getattr(train.images, "augmented", None)
        if augment is None:
            raise DataError(
                "train has its images in an array, and only pictures in files can be augmented, as `folder` and "
                "`listing` give them"
            )
        if train.features is not None:
            raise DataError("train has features that were computed from its pictures; augment these first")
        labels = None if train.labels is None else np.repeat(train.labels, count)
        return dataclasses.replace(self, train=Split(augment(count, seed), labels))


def _joined(splits: Sequence[Split]) -> Split:
    """Return the examples of several splits behind each other; pictures in files stay there."""
    if any(split.features is not None for split in splits):
        raise DataError("there are features that were computed from the examples already; divide these first")
    images: list[Any] = [split.images for split in splits]
    labels = [split.labels for split in splits if split.labels is not None]
    join = getattr(images[0], "joined", np.concatenate)
    return Split(join(images), np.concatenate(labels) if len(labels) == len(splits) else None)


Fold = tuple[np.ndarray, np.ndarray]  # the examples to train on and those held out, int64


def make_folds(labels: np.ndarray, folds: int, seed: int, class_names: Sequence[str], *, rest: int = 1) -> list[Fold]:
    """Divide examples into folds that have each class at its share, by scikit-learn's StratifiedKFold, shuffled.

    Args:
      labels: int64 [n], numbers of classes.
      folds: how many.
      seed: 0 to 2**32 - 1.
      class_names: of all classes, for messages.
      rest: how many examples of each class there must be beside each fold.

    Raises:
      DataError: there is one class, or a number of folds that the classes have too few examples for; the message has
        the numbers that work.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise DataError(f"all {len(labels)} examples are of one class; there must be 2 or more to tell apart")
    least = int(counts.min())
    possible = [number for number in range(2, least + 1) if least - -(-least // number) >= rest]
    if not possible:
        rare = _counted(class_names, classes, counts, rest + 1)
        raise DataError(f"folds need {rest + 1} examples of each class or more; add some of {rare}, or leave it out")
    if folds not in possible:
        rare = _counted(class_names, classes, counts, folds)
        why = f", for the classes with fewer examples: {rare}" if rare else ""
        ends = f"{possible[0]} to {possible[-1]}" if len(possible) > 1 else f"{possible[0]}"
        raise DataError(f"`folds={folds}`: give {ends}{why}")
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [(np.sort(train), np.sort(held)) for train, held in splitter.split(np.zeros(len(labels)), labels)]


def _counted(class_names: Sequence[str], classes: np.ndarray, counts: np.ndarray, below: int) -> str:
    rare = zip(classes.tolist(), counts.tolist(), strict=True)
    return names.listed(f"{class_names[number]} ({count})" for number, count in rare if count < below)


def few(labels: np.ndarray, examples: int, seed: int) -> np.ndarray:
    """Return which examples are kept of labels [n], integers [examples], ascending; see `Data.few`."""
    # Shuffled, the k-th of a class with c members comes at k / c: the first of every class at 0, then each class at its
    # own pace. StratifiedShuffleSplit would not do: it may leave a rare class out.
    shuffled = order(seed, 0, len(labels))
    _, classes, counts = np.unique(labels[shuffled], return_inverse=True, return_counts=True)
    place = np.empty(len(labels))
    place[np.argsort(classes, kind="stable")] = np.concatenate([np.arange(count) / count for count in counts])
    return np.sort(shuffled[np.argsort(place, kind="stable")[:examples]])


def stratified(labels: np.ndarray, proportions: Sequence[float], seed: int) -> list[np.ndarray]:
    """Divide all examples into parts that have each class at its share, by scikit-learn's StratifiedShuffleSplit.

    Args:
      labels: [n], integers or strings.
      proportions: how large each part is: (8, 1, 1), (0.8, 0.1, 0.1), or sizes that add up to n and so are met exactly.
      seed: 0 to 2**32 - 1.

    Returns:
      Indices a part, int64, ascending; together they are 0..n-1.

    Raises:
      DataError: a part would be smaller than the number of classes, or a class has fewer examples than there are parts.
    """
    check_seed(seed)
    sizes = _sizes(len(labels), proportions)
    _check_divisible(labels, sizes)
    parts: list[np.ndarray] = [np.empty(0, np.int64)] * len(sizes)
    rest = np.arange(len(labels), dtype=np.int64)
    # The smallest part first: then no class runs out before every part was drawn.
    *smaller, largest = np.argsort(sizes, kind="stable")
    for part in smaller:
        drawn, left = _draw(labels[rest], sizes[part], seed)
        parts[part], rest = rest[drawn], rest[left]
    parts[largest] = rest
    return parts


def by_digest(digests: Sequence[str], proportions: Sequence[float]) -> list[np.ndarray]:
    """Divide examples by what they are: each one's part depends on its digest alone, and on no other example.

    So examples stay where they are as others are added, and identical ones always share a part. The parts have the
    proportions only about.

    Args:
      digests: one an example, in hex, 13 digits or more, such as SHA-256.
      proportions: how large each part is, as (8, 1, 1).

    Returns:
      Indices a part, int64, ascending; together they are 0..n-1.

    Raises:
      DataError: proportions are not positive.
    """
    if not proportions or not all(0 < share < np.inf for share in proportions):
        raise DataError(f"proportions are {tuple(proportions)}; they must be positive, as in (8, 1, 1)")
    bounds = np.cumsum(proportions) / sum(proportions)
    places = np.array([int(digest[:13], 16) for digest in digests]) / 16**13  # 52 bits, which a float holds
    parts = np.searchsorted(bounds[:-1], places, side="right")
    return [np.flatnonzero(parts == part) for part in range(len(bounds))]


def _sizes(n: int, proportions: Sequence[float]) -> list[int]:
    total = sum(proportions)
    if total <= 0:
        raise DataError(f"proportions {tuple(proportions)} add up to {total}; they must be positive, as in (8, 1, 1)")
    bounds = np.rint(np.cumsum(proportions) * n / total).astype(np.int64)
    return [int(size) for size in np.diff(bounds, prepend=0)]


def _check_divisible(labels: np.ndarray, sizes: Sequence[int]) -> None:
    classes, counts = np.unique(labels, return_counts=True)
    if min(sizes) < max(len(classes), 1):
        raise DataError(
            f"cannot split {len(labels):,} examples of {len(classes)} classes into "
            f"{' + '.join(f'{size:,}' for size in sizes)}: each part needs room for every class"
        )
    rare = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < len(sizes)]
    if rare:
        raise DataError(
            f"cannot split into {len(sizes)} parts, for {len(rare)} of {len(classes)} classes have fewer examples: "
            f"{names.listed(rare)}; add some, or leave these classes out"
        )


def _draw(labels: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import StratifiedShuffleSplit  # takes a second, which `--help` should not

    splitter = StratifiedShuffleSplit(1, train_size=size, test_size=len(labels) - size, random_state=seed)
    drawn, left = next(splitter.split(np.zeros(len(labels)), labels))
    return np.sort(drawn), np.sort(left)


def check(data: Data) -> None:
    """Refuse data that nothing can be trained or measured on.

    Raises:
      DataError: images are not uint8 [n, height, width, channels] of one shape, labels not int64 [n] or not numbers of
        classes, a split is empty, or a class has no example in train. All of this is listed at once.
    """
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    problems = [problem for name, split in splits.items() for problem in _split_problems(name, split, data.class_names)]
    problems += _shape_problems(splits)
    problems += _empty_classes(data)
    if problems:
        raise DataError("\n  ".join(["the data cannot be used:", *problems]))


def _split_problems(name: str, split: Split, class_names: Sequence[str]) -> Iterator[str]:
    images, labels = split.images, split.labels
    if images.dtype != np.uint8 or len(images.shape) != 4:
        yield f"{name}.images is {images.dtype} {images.shape}, not uint8 [n, height, width, channels]"
    if len(images) == 0:
        yield f"{name} has no examples"
    if labels is None:
        return
    if not _are_labels(labels):
        yield f"{name}.labels is {labels.dtype} {labels.shape}, not int64 [n]; convert it with labels.astype(np.int64)"
        return
    if len(labels) != len(images):
        yield f"{name} has {len(images):,} images, but {len(labels):,} labels"
    if outside := labels_outside(labels, len(class_names)):
        yield f"{name}.labels: {outside}"


def _are_labels(labels: np.ndarray) -> bool:
    return labels.dtype == np.int64 and labels.ndim == 1


def labels_outside(labels: np.ndarray, classes: int) -> str:
    """Say how many labels are not the number of a class, and which is the first; the empty string if all are."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if not len(wrong):
        return ""
    allowed = f"outside 0..{classes - 1}" if classes else "without a class: no class has a name"
    return f"{len(wrong):,} of {len(labels):,} labels are {allowed}, the first at index {wrong[0]}: {labels[wrong[0]]}"


def _shape_problems(splits: dict[str, Split]) -> Iterator[str]:
    shapes = {name: tuple(split.images.shape[1:]) for name, split in splits.items()}
    if len(set(shapes.values())) > 1:
        each = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        yield f"images differ in shape among the splits: {each}; resize them to one"


def _empty_classes(data: Data) -> Iterator[str]:
    labels = data.train.labels
    if labels is None or not _are_labels(labels):
        return
    empty = np.setdiff1d(np.arange(len(data.class_names)), labels)
    if len(empty):
        named = names.listed(f"{number} ({data.class_names[number]})" for number in empty)
        yield f"train has no example of {len(empty)} of {len(data.class_names)} classes: {named}"
