"""The frozen part of a network, computed once for each example and kept in a store."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.data.batches import chunks
from tfxfer.data.splits import Data, Images
from tfxfer.errors import DataError, GraphError
from tfxfer.graph.frontier import frontier
from tfxfer.graph.train_step import Step
from tfxfer.run import address, progress
from tfxfer.run.store import Rows, Store, Table, Writer, missing

BATCH_SIZE = 32
CHECKED = 4
TOLERANCE = 1e-4


def precompute(
    sess: tf.Session,
    step: Step,
    data: Data,
    *,
    store: str | os.PathLike[str],
    batch_size: int = BATCH_SIZE,
    dtype: str = "float32",
) -> Data:
    """Compute what is frozen in a training step once for each example of all splits, and find it again next time.

    The result feeds the same step in the same graph: `fit` and `evaluate` take it in place of the data, and the frozen
    layers are not run again. With several stages, what each of them needs is computed.

    Args:
      sess: a session in which everything is restored.
      step: what `train_step` returned.
      data: the examples.
      store: the folder that computed rows are kept in; rows of other weights, layers or pictures may lie in it too.
      batch_size: how many examples go through the network at once; always so many, the last batch padded, since the
        bits of a row can depend on it.
      dtype: "float32" or "float16", how floating-point rows are kept on disk.

    Raises:
      GraphError: the frozen part cannot be computed apart from the images.
      DataError: the store cannot be used, or what is computed depends on which examples share a batch.
    """
    tensors = list({tensor.ref(): tensor for stage in step.stages for tensor in frontier(step, stage).tensors}.values())
    stored = [tensor for tensor in tensors if tensor is not step.images]
    if not stored:
        raise GraphError(
            "nothing is frozen between the images and what is trained, so there is nothing to compute once; "
            "train from the images"
        )
    splits = (data.train, data.validation, data.test)
    parts = [split.images for split in splits]
    rows = extract(sess, step.images, stored, parts, store, batch_size=batch_size, dtype=dtype)
    train, validation, test = (
        dataclasses.replace(split, features={t.name: column for t, column in zip(stored, columns, strict=True)})
        for split, columns in zip(splits, rows, strict=True)
    )
    return dataclasses.replace(data, train=train, validation=validation, test=test)


def extract(
    sess: tf.Session,
    images: tf.Tensor,
    tensors: Sequence[tf.Tensor],
    parts: Sequence[Images],
    store: str | os.PathLike[str],
    *,
    batch_size: int = BATCH_SIZE,
    dtype: str = "float32",
) -> list[list[Rows]]:
    """Compute tensors once for each example and keep them in a store.

    Args:
      sess: a session in which everything that the tensors depend on is restored.
      images: the placeholder of the images.
      tensors: what to compute, each [n, ...].
      parts: the examples, in any number of parts.
      store, batch_size, dtype: as `precompute` takes them.

    Returns:
      For each part, the rows of each tensor.

    Raises:
      DataError: the store cannot be used, or what is computed depends on which examples share a batch.
    """
    keys = [list(_keys(part)) for part in parts]
    source = _Joined(parts)
    tables = _tables(sess, images, tensors, source, Store(store), batch_size, dtype)
    places = {key: place for place, key in enumerate(key for part in keys for key in part)}
    run = sess.make_callable(list(tensors), [images])
    wanted = missing(tables, (key for part in keys for key in part))
    writer = Writer(tables)
    with progress.bar(len(wanted), 0, "extract") as bar:
        for chunk in chunks(len(wanted), batch_size) if wanted else ():
            some = [wanted[index] for index in chunk]
            writer.add(some, _padded(run, source, [places[key] for key in some], batch_size))
            bar.advance(count=len(some))
    writer.flush()
    _check(run, source, tensors, tables, places, batch_size)
    dtypes = [np.dtype(tensor.dtype.as_numpy_dtype) for tensor in tensors]
    return [[Rows(table, part, kind) for table, kind in zip(tables, dtypes, strict=True)] for part in keys]


class _Joined:
    """Several parts of examples, indexed as one."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def take(self, places: Sequence[int]) -> np.ndarray:
        """Return the images at these places, in this order: uint8 [m, h, w, c]."""
        wanted = np.asarray(places)
        numbers = np.searchsorted(self._starts, wanted, side="right") - 1
        first = self._parts[numbers[0]]
        out = np.empty((len(wanted), *first.shape[1:]), first.dtype)
        for number in np.unique(numbers):
            mine = numbers == number
            out[mine] = self._parts[number][wanted[mine] - self._starts[number]]
        return out


