"""Train a head on codes by scikit-learn's MLPClassifier. It begins with values of its own and does not validate."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from sklearn.neural_network import MLPClassifier

from benchmarks import work


def main() -> None:
    """Train, and report how long it took."""
    options, clock = work.options(), work.Clock()
    arrays = np.load(Path(options.folder, f"codes-{options.examples}", "examples.npz"))
    train, test = ((arrays[f"{name}_codes"], arrays[f"{name}_labels"]) for name in ("train", "test"))
    model = MLPClassifier((256,), alpha=0.0, batch_size=options.batch, max_iter=options.epochs, tol=0.0,
                          n_iter_no_change=options.epochs, random_state=0)  # fmt: skip
    with clock.running(), warnings.catch_warnings(action="ignore"):
        model.fit(*train)
    work.report(clock.seconds, {"accuracy": float(model.score(*test))})


if __name__ == "__main__":
    main()
