"""How good a model is on examples that it was not trained on."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import notebook
from tfxfer.callables import compiled
from tfxfer.data.batches import chunks
from tfxfer.data.splits import Split, as_split, class_numbers, labels_outside
from tfxfer.errors import DataError
from tfxfer.evaluation.feed import Feed
from tfxfer.evaluation.normalization import check_set
from tfxfer.graph.eval_step import EvalStep
from tfxfer.graph.losses import is_one_hot
from tfxfer.graph.stages import StageOps
from tfxfer.statistics import intervals
from tfxfer.store import provenance

log = logging.getLogger("tfxfer")

BATCH_SIZE = 256
_COLUMNS = ("class", "examples", "right", "recall", "precision", "most often taken for")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model says of a split.

    Attributes:
      metrics: the mean over all examples of each of `EvalStep.metrics`.
      probabilities: float32 [n, classes].
      labels: int64 [n], the true classes.
      class_names: one for each class.
      k: the larger of the numbers that `top_k` is for.

    Example:
      >>> evaluation = tx.Evaluation(
      ...     metrics={"accuracy": 2 / 3},
      ...     probabilities=np.float32([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]),
      ...     labels=np.array([0, 1, 1]),
      ...     class_names=("cat", "dog"),
      ... )
      >>> evaluation.confusion.tolist(), evaluation.mistakes().tolist()
      ([[1, 0], [1, 1]], [2])
    """

    metrics: Mapping[str, float]
    probabilities: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    k: int = 5

    @property
    def accuracy(self) -> float:
        """The share of examples whose most probable class is the true one."""
        return self.metrics["accuracy"]

    @property
    def right(self) -> np.ndarray:
        """Whether the most probable class of each example is the true one, bool [n]."""
        return self.predictions == self.labels

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return intervals.wilson(int(self.right.sum()), len(self.labels))

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class of each example, int64 [n]; -1 where a probability is not a number (NaN)."""
        return np.where(self._undecided, -1, self.probabilities.argmax(axis=1))

    @property
    def undecided(self) -> int:
        """How many examples have a probability that is not a number (NaN). They count as wrong everywhere."""
        return int(self._undecided.sum())

    @property
    def _undecided(self) -> np.ndarray:
        return np.isnan(self.probabilities).any(axis=1)

    @property
    def top_k(self) -> dict[int, float]:
        """The share of examples whose true class is among the 1, and the `k`, most probable.

        `k` is left out where the model has `k` classes or fewer, for then it is 1. Of classes with equal
        probabilities the lower number comes first, as in `predictions`.
        """
        own = self.probabilities[np.arange(len(self.labels)), self.labels][:, None]
        # What is not a number is never among the first.
        ahead = ~(self.probabilities <= own)
        ahead |= (self.probabilities == own) & (np.arange(len(self.class_names)) < self.labels[:, None])
        ranks = ahead.sum(axis=1)
        return {k: float(np.mean(ranks < k)) for k in sorted({1, self.k}) if k < len(self.class_names)}

    def mistakes(self, most: int = 25) -> np.ndarray:
        """Return which examples were taken for a wrong class with the highest probability, that first, int64 [m].

        Those that were taken for none, since a probability is not a number, are not among them.
        """
        wrong = np.flatnonzero((self.predictions != self.labels) & ~self._undecided)
        return wrong[np.argsort(-self.probabilities[wrong].max(axis=1), kind="stable")[:most]]

    @property
    def confusion(self) -> np.ndarray:
        """How many examples of each true class (row) were taken for each class (column), int64 [classes, classes].

        The `undecided` ones are in no column.
        """
        from sklearn.metrics import confusion_matrix

        with _of_classes():
            return confusion_matrix(self.labels, self.predictions, labels=range(len(self.class_names)))

    def per_class(self) -> dict[str, dict[str, float]]:
        """Return precision, recall, f1-score and support (the number of examples) of each class, by its name."""
        from sklearn.metrics import precision_recall_fscore_support

        with _of_classes():
            columns = precision_recall_fscore_support(
                self.labels, self.predictions, labels=range(len(self.class_names)), zero_division=0.0
            )
        keys = ("precision", "recall", "f1-score", "support")
        return {
            name: {key: float(value) for key, value in zip(keys, row, strict=True)}
            for name, row in zip(self.class_names, zip(*columns, strict=True), strict=True)
        }

    def to_json(self) -> dict[str, Any]:
        """Return metrics, interval, confusion matrix and per-class figures as plain dicts, lists and numbers."""
        return {
            **self.metrics,
            "top_k": {str(k): share for k, share in self.top_k.items()},
            "examples": len(self.labels),
            "accuracy_interval": list(self.accuracy_interval),
            **({"undecided": self.undecided} if self.undecided else {}),
            "class_names": list(self.class_names),
            "confusion": self.confusion.tolist(),
            "per_class": self.per_class(),
        }

    def __str__(self) -> str:
        tops = {f"top-{k} accuracy": share for k, share in self.top_k.items() if k > 1}
        text = "  ".join(f"{name} {value:.4f}" for name, value in {**self.metrics, **tops}.items())
        return f"{text}  ({self.undecided} examples give NaN and count as wrong)" if self.undecided else text

    def _repr_html_(self) -> str:
        confusion = self.confusion
        examples = np.bincount(self.labels, minlength=len(confusion))
        right, taken = confusion.diagonal(), confusion.sum(axis=0)

        def cells(number: int) -> list[str]:
            counts = [f"{count:,}" for count in (examples[number], right[number])]
            shares = [_share(right[number], of[number]) for of in (examples, taken)]
            return [self.class_names[number], *counts, *shares, self._confused(confusion[number], number)]

        count = len(self.labels)
        title = (
            f"{self}: {right.sum():,} of {count:,} right; {intervals.shown(int(right.sum()), count)} of the accuracy"
        )
        table = notebook.table(_COLUMNS, range(len(confusion)), cells, numbers=_COLUMNS[1:5])
        return notebook.described(title, table)

    def _confused(self, counts: np.ndarray, number: int) -> str:
        """Say for which other class the examples of a class were taken most often."""
        others = np.where(np.arange(len(counts)) == number, 0, counts)
        return f"{self.class_names[others.argmax()]} ({others.max():,})" if others.any() else ""


def _share(part: int, of: int) -> str:
    return f"{part / of:.3f}" if of else "-"


@contextlib.contextmanager
def _of_classes() -> Iterator[None]:
    """Keep scikit-learn, in its versions for Python 3.10, from asking whether many classes are numbers to predict."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        yield


