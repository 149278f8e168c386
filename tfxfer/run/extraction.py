"""The frozen part of a network, computed once for each example and kept in a store."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.data.batches import chunks
from tfxfer.data.pictures import Pictures, ahead
from tfxfer.data.splits import Data, Images
from tfxfer.errors import DataError, GraphError
from tfxfer.graph.frontier import frontier
from tfxfer.graph.train_step import Step
from tfxfer.run import address, progress
from tfxfer.run.store import Rows, Store, Table, writer

Run = Callable[[np.ndarray], list[np.ndarray]]

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
      sess: a session in which everything is restored, opened by `tfxfer.session`: in others, TensorFlow may run frozen
        layers all the same.
      step: what `train_step` returned.
      data: the examples.
      store: the folder that computed rows are kept in; rows of other weights, layers or pictures may lie in it too.
      batch_size: how many examples go through the network at once; always so many, the last batch padded, since the
        bits of a row can depend on it.
      dtype: "float32" or "float16", how floating-point rows are kept on disk.

    Raises:
      GraphError: the frozen part cannot be computed apart from what is trained.
      DataError: the images do not fit the placeholder, the store cannot be used, or what is computed depends on which
        examples share a batch.
    """
    tensors = {tensor.name: tensor for stage in step.stages for tensor in frontier(step, stage).tensors}
    tensors.pop(step.images.name, None)
    if not tensors:
        raise GraphError(
            "nothing is frozen between the images and what is trained, so there is nothing to compute once; "
            "train from the images"
        )
    splits = (data.train, data.validation, data.test)
    parts = [split.images for split in splits]
    rows = extract(sess, step.images, list(tensors.values()), parts, store, batch_size=batch_size, dtype=dtype)
    train, validation, test = (
        dataclasses.replace(split, features=dict(zip(tensors, columns, strict=True)))
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
      GraphError: a tensor needs more than the images, or has not the batch as its first dimension.
      DataError: the images do not fit the placeholder, the store cannot be used, or what is computed depends on which
        examples share a batch.
    """
    _check_options(images, parts, batch_size, dtype)
    source = _Source(parts)
    conditions = {
        "images": f"{parts[0].dtype} {tuple(parts[0].shape[1:])}",
        "batch_size": batch_size,
        "dtype": dtype,
        "tensorflow": tf.__version__,
    }
    found = address.addresses(sess, tensors, images, conditions)
    folder = Store(store)
    tables = [
        folder.table(where, {"tensor": tensor.name, **conditions}, _kept(tensor, dtype))
        for where, tensor in zip(found, tensors, strict=True)
    ]
    again = _fill(sess, images, tensors, tables, source, batch_size)
    _check(sess.make_callable(list(tensors), [images]), source, tensors, tables, batch_size, again)
    kinds = [np.dtype(tensor.dtype.as_numpy_dtype) for tensor in tensors]
    return [[Rows(table, keys, kind) for table, kind in zip(tables, kinds, strict=True)] for keys in source.parts]


def _check_options(images: tf.Tensor, parts: Sequence[Images], batch_size: int, dtype: str) -> None:
    if dtype not in ("float32", "float16"):
        raise DataError(f"dtype={dtype}: rows are kept as float32 or float16")
    if batch_size < 1:
        raise DataError(f"batch_size={batch_size} must be 1 or more")
    if not sum(map(len, parts)):
        raise DataError("there are no examples to compute anything from")
    kinds = {f"{part.dtype} {tuple(part.shape[1:])}" for part in parts}
    fits = images.shape.is_compatible_with([None, *parts[0].shape[1:]])
    # A session casts what it is fed without a word: pixels in [0, 1] would all but vanish in a uint8.
    if len(kinds) > 1 or not fits or not np.can_cast(parts[0].dtype, images.dtype.as_numpy_dtype, "safe"):
        wanted = f"{images.dtype.name} {images.shape[1:]}"
        raise DataError(f"the images are {names.listed(sorted(kinds))}, and {images.op.name} takes {wanted}")


def _kept(tensor: tf.Tensor, dtype: str) -> np.dtype:
    """Return the dtype on disk. numpy's own format has no bfloat16."""
    return np.dtype(dtype if tensor.dtype in (tf.float32, tf.bfloat16) else tensor.dtype.as_numpy_dtype)


class _Source:
    """The examples of all parts, each once.

    Attributes:
      parts: the keys of each part, in its order.
      keys: all of them; identical examples have the same.
      sample: the numbers of a few keys, spread over all.
    """

    def __init__(self, parts: Sequence[Images]) -> None:
        self._images = parts
        self.parts = [_keys(part) for part in parts]
        places = {key: (number, index) for number, keys in enumerate(self.parts) for index, key in enumerate(keys)}
        self.keys = list(places)
        self._places = np.array(list(places.values()))
        self.sample = np.unique(np.linspace(0, len(places) - 1, CHECKED).astype(np.int64))

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the images of some keys, by their numbers."""
        numbers, places = self._places[indices].T
        first = self._images[0]
        out = np.empty((len(indices), *first.shape[1:]), first.dtype)
        for number in np.unique(numbers):
            mine = numbers == number
            out[mine] = self._images[number][places[mine]]
        return out


def _keys(images: Images) -> list[str]:
    """Return a digest for each example: of its pixels, or of a picture's file and how it is brought to size."""
    if isinstance(images, Pictures):
        how = f"{images.size} {images.resize}"
        digests = (images.digest(index) for index in range(len(images)))
        return [hashlib.sha256(f"picture {digest} {how}".encode()).hexdigest() for digest in digests]
    head = hashlib.sha256(f"{images.dtype} {tuple(images.shape[1:])} ".encode())
    found = []
    for chunk in chunks(len(images), 256) if len(images) else ():
        for pixels in np.ascontiguousarray(images[chunk]):
            digest = head.copy()
            digest.update(pixels)
            found.append(digest.hexdigest())
    return found


def _fill(
    sess: tf.Session,
    images: tf.Tensor,
    tensors: Sequence[tf.Tensor],
    tables: Sequence[Table],
    source: _Source,
    batch_size: int,
) -> list[np.ndarray]:
    """Compute the rows that are not in the tables.

    Returns:
      The sample computed again for each tensor, if there was room for it in the last batch.
    """
    absent = [[key not in table for key in source.keys] for table in tables]
    wanted = np.flatnonzero(np.any(absent, axis=0))
    if not len(wanted):
        return []
    lacking = np.flatnonzero(np.any(absent, axis=1)).tolist()
    run = sess.make_callable([tensors[place] for place in lacking], [images])
    batches = [wanted[chunk] for chunk in chunks(len(wanted), batch_size)]
    fits = len(batches[-1]) + len(source.sample) <= batch_size and len(lacking) == len(tables)
    last = np.concatenate([batches[-1], source.sample]) if fits else batches[-1]
    with (
        progress.bar(len(wanted), 0, "extract") as bar,
        writer([tables[place] for place in lacking]) as gathering,
        contextlib.closing(ahead(source.take, [*batches[:-1], last], depth=1)) as loaded,
    ):
        for indices, batch in zip(batches, loaded, strict=True):
            values = run(_padded(batch, batch_size))
            for place, value in zip(lacking, values, strict=True):
                _check_batch(tensors[place], value, batch_size)
            gathering.add([source.keys[index] for index in indices], [value[: len(indices)] for value in values])
            bar.advance(count=len(indices))
    return [value[len(batches[-1]) : len(last)] for value in values] if fits else []


def _padded(batch: np.ndarray, batch_size: int) -> np.ndarray:
    if len(batch) == batch_size:
        return batch
    return np.concatenate([batch, np.repeat(batch[-1:], batch_size - len(batch), axis=0)])


def _check_batch(tensor: tf.Tensor, value: np.ndarray, batch_size: int) -> None:
    if value.shape[:1] != (batch_size,):
        raise GraphError(
            f"{tensor.name} gives {value.shape} for {batch_size} examples: its first dimension is not the batch"
        )


def _check(
    run: Run,
    source: _Source,
    tensors: Sequence[tf.Tensor],
    tables: Sequence[Table],
    batch_size: int,
    again: Sequence[np.ndarray],
) -> None:
    """Compare the sample with what is computed again: at the same batch size bit for bit, and at another.

    Raises:
      DataError: what is stored, or what depends on its neighbours in the batch, is not what comes out.
    """
    keys, batch = [source.keys[index] for index in source.sample], source.take(source.sample)
    if not again:
        pieces = [run(_padded(batch[chunk], batch_size)) for chunk in chunks(len(keys), batch_size)]
        again = [np.concatenate(column)[: len(keys)] for column in zip(*pieces, strict=True)]
    others = run(batch if len(keys) != batch_size else _padded(batch, batch_size + 1))
    for tensor, table, same, other in zip(tensors, tables, again, others, strict=True):
        stored = Rows(table, keys, table.dtype)[np.arange(len(keys))]
        if same.astype(table.dtype).tobytes() != stored.tobytes():
            raise DataError(
                f"{tensor.name}: {len(keys)} examples were computed again and are not what {table.path} holds; "
                "either an example's values depend on the others of its batch, so that they cannot be computed once, "
                "or the store was made on another processor: then give another --store"
            )
        apart = _apart(other[: len(keys)], same)
        if not apart <= TOLERANCE:
            raise DataError(
                f"{tensor.name} differs by {apart:.1e} of its largest magnitude between batches of {batch_size} and "
                f"of {len(other)}: an example's values depend on the others of its batch, so that they cannot be "
                "computed once"
            )


def _apart(values: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, as a share of the largest magnitude; NaN is the same as NaN."""
    a, b = values.astype(np.float64), expected.astype(np.float64)
    differ = (a != b) & ~(np.isnan(a) & np.isnan(b))
    if not differ.any():
        return 0.0
    with np.errstate(invalid="ignore"):
        return float(np.abs(a - b)[differ].max() / max(np.abs(b).max(), np.finfo(np.float32).tiny))
