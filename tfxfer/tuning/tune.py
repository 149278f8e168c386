"""The search for a head: trials, cross-validated side by side, ranked, kept and resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer import files, names, notebook, progress
from tfxfer.data.batches import check_seed, steps_per_epoch
from tfxfer.data.splits import Fold, Images, labels_outside, make_folds
from tfxfer.errors import DataError, RunError
from tfxfer.store.store import Rows
from tfxfer.tuning import baselines, cross_validation, hparams
from tfxfer.tuning.cross_validation import CrossValidation, HeadTraining
from tfxfer.tuning.rows import check_finite, pieces, width
from tfxfer.tuning.trials import SearchSpace, Trial

log = logging.getLogger("tfxfer")

FILE = "tune.json"
VERSION = 1
_COLUMNS = ("head", "endpoint", "normalize", "accuracy", "spread", "loss", "hidden", "dropout", "learning_rate", "l2")


@dataclasses.dataclass(frozen=True)
class Result:
    """How a trial, or a baseline, did on the held-out examples.

    Attributes:
      name: "trial-07", or the name of the baseline.
      endpoint: which features it took.
      trial: the head; None for a baseline.
      accuracies, losses: of each fold; a baseline has no losses.
      epochs: for how many it was trained; 0 for a baseline.
    """

    name: str
    endpoint: str
    trial: Trial | None
    accuracies: tuple[float, ...]
    losses: tuple[float, ...] = ()
    epochs: int = 0

    @property
    def diverged(self) -> bool:
        """Whether the loss of a fold is not finite."""
        return not all(map(math.isfinite, self.losses))

    @property
    def accuracy(self) -> float:
        """The mean over the folds."""
        return float(np.mean(self.accuracies))

    @property
    def loss(self) -> float:
        """The mean over the folds; NaN for a baseline."""
        return float(np.mean(self.losses)) if self.losses else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation of the accuracies over the folds."""
        return float(np.std(self.accuracies, ddof=1))

    @property
    def standard_error(self) -> float:
        """The standard error of the mean accuracy."""
        return self.spread / math.sqrt(len(self.accuracies))


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What a search came to.

    Attributes:
      results: the trials, from best to worst: those that were trained longest first, of these the highest mean
        accuracy, among equals the lowest mean loss; those that diverged last.
      baselines: scikit-learn's, on the same folds.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(60, 8)), np.arange(60) % 2
      >>> space = tx.SearchSpace(hidden=(0,), l2=(0.0,), learning_rate=(1e-3, 1e-2), normalize=("none",))
      >>> tuning = tx.tune({"pool": x}, y, space=space, folds=3, training=tx.HeadTraining(epochs=2))
      >>> len(tuning.results), sorted(result.name for result in tuning.baselines)
      (2, ['logistic regression', 'nearest centroid'])
    """

    results: tuple[Result, ...]
    baselines: tuple[Result, ...]

    @property
    def best(self) -> Result:
        """The winner."""
        return self.results[0]

    def is_close(self, result: Result) -> bool:
        """Say whether a result is within one standard error of the best: the folds do not tell the two apart."""
        best = self.best
        return result.epochs in (0, best.epochs) and result.accuracy >= best.accuracy - best.standard_error

    def _repr_html_(self) -> str:
        folds = len(self.best.accuracies)
        title = f"{len(self.results):,} heads and {len(self.baselines)} baselines, each on {folds} folds"
        table = notebook.table(_COLUMNS, [*self.results, *self.baselines], self._cells, numbers=_COLUMNS[3:])
        note = "* within one standard error of the best: the folds do not tell the two apart"
        return notebook.described(title, table, notes=[note])

    def _cells(self, result: Result) -> list[str]:
        trial = dataclasses.asdict(result.trial) if result.trial else {}
        normalize, *settings = (str(trial.get(name, "")) for name in ("normalize", *_COLUMNS[6:]))
        accuracy = f"{result.accuracy:.4f}{'*' if self.is_close(result) else ''}"
        loss = f"{result.loss:.4f}" if result.losses else ""
        return [result.name, result.endpoint, normalize, accuracy, f"{result.spread:.4f}", loss, *settings]


def tune(
    features: Mapping[str, Images],
    labels: np.ndarray,
    *,
    space: SearchSpace = SearchSpace(),
    training: HeadTraining = HeadTraining(),
    trials: int = 40,
    folds: int = 5,
    halving: int | None = None,
    class_names: Sequence[str] | None = None,
    examples: Sequence[str] | None = None,
    logdir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Tuning:
    """Try many heads on the same features, by cross-validation, all of them side by side.

    Each head has the numbers that it would have alone, trained by `fit` on `heads.classifier` with the same seed. What
    was computed is kept in `logdir`: a search that was killed, and is started again, ends with the same numbers.

    Args:
      features: by endpoint, float [n, ...] of the examples to train and validate on: arrays, or rows of a store, which
        are read a batch at a time. Keep the test examples out.
      labels: int64 [n], numbers of classes.
      space: what may be tried.
      training: how each head is trained; its seed also draws trials and folds.
      trials: the most heads to try.
      folds: parts of the examples, each held out once; 2 or more.
      halving: successive halving by this factor, 2 or more (scikit-learn's HalvingRandomSearchCV has 3): all trials are
        first trained for a part of the epochs, the best 1/factor of them go on, anew, for `factor` times as many, and
        so on to all epochs. Default: all trials are trained for all epochs.
      class_names: default: the numbers.
      examples: what each example is called in messages, as its path.
      logdir: where results are kept, for the same search to go on and for TensorBoard. Default: nowhere.
      overwrite: move the results of a search that is in `logdir` aside, to `tune.json.old-N`, and begin anew.

    Raises:
      DataError: features that are not finite (which examples, is said), labels or numbers that do not fit, an empty
        search space, or a class with fewer examples than folds.
      RunError: `logdir` holds another search, or something else, or all trials diverged.

    Example:
      >>> data = tx.data.digits()
      >>> x, y = data.train.images.reshape(-1, 784)[:300] / 255, data.train.labels[:300]
      >>> space = tx.SearchSpace(hidden=(0, 32), dropout=(0.0,), l2=(0.0,), normalize=("none",))
      >>> tuning = tx.tune({"pixels": x}, y, space=space, trials=3, folds=3, training=tx.HeadTraining(epochs=3))
      >>> [result.name for result in tuning.results if result is tuning.best] == [tuning.best.name]
      True
    """
    class_names = class_names or [str(number) for number in range(int(np.max(labels, initial=0)) + 1)]
    _check(features, labels, class_names, training, halving)
    drawn = space.draw(list(features), trials, training.seed)
    divided = make_folds(labels, folds, training.seed, class_names)
    for endpoint, rows in features.items():
        check_finite(rows, endpoint, examples)
    settings = _settings(features, labels, space, training, trials=trials, folds=folds, halving=halving)
    kept = _Kept(None if logdir is None else Path(logdir), settings, overwrite)
    search = _Search(drawn, {name: _loaded(rows) for name, rows in features.items()}, labels, divided,
                     len(class_names), training, kept)  # fmt: skip
    tuning = Tuning(search.run(_rungs(len(drawn), training.epochs, halving), halving or 1), search.floor())
    if logdir is not None:
        hparams.write(Path(logdir), tuning.results)
    if tuning.best.diverged:
        raise RunError("the loss of all trials is not finite; lower `learning_rate`, or normalise the features")
    return tuning


def _check(
    features: Mapping[str, Images],
    labels: np.ndarray,
    class_names: Sequence[str],
    training: HeadTraining,
    halving: int | None,
) -> None:
    problems = [
        f"{name} has {len(rows)} rows, and there are {len(labels)} labels"
        for name, rows in features.items()
        if len(rows) != len(labels)
    ]
    if not features:
        problems.append("`features` is empty; give those of one endpoint or more")
    if halving is not None and halving < 2:
        problems.append(f"`halving={halving}`: give a factor of 2 or more")
    if outside := labels_outside(labels, len(class_names)):
        problems.append(outside)
    if problems:
        raise DataError("; ".join(problems))
    check_seed(training.seed)
    training.check(len(class_names))


def _loaded(rows: Images) -> Images:
    """Return features as an array where they are small, so that they are read once; else as they are."""
    return rows[np.arange(len(rows))] if baselines.fits_in_memory(rows) else rows


def _rungs(trials: int, epochs: int, factor: int | None) -> list[int]:
    """Return for how many epochs the trials of each rung are trained; the last is for all."""
    if factor is None:
        return [epochs]
    rungs = [epochs]
    while trials >= factor and rungs[0] >= factor:
        trials, rungs = trials // factor, [rungs[0] // factor, *rungs]
    return rungs


class _Search:
    """Goes through rungs and folds."""

    def __init__(
        self,
        trials: Sequence[Trial],
        features: Mapping[str, Images],
        labels: np.ndarray,
        folds: Sequence[Fold],
        classes: int,
        training: HeadTraining,
        kept: _Kept,
    ) -> None:
        self.trials, self.features, self.labels, self.folds = trials, features, labels, folds
        self.classes, self.training, self.kept = classes, training, kept
        self._widths = {name: width(rows) for name, rows in features.items()}

    def run(self, rungs: Sequence[int], factor: int) -> tuple[Result, ...]:
        """Return the results, from best to worst."""
        results: dict[int, Result] = {}
        places = list(range(len(self.trials)))
        with progress.bar(self._steps(rungs, len(places), factor), 0, "tune") as bar:
            for epochs in rungs:
                results |= self._rung(places, epochs, bar)
                places = sorted(places, key=lambda place: _rank(results[place]))[: max(1, len(places) // factor)]
                places.sort()
        return tuple(sorted(results.values(), key=_rank))

    def _steps(self, rungs: Sequence[int], trials: int, factor: int) -> int:
        total = 0
        for epochs in rungs:
            parts = len([*cross_validation.portions(self.trials[:trials], self._widths)])
            total += parts * sum(self._length(epochs, fold) for fold in self.folds)
            trials = max(1, trials // factor)
        return total

    def _length(self, epochs: int, fold: Fold) -> int:
        return epochs * steps_per_epoch(len(fold[0]), self.training.batch_size)

    def _rung(self, places: Sequence[int], epochs: int, bar: progress.Bar) -> dict[int, Result]:
        training = dataclasses.replace(self.training, epochs=epochs)
        results: dict[int, Result] = {}
        for part in cross_validation.portions([self.trials[place] for place in places], self._widths):
            members, columns, opened = places[part], [], {}
            for number, fold in enumerate(self.folds):
                scores = self.kept.scores(epochs, number, members)
                if scores is None:
                    # A schedule ends with the fold: folds of two lengths need two graphs.
                    length = self._length(epochs, fold)
                    if length not in opened:
                        opened[length] = self._open(members, training, length)
                    measured = opened[length].run(fold, bar.advance)
                    scores = self.kept.keep(epochs, number, members, measured)
                else:
                    bar.advance(self._length(epochs, fold))
                columns.append(scores)
            for validation in opened.values():
                validation.session.close()
            for place, rows in zip(members, zip(*columns, strict=True), strict=True):
                losses, accuracies = zip(*rows, strict=True)
                trial = self.trials[place]
                results[place] = Result(f"trial-{place:02}", trial.endpoint, trial, accuracies, losses, epochs)
        return results

    def _open(self, members: Sequence[int], training: HeadTraining, length: int) -> CrossValidation:
        trials = [self.trials[place] for place in members]
        return CrossValidation(
            trials, self.features, self.labels, classes=self.classes, training=training, steps=length
        )

    def floor(self) -> tuple[Result, ...]:
        """Return the results of scikit-learn's baselines."""
        results = []
        for endpoint, rows in self.features.items():
            if not baselines.fits_in_memory(rows):
                log.warning("%s: too large for scikit-learn's baselines, which take all features at once", endpoint)
                continue
            scores = self.kept.baselines(endpoint) or self.kept.keep_baselines(
                endpoint, baselines.accuracies(rows, self.labels, self.folds)
            )
            results += [Result(name, endpoint, None, tuple(values)) for name, values in scores.items()]
        return tuple(results)


def _rank(result: Result) -> tuple[bool, int, float, float]:
    loss = result.loss if math.isfinite(result.loss) else math.inf
    return (result.diverged, -result.epochs, -result.accuracy, loss)


# --- what is kept ---


class _Kept:
    """The results so far, in `tune.json`, which is written whole after each fold."""

    def __init__(self, folder: Path | None, settings: dict[str, Any], overwrite: bool) -> None:
        self._folder = folder
        self._value: dict[str, Any] = {"version": VERSION, "settings": settings, "scores": {}, "baselines": {}}
        if folder is None:
            return
        if overwrite and (folder / FILE).exists():
            files.move_aside(folder / FILE)
        elif (folder / FILE).exists():
            self._value |= _read(folder / FILE, settings)
        elif folder.is_dir() and (others := sorted(entry.name for entry in folder.iterdir() if entry.name != "store")):
            raise RunError(f"{folder} has no {FILE}, but {names.listed(others, 5)}; give another `logdir`")
        folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def _write(self) -> None:
        if self._folder is None:
            return
        try:
            files.write_json(self._folder / FILE, self._value)
        except OSError as error:
            raise RunError(
                f"cannot write {self._folder / FILE}: {error.strerror}; make room, and the same call goes on"
            ) from None

    def scores(self, epochs: int, fold: int, members: Sequence[int]) -> list[tuple[float, float]] | None:
        """Return loss and accuracy of each of some trials on a fold, or None if they are not known."""
        known = self._value["scores"].get(f"{epochs} epochs", {}).get(f"fold {fold}", {})
        if not all(str(place) in known for place in members):
            return None
        return [(math.nan if known[str(p)][0] is None else known[str(p)][0], known[str(p)][1]) for p in members]

    def keep(
        self, epochs: int, fold: int, members: Sequence[int], measured: cross_validation.Scores
    ) -> list[tuple[float, float]]:
        """Keep the scores of some trials on a fold, and return them as `scores` does."""
        of_fold = self._value["scores"].setdefault(f"{epochs} epochs", {}).setdefault(f"fold {fold}", {})
        for place, loss, accuracy in zip(members, measured.loss.tolist(), measured.accuracy.tolist(), strict=True):
            of_fold[str(place)] = [loss if math.isfinite(loss) else None, accuracy]
        self._write()
        return self.scores(epochs, fold, members) or []

    def baselines(self, endpoint: str) -> dict[str, list[float]] | None:
        """Return the accuracies of the baselines on an endpoint, or None if they are not known."""
        return self._value["baselines"].get(endpoint)

    def keep_baselines(self, endpoint: str, scores: dict[str, list[float]]) -> dict[str, list[float]]:
        """Keep the accuracies of the baselines on an endpoint."""
        self._value["baselines"][endpoint] = scores
        self._write()
        return scores


def _read(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
        before, version = value["settings"], value["version"]
        before, scores, floor = dict(before), dict(value["scores"]), dict(value["baselines"])
    except (OSError, ValueError, LookupError, TypeError):
        raise RunError(f"{path} is damaged; `overwrite=True` moves the search aside and begins anew") from None
    now = json.loads(json.dumps(settings))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed or version != VERSION:
        lines = [f"{name}: was {_short(before.get(name))}, now {_short(now.get(name))}" for name in changed]
        raise RunError(
            "\n  ".join([f"{path.parent} holds a search of other settings:", *lines])
            + "\ngive another `logdir`, or `overwrite=True` to move it aside and begin anew"
        )
    return {"scores": scores, "baselines": floor}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:60]} ... ({len(text)} characters)"


def _settings(
    features: Mapping[str, Images],
    labels: np.ndarray,
    space: SearchSpace,
    training: HeadTraining,
    **numbers: int | None,
) -> dict[str, Any]:
    """Return what decides the numbers of a search, as JSON has it."""
    return {
        **dataclasses.asdict(training),
        **dataclasses.asdict(space),
        **numbers,
        "labels": hashlib.sha256(np.asarray(labels, np.int64).tobytes()).hexdigest(),
        "features": {name: _digest(rows) for name, rows in features.items()},
    }


def _digest(rows: Images) -> str:
    """Return a digest of features; of rows of a store, of what computed them and of which examples."""
    digest = hashlib.sha256(f"{rows.shape[1:]}".encode())
    if isinstance(rows, Rows):
        digest.update(f"{rows.address} {' '.join(rows.keys)}".encode())
        return digest.hexdigest()
    for piece in pieces(rows):
        digest.update(piece.tobytes())
    return digest.hexdigest()
