"""What TensorBoard's plugins take: the layout of custom scalars, precision-recall curves, hyperparameters."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_CURVES = 20
THRESHOLDS = 101
# Settings that say what is kept, how often something is written, and what tensors are called; none changes a result.
BOOKKEEPING = ("keep", "keep_best", "save_steps", "summary_steps", "validation_steps", "most_bad", "tensors")


def layout(metrics: Sequence[str]) -> Any:
    """Return a summary with the layout of the custom scalars page: training and validation on one chart.

    Args:
      metrics: of a step, as `loss` and `accuracy`.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2, summary

    def category(title: str, charts: Mapping[str, str]) -> Any:
        lines = {name: layout_pb2.MultilineChartContent(tag=[tag]) for name, tag in charts.items()}
        shown = [layout_pb2.Chart(title=name, multiline=line) for name, line in lines.items()]
        return layout_pb2.Category(title=title, chart=shown)

    categories = [
        category("training and validation, by epoch", {name: f"^epoch/{name}$" for name in metrics}),
        category("batches", {name: f"^{name}$" for name in metrics}),
        category("pace", {"learning rate": "^learning_rate", "examples a second": "^examples_per_second$"}),
        category("norms by layer", {"gradients": "^gradient_norm/", "weights": "^weight_norm/"}),
    ]
    return summary.pb(layout_pb2.Layout(category=categories))


def pr_curves(probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Iterator[Any]:
    """Yield a summary with the precision-recall curve of each class; of many, of the 20 with the most examples.

    Args:
      probabilities: float32 [n, classes]; what is not finite counts as 0.
      labels: int64 [n].
      class_names: a name for each class.
    """
    from tensorboard.plugins.pr_curve import summary

    shown = np.clip(np.nan_to_num(probabilities, posinf=0.0, neginf=0.0), 0, 1)
    most = np.argsort(-np.bincount(labels, minlength=len(class_names)), kind="stable")[:MOST_CURVES]
    for number in sorted(most.tolist()):
        # Two classes may be called alike.
        tag = f"{number} {' '.join(class_names[number].split())}" if class_names[number] != str(number) else str(number)
        yield summary.pb(f"class/{tag}", labels == number, shown[:, number], num_thresholds=THRESHOLDS)


def hparams(settings: Mapping[str, Any], seconds: float) -> list[Any]:
    """Return summaries with the settings of a run that has ended, for the table that compares runs.

    Args:
      settings: of the run by name; see `RunSettings.by_name`.
      seconds: since 1970, when the run ended.
    """
    from tensorboard.plugins.hparams import api_pb2, summary

    values = {name: value for name, value in simple(settings).items() if name not in BOOKKEEPING}
    return [
        summary.session_start_pb(values, start_time_secs=seconds),
        summary.session_end_pb(api_pb2.STATUS_SUCCESS, end_time_secs=seconds),
    ]


def simple(settings: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """Return settings as numbers, booleans and short texts; of paths, the last part alone.

    What is not set is left out. Stages become `trained`: what is trained, and from which epoch on.
    """
    known = {name: value for name, value in settings.items() if value not in (None, [], {}, "")}
    stages = known.pop("stages", [])
    simplified = {name: _simple(value) for name, value in known.items()}
    return {**simplified, "trained": _trained(stages)} if stages else simplified


def _trained(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return the layers that are trained: `fc1, logits; from epoch 10: conv5_3`."""
    pieces: list[str] = []
    known: set[str] = set()
    for stage in stages:
        layers = list(dict.fromkeys(name.rpartition("/")[0] or name for name in stage["train"]))
        new = ", ".join(layer for layer in layers if layer not in known)
        pieces.append(f"from epoch {stage['epoch']}: {new}" if pieces else new)
        known.update(layers)
    return "; ".join(pieces)


def _simple(value: Any) -> bool | float | str:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return ", ".join(f"{key}={_simple(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(item if isinstance(item, str) else str(_simple(item)) for item in value)
    return Path(value).name if os.sep in value else str(value)
