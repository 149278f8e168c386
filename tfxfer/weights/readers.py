"""Which reader a file is for. Its content decides, never its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.weights import (
    bundle,
    checkpoint_v1,
    checkpoints,
    files,
    hdf5,
    identify,
    keras3,
    keras_h5,
    npy,
    npz,
    object_graph,
    safetensors,
    saved_model,
    zips,
)
from tfxfer.weights.leveldb import MAGIC as LEVELDB
from tfxfer.weights.tensors import Tensor


class Found(NamedTuple):
    """What a reader found: the kind of file in words, the tensors, their names in the file, and the Saver's prefix."""

    kind: str
    tensors: Mapping[str, Tensor]
    sources: Mapping[str, str] = {}
    checkpoint: str | None = None


def read(path: Path) -> Found:
    """List the tensors of whatever lies at a path.

    Raises:
      WeightsError: nothing does, or nothing that is known; or the file is corrupt.
    """
    if saved_model.is_at(path):
        return _checkpoint(saved_model.find_prefix(path), "TensorFlow SavedModel")
    if files.exists(path) and not checkpoints.is_part(path):
        return _file(path)
    return _checkpoint(bundle.find_prefix(path), "TensorFlow checkpoint V2")


def _checkpoint(prefix: Path, kind: str) -> Found:
    if not checkpoints.is_v2(prefix):
        return Found("TensorFlow checkpoint V1", checkpoint_v1.read(prefix), checkpoint=str(prefix))
    tensors = bundle.read(prefix)
    if not object_graph.is_in(tensors):
        return Found(kind, tensors, checkpoint=str(prefix))
    new = object_graph.variable_names(tensors, str(prefix))
    kind = f"{kind}, object-based"
    return Found(
        kind, {new[key]: tensor for key, tensor in tensors.items()}, {new[key]: key for key in tensors}, str(prefix)
    )


def _file(path: Path) -> Found:
    head = files.head(path, 16)
    if head.startswith(zips.MAGIC):
        return _zip(path)
    if head.startswith(npy.MAGIC):
        return Found("NumPy .npy file", npy.read(path))
    if safetensors.begins(head):
        return Found("safetensors file", safetensors.read(path))
    if files.tail(path, 8) == LEVELDB:
        return _checkpoint(bundle.find_prefix(path), "TensorFlow checkpoint V2")
    if hdf5.start(files.map_file(path)) >= 0:
        return Found("HDF5 file", keras_h5.read(path))
    raise WeightsError(f"{path} holds no weights: it is {identify.describe(path)}")


def _zip(path: Path) -> Found:
    members = list(zips.members(files.map_file(path), str(path)))
    if keras3.WEIGHTS in members or keras3.CONFIG in members:
        return Found("Keras archive", keras3.read(path))
    if any(name.endswith("data.pkl") for name in members):
        raise WeightsError(
            f"{path} holds no weights that tfxfer reads: it is a PyTorch archive, which is a pickle and can run any "
            "code when it is loaded; convert it to .safetensors where you trust it"
        )
    if not any(name.endswith(".npy") for name in members):
        raise WeightsError(f"{path} holds no weights: it is a zip archive of {names.listed(members) or 'nothing'}")
    return Found("NumPy .npz archive", npz.read(path))
