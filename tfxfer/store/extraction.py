"""The frozen part of a network, computed once for each example and kept in a store."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names, progress
from tfxfer.data.batches import chunks
from tfxfer.data.splits import Data, Images
from tfxfer.errors import DataError, GraphError
from tfxfer.frontier.search import frontier
from tfxfer.graph.eval_step import EvalStep
from tfxfer.graph.feeds import resolve
from tfxfer.store import fingerprint
from tfxfer.store import precision as precisions
from tfxfer.store.compute import NONE, Network, fill
from tfxfer.store.examples import Source, distinct, pinned
from tfxfer.store.precision_names import HOW, check, is_possible
from tfxfer.store.store import Rows, Store, Table
from tfxfer.store.worker_pool import fill_by_workers

log = logging.getLogger("tfxfer")

BATCH_SIZE = 32
SMALL, SMALL_BATCH_SIZE = 64 * 64, 128  # pixels; so small ones take longer to hand over than to compute
SAMPLE = 4  # examples that are computed again
# Between batches of two sizes; sums in another order round to the next bfloat16, which is 4e-3 of a number away.
TOLERANCE = {"float32": 1e-4, "folded": 1e-4, "bfloat16": 1e-2}


def precompute(
    sess: tf.Session,
    step: EvalStep,
    data: Data,
    *,
    store: str | os.PathLike[str],
    batch_size: int | None = None,
    dtype: str = "float32",
    workers: int = 1,
    precision: str = "float32",
) -> Data:
    """Compute the frozen part of a step once for each example of all splits, and reuse it next time.

    The result feeds the same step in the same graph: `fit` and `evaluate` take it in place of the data, and the frozen
    layers are not run again. With several stages, what each of them needs is computed. The step of an evaluation needs
    the network's last tensors.

    Args:
      sess: a session in which everything is restored, opened by `tfxfer.session`: in others, TensorFlow may run frozen
        layers all the same.
      step: what `train_step` or `eval_step` returned.
      data: the examples.
      store: the folder that computed rows are kept in; rows of other weights, layers or pictures may lie in it too.
      batch_size: how many examples go through the network at once; always so many, the last batch padded, since the
        bits of a row can depend on it. Default: 32, and 128 for images of up to 64 x 64 pixels.
      dtype: "float32" or "float16", how floating-point rows are kept on disk.
      workers: how many processes compute; 1 is this one alone, more are started beside it and give the same bits. Each
        has as many threads as the session, takes as much memory as the network does, and some seconds to start.
      precision: "float32", the bits of the graph as it is; "folded", float32 too, with batch normalisation folded into
        the kernels, which is faster and rounds otherwise; "bfloat16", which is folded, too, and which processors that
        have units for it compute faster still, with 8 bits of precision; or "auto": that of the rows that are in the
        store, or else what is the fastest on the first batches. If it is not float32, a session of its own computes,
        with the values that the variables have now.

    Raises:
      GraphError: the frozen part cannot be computed apart from what is trained, or not in another process.
      DataError: the images do not fit the placeholder, the store cannot be used, the processor has no units for
        `precision`, or what is computed depends on which examples share a batch.
      RunError: a worker was killed, or broke down.

    Example:
      >>> data = tx.data.digits()
      >>> images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
      >>> features = tx.models.autoencoder.encoder(images)["flatten"]
      >>> logits = tx.models.heads.classifier(features, classes=10)
      >>> step = tx.train_step(images, labels, logits, train=["logits/.*"])
      >>> with tx.session() as sess:
      ...     data = tx.precompute(sess, step, data, store="store")
      >>> {name: rows.shape for name, rows in data.test.features.items()}
      {'ENCODER/flatten:0': (360, 1568)}
    """
    tensors, reasons = _frozen_tensors(step)
    splits = [
        dataclasses.replace(split, images=pinned(split.images)) for split in (data.train, data.validation, data.test)
    ]
    rows = extract(
        sess,
        step.images,
        list(tensors.values()),
        [split.images for split in splits],
        store,
        batch_size=batch_size,
        dtype=dtype,
        workers=workers,
        precision=precision,
        feeds=step.eval_feeds,
    )
    _log_sizes(splits[0].images, dict(zip(tensors, rows[0], strict=True)), reasons, dtype)
    train, validation, test = (
        dataclasses.replace(split, features=dict(zip(tensors, columns, strict=True)))
        for split, columns in zip(splits, rows, strict=True)
    )
    return dataclasses.replace(data, train=train, validation=validation, test=test)


def _frozen_tensors(step: EvalStep) -> tuple[dict[str, tf.Tensor], dict[str, str]]:
    """Return what is computed once, by name, for all stages, and why each tensor is not computed further."""
    frontiers = [frontier(step, stage) for stage in step.stages or [None]]
    tensors = {tensor.name: tensor for each in frontiers for tensor in each.tensors}
    tensors.pop(step.images.name, None)
    if not tensors:
        why = frontiers[0].reasons.get(step.images.name, "")
        raise GraphError(
            "nothing is frozen between the images and what is trained, so there is nothing to compute once; "
            f"train from the images{why and f' ({step.images.name} is taken by {why})'}"
        )
    return tensors, {name: why for each in reversed(frontiers) for name, why in each.reasons.items()}


def _log_sizes(images: Images, features: Mapping[str, Rows], reasons: Mapping[str, str], dtype: str) -> None:
    """Log where the frozen part ends and why; warn where the stored rows are larger than the images."""
    total = sum(rows.row_bytes for rows in features.values())
    picture = math.prod(images.shape[1:]) * np.dtype(images.dtype).itemsize
    say = log.warning if total > picture else log.info
    for name, rows in features.items():
        why = reasons.get(name)
        until = f"; not further, since {why}" if why else ""
        shape = list(rows.shape[1:])
        say("computed once, up to %s: %s, %s bytes an example%s", name, shape, f"{rows.row_bytes:,}", until)
    if total > picture:
        log.warning(
            "the rows that are stored of an example (%s) have %s bytes, %.1f times as many as its image (%s); to store "
            "less, train only what comes later, or reduce over positions before what is trained%s",
            names.listed(features),
            f"{total:,}",
            total / picture,
            f"{picture:,}",
            "" if dtype == "float16" else ', or give `dtype="float16"`',
        )


def extract(
    sess: tf.Session,
    images: tf.Tensor,
    tensors: Sequence[tf.Tensor],
    parts: Sequence[Images],
    store: str | os.PathLike[str],
    *,
    batch_size: int | None = None,
    dtype: str = "float32",
    workers: int = 1,
    precision: str = "float32",
    feeds: Mapping[tf.Tensor | str, Any] | None = None,
) -> list[list[Rows]]:
    """Compute tensors once for each example and keep them in a store.

    Args:
      sess: a session in which everything that the tensors depend on is restored.
      images: the placeholder of the images.
      tensors: what to compute, each [n, ...].
      parts: the examples, in any number of parts.
      store, batch_size, dtype, workers, precision: as `precompute` takes them.
      feeds: what else is fed, the same for all examples: values by placeholder, or by its name.

    Returns:
      For each part, the rows of each tensor.

    Raises:
      GraphError: a tensor needs more than the images, has not the batch as its first dimension, or cannot be computed
        in another process; or `feeds` cannot be fed.
      DataError: the images do not fit the placeholder, the store cannot be used, the processor has no units for
        `precision`, or what is computed depends on which examples share a batch.
      RunError: a worker was killed, or broke down.

    Example:
      >>> pictures = tx.data.digits().test.images
      >>> images = tf.placeholder(tf.uint8, [None, 28, 28, 1])
      >>> ends = tx.models.autoencoder.encoder(images)
      >>> with tx.session() as sess:
      ...     [[codes]] = tx.extract(sess, images, [ends["flatten"]], [pictures], "store")
      >>> codes.shape, codes[np.array([0, 5])].shape
      ((360, 1568), (2, 1568))
    """
    batch_size = batch_size_for(parts[0].shape[1:3]) if batch_size is None else batch_size
    _check_options(images, parts, batch_size, dtype, workers)
    check(precision)
    source, keys = distinct(parts)
    example = f"{parts[0].dtype} {tuple(parts[0].shape[1:])}"
    opened = functools.partial(open_tables, example=example, store=store, batch_size=batch_size, dtype=dtype)
    with images.graph.as_default():
        network = Network(sess, images, tensors, resolve(feeds, "feeds", {"images": images}))
    if precision == "auto":
        batch = functools.partial(source.take, np.arange(min(batch_size, len(source))))
        precision = choose_precision(
            functools.partial(opened, network),
            lambda tables: sum(all(key in table for table in tables) for key in source.keys),
            lambda: precisions.choose(network, batch, batch_size, math.ceil(len(source) / batch_size)),
        )
    with precisions.computing(network, precision) as network:
        tables = opened(network)
        recomputed = _fill(network, tables, source, batch_size, workers)
        if workers > 1:  # To see what they have written, each table is opened anew.
            tables = [Table(table.path, table.about, table.dtype) for table in tables]
        _check_sample(network, tables, source, batch_size, recomputed)
    dtypes = [np.dtype(tensor.dtype.as_numpy_dtype) for tensor in tensors]
    return [[Rows(table, part, dtype) for table, dtype in zip(tables, dtypes, strict=True)] for part in keys]


def choose_precision(
    opened: Callable[..., list[Table]], count: Callable[[list[Table]], int], measured: Callable[[], tuple[str, str]]
) -> str:
    """Return the precision that `auto` stands for, and log why.

    What is in the store decides, so that the same command gives the same bits again; only where there is nothing is the
    time of a batch measured.

    Args:
      opened: opens the tables of a `precision`.
      count: says how many examples are in tables.
      measured: returns the precision, and why, where no table has any.
    """
    possible = filter(is_possible, ("float32", "folded", "bfloat16"))
    stored = {name: count(opened(precision=name)) for name in possible}
    precision = max(stored, key=stored.__getitem__)  # of those that have as many, the most exact
    why = f"the store has {stored[precision]:,} examples in it"
    if not stored[precision]:
        precision, why = measured()
    log.warning("`precision=auto`: frozen layers compute %s: %s", HOW[precision], why)
    return precision


def open_tables(
    network: Network,
    example: str,
    store: str | os.PathLike[str],
    *,
    batch_size: int,
    dtype: str = "float32",
    precision: str = "",
) -> list[Table]:
    """Return the rows that a store has of tensors; the name of a table's folder is the address of what computes it.

    Args:
      network: what computes the tensors.
      example: the dtype and the shape of an image, as in "uint8 (224, 224, 3)".
      store, batch_size, dtype: as `precompute` takes them.
      precision: "bfloat16", "float32" or "folded"; default: that of the network.

    Raises:
      GraphError: a tensor needs more than the images.
      DataError: the store cannot be used.
    """
    precision = precision or precisions.of_network(network)
    network = network.origin or network
    sess, tensors = network.sess, network.tensors
    conditions = {"images": example, "batch_size": batch_size, "dtype": dtype, "tensorflow": tf.__version__}
    conditions["rewrites"] = precisions.rewrites(sess, precision)
    variables: dict[str, str] = {}
    addresses = fingerprint.addresses(
        sess, tensors, network.images, conditions, feeds=network.feeds, variables=variables
    )
    folder = Store(store)
    # The precision and the weights are for people: the address holds the same in another form.
    weights = [os.path.abspath(plan.weights.path) for plan in getattr(sess, "plans", ())]
    about = {
        **conditions, "precision": precision, "weights": weights, "conditions": conditions, "variables": variables
    }  # fmt: skip
    return [
        folder.table(address, {"tensor": tensor.name, **about}, _stored_dtype(tensor, dtype))
        for address, tensor in zip(addresses, tensors, strict=True)
    ]


def batch_size_for(size: Sequence[int]) -> int:
    """Return how many examples go through a network at once by default, for images of this height and width."""
    return SMALL_BATCH_SIZE if math.prod(size) <= SMALL else BATCH_SIZE


def _check_options(images: tf.Tensor, parts: Sequence[Images], batch_size: int, dtype: str, workers: int) -> None:
    if dtype not in ("float32", "float16"):
        raise DataError(f"`dtype={dtype}`: rows are kept as float32 or float16")
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if value < 1:
            raise DataError(f"`{name}={value}` must be 1 or more")
    if not sum(map(len, parts)):
        raise DataError("no examples are given to compute anything from")
    shapes = {f"{part.dtype} {tuple(part.shape[1:])}" for part in parts}
    fits = images.shape.is_compatible_with([None, *parts[0].shape[1:]])
    # A session casts what it is fed silently: pixels in [0, 1] would all but vanish in a uint8.
    if len(shapes) > 1 or not fits or not np.can_cast(parts[0].dtype, images.dtype.as_numpy_dtype, "safe"):
        wanted = f"{images.dtype.name} {images.shape[1:]}"
        raise DataError(f"the images are {names.listed(sorted(shapes))}, and {images.op.name} takes {wanted}")


def _stored_dtype(tensor: tf.Tensor, dtype: str) -> np.dtype:
    """Return the dtype on disk; numpy's own format has no bfloat16."""
    return np.dtype(dtype if tensor.dtype in (tf.float32, tf.bfloat16) else tensor.dtype.as_numpy_dtype)


