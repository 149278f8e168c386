"""The order in which the variables of a checkpoint were made, out of the graph beside it (`<prefix>.meta`).

A checkpoint keeps its variables by name, which is not the order of the layers. Of the graph no more is read than its
list of variables.

Source: tensorflow/core/protobuf/meta_graph.proto (MetaGraphDef, CollectionDef) and core/framework/variable.proto.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.formats.protobuf import BYTES, Bytes, scan, strings, tag, text

_COLLECTION = tag(4, BYTES)  # an entry of the map collection_def
_VARIABLES = b"variables"


def in_order(prefix: str | None, every: Iterable[str]) -> list[str]:
    """Sort names into the order in which their variables were made; what the graph does not know comes last.

    Args:
      prefix: the checkpoint, or None where there is none; without a graph beside it, or with one that cannot be read,
        the order stays.
      every: the names.
    """
    made = {name: place for place, name in enumerate(_variables(Path(f"{prefix}.meta")) if prefix else [])}
    return sorted(every, key=lambda name: made.get(name, len(made)))


def _variables(path: Path) -> list[str]:
    if not reading.exists(path):
        return []
    try:
        entries = (value for key, value in scan(reading.map_file(path).data, str(path)) if key == _COLLECTION)
        return [name for entry in entries for name in _of_collection(entry, str(path))]
    except WeightsError:  # only the order is lost, which nobody promised
        return []


def _of_collection(entry: Bytes, where: str) -> list[str]:
    pair = list(scan(entry, where))
    if [bytes(key) for key in strings(pair, 1)] != [_VARIABLES]:
        return []
    lists = [kind for collection in strings(pair, 2) for kind in strings(scan(collection, where), 2)]
    definitions = [value for kind in lists for value in strings(scan(kind, where), 1)]
    return [names.op_name(text(name, where)) for each in definitions for name in strings(scan(each, where), 1)]
