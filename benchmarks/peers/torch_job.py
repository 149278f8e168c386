"""From a folder of JPEGs to test accuracy by PyTorch's VGG16 and scikit-learn's logistic regression on its codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from benchmarks import work
from benchmarks.peers import torch_extraction, torch_networks


def main() -> None:
    """Compute codes, train and test."""
    options, clock = work.options(), work.Clock()
    with clock.running(), torch.inference_mode():
        arrays = work.well_known(Path(options.folder, f"vgg16-{options.of}", "vgg16_weights.npz"))
        model = torch_networks.vgg16(arrays, getattr(torch, options.precision))
        codes, labels = {}, {}
        for split in ("train", "test"):
            paths = sorted(Path(options.folder, f"{options.of}-{options.pictures}", split).rglob("*.jpg"))
            rows = torch_extraction.codes(model, paths, options)
            codes[split], labels[split] = normalize(rows.mean(axis=(1, 2))), [path.parent.name for path in paths]
        classifier = LogisticRegression(C=100, max_iter=1000).fit(codes["train"], labels["train"])
        accuracy = float(np.mean(classifier.predict(codes["test"]) == labels["test"]))
    work.report(clock.seconds, {"accuracy": accuracy})


if __name__ == "__main__":
    main()
