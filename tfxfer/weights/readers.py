"""Which reader a file is for. Its content decides, never its name."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats import hdf5, reading, torch_pickle, zip_members
from tfxfer.formats.leveldb import MAGIC as LEVELDB
from tfxfer.formats.tensors import Tensor, unreadable
from tfxfer.input_spec import InputSpec
from tfxfer.weights import (
    bundle,
    caffemodel,
    checkpoint_v1,
    find_checkpoint,
    graph_def,
    identify,
    keras3,
    keras_h5,
    matlab,
    npy,
    npy_dict,
    npz,
    object_graph,
    onnx,
    pytorch,
    safetensors,
    saved_model,
    tfjs,
    tflite,
)


class Found(NamedTuple):
    """What a reader found.

    Attributes:
      kind: the kind of file, in words.
      tensors: by name, in the order of the file.
      sources: the names that they have in the file, where these differ.
      checkpoint: the prefix that a Saver restores, if one can.
      stated: as `Weights.stated`.
    """

    kind: str
    tensors: Mapping[str, Tensor]
    sources: Mapping[str, str] = {}
    checkpoint: str | None = None
    stated: InputSpec | None = None


def read(name: str) -> Found:
    """List the tensors of whatever lies at a path.

    Names lose a slash at their beginning and `:0` at their end, where no other becomes the same or already is.

    Raises:
      WeightsError: nothing does, or nothing that is known; or the file is corrupt.
    """
    found = _read(find_checkpoint.prefix(name))
    wanted = {old: names.op_name(old) if old.endswith(":0") else old for old in found.tensors}
    wanted = {old: new.lstrip("/") or old for old, new in wanted.items()}
    count = Counter(wanted.values())
    free = {old for old, name in wanted.items() if count[name] == 1 and name not in found.tensors}
    new = {old: wanted[old] if old in free else old for old in found.tensors}
    sources = {name: found.sources.get(old, old) for old, name in new.items()}
    return found._replace(tensors={new[old]: tensor for old, tensor in found.tensors.items()}, sources=sources)


def _read(path: find_checkpoint.Prefix) -> Found:
    file = Path(path)
    if find_checkpoint.is_saved_model(file):
        return _saved_model(file)
    if reading.exists(file) and not find_checkpoint.is_part(path):
        return _file(file)
    if not find_checkpoint.found_in(file) and tfjs.manifest_beside(file):
        return _tfjs(file)
    return _checkpoint(find_checkpoint.find_prefix(path), "TensorFlow checkpoint V2")


def _saved_model(path: Path) -> Found:
    graph = saved_model.graph(path)
    if saved_model.is_frozen(path):
        return _constants(graph, "SavedModel")
    variables = _checkpoint(saved_model.find_prefix(path), "TensorFlow SavedModel")
    if all(tensor.fault for tensor in variables.tensors.values()):
        return _constants(graph, "SavedModel")
    return variables._replace(tensors={**_not_read(graph), **variables.tensors})


def _not_read(graph: Path) -> dict[str, Tensor]:
    """List the constants of a SavedModel of which the variables are read."""
    try:
        constants = graph_def.read(graph, "SavedModel")
    except WeightsError:  # only a list is lost, of what is not read
        return {}
    why = f"it is a constant, and of a SavedModel the variables are read; copy {graph} to another folder, and open that"
    return {name: unreadable(f"{name}: {why}", entry.shape) for name, entry in constants.items() if not entry.fault}


def _constants(path: Path, form: str) -> Found:
    return Found(f"constants of a {form}", graph_def.read(path, form))


def _graph(path: Path) -> Found:
    return _constants(path, graph_def.kind(reading.head(path, 4096)))


def _checkpoint(prefix: find_checkpoint.Prefix, kind: str) -> Found:
    if not find_checkpoint.is_v2(prefix):
        return Found("TensorFlow checkpoint V1", checkpoint_v1.read(prefix), checkpoint=str(prefix))
    tensors = bundle.read(prefix)
    if not object_graph.is_in(tensors):
        return Found(kind, tensors, checkpoint=str(prefix))
    where = str(prefix)
    left_out = {key: why for key in tensors if (why := object_graph.bookkeeping(key, tensors[key]))}
    full = object_graph.full_names(tensors, where)
    left_out |= object_graph.copies(full, tensors, functools.partial(bundle.checksums, prefix))
    kept = {key: tensor for key, tensor in tensors.items() if key == object_graph.KEY or key not in left_out}
    new = {key: name for key, name in object_graph.variable_names(kept, where).items() if key not in left_out}
    sources = {name: key for key, name in new.items()} | {key: key for key in left_out}
    listed = {name: tensors[key] for key, name in new.items()}
    left = {key: unreadable(f"{where}: {key}: {why}", tensors[key].shape) for key, why in left_out.items()}
    return Found(f"{kind}, object-based", {**left, **listed}, sources, where)


def _file(path: Path) -> Found:
    head = reading.head(path, 32)
    reader = next((reader for is_of, reader in _READERS if is_of(head, path)), None)
    if reader is None:
        raise WeightsError(f"{path} holds no weights: it is {identify.describe(path)}")
    return reader(path)


def _zip(path: Path) -> Found:
    members = list(zip_members.members(reading.map_file(path), str(path)))
    if keras3.WEIGHTS in members or keras3.CONFIG in members:
        return Found("Keras archive", keras3.read(path))
    if pytorch.is_archive(members):
        return _torch(path)
    if not any(name.endswith(".npy") for name in members):
        raise WeightsError(f"{path} holds no weights: it is {identify.archive(path, members)}")
    return Found("NumPy .npz archive", npz.read(path))


def _torch(path: Path) -> Found:
    return Found(*pytorch.read(path))


def _pickle(path: Path) -> Found:
    if words := identify.scikit(reading.head(path, 4096), path):
        raise WeightsError(f"{path} holds no weights that tfxfer reads: it is {words}")
    tensors = npy_dict.read(reading.map_file(path), 0, str(path))
    if all(tensor.fault for tensor in tensors.values()):
        raise WeightsError(f"{path} holds no weights that tfxfer reads: it is {identify.describe(path)}")
    return Found("pickle of arrays", tensors)


def _table(path: Path) -> Found:
    return _checkpoint(find_checkpoint.find_prefix(path), "TensorFlow checkpoint V2")


def _tfjs(path: Path) -> Found:
    return Found(*tfjs.read(path))


def _hdf5(path: Path) -> Found:
    tensors = keras_h5.read(path)
    if not tensors:
        raise WeightsError(
            f"{path} holds no weights: it is an HDF5 file without arrays, such as a model that was saved without them; "
            "save them where the model is, by model.save_weights"
        )
    return Found(keras_h5.WORDS, tensors)


def _content(path: Path) -> memoryview:
    return reading.map_file(path).data


def _matlab(path: Path) -> Found:
    contents = matlab.read(path)
    return Found(contents.kind, contents.tensors, contents.sources, stated=contents.stated)


# Whether a file is of a kind, by its first 32 bytes or more of it, and what reads it. The first that fits is taken.
_READERS: tuple[tuple[Callable[[bytes, Path], bool], Callable[[Path], Found]], ...] = (
    (lambda _, path: tfjs.manifest_beside(path) is not None, _tfjs),  # a shard, which may begin with anything
    (lambda head, _: head.startswith(zip_members.MAGIC), _zip),
    (lambda head, _: head.startswith(npy.MAGIC), lambda path: Found("NumPy .npy file", npy.read(path))),
    (tfjs.is_manifest, _tfjs),
    (lambda head, _: tflite.begins(head), lambda path: Found("TensorFlow Lite model", tflite.read(path))),
    (lambda head, _: torch_pickle.begins(head), _torch),
    (lambda head, _: safetensors.begins(head), lambda path: Found("safetensors file", safetensors.read(path))),
    (lambda _, path: reading.tail(path, 8) == LEVELDB, _table),
    (lambda head, _: identify.is_pickle(head), _pickle),
    (lambda head, _: matlab.begins(head), _matlab),
    (lambda _, path: bool(graph_def.kind(reading.head(path, 4096))), _graph),
    (
        lambda _, path: hdf5.start(reading.map_file(path)) >= 0,
        _hdf5,
    ),
    (lambda _, path: onnx.begins(_content(path)), lambda path: Found("model of ONNX", onnx.read(path))),
    (
        lambda _, path: caffemodel.begins(_content(path)),
        lambda path: Found("Caffe model (.caffemodel)", caffemodel.read(path)),
    ),
    (
        lambda _, path: caffemodel.begins_blob(_content(path)),
        lambda path: Found("Caffe blob (.binaryproto)", caffemodel.read_blob(path)),
    ),
)
