"""What scikit-learn makes of the same features on the same folds, without any setting: a floor for what is tried."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfxfer.data.normalization import normalized
from tfxfer.data.splits import Fold, Images
from tfxfer.tuning.rows import flat, width

MEMORY = 1 << 28  # bytes of features, above which nothing is fitted: scikit-learn takes them whole
STRENGTH = 10.0  # `C` of the logistic regression, for rows of length 1


def _logistic_regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=STRENGTH, max_iter=300)


def _nearest_centroid() -> Any:
    from sklearn.neighbors import NearestCentroid

    return NearestCentroid()


BASELINES: dict[str, Callable[[], Any]] = {
    "logistic regression": _logistic_regression,
    "nearest centroid": _nearest_centroid,
}


def fits_in_memory(rows: Images) -> bool:
    """Say whether the features are small enough to be fitted here."""
    return 4 * len(rows) * width(rows) <= MEMORY


def accuracies(rows: Images, labels: np.ndarray, folds: Sequence[Fold]) -> dict[str, list[float]]:
    """Return the accuracy of each baseline on each fold, of features brought to length 1.

    Args:
      rows: float [n, ...].
      labels: int64 [n].
      folds: see `data.splits.make_folds`.
    """
    from threadpoolctl import threadpool_limits

    x = normalized(flat(rows[np.arange(len(rows))]), "l2")
    # Such small products take longer in several threads. What scikit-learn warns of, it measures all the same.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: [float(make().fit(x[train], labels[train]).score(x[held], labels[held])) for train, held in folds]
            for name, make in BASELINES.items()
        }
