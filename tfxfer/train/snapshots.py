"""Snapshots: the values of variables after one step, held in memory while the training goes on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.formats.tensors import Tensor
from tfxfer.graph.partitioned import fetch, shape_of, wholes
from tfxfer.weights import streams
from tfxfer.weights.tf_types import DTYPES, QUANTIZED

MOST_BYTES = 512 << 20  # of variables that are held a second time

Snapshot = dict[str, Tensor]


def can_take(sess: tf.Session, variables: Sequence[tf.Variable]) -> bool:
    """Say whether variables can be held a second time, and written from there.

    They cannot where they lie on servers, are larger than `MOST_BYTES` or of a size that is not known, have a quantized
    dtype, which numpy does not tell from that of integers, or are some parts of a variable without the others.
    """
    if sess.sess_str or not all(variable.shape.is_fully_defined() for variable in variables):
        return False
    kinds = {variable.dtype.base_dtype.as_datatype_enum for variable in variables}
    return kinds <= DTYPES.keys() - QUANTIZED and _are_whole(variables) and sum(map(nbytes, variables)) <= MOST_BYTES


def take(sess: tf.Session, variables: Sequence[tf.Variable]) -> Snapshot:
    """Fetch the values of variables, all after the same step; those of a partitioned one together.

    Returns:
      Arrays of their own, which no later step changes, by the name under which a checkpoint has them.
    """
    whole = wholes(variables)
    values = fetch(sess, whole)
    dtypes = {name: parts[0].dtype.base_dtype.as_numpy_dtype for name, parts in whole.items()}
    return {name: streams.held(np.require(value, dtypes[name], ["C", "O"])) for name, value in values.items()}


def _are_whole(variables: Sequence[tf.Variable]) -> bool:
    return all(
        sum(part.shape.num_elements() for part in parts) == shape_of(parts[0]).num_elements()
        for parts in wholes(variables).values()
    )


def nbytes(variable: tf.Variable) -> int:
    """Return how many bytes the values of a variable take; of a shape that is not known, none."""
    return (variable.shape.num_elements() or 0) * variable.dtype.base_dtype.size
