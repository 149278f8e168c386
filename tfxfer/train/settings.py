"""What must be the same for a run to go on: what is trained, how, by what graph, on what, from which weights.

What has no words is told by a digest: of the graph, without names and values; of the examples; of what was restored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.data.pictures import Pictures
from tfxfer.data.splits import Data, Split
from tfxfer.errors import DataError
from tfxfer.frontier.search import frontier
from tfxfer.graph import own_state
from tfxfer.graph.partitioned import is_part, wholes
from tfxfer.graph.structure import Structure
from tfxfer.graph.train_step import Step
from tfxfer.store.precision import of_rows
from tfxfer.weights.digests import digest

# Of what several processes pass to each other in each step, nothing is left between two steps.
_EXCHANGE = {"ConditionalAccumulator", "SparseConditionalAccumulator", "FIFOQueueV2"}
MOST_BYTES = 1 << 30  # of images in memory that are looked at; of more, rows at equal distances


def of_run(sess: tf.Session, step: Step, data: Data) -> dict[str, Any]:
    """Return what step, data and weights of a training are, as JSON has it; None for what cannot be told."""
    structure = Structure(step.images.graph)
    whole = not any(map(is_part, step.images.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)))
    of_step = dict(step.settings)
    of_step.setdefault("learning_rate", {"schedule": structure.digest([step.learning_rate])})
    of_step.setdefault("loss", {"tensor": structure.digest([step.metrics["loss"]])} if whole else None)
    applies = [stage.apply for stage in step.stages]
    together = step.settings.get("processes")
    return {
        **of_step,
        "stages": [{"epoch": stage.epoch, "train": list(wholes(stage.variables))} for stage in step.stages],
        "l2": step.l2 or None,
        "class_weights": step.class_weights,
        # A run goes on in another number of parts and processes, which are another graph.
        "graph": structure.digest(step.metrics.values()) if whole else None,
        "update": structure.digest(applies, leaves=[step.learning_rate]) if whole and not together else None,
        "training_examples": len(data.train),
        "validation_examples": len(data.validation),
        "training_data": of_split(data.train),
        "validation_data": of_split(data.validation),
        "restored": _restored(getattr(sess, "plans", ())),
        "stateful_ops": stateful_ops(step),
        "tensors": _served(step),
        **_computed_once(step, data),
    }


def _computed_once(step: Step, data: Data) -> dict[str, Any]:
    """Return in which precision the frozen part was computed, where it was not in float32, and its last tensors.

    Raises:
      DataError: it was in another precision for some examples than for others.
    """
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    by_split = {name: of_rows(split.features) for name, split in splits.items() if len(split)}
    precisions = set[str]().union(*by_split.values())
    if len(precisions) > 1:
        rows = [f"{name}: {' and '.join(sorted(each))}" for name, each in by_split.items()]
        raise DataError(
            f"the features were computed in several precisions, and are not mixed ({'; '.join(rows)}); call precompute "
            "once, for all splits, with one `precision`"
        )
    if precisions <= {"float32"}:
        return {}
    [precision] = precisions
    ends = [tensor.name for tensor in frontier(step).tensors if tensor is not step.images]
    return {"precision": precision, "computed_once": ends}


def _served(step: Step) -> dict[str, str]:
    """Return the names of the tensors by which the network is asked, in the MetaGraphs of the run."""
    tensors = {"images": step.images, "outputs": step.outputs, "probabilities": step.probabilities}
    return {name: tensor.name for name, tensor in tensors.items() if tensor is not None}


def stateful_ops(step: Step) -> dict[str, str]:
    """Return the ops of a step of training that keep a state which no checkpoint holds, by name, with their types."""
    run = [*(stage.apply for stage in step.stages), *(metric.op for metric in step.metrics.values())]
    kinds = own_state.holders(run, [*step.moving.variables, *step.frozen.variables])
    if not step.settings.get("processes"):
        return kinds
    return {name: kind for name, kind in kinds.items() if kind not in _EXCHANGE and not name.startswith("SOLVER/")}


def of_split(split: Split) -> dict[str, str] | None:
    """Return a digest of examples and what of them it is of; None where looking at them is taking them."""
    labels = "" if split.labels is None else digest(np.asarray(split.labels))
    if isinstance(split.images, Pictures):
        # Not by the folder that they lie in, which may have been moved.
        pictures, known = split.images, split.images._digests
        how = [pictures.how(index) for index in range(len(pictures))]
        names_or_contents = known or [_named(path) for path in pictures.paths]
        by = "contents of files" if known else "names and sizes of files"
        return {"by": by, "digest": _joined([*names_or_contents, *how, labels])}
    if not isinstance(split.images, np.ndarray):
        return None
    stride = max(1, split.images.nbytes // MOST_BYTES)
    by = "values" if stride == 1 else f"values of one in {stride} images"
    return {"by": by, "digest": _joined([str(split.images.shape), digest(split.images[::stride]), labels])}


def _named(path: str) -> str:
    folder, name = os.path.split(path)
    try:
        size = os.stat(path).st_size
    except OSError:
        size = -1
    return f"{os.path.basename(folder)}/{name} {size}"


def _restored(plans: Iterable[Any]) -> str | None:
    """Return a digest of what plans take from their files; None without plans."""
    rows = [f"{name} {digest(plan.weights[name])}" for plan in plans for name in wholes(plan.variables)]
    return _joined(sorted(rows)) if rows else None


def _joined(texts: Iterable[str]) -> str:
    running = hashlib.sha256()
    for text in texts:
        running.update(text.encode("utf-8", "surrogateescape") + b"\n")
    return running.hexdigest()
