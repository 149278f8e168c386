"""A run goes on in the same network: what a checkpoint holds is compared with the graph before it is restored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.errors import RunError, WeightsError
from tfxfer.formats.tensors import Tensor
from tfxfer.graph.partitioned import shape_of, wholes
from tfxfer.graph.train_step import Step
from tfxfer.runs.state import cure
from tfxfer.weights import bundle

Described = tuple[tuple[int | None, ...] | None, str]


class Comparison(NamedTuple):
    """How the variables of a checkpoint and those of a graph differ.

    Attributes:
      rows: a line for each that differs.
      local: whether the checkpoint holds the local variables of the step too; older ones do not.
    """

    rows: tuple[str, ...] = ()
    local: bool = True


def compare(prefix: str, step: Step, run: Path) -> Comparison:
    """Compare names, shapes and dtypes of a checkpoint with the variables of the step's graph; nothing is restored.

    Args:
      prefix: of the checkpoint.
      step: what `train_step` returned.
      run: the run directory.

    Raises:
      RunError: the checkpoint cannot be read.
    """
    try:
        holds = bundle.read(Path(prefix))
    except WeightsError as error:
        raise cannot_go_on(prefix, run, " ".join(line.strip() for line in str(error).splitlines())) from None
    variables = wholes([*step.moving.variables, *step.frozen.variables])
    needed = {name: (_sides(shape_of(parts[0])), parts[0].dtype.base_dtype.name) for name, parts in variables.items()}
    local = {variable.op.name for variable in step.images.graph.get_collection(tf.GraphKeys.LOCAL_VARIABLES)}
    absent = {name for name in needed if name in local and name not in holds}
    other = {name: _differs(holds[name], needed[name]) for name in needed if name in holds}
    lacking = [name for name in needed if name not in holds and name not in absent]
    rows = [
        *(f"{name}: {how}" for name, how in other.items() if how),
        *(f"{name}, {_text(needed[name])}, is not in the checkpoint" for name in lacking),
        *(f"{name}, {_text(_of(holds[name]))}, is not in the graph" for name in holds if name not in needed),
    ]
    return Comparison(tuple(rows), not absent)


def restore(sess: tf.Session, step: Step, prefix: str, *, local: bool) -> None:
    """Restore all variables of a checkpoint in which `compare` found no difference.

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
    frozen = Path(f"{prefix}.data-00001-of-00002")
    blamed = re.search(r"\.data-00001-of-00002\b|\bshard 1\b", why)  # by us, or by TensorFlow
    if blamed and frozen.exists() and frozen.stat().st_nlink > 1:
        cause = f"all checkpoints of the run share {frozen.name}; put it back from a copy, or begin anew by"
        return RunError(f"cannot go on from {prefix}: {why}; {cause} `overwrite=True`")
    return RunError(f"cannot go on from {prefix}: {why}; {cure(run, int(match[1]) if match else 0)}")


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
