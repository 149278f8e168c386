"""What a run directory holds, read from its JSON files, without TensorFlow and without trusting them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer.errors import RunError
from tfxfer.plots.png import SIGNATURE
from tfxfer.reports.environment import environment
from tfxfer.reports.suspects import Suspects
from tfxfer.runs import files
from tfxfer.runs.frozen import FrozenRecord
from tfxfer.runs.settings import read_settings
from tfxfer.runs.state import Row, RunState, state_files
from tfxfer.statistics.calibration import FILE as CALIBRATION
from tfxfer.statistics.calibration import Calibration
from tfxfer.statistics.folds import FILE as FOLDS
from tfxfer.statistics.folds import Folds
from tfxfer.statistics.learning_curve import FILE as LEARNING_CURVE
from tfxfer.statistics.learning_curve import LearningCurve

SUSPECTS = "suspects.json"  # as `tfxfer check_data` writes it


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An example of the test split that was taken for another class.

    Attributes:
      true, predicted: names of classes.
      probability: of the predicted class, as the model has it.
      path: of the example, or which it is of the split; empty where nobody knows.
      picture: a PNG file of it, or None where there is none to be read.
    """

    true: str
    predicted: str
    probability: float
    path: str
    picture: bytes | None


@dataclasses.dataclass(frozen=True)
class Test:
    """What the model said of the test examples.

    Attributes:
      metrics: numbers by name: `accuracy`, `loss`.
      top_k: the share of examples whose class is among the first k, by k.
      class_names: one a class.
      confusion: int64 [classes, classes], true in rows, predicted in columns.
      mistakes: the most confident first.
      checkpoint: which it was, as far as the file says.
    """

    metrics: dict[str, float]
    top_k: dict[int, float]
    class_names: list[str]
    confusion: np.ndarray
    mistakes: list[Mistake]
    checkpoint: str


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
      path: of it.
      settings: what it was trained with, by name; see `RunSettings.by_name`.
      steps_per_epoch: steps of an epoch.
      history: a dict an epoch and one a validation, in order: `step`, `epoch`, `split` and means of metrics.
      best: the best validation, `step` and means; None where there is none yet.
      stopped: whether it stopped early.
      plans: as `Plan.to_json` wrote them; None where that file does not exist.
      frozen: `method`, `variables`, `checks`; None where that file does not exist.
      test: None where it was not tested yet.
      suspects: what a check of its data found; None where there was none.
      calibration: the temperature of its best network; None where none was fitted.
      folds: the accuracies of all folds, of a run that is one of these; None for others.
      learning_curve: accuracy by the number of examples; None where it was not measured.
      environment: on what and when it was made, in words by name.
      faults: what could not be read, and why.
    """

    path: Path
    settings: Row
    steps_per_epoch: int
    history: list[Row]
    best: Row | None
    stopped: bool
    plans: list[Row] | None
    frozen: Row | None
    test: Test | None
    suspects: Suspects | None
    calibration: Calibration | None
    folds: Folds | None
    learning_curve: LearningCurve | None
    environment: dict[str, str]
    faults: list[str]

    @property
    def name(self) -> str:
        """The name of the directory, however it was given."""
        return self.path.resolve().name or "run"

    @property
    def finished(self) -> bool:
        """Whether all epochs that were asked for are made, or it stopped early."""
        done = [row["epoch"] for row in self.history if row["split"] == "train"]
        return self.stopped or (bool(done) and max(done) >= (number(self.settings.get("epochs")) or 0))

    @property
    def reached(self) -> int:
        """The last epoch of which a row of the history is."""
        return max((row["epoch"] for row in self.history), default=0)

    @property
    def knows_trained(self) -> bool:
        """Whether the settings say what is trained."""
        return isinstance(self.settings.get("stages"), list)

    @property
    def tool(self) -> str:
        """The tool that made the run, `train` or `pretrain`; empty where a program of somebody's own did."""
        if {"model", "dataset", "restore"} <= self.settings.keys():
            return "train"
        return "pretrain" if {"latent", "mask", "save"} <= self.settings.keys() else ""

    def rows(self, split: str) -> list[Row]:
        """Return the history of a split."""
        return [row for row in self.history if row["split"] == split]

    def trained(self) -> dict[str, int]:
        """Return from which epoch on, counted from 0, each trained variable is trained."""
        epochs: dict[str, int] = {}
        for stage in _listed(self.settings.get("stages")):
            if isinstance(stage, dict):
                for name in _listed(stage.get("train")):
                    epochs.setdefault(str(name), int(number(stage.get("epoch")) or 0))
        return epochs


