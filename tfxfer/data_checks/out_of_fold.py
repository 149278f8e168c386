"""How probable each label is by classifiers that have not seen the example.

The classifier is linear discriminant analysis: Gaussians of one covariance, shrunk half way to a multiple of the
identity. It is trained in closed form from sums over the features, which are added up a block at a time. So features
may be larger than memory, and the classifier of a fold takes no second pass over its examples. Wrong labels shift its
means a little, and do no more.
"""

from __future__ import annotations

import numpy as np

from tfxfer import names
from tfxfer.data_checks.unit_rows import UnitRows
from tfxfer.errors import DataError

SHRINKAGE = 0.5
DOUBTED = 0.1  # Labels less probable than that do not count in the second round.
TEMPERATURES = np.geomspace(1, 100, 41)


def probabilities(rows: UnitRows, labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return how probable each class is for each example, by a classifier of the other folds.

    There are two rounds: in the second, labels that the first found very improbable do not count in training. A
    temperature common to all makes the labels as likely as can be.

    Args:
      rows: the features, n of them.
      labels: int64 [n], numbers of classes; a class may be absent.
      folds: how many, 2 or more; scikit-learn's StratifiedKFold.
      seed: of the folds.

    Returns:
      float64 [n, classes].
    """
    present, own = np.unique(labels, return_inverse=True)
    fold_of = _folds(own, folds, seed)
    weights = np.ones(len(own))
    for _ in range(2):
        result = _scaled(_scores(rows, own, fold_of, weights), own)
        of_label = result[np.arange(len(own)), own]
        weights = (of_label >= DOUBTED).astype(np.float64)
        weights[np.isin(own, _left_alone(own, fold_of, weights))] = 1
    whole = np.zeros((len(own), int(labels.max()) + 1))
    whole[:, present] = result
    return whole


def check_folds(labels: np.ndarray, class_names: tuple[str, ...], folds: int) -> None:
    """Refuse a number of folds that is not 2 or more, or larger than a class.

    Raises:
      DataError: the message has the largest number that works.
    """
    if folds < 2:
        raise DataError(f"`folds={folds}`: take 2 or more, or `folds=0`, which leaves the labels unchecked")
    numbers, counts = np.unique(labels, return_counts=True)
    rare = [f"{class_names[number]} ({count})" for number, count in zip(numbers, counts, strict=True) if count < folds]
    if rare:
        most = int(counts.min())
        cure = f"take `folds={most}`" if most > 1 else "add pictures, or take `folds=0`, which leaves labels unchecked"
        raise DataError(f"{len(rare)} classes have fewer pictures than `folds={folds}`: {names.listed(rare)}; {cure}")


def _folds(own: np.ndarray, folds: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedKFold  # takes a second, which `--help` should not

    fold_of = np.empty(len(own), np.int64)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(own)), own)):
        fold_of[held_out] = number
    return fold_of


def _left_alone(own: np.ndarray, fold_of: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the classes that would have nothing left to train on without some fold."""
    counts = np.zeros((fold_of.max() + 1, own.max() + 1))
    np.add.at(counts, (fold_of, own), weights)
    return np.flatnonzero(((counts.sum(axis=0) - counts) == 0).any(axis=0))


def _scores(rows: UnitRows, own: np.ndarray, fold_of: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the logarithm of each class's density times its share, up to a constant; float64 [n, classes]."""
    folds, classes = int(fold_of.max()) + 1, int(own.max()) + 1
    counts = np.zeros((folds, classes))
    np.add.at(counts, (fold_of, own), weights)
    sums = np.zeros((folds, classes, rows.width))
    squares = np.zeros((folds, rows.width, rows.width), np.float32)
    for indices, block in rows.blocks():
        for fold in range(folds):
            chosen = (fold_of[indices] == fold) & (weights[indices] > 0)
            np.add.at(sums[fold], own[indices[chosen]], block[chosen])
            squares[fold] += block[chosen].T @ block[chosen]
    totals = counts.sum(axis=0), sums.sum(axis=0), squares.sum(axis=0, dtype=np.float64)
    heads = [
        _discriminant(totals[0] - counts[fold], totals[1] - sums[fold], totals[2] - squares[fold])
        for fold in range(folds)
    ]
    scores = np.empty((len(own), classes))
    for indices, block in rows.blocks():
        for fold, (kernel, bias) in enumerate(heads):
            chosen = fold_of[indices] == fold
            scores[indices[chosen]] = block[chosen] @ kernel + bias
    return scores


def _discriminant(counts: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of the linear discriminant, from sums over the examples."""
    means = sums / counts[:, np.newaxis]
    covariance = (squares - means.T @ sums) / counts.sum()
    variance = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    shrunk = (1 - SHRINKAGE) * covariance
    shrunk[np.diag_indices_from(shrunk)] += SHRINKAGE * variance
    kernel = np.linalg.solve(shrunk, means.T)
    return kernel, np.log(counts / counts.sum()) - (means * kernel.T).sum(axis=1) / 2


def _scaled(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return probabilities at the temperature at which the labels are the most likely."""
    scores = scores - scores.max(axis=1, keepdims=True)
    of_label = scores[np.arange(len(own)), own]
    losses = [np.log(np.exp(scores / t).sum(axis=1)).mean() - of_label.mean() / t for t in TEMPERATURES]
    powers = np.exp(scores / TEMPERATURES[int(np.argmin(losses))])
    return powers / powers.sum(axis=1, keepdims=True)