def _fill(network: Network, tables: Sequence[Table], source: Source, batch_size: int, workers: int) -> list[np.ndarray]:
    """Compute the rows that are missing in the tables.

    Returns:
      The values of the sample for each tensor, if all tensors were computed and the last batch had room for it.
    """
    missing = np.array([[key not in table for key in source.keys] for table in tables])
    wanted, places = np.flatnonzero(missing.any(axis=0)), np.flatnonzero(missing.any(axis=1)).tolist()
    if not len(wanted):
        return []
    part, into = dataclasses.replace(network, tensors=[network.tensors[k] for k in places]), [tables[k] for k in places]
    batches = [wanted[chunk] for chunk in chunks(len(wanted), batch_size)]
    workers = min(workers, len(batches))
    with progress.bar(len(wanted), 0, "extract") as bar:
        if workers > 1:
            fill_by_workers(part, into, source, wanted, batch_size, workers, bar.advance)
            return []
        sample = spread_over(len(source))
        has_room = len(batches[-1]) + len(sample) <= batch_size and len(into) == len(tables)
        return fill(part, into, source, batches, batch_size, bar.advance, sample if has_room else NONE)


def spread_over(examples: int) -> np.ndarray:
    """Return the numbers of a few examples, spread over all."""
    return np.unique(np.linspace(0, examples - 1, SAMPLE).astype(np.int64))


