"""Batches through a network and into a store; in this process or in another, which has the same graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.callables import compiled
from tfxfer.data.pictures import ahead
from tfxfer.errors import GraphError
from tfxfer.store.examples import Source
from tfxfer.store.shard_writer import writer
from tfxfer.store.store import Table

Run = Callable[[np.ndarray], list[np.ndarray]]
NONE = np.empty(0, np.int64)
NOTHING: Mapping[tf.Tensor, np.ndarray] = {}


def run_with(
    sess: tf.Session, tensors: Sequence[tf.Tensor], images: tf.Tensor, feeds: Mapping[tf.Tensor, np.ndarray]
) -> Run:
    """Return a function from a batch of images to tensors; `feeds` is fed with each batch."""
    call, constants = compiled(sess, tensors, [images, *feeds]), list(feeds.values())
    return lambda batch: call(batch, *constants)


def fill(
    run: Run,
    tensors: Sequence[tf.Tensor],
    tables: Sequence[Table],
    source: Source,
    batches: Sequence[np.ndarray],
    batch_size: int,
    seen: Callable[[int], None],
    more: np.ndarray = NONE,
) -> list[np.ndarray]:
    """Compute batches of examples and write their rows.

    Args:
      run: gives the tensors for images.
      tensors, tables: what is computed, and where the rows of each go.
      source: the examples.
      batches: integers [batch_size], or fewer: padded with the last of them, since the bits of a row can depend on the
        size of its batch.
      batch_size: how many go through the network at once.
      seen: called after each batch with how many examples it had; what it raises ends the work, and what was computed
        is written.
      more: examples that go through with the last batch, which has room for them, and are not written.

    Returns:
      What was computed of `more`, for each tensor.

    Raises:
      GraphError: a tensor has not the batch as its first dimension.
      DataError: an example cannot be taken, or a row not be written.
    """
    last = np.concatenate([batches[-1], more])
    with (
        writer(tables) as gathering,
        contextlib.closing(ahead(source.take, [*batches[:-1], last], depth=1)) as loaded,
    ):
        for indices, batch in zip(batches, loaded, strict=True):
            values = run(padded(batch, batch_size))
            for tensor, value in zip(tensors, values, strict=True):
                check_batch(tensor, value, batch_size)
            gathering.add([source.keys[index] for index in indices], [value[: len(indices)] for value in values])
            seen(len(indices))
    return [value[len(batches[-1]) : len(last)] for value in values]


def padded(batch: np.ndarray, batch_size: int) -> np.ndarray:
    """Return a batch with its last example repeated as often as it is short of the batch size."""
    if len(batch) == batch_size:
        return batch
    return np.concatenate([batch, np.repeat(batch[-1:], batch_size - len(batch), axis=0)])


def check_batch(tensor: tf.Tensor, value: np.ndarray, batch_size: int) -> None:
    """Refuse what a tensor gave for a batch.

    Raises:
      GraphError: its first dimension is not the batch.
    """
    if value.shape[:1] != (batch_size,):
        raise GraphError(
            f"{tensor.name} gives {value.shape} for {batch_size} examples: its first dimension is not the batch"
        )
