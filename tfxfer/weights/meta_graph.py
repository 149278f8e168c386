"""The order in which the variables of a checkpoint were made, out of the graph beside it (`<prefix>.meta`).

A checkpoint keeps its variables by name, which is not the order of the layers. Of the graph no more is read than its
list of variables.

Source: tensorflow/core/protobuf/meta_graph.proto (MetaGraphDef, CollectionDef) and core/framework/variable.proto.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.formats.protobuf import BYTES, Bytes, scan, tag, text

MAX_FIELDS = 1 << 20  # that are looked at in a message: a list of variables has one for each
_VARIABLES = b"variables"


def in_order(prefix: str | None, every: Iterable[str]) -> list[str]:
    """Sort names into the order in which their variables were made; what the graph does not know comes last.

    Args:
      prefix: the checkpoint, or None where there is none; without a graph beside it, or with one that cannot be read,
        the order stays.
      every: the names.
    """
    sought = list(every)
    made = _made(prefix, {*sought})
    return sorted(sought, key=lambda name: made.get(name, math.inf))


def tells_order(prefix: str | None, every: Iterable[str]) -> bool:
    """Say whether the graph beside a checkpoint knows some of these names, and so their order; see `in_order`."""
    return bool(_made(prefix, {*every}))


def _made(prefix: str | None, sought: Container[str]) -> dict[str, int]:
    """Return the place of each variable that is sought among all of the graph's, however many those are."""
    path = Path(f"{prefix}.meta")
    if not prefix or not reading.exists(path):
        return {}
    try:
        every = enumerate(_variables(reading.map_file(path).data, str(path)))
        return {name: place for place, name in every if name in sought}
    except WeightsError:  # only the order is lost, which nobody promised
        return {}


def _variables(graph: Bytes, where: str) -> Iterator[str]:
    for entry in _within([graph], 4, where):  # of the map collection_def
        if next(_within([entry], 1, where), b"") == _VARIABLES:
            lists = _within(_within([entry], 2, where), 2, where)
            for name in _within(_within(lists, 1, where), 1, where):
                yield names.op_name(text(name, where))


def _within(messages: Iterable[Bytes], number: int, where: str) -> Iterator[Bytes]:
    """Yield what a length-delimited field of messages holds, one by one: a hostile graph is all fields."""
    for message in messages:
        for key, value in itertools.islice(scan(message, where), MAX_FIELDS):
            if key == tag(number, BYTES):
                yield value
