"""A run goes on in the same network: what a checkpoint holds is compared with the graph before it is restored."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.errors import RunError, WeightsError
from tfxfer.graph.parts import shape_of, wholes
from tfxfer.graph.train_step import Step
from tfxfer.run.directory import cure
from tfxfer.weights import bundle
from tfxfer.weights.tensors import Tensor

Described = tuple[tuple[int | None, ...] | None, str]


def require_same_variables(prefix: str, step: Step, run: Path) -> bool:
    """Compare names, shapes and dtypes of a checkpoint with the variables of the step's graph.

    Args:
      prefix: of the checkpoint.
      step: what `train_step` returned.
      run: the run directory.

    Returns:
      Whether the checkpoint holds the local variables of the step too; older ones do not.

    Raises:
      RunError: the checkpoint cannot be read, or they differ; all that is wrong is listed. Nothing was restored.
    """
    try:
        holds = bundle.read(Path(prefix))
    except WeightsError as error:
        raise cannot_go_on(prefix, run, str(error)) from None
    every = wholes([*step.moving.variables, *step.frozen.variables])
    needed = {name: (_sides(shape_of(parts[0])), parts[0].dtype.base_dtype.name) for name, parts in every.items()}
    local = {variable.op.name for variable in step.images.graph.get_collection(tf.GraphKeys.LOCAL_VARIABLES)}
    absent = {name for name in needed if name in local and name not in holds}
    rows = [
        *(
            f"{name}: {_differs(holds[name], needed[name])}"
            for name in needed
            if name in holds and _differs(holds[name], needed[name])
        ),
        *(
            f"{name} {_text(needed[name])}: is not in the checkpoint"
            for name in needed
            if name not in {*holds, *absent}
        ),
        *(f"{name} {_text(_of(tensor))}: is not in the graph" for name, tensor in holds.items() if name not in needed),
    ]
    if rows:
        listed = "\n  ".join(rows)
        raise RunError(
            f"{run} was made with another network; between the graph and {prefix} differ:\n  {listed}\n"
            "build the graph as it was to go on, take another `logdir`, or move the run aside by `overwrite=True`"
        )
    return not absent


def restore(sess: tf.Session, step: Step, prefix: str, *, local: bool) -> None:
    """Restore all variables of a checkpoint that `require_same_variables` has passed.

    Args:
      sess: the session.
      step: what `train_step` returned.
      prefix: of the checkpoint.
      local: whether it holds the step's local variables.

    Raises:
      tf.errors.OpError: its data cannot be read.
    """
    savers = [step.moving.saver, step.frozen.saver] if local else [step.saver]
    for saver in savers:
        if saver is not None:
            saver.restore(sess, prefix)


def cannot_go_on(prefix: str, run: Path, why: str) -> RunError:
    """Return an error that says why a run cannot go on from a checkpoint, and what to do.

    What does not change lies in one file under the names of all checkpoints: where that is damaged, none is whole.
    """
    match = re.search(r"-(\d+)$", prefix)
    shared = re.search(r"\.data-00001-of-00002\b", why)
    what = (
        "all checkpoints of the run share that file: put it back from a copy, or begin anew by `overwrite=True`"
        if shared
        else cure(run, int(match[1]) if match else 0)
    )
    return RunError(f"cannot go on from {prefix}: {why}; {what}")


def _sides(shape: tf.TensorShape) -> tuple[int | None, ...] | None:
    return None if shape.rank is None else tuple(shape.as_list())


def _of(tensor: Tensor) -> Described:
    return tuple(tensor.shape), _dtype(tensor.dtype)


def _dtype(dtype: np.dtype) -> str:
    return "string" if dtype.hasobject else dtype.name


def _differs(tensor: Tensor, needed: Described) -> str:
    """Say how a tensor of a checkpoint differs from what the graph needs; nothing where it does not."""
    shape, dtype = needed
    has = _of(tensor)
    same_shape = shape is None or tf.TensorShape(shape).is_compatible_with(has[0])
    return "" if same_shape and dtype == has[1] else f"the checkpoint has {_text(has)}, the graph {_text(needed)}"


def _text(described: Described) -> str:
    shape, dtype = described
    return f"{dtype} {'of any shape' if shape is None else list(shape)}"