def _check_sample(
    network: Network, tables: Sequence[Table], source: Source, batch_size: int, recomputed: Sequence[np.ndarray]
) -> None:
    """Compare a few stored rows with what is computed again: bit for bit at the same batch size, and nearly at another.

    Raises:
      DataError: rows are not what was stored, or depend on the other examples of their batch.
    """
    sample = spread_over(len(source))
    keys, images = [source.keys[index] for index in sample], source.take(sample)
    if not recomputed:
        run = network.make_callable(batch_size)
        pieces = [run(images[chunk]) for chunk in chunks(len(keys), batch_size)]
        recomputed = [np.concatenate(column)[: len(keys)] for column in zip(*pieces, strict=True)]
    other_size = len(keys) + (len(keys) == batch_size)
    others = network.make_callable(other_size)(images)
    for tensor, table, values, other in zip(network.tensors, tables, recomputed, others, strict=True):
        stored = Rows(table, keys, table.dtype)[np.arange(len(keys))]
        if values.astype(table.dtype).tobytes() != stored.tobytes():
            raise DataError(
                f"{tensor.name}: {len(keys)} examples were computed again and are not what {table.path} holds; "
                "either an example's values depend on the others of its batch, so that they cannot be computed once, "
                "or the store was made on another processor, or beside other tensors, for which TensorFlow may fuse "
                "ops otherwise: then give another `store`"
            )
        apart = difference(other[: len(keys)], values)
        if not apart <= TOLERANCE[precisions.of_network(network)]:
            raise DataError(
                f"{tensor.name} differs by {apart:.1e} of its largest magnitude between batches of {batch_size} and "
                f"of {other_size}: an example's values depend on the others of its batch, so that they cannot be "
                "computed once"
            )


def difference(values: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, as a share of the largest magnitude; NaN is the same as NaN."""
    if values.shape != expected.shape:
        return math.inf
    a, b = values.astype(np.float64), expected.astype(np.float64)
    differ = (a != b) & ~(np.isnan(a) & np.isnan(b))
    if not differ.any():
        return 0.0
    with np.errstate(invalid="ignore"):
        return float(np.abs(a - b)[differ].max() / max(np.abs(b).max(), np.finfo(np.float32).tiny))
