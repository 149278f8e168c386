"""Whether stored features are what this session would compute: the weights may be others, or the graph."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.data.splits import Split
from tfxfer.errors import DataError
from tfxfer.graph.frontier import frontier
from tfxfer.graph.train_step import StageOps, Step
from tfxfer.run.address import addresses
from tfxfer.run.store import Rows


def check(sess: tf.Session, step: Step, splits: Mapping[str, Split], stage: StageOps | None = None) -> None:
    """Refuse features that something else has computed than what the session holds now.

    The frozen variables are read and their digests taken each time, since whoever has the session may write them.
    Features that are no rows of a store carry no address, and are taken as they are.

    Args:
      sess: the session that is to be fed.
      step: what `train_step` returned.
      splits: the examples, by name.
      stage: the stage that is fed; the last one by default.

    Raises:
      DataError: the address of a fed tensor differs; tensors and variables are named.
    """
    stored = _stored(splits)
    if not stored:
        return
    fed = {tensor.name: tensor for tensor in frontier(step, stage or step.stages[-1]).tensors}
    held = {(name, rows.address): rows.about for name, rows in stored if name in fed}
    now: dict[str, str] = {}
    then: dict[str, str] = {}
    lines = []
    for (name, address), about in held.items():
        (found,) = addresses(sess, [fed[name]], step.images, about["conditions"], feeds=step.eval_feeds, variables=now)
        if found != address:
            then |= about["variables"]
            lines.append(f"  {name}: was computed by {address[:12]}, this session computes {found[:12]}")
    if lines:
        moved = [name for name, digest in now.items() if then.get(name, digest) != digest]
        why = f"other values: {names.listed(moved)}" if moved else "the graph, or what it reads, differs"
        raise DataError(
            f"the features of {names.listed(splits)} are not what this session computes from the images ({why}):\n"
            + "\n".join(lines)
            + "\ncall precompute in this session, after everything is restored"
        )


def _stored(splits: Mapping[str, Split]) -> list[tuple[str, Rows]]:
    columns = [column for split in splits.values() for column in (split.features or {}).items()]
    return [(name, rows) for name, rows in columns if isinstance(rows, Rows) and "conditions" in rows.about]
