"""Two runs on the same test pictures: on which of them they differ, and whether that may be chance."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxfer import names
from tfxfer.errors import RunError
from tfxfer.runs import test_examples
from tfxfer.runs.files import find_run
from tfxfer.runs.settings import RunSettings, differing, read_settings
from tfxfer.runs.test_examples import ExampleResult
from tfxfer.statistics import intervals

# Settings that decide which pictures are tested.
_OF_EXAMPLES = ("dataset", "data_dir", "listing", "validation_listing", "split", "seed", "most_bad")
_Pair = tuple[ExampleResult, ExampleResult]


@dataclasses.dataclass(frozen=True)
class RunDiff:
    """How two runs differ.

    Attributes:
      a, b: the run directories.
      examples: how many pictures both were tested on.
      right: on how many of them A is right, and B.
      only_a: the pictures on which A is right and B is wrong, each as the pair of what A and B said.
      only_b: those on which B is right and A is wrong.
      p_value: of McNemar's exact test; see `mcnemar`.
      settings: those that differ, by name, with the value in A and in B.

    Example:
      >>> diff = tx.statistics.diff_runs.RunDiff("a", "b", 360, (350, 352), [], [], 1.0, {"seed": (0, 1)})
      >>> [round(share, 3) for share in (diff.accuracies[1], *diff.intervals[1])]
      [0.978, 0.957, 0.989]
    """

    a: str
    b: str
    examples: int
    right: tuple[int, int]
    only_a: Sequence[_Pair]
    only_b: Sequence[_Pair]
    p_value: float
    settings: Mapping[str, tuple[Any, Any]]

    @property
    def accuracies(self) -> tuple[float, float]:
        """Of A and of B."""
        return self.right[0] / self.examples, self.right[1] / self.examples

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Wilson's 95 % intervals of both accuracies."""
        return intervals.wilson(self.right[0], self.examples), intervals.wilson(self.right[1], self.examples)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain dicts, lists and numbers."""
        return {
            "a": self.a,
            "b": self.b,
            "examples": self.examples,
            "accuracies": list(self.accuracies),
            "intervals": [list(interval) for interval in self.intervals],
            "p_value": self.p_value,
            "only_a_right": [_json_of(pair) for pair in self.only_a],
            "only_b_right": [_json_of(pair) for pair in self.only_b],
            "settings": {name: list(pair) for name, pair in self.settings.items()},
        }


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    It is the chance that examples on which two classifiers differ fall to one of them as unevenly as this, or more so,
    where each is as good as the other.

    Source: McNemar, Psychometrika 12, 1947; the binomial distribution takes the place of chi-squared.

    Args:
      only_a, only_b: on how many examples only A, and only B, is right.
    """
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def diff_runs(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> RunDiff:
    """Compare two runs that were tested on the same pictures; TensorFlow is not loaded.

    Pictures are the same if their files have the same bytes, wherever they lie. They may be in another order.

    Args:
      a, b: run directories.

    Raises:
      RunError: one is not a run, or was not tested; or they were tested on other pictures, or with other classes for
        some of them, all of which are counted and the first of which are named.

    Example:
      >>> images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(tf.cast(images, tf.float32) / 255, classes=10)
      >>> step = tx.train_step(images, labels, logits, train=".*")
      >>> data = tx.data.digits()
      >>> for logdir, epochs in {"runs/a": 1, "runs/b": 2}.items():
      ...     with tx.session() as sess:
      ...         fitted = tx.fit(sess, step, data, epochs=epochs, logdir=logdir)
      ...         result = tx.evaluate(sess, step, data.test, class_names=data.class_names)
      ...         test = tx.evaluation.test_results.record(logdir, result, data.test, fitted.best)
      >>> diff = tx.diff_runs("runs/a", "runs/b")
      >>> diff.examples, diff.settings["epochs"], diff.right[1] - diff.right[0] == len(diff.only_b) - len(diff.only_a)
      (360, (1, 2), True)
    """
    folders = find_run(a), find_run(b)
    settings = read_settings(folders[0]), read_settings(folders[1])
    pairs = _paired(folders, settings)
    only_a = [pair for pair in pairs if pair[0].right and not pair[1].right]
    only_b = [pair for pair in pairs if pair[1].right and not pair[0].right]
    right = sum(first.right for first, _ in pairs), sum(second.right for _, second in pairs)
    p_value = mcnemar(len(only_a), len(only_b))
    return RunDiff(str(a), str(b), len(pairs), right, only_a, only_b, p_value, differing(*settings))


def _paired(folders: tuple[Path, Path], settings: tuple[RunSettings, RunSettings]) -> list[_Pair]:
    """Return what both runs said of each picture.

    Raises:
      RunError: the pictures or their classes differ.
    """
    first, second = (_by_contents(test_examples.read(folder)) for folder in folders)
    faults = []
    for folder, own, other in ((folders[0], first, second), (folders[1], second, first)):
        if more := [example.name for key, example in own.items() if key not in other]:
            faults.append(f"{len(more):,} of the {len(own):,} of {folder} only there: {names.listed(more, 3)}")
    if faults:
        raise RunError(f"the two were tested on different pictures: {'; '.join(faults)}; {_cure(folders, settings)}")
    pairs = [(example, second[key]) for key, example in first.items()]
    if relabelled := [f"{x.name}: {x.true} and {y.true}" for x, y in pairs if x.true != y.true]:
        raise RunError(
            f"{len(relabelled):,} test pictures have other classes in {folders[0]} than in {folders[1]}: "
            f"{names.listed(relabelled, 3)}; {_cure(folders, settings)}"
        )
    if not pairs:
        raise RunError(f"{folders[0]} was tested on no picture; {_again(folders)}")
    return pairs


def _by_contents(examples: Iterable[ExampleResult]) -> dict[tuple[str, int], ExampleResult]:
    """Map what a picture holds, and how many of the same were before it, to what was said of it."""
    seen: Counter[str] = Counter()
    by_key = {}
    for example in examples:
        contents = example.digest or example.name
        by_key[contents, seen[contents]] = example
        seen[contents] += 1
    return by_key


def _cure(folders: tuple[Path, Path], settings: tuple[RunSettings, RunSettings]) -> str:
    differ = {name: pair for name, pair in differing(*settings).items() if name in _OF_EXAMPLES}
    if not differ:
        return _again(folders)
    listed = ", ".join(f"`{name}` is {a!r} in the first and {b!r} in the second" for name, (a, b) in differ.items())
    return f"{listed}: train one of them anew with what the other has"


def _again(folders: tuple[Path, Path]) -> str:
    return f"`tfxfer evaluate {folders[0]}` and `tfxfer evaluate {folders[1]}` test both on what is there now"


def _json_of(pair: _Pair) -> dict[str, Any]:
    a, b = pair
    return {"name": a.name, "true": a.true, "predicted_by_a": a.predicted, "predicted_by_b": b.predicted}