def _keys(images: Images) -> Iterator[str]:
    """Yield a digest for each example: of its pixels, or of a picture's file and how it is brought to size."""
    known = getattr(images, "key", None)
    for index in range(len(images)):
        if known is not None:
            yield known(index)
            continue
        pixels = np.ascontiguousarray(images[np.array([index])][0])
        head = f"{pixels.dtype.str} {pixels.shape} ".encode()
        yield hashlib.sha256(head + pixels.tobytes()).hexdigest()


def _tables(
    sess: tf.Session,
    images: tf.Tensor,
    tensors: Sequence[tf.Tensor],
    source: _Joined,
    store: Store,
    batch_size: int,
    dtype: str,
) -> list[Table]:
    if dtype not in ("float32", "float16"):
        raise DataError(f"dtype={dtype}: rows are kept as float32 or float16")
    conditions = {"batch_size": batch_size, "dtype": dtype, "tensorflow": tf.__version__}
    found = address.addresses(sess, tensors, images, conditions)
    # The shape of a row is known for certain only once one has been computed.
    sample = sess.run(list(tensors), {images: source.take([0] * batch_size)})
    tables = []
    for tensor, where, value in zip(tensors, found, sample, strict=True):
        if value.shape[:1] != (batch_size,):
            raise GraphError(
                f"{tensor.name} gives {value.shape} for {batch_size} examples: its first dimension is not the batch"
            )
        kept = np.dtype(dtype) if value.dtype == np.float32 else value.dtype
        about = {"tensor": tensor.name, "computed from": images.name, **conditions}
        tables.append(store.table(where, about, value.shape[1:], kept))
    return tables


def _padded(run: tf.Operation, source: _Joined, places: Sequence[int], batch_size: int) -> list[np.ndarray]:
    full = [*places, *([places[-1]] * (batch_size - len(places)))]
    return [values[: len(places)] for values in run(source.take(full))]


def _check(
    run: tf.Operation,
    source: _Joined,
    tensors: Sequence[tf.Tensor],
    tables: Sequence[Table],
    places: dict[str, int],
    batch_size: int,
) -> None:
    """Compute some examples again: among others in a batch of the same size, and in a small one.

    Raises:
      DataError: what is stored, or what depends on its neighbours in the batch, is not what comes out.
    """
    keys = list(places)
    some = [keys[place] for place in np.unique(np.linspace(0, len(keys) - 1, min(CHECKED, batch_size)).astype(int))]
    again = _padded(run, source, [places[key] for key in some], batch_size)
    fewer = run(source.take([places[key] for key in some]))
    for tensor, table, same, other in zip(tensors, tables, again, fewer, strict=True):
        stored = np.stack([table.row(key) for key in some])
        if same.astype(table.dtype).tobytes() != stored.tobytes():
            raise DataError(
                f"{tensor.name}: {len(some)} examples were computed again and are not what {table.path} holds; "
                "either an example's values depend on the others of its batch, so that they cannot be computed once, "
                "or the store was made on another processor: then give another --store"
            )
        if np.issubdtype(same.dtype, np.floating):
            off = np.abs(other.astype(np.float64) - same).max() / max(np.abs(same).max(), np.finfo(np.float32).tiny)
            if not off <= TOLERANCE:
                raise DataError(
                    f"{tensor.name} differs by {off:.1e} of its largest magnitude between batches of {batch_size} "
                    f"and of {len(some)}: an example's values depend on the others of its batch"
                )