def evaluate(
    sess: tf.Session,
    step: EvalStep,
    split: Split | tuple[Any, Any],
    *,
    batch_size: int = BATCH_SIZE,
    class_names: Sequence[str] = (),
    top_k: int = 5,
    stage: StageOps | None = None,
    verified: bool = False,
) -> Evaluation:
    """Run the model, as it is in the session, on labelled examples.

    Args:
      sess: a session on the step's graph.
      step: what `eval_step` or `train_step` returned, with labels.
      split: the examples, as a split or a pair of arrays (images, labels); the last batch may be short and counts as
        much as it has examples.
      batch_size: how many examples go through the network at once.
      class_names: one for each class; default: their numbers.
      top_k: 1 or more; the result says, beside the accuracy, how often the true class is among so many.
      stage, verified: as `measure` takes them.

    Raises:
      DataError: the split has no labels or labels that the model has no output for, or does not fit the placeholders;
        or there are not as many class names as classes, or `top_k` is below 1.
      RunError: the statistics of a `heads.normalize` are not set.

    Example:
      >>> images, labels = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.int64, [None])
      >>> step = tx.train_step(images, labels, tx.graph.layers.dense(images, 2, "fc", activation=None), train=["fc/.*"])
      >>> np.savez("weights.npz", **{"fc/kernel": np.eye(2, dtype=np.float32)})
      >>> with tx.session(tx.plan("fc/kernel", "weights.npz")) as sess:
      ...     tx.evaluate(sess, step, (np.float32([[1, 0], [0, 1], [3, 2]]), [0, 1, 1])).predictions.tolist()
      [0, 1, 0]
    """
    if top_k < 1:
        raise DataError(f"`top_k={top_k}` must be 1 or more")
    split = as_split(split, "split")
    if step.labels is None or step.probabilities is None or split.labels is None:
        raise DataError(
            "evaluation needs labels; to see a loss without them, fit writes that of the validation split; arrays are "
            "given as a pair (images, labels)"
        )
    check_split(step, split, "the split")
    classes = int(step.probabilities.shape[1])
    if class_names and len(class_names) != classes:
        raise DataError(f"there are {len(class_names)} class names, and the model has {classes} classes")
    if not verified:
        provenance.check(sess, step, {"the split": split}, stage)
    check_set(sess)
    means, probabilities = Pass(sess, step, split, batch_size, [step.probabilities], stage).run()
    named = tuple(class_names) or tuple(map(str, range(classes)))
    result = Evaluation(means, probabilities[0], class_numbers(split.labels), named, top_k)
    if result.undecided:
        log.warning("%d of %d examples give NaN; they count as wrong", result.undecided, len(split))
    return result


