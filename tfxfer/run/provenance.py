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
    fed = {tensor.name: tensor for tensor in frontier(step, stage or step.stages[-1]).tensors} if _stored(splits) else {}
    rows = {(name, held.address): held for name, held in _stored(splits) if name in fed}
    now: dict[str, str] = {}
    bad = [
        (name, address, found)
        for (name, address), held in rows.items()
        for found in addresses(sess, [fed[name]], step.images, held.about["conditions"], variables=now)
        if found != address
    ]
    if not bad:
        return
    then = {key: value for (name, address), held in rows.items() for key, value in held.about["variables"].items()}
    moved = [name for name, digest in now.items() if then.get(name, digest) != digest]
    why = f"these variables have other values: {names.listed(moved)}" if moved else "the graph, or what it reads, differs"
    listed = [f"  {name}: was computed by {address[:12]}, this session computes {found[:12]}" for name, address, found in bad]
    raise DataError(
        "\n".join(
            [
                f"the features of {names.listed(splits)} are not what this session computes from their images; {why}:",
                *listed,
                "call precompute in this session, after everything is restored",
            ]
        )
    )


def _stored(splits: Mapping[str, Split]) -> list[tuple[str, Rows]]:
    columns = [column for split in splits.values() for column in (split.features or {}).items()]
    return [(name, rows) for name, rows in columns if isinstance(rows, Rows) and "conditions" in rows.about]