def read(path: str | os.PathLike[str]) -> Run:
    """Read a run directory, also one that is still being written.

    Raises:
      RunError: it is none, or its settings cannot be read.
    """
    folder = files.find_run(path)
    settings = read_settings(folder)
    faults: list[str] = []
    state = _state(folder, faults)
    return Run(
        path=folder,
        settings=settings.by_name(),
        steps_per_epoch=settings.steps_per_epoch,
        history=state.history,
        best=state.best[0] if state.best else None,
        stopped=state.stopped,
        plans=_load(folder / files.PLAN, _plans, faults),
        frozen=_load(folder / files.FROZEN, _frozen, faults),
        test=_load(folder / "test.json", _test, faults),
        suspects=_load(folder / SUSPECTS, lambda _, value: Suspects.from_json(value), faults),
        calibration=_load(folder / CALIBRATION, lambda _, value: Calibration.from_json(value), faults),
        folds=_load(folder / FOLDS, lambda _, value: Folds.from_json(value), faults),
        learning_curve=_load(folder / LEARNING_CURVE, lambda _, value: LearningCurve.from_json(value), faults),
        environment=environment(folder),
        faults=faults,
    )


def number(value: object) -> float | None:
    """Return a number that can be drawn, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -files.LARGEST <= value <= files.LARGEST:
        return None
    return float(value)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _load(path: Path, check: Callable[[Path, Any], Any], faults: list[str]) -> Any:
    """Read a file and bring it into form; None where it is not there, or not what it should be, which is noted."""
    if not path.exists():
        return None
    try:
        return check(path, files.read_json(path))
    except (RunError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        why = str(error).removeprefix(f"{path} ").removeprefix("is damaged: ")
        faults.append(f"{path.name} cannot be used: {why or type(error).__name__}")
        return None


# --- what each file must hold ---


def _state(folder: Path, faults: list[str]) -> RunState:
    """Return the state that goes furthest, of those that can be used."""
    for _, file in state_files(folder):
        state = _load(file, lambda _, value: RunState.from_json(value), faults)
        if state is not None:
            return state
    return RunState(sums={})


def _whole(value: object, least: int = 0) -> int:
    """Return a count."""
    count = number(value)
    if count is None or count < least or count != int(count):
        raise ValueError(f"it has {value!r} where a number of something should be"[:200])
    return int(count)


def _plans(_: Path, value: Any) -> list[Row]:
    return [
        {
            "weights": str(plan["weights"]),
            "kind": str(plan.get("kind", "")),
            "variables": [_pairing(row) for row in plan["variables"]],
            "unused": [str(name) for name in plan["unused"]],
        }
        for plan in value
    ]


def _pairing(row: Row) -> Row:
    source = {"source": str(row["source"])} if "source" in row else {}
    texts = {key: str(row[key]) for key in ("variable", "status")}
    return {**texts, **source, "shape": [_whole(side, -1) for side in row["shape"]]}


def _frozen(_: Path, value: Any) -> Row:
    return FrozenRecord.from_json(value).to_json()


def _test(path: Path, value: Any) -> Test:
    class_names = [str(name) for name in value["class_names"]]
    confusion = np.asarray(value["confusion"])
    shape = (len(class_names), len(class_names))
    counts = (
        confusion.dtype.kind in "iu" and (confusion >= 0).all() and confusion.sum(dtype=np.float64) <= files.LARGEST
    )
    if confusion.shape != shape or not counts:
        raise ValueError(f"its confusion matrix is not of counts {shape}")
    top_k = {int(k): share for k, text in value.get("top_k", {}).items() if (share := number(text)) is not None}
    return Test(
        metrics={name: metric for name, item in value.items() if (metric := number(item)) is not None},
        top_k=top_k,
        class_names=class_names,
        confusion=confusion.astype(np.int64),
        mistakes=[_mistake(path.parent, row) for row in value.get("mistakes", [])],
        checkpoint=str(value.get("checkpoint", "")),
    )


def _mistake(run: Path, row: Row) -> Mistake:
    probability = number(row["probability"])
    return Mistake(
        true=str(row["true"]),
        predicted=str(row["predicted"]),
        probability=math.nan if probability is None else probability,
        path=str(row.get("path") or (f"example {row['index']}" if "index" in row else "")),
        picture=_picture(run, row.get("picture")),
    )


MOST_BYTES = 1 << 20  # of a picture that goes into the page


def _picture(run: Path, name: object) -> bytes | None:
    """Return a PNG of the run's `mistakes/`; None for anything else, so that no other file can be drawn into a page."""
    if not isinstance(name, str) or not name:
        return None
    path = run / "mistakes" / Path(name).name
    try:
        if path.is_symlink() or path.stat().st_size > MOST_BYTES:
            return None
        data = path.read_bytes()
    except (OSError, ValueError):
        return None
    return data if data.startswith(SIGNATURE) else None
