"""The trials of a search in TensorBoard: a row each on the page of hyperparameters."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfxfer.tensorboard import plugins
from tfxfer.tensorboard.events import Events

METRICS = {
    "folds/accuracy": "accuracy",
    "folds/standard_deviation": "standard deviation over the folds",
    "folds/loss": "loss",
}


def write(logdir: Path, results: Sequence[Any]) -> None:
    """Write a folder for each trial, `trial-07`, in place of what an earlier end of the search wrote.

    Args:
      logdir: of the search.
      results: of the trials; see `tfxfer.tuning.tune.Result`.
    """
    for result in results:
        for old in (logdir / result.name).glob("events.out.tfevents.*"):
            old.unlink()
        events = Events(logdir, [result.name], ".tune", None)
        try:
            for summary in plugins.hparams({**dataclasses.asdict(result.trial), "epochs": result.epochs}, time.time()):
                events.add(result.name, summary, 0)
            numbers = (result.accuracy, result.spread, result.loss)
            events.scalars(result.name, dict(zip(METRICS, numbers, strict=True)), result.epochs)
        finally:
            events.close()
