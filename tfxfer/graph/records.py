"""What layers record of themselves in collections of a graph, as JSON, so that a MetaGraph carries it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf


class Record(NamedTuple):
    """A record of a graph.

    Attributes:
      scope: that the MetaGraph with it was imported into, with the slash; empty for what was made in this graph.
      values: by name. Names of ops and tensors in it lack the scope.
    """

    scope: str
    values: dict[str, Any]


def add(collection: str, values: dict[str, Any]) -> None:
    """Add a record to a collection of the default graph."""
    tf.add_to_collection(collection, json.dumps(values))


def read(graph: tf.Graph, collection: str) -> list[Record]:
    """Return the records of a collection, in the order in which they were added.

    TensorFlow puts the scope that a MetaGraph is imported into before each text of its collections.
    """
    records = []
    for text in graph.get_collection(collection):
        scope, brace, rest = tf.compat.as_text(text).partition("{")
        records.append(Record(scope, json.loads(brace + rest)))
    return records
