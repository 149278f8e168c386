"""Check that stored features are those that this session would compute: weights or graph may differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.data.splits import Images, Split
from tfxfer.errors import DataError
from tfxfer.frontier.search import frontier
from tfxfer.graph.eval_step import EvalStep
from tfxfer.graph.stages import StageOps
from tfxfer.store.compute import Network
from tfxfer.store.extraction import difference, spread_over
from tfxfer.store.fingerprint import addresses
from tfxfer.store.store import Rows

# The share of its largest magnitude by which a feature may differ from what is computed again: float16 keeps 5e-4 of a
# number, and batches of another size give other last bits.
TOLERANCE = 1e-3


def check(sess: tf.Session, step: EvalStep, splits: Mapping[str, Split], stage: StageOps | None = None) -> None:
    """Refuse features that were computed by other weights, or another graph, than the session has now.

    The frozen variables are read and their digests taken each time, since whoever has the session may write them.
    Features in arrays, and not in a store, carry no address: of these, a few are computed from the images
    again and compared.

    Args:
      sess: the session that is to be fed.
      step: what `train_step` or `eval_step` returned.
      splits: the examples, by name.
      stage: the stage that is fed; the last one by default.

    Raises:
      DataError: the address or the values of a fed tensor differ; tensors and variables are named.
    """
    splits = {name: split for name, split in splits.items() if split.features is not None}
    if not splits:
        return
    fed = {tensor.name: tensor for tensor in frontier(step, stage).tensors}
    fed.pop(step.images.name, None)
    why, lines = _other_addresses(sess, step, splits, fed)
    lines += [line for name, split in splits.items() for line in _other_values(sess, step, name, split, fed)]
    if lines:
        raise DataError(
            f"the features of {names.listed(splits)} are not what this session computes from the images ({why}):\n"
            + "\n".join(lines)
            + "\ncall precompute in this session, after everything is restored"
        )


def _other_addresses(
    sess: tf.Session, step: EvalStep, splits: Mapping[str, Split], fed: Mapping[str, tf.Tensor]
) -> tuple[str, list[str]]:
    """Return why the addresses of stored rows are others now, as far as it is known, and a line for each."""
    columns = [column for split in splits.values() for column in (split.features or {}).items()]
    stored = {(name, rows.address): rows.about for name, rows in columns if name in fed and _is_stored(rows)}
    now: dict[str, str] = {}
    then: dict[str, str] = {}
    lines = []
    for (name, address), about in stored.items():
        (computed,) = addresses(
            sess, [fed[name]], step.images, about["conditions"], feeds=step.eval_feeds, variables=now
        )
        if computed != address:
            then |= about["variables"]
            lines.append(f"  {name}: was computed by {address[:12]}, this session computes {computed[:12]}")
    moved = [name for name, digest in now.items() if then.get(name, digest) != digest]
    return f"other values: {names.listed(moved)}" if moved else "the graph, or what it reads, differs", lines


def _is_stored(column: Images) -> TypeGuard[Rows]:
    return isinstance(column, Rows) and "conditions" in column.about


def _other_values(
    sess: tf.Session, step: EvalStep, split_name: str, split: Split, fed: Mapping[str, tf.Tensor]
) -> list[str]:
    """Return a line for each tensor of which a few features are not what is computed from their images."""
    arrays = {
        name: column
        for name, column in (split.features or {}).items()
        if name in fed and not _is_stored(column) and fed[name].shape.is_compatible_with([None, *column.shape[1:]])
    }
    if not arrays or not len(split):
        return []
    sample = spread_over(len(split))
    network = Network(sess, step.images, [fed[name] for name in arrays], step.eval_feeds)
    computed = network.make_callable(len(sample))(split.images[sample])
    differences = {
        name: difference(np.asarray(column[sample]), again)
        for (name, column), again in zip(arrays.items(), computed, strict=True)
    }
    return [
        f"  {name}: {len(sample)} examples of {split_name} were computed again and differ by {apart:.1e} of the "
        "largest magnitude"
        for name, apart in differences.items()
        if not apart <= TOLERANCE
    ]
