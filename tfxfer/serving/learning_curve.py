"""How accuracy grows with the number of pictures, measured on what the frozen layers of a run give."""

from __future__ import annotations

import os

import numpy as np

from tfxfer import files, progress
from tfxfer.data.batches import chunks
from tfxfer.data.finite import not_finite, refuse_not_finite
from tfxfer.data.normalization import normalized
from tfxfer.data.pictures import example_name
from tfxfer.data.splits import Split, class_numbers, few
from tfxfer.errors import DataError, RunError
from tfxfer.serving.run import open_run
from tfxfer.statistics import learning_curve
from tfxfer.statistics.learning_curve import LEAST_SIZES, LearningCurve

SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)
SEEDS = 5
STRENGTH = 10.0
CLASSIFIER = "logistic regression on features of unit length"
_BATCH = 256


def measure(run: str | os.PathLike[str], *, store: str | os.PathLike[str], seeds: int = SEEDS) -> LearningCurve:
    """Train logistic regression on parts of a run's training examples, and fit a curve to its accuracies.

    The features are what the frozen layers give: of maps, the average over positions; each row is brought to unit
    length. Logistic regression (scikit-learn, C = 10) is trained in seconds and tells how steep the curve is; the
    run's own head lies above it, or not far below. Parts are stratified, and with the same seed the smaller lie in the
    larger. The accuracy is that on the validation examples, so that the test stays untouched.

    Args:
      run: the run directory, in which `learning_curve.json` is written.
      store: the folder of features that it was trained from; what is missing there is computed first.
      seeds: how many parts of each size are drawn, 1 or more.

    Raises:
      RunError: the run has no checkpoint, or does not say what it was trained on.
      DataError: there are too few examples, or features hold NaN.
      GraphError: nothing is frozen, so that nothing can be stored.
    """
    if seeds < 1:
        raise DataError(f"`seeds={seeds}` must be 1 or more")
    opened = open_run(run)
    data = opened.load_data()
    sizes = _sizes(data.train)
    data = opened.precompute(store, data)
    train, validation = _codes(data.train), _codes(data.validation)
    right = []
    with progress.bar(len(sizes), 0, "sizes") as bar:
        for size in sizes:
            right.append(_right(train, validation, size, seeds))
            bar.advance()
    head = (opened.best or {}).get("accuracy")
    curve = learning_curve.fit(right, sizes, classifier=CLASSIFIER, head=head)
    try:
        files.write_bytes(opened.path / learning_curve.FILE, learning_curve.to_bytes(curve))
    except OSError as error:
        raise RunError(f"cannot write {learning_curve.FILE} in {opened.path}: {error.strerror or error}") from None
    return curve


def _sizes(train: Split) -> list[int]:
    """Return how many examples each part has.

    Raises:
      DataError: too few sizes have an example of each class.
    """
    labels = class_numbers(np.asarray(train.labels))
    classes = len(np.unique(labels))
    if classes < 2:
        raise DataError("all training examples are of one class, so that there is nothing to tell apart")
    sizes = [size for size in dict.fromkeys(round(share * len(labels)) for share in SHARES) if size >= 2 * classes]
    if len(sizes) < LEAST_SIZES:
        least = int(np.ceil(2 * classes / SHARES[-LEAST_SIZES]))
        raise DataError(
            f"{len(labels):,} training examples of {classes} classes are too few for a learning curve; it needs "
            f"{least:,}"
        )
    return sizes


def _codes(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return features, float32 [n, d] of unit length, and class numbers, int64 [n].

    Raises:
      DataError: some are not finite.
    """
    columns = []
    for rows in (split.features or {}).values():
        pieces = [_flat(np.asarray(rows[chunk], np.float32)) for chunk in chunks(len(split), _BATCH)]
        columns.append(np.concatenate(pieces))
    codes = np.concatenate(columns, axis=1)
    refuse_not_finite(not_finite(codes), len(codes), lambda row: example_name(split.images, row))
    return normalized(codes, "l2"), class_numbers(np.asarray(split.labels))


def _flat(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=(1, 2)) if rows.ndim == 4 else rows.reshape(len(rows), -1)


def _right(
    train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray], size: int, seeds: int
) -> np.ndarray:
    """Return whether each validation example is taken for its class, bool [seeds, n]; one row where all are trained on.

    Args:
      train, validation: features and labels.
      size: how many training examples.
      seeds: how many times so many are drawn.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    codes, labels = train
    rows = []
    with threadpool_limits(1):  # the products are small, and threads would wait for each other
        for seed in range(seeds if size < len(labels) else 1):
            chosen = few(labels, size, seed)
            known, asked = _in_span(codes[chosen], validation[0])
            classifier = LogisticRegression(C=STRENGTH, max_iter=1000).fit(known, labels[chosen])
            rows.append(classifier.predict(asked) == validation[1])
    return np.array(rows)


def _in_span(codes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both in coordinates of the space that `codes` span, where these are fewer than they are long.

    The coefficients lie in this space, as L2 pulls them there, so that the classifier is the same and cheaper.
    """
    if len(codes) >= codes.shape[1]:
        return codes, others
    basis = np.linalg.qr(codes.T)[0]
    return codes @ basis, others @ basis
