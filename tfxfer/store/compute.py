"""Run a network over examples and write the rows to a store; in this process, or in a worker with the same graph."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.callables import compiled
from tfxfer.data.pictures import ahead
from tfxfer.errors import GraphError
from tfxfer.store.examples import Source
from tfxfer.store.shard_writer import writer
from tfxfer.store.store import Table

RunBatch = Callable[[np.ndarray], list[np.ndarray]]
NONE = np.empty(0, np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """What is computed, and in which session.

    Attributes:
      sess: everything that the tensors depend on is restored in it.
      images: the placeholder of the images.
      tensors: what is computed, each [n, ...].
      feeds: what else is fed, the same for all examples: arrays by placeholder.
      origin: the network whose tensors these are, if it was changed to compute them in another precision; what is
        stored is addressed by it.
      precision: in which precision that is; empty: in that of the session.
    """

    sess: tf.Session
    images: tf.Tensor
    tensors: Sequence[tf.Tensor]
    feeds: Mapping[tf.Tensor, np.ndarray] = dataclasses.field(default_factory=dict)
    origin: Network | None = None
    precision: str = ""

    def make_callable(self, batch_size: int) -> RunBatch:
        """Return a function from images to the values of the tensors, which always runs batches of one size.

        Where there are fewer images, the last is repeated, since the bits of a row can depend on the size of its batch;
        each value has `batch_size` rows all the same. The function raises GraphError where the first dimension of a
        tensor is not the batch.
        """
        call, constants = compiled(self.sess, self.tensors, [self.images, *self.feeds]), list(self.feeds.values())

        def run(batch: np.ndarray) -> list[np.ndarray]:
            missing = batch_size - len(batch)
            values = call(np.concatenate([batch, *[batch[-1:]] * missing]) if missing else batch, *constants)
            for tensor, value in zip(self.tensors, values, strict=True):
                _check_batch(tensor, value, batch_size)
            return values

        return run


def _check_batch(tensor: tf.Tensor, value: np.ndarray, batch_size: int) -> None:
    if value.shape[:1] != (batch_size,):
        raise GraphError(
            f"{tensor.name} gives {value.shape} for {batch_size} examples: its first dimension is not the batch"
        )


def fill(
    network: Network,
    tables: Sequence[Table],
    source: Source,
    batches: Sequence[np.ndarray],
    batch_size: int,
    advance: Callable[[int], None],
    extra: np.ndarray = NONE,
) -> list[np.ndarray]:
    """Compute batches of examples and write their rows.

    Args:
      network: what is computed.
      tables: where the rows of each tensor go.
      source: the examples.
      batches: the examples of each batch, integers [batch_size] or fewer.
      batch_size: how many examples go through the network at once.
      advance: called after each batch with the number of its examples; what it raises ends the work, and what was
        computed until then is written.
      extra: examples that are computed with the last batch, which has room for them, and are not written.

    Returns:
      The values of `extra` for each tensor; empty without `extra`.

    Raises:
      GraphError: the first dimension of a tensor is not the batch.
      DataError: an example cannot be taken, or a row cannot be written.
    """
    run = network.make_callable(batch_size)
    last = np.concatenate([batches[-1], extra])
    with (
        writer(tables) as rows,
        contextlib.closing(ahead(source.take, [*batches[:-1], last], depth=1)) as loaded,
    ):
        for indices, images in zip(batches, loaded, strict=True):
            values = run(images)
            rows.add([source.keys[index] for index in indices], [value[: len(indices)] for value in values])
            advance(len(indices))
    return [value[len(batches[-1]) : len(last)] for value in values] if len(extra) else []