def measure(
    sess: tf.Session,
    step: EvalStep,
    split: Split,
    batch_size: int = BATCH_SIZE,
    stage: StageOps | None = None,
    *,
    verified: bool = False,
) -> dict[str, float]:
    """Return the mean over all examples of each of the step's metrics; nothing is dropped, no switch is on.

    Where the examples have features, these are fed as `stage` needs them: the last by default, which is right for all.
    That they are what the session computes is checked first, unless it was `verified` since a variable was written.

    Raises:
      DataError: the step measures nothing, or the features were computed with other weights, or by another graph.
    """
    if not step.metrics:
        raise DataError("the step has no metrics; build it with labels, or with a loss that is a tensor [batch]")
    if not verified:
        provenance.check(sess, step, {"the split": split}, stage)
    return Pass(sess, step, split, batch_size, stage=stage).run()[0]


def check_split(step: EvalStep, split: Split, name: str) -> None:
    """Refuse examples that cannot be fed to a step.

    Raises:
      DataError: there are none, they have not the shape of the images placeholder or a dtype that it holds without
        loss, or labels are missing, no integers, of another number, or outside the model's classes.
    """
    problems = []
    if not len(split):
        problems.append("it has no examples")
    if not step.images.shape.is_compatible_with([None, *split.images.shape[1:]]):
        wanted = tuple(step.images.shape.as_list()[1:])
        problems.append(f"its images are {tuple(split.images.shape[1:])}, the model takes {wanted}")
    if not _holds(step.images, split.images.dtype):
        problems.append(
            f"its images are {split.images.dtype}, the model takes {step.images.dtype.name} {_cure(step, split)}"
        )
    problems += _label_problems(step, split)
    if problems:
        raise DataError(f"{name} cannot be fed to the model: {'; '.join(problems)}")


def _label_problems(step: EvalStep, split: Split) -> list[str]:
    if step.labels is None or step.probabilities is None:
        return []
    if split.labels is None:
        return ["it has no labels"]
    labels, classes = np.asarray(split.labels), int(step.probabilities.shape[1])
    if len(labels) != len(split):
        return [f"it has {len(split)} images and {len(labels)} labels"]
    if labels.ndim == 2 and is_one_hot(step.labels):
        if labels.shape[1] != classes or labels.dtype.kind not in "iuf":
            return [f"its labels are {labels.dtype} {labels.shape}, the model takes one-hot rows [n, {classes}]"]
        wrong = np.flatnonzero(~((labels >= 0).all(axis=1) & np.isclose(labels.sum(axis=1), 1)))
        return [f"{len(wrong)} of its rows of labels do not add up to 1, the first at {wrong[0]}"] if len(wrong) else []
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        kind = (
            f"one-hot rows [n, {classes}] or int64 [n]" if is_one_hot(step.labels) else f"{step.labels.dtype.name} [n]"
        )
        cure = " (labels.argmax(axis=1))" if labels.ndim == 2 and labels.shape[1] == classes else ""
        return [f"its labels are {labels.dtype} {labels.shape}, the model takes {kind}{cure}"]
    outside = labels_outside(labels, classes)
    return [f"the model has {classes} classes, and {outside}"] if outside else []


def _cure(step: EvalStep, split: Split) -> str:
    """Say how images get the dtype of the placeholder."""
    if split.images.dtype.kind == "f" and step.images.dtype.is_floating:
        return f"(images.astype(numpy.{step.images.dtype.name}))"
    return f"(give the pixels as they are, 0 to 255, or make it tf.placeholder(tf.{split.images.dtype}, ...))"


def _holds(placeholder: tf.Tensor, dtype: np.dtype) -> bool:
    # A session casts what it is fed without a word: pixels in [0, 1] would all but vanish in a uint8.
    return np.can_cast(dtype, placeholder.dtype.as_numpy_dtype, "safe")


class Pass:
    """Examples that go through a step, any number of times: what is fed is found, and the call compiled, once."""

    def __init__(
        self,
        sess: tf.Session,
        step: EvalStep,
        split: Split,
        batch_size: int = BATCH_SIZE,
        fetches: Sequence[tf.Tensor] = (),
        stage: StageOps | None = None,
    ) -> None:
        """Take a split whose features, if it has any, were verified; `fetches` is what is wanted beside the metrics."""
        self._step, self._split, self._batch_size = step, split, batch_size
        self._feed = Feed(step, split, stage)
        self._call = compiled(sess, [*step.metrics.values(), *fetches], self._feed.tensors)

    def run(self) -> tuple[dict[str, float], list[np.ndarray]]:
        """Return the means of the metrics as the session's variables are now, and the rows of what else is fetched."""
        with self._feed.batches(chunks(len(self._split), self._batch_size)) as batches:
            rows = [self._call(*arrays) for arrays in batches]
        columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
        metrics = zip(self._step.metrics, columns, strict=False)
        means = {name: float(values.mean(dtype=np.float64)) for name, values in metrics}
        return means, columns[len(means) :]
