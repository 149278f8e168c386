"""Names of variables in the object-based checkpoints of TensorFlow 2.

`tf.train.Checkpoint` keeps a variable under the path of objects that leads to it, such as
`model/layer-1/kernel/.ATTRIBUTES/VARIABLE_VALUE`, and beside them a graph of the objects that knows most own names.

Source: tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tfxfer import names
from tfxfer.weights.protobuf import BYTES, fields, scan, strings, tag, text
from tfxfer.weights.tensors import Tensor

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NODE = tag(1, BYTES)
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def is_in(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether a checkpoint is object-based."""
    return KEY in tensors and tensors[KEY].shape == () and tensors[KEY].dtype == object


def variable_names(tensors: Mapping[str, Tensor], where: str) -> dict[str, str]:
    """Return a name for each key of an object-based checkpoint.

    A variable is called by its own name (`conv1/kernel`), or by its path of objects where it has none or shares it with
    another (as all `kernel` of Keras 3 do). Everything else keeps its key.

    Args:
      tensors: a checkpoint that has an object graph.
      where: the checkpoint, for the error messages.

    Raises:
      WeightsError: the object graph is corrupt.
    """
    graph = bytes(tensors[KEY].read().item())
    full: dict[str, str] = {}
    for node in (value for key, value in scan(graph, where) if key == _NODE):
        for attribute in strings(scan(node, where), 2):
            parts = fields(attribute, where)
            name, key = ("".join(text(part, where) for part in strings(parts, number)) for number in (2, 3))
            if key in tensors:
                full[key] = names.op_name(name)
    wanted = {key: full.get(key) or _path(key) for key in tensors}
    count = Counter(wanted.values())
    result = {key: name if count[name] == 1 else _path(key) for key, name in wanted.items()}
    return result if len(set(result.values())) == len(result) else {key: key for key in tensors}


def _path(key: str) -> str:
    return key.removesuffix(_VALUE)
