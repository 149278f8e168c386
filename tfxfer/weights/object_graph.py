"""Names of variables in the object-based checkpoints of TensorFlow 2.

`tf.train.Checkpoint` keeps a variable under the path of objects that leads to it, such as
`model/layer-1/kernel/.ATTRIBUTES/VARIABLE_VALUE`, and beside them a graph of the objects that knows most own names.

Source: tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping

from tfxfer import names
from tfxfer.formats.protobuf import BYTES, fields, scan, strings, tag, text
from tfxfer.formats.tensors import Tensor

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NODE = tag(1, BYTES)
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_COUNTER = f"save_counter{_VALUE}"
_ONCE, _TWICE = "variables", "_all_variables"  # the lists of what Keras 3 exports


def is_in(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether a checkpoint is object-based."""
    return KEY in tensors and tensors[KEY].shape == () and tensors[KEY].dtype == object


def full_names(tensors: Mapping[str, Tensor], where: str) -> dict[str, str]:
    """Return the own name of each variable of an object-based checkpoint that has one, by its key.

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
    return full


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
    full = full_names(tensors, where)
    wanted = {key: full.get(key) or _path(key) for key in tensors}
    count = Counter(wanted.values())
    result = {key: name if count[name] == 1 else _path(key) for key, name in wanted.items()}
    return result if len(set(result.values())) == len(result) else {key: key for key in tensors}


def bookkeeping(key: str, tensor: Tensor) -> str:
    """Say of an entry that TensorFlow keeps for itself, and which is not a weight, what it is; else nothing."""
    if key == KEY:
        return "it describes the objects of the program that wrote the checkpoint"
    if key == _COUNTER:
        return "it counts how often the checkpoint was saved"
    if tensor.fault:
        return tensor.fault.removeprefix(f"{key}: ")
    _, attribute, what = key.rpartition("/.ATTRIBUTES/")
    return (
        f"it is TensorFlow's own record {what}"
        if attribute and tensor.dtype.hasobject and what != "VARIABLE_VALUE"
        else ""
    )


def copies(
    full: Mapping[str, str], tensors: Mapping[str, Tensor], checksums: Callable[[Container[str]], Mapping[str, int]]
) -> dict[str, str]:
    """Find the variables that an export of Keras 3 writes twice, as two objects: the object graph does not tell.

    One object holds them in its lists `variables` and `_all_variables`, in another order, with one own name, one shape
    and dtype and one checksum. Everywhere else two objects are two variables, however alike: of two modules of one
    kind, all biases begin with the same zeros.

    Returns:
      The keys of the second copies, with what is to be said about each.
    """
    lists = {key: _list(key) for key, name in full.items() if name}
    owners = {owner for owner, name in lists.values() if name == _TWICE}
    several = {key for key, (owner, name) in lists.items() if owner in owners and name in (_ONCE, _TWICE)}
    alike: dict[tuple[object, ...], dict[str, list[str]]] = {}
    for key, crc in (checksums(several) if several else {}).items():
        owner, name = lists[key]
        same: tuple[object, ...] = (full[key], owner, tensors[key].shape, tensors[key].dtype, crc)
        alike.setdefault(same, {}).setdefault(name, []).append(key)
    found: dict[str, str] = {}
    for same, keys in alike.items():
        # As many in each list: of several variables with one name and one value, none is lost.
        if len(keys.get(_ONCE, ())) == len(keys.get(_TWICE, ())):
            found |= dict.fromkeys(keys[_TWICE], f"it is {same[0]} once more")
    return found


def _list(key: str) -> tuple[str, str]:
    """Return the path of the object in whose list a variable stands, and the name of that list."""
    owner, _, name = _path(key).rpartition("/")[0].rpartition("/")
    return owner, name


def _path(key: str) -> str:
    return key.removesuffix(_VALUE)
