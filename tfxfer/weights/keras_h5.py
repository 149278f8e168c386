"""Keras's HDF5 files: weights of Keras 0.x, 1.x and 2.x, whole models of 2.x and 3.x, and `.weights.h5` of Keras 3.

Source: `save_weights` in keras 0.3's models.py; keras/src/legacy/saving/legacy_h5_format.py; for Keras 3 see `keras3`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfxfer import names
from tfxfer.formats import hdf5, reading
from tfxfer.formats.tensors import Tensor
from tfxfer.weights import keras3

WORDS = "HDF5 file"

_OPTIMIZER, _MODEL, _TOP = "optimizer_weights", "model_weights", "top_level_model_weights"


def read(path: Path) -> dict[str, Tensor]:
    """List the arrays of an HDF5 file.

    Returns:
      Tensors by name. The name is, in this order of rules:
      - in a file of Keras 1.x or 2.x, or a whole model in HDF5, the name that the file gives to the weight, without
        `:0`, behind the name of its layer unless it begins with that or is that: `conv1/kernel`, and `conv1/uniform1`
        for a weight `uniform1`; those of the optimizer stand under `optimizer_weights/`;
      - in a `.weights.h5` file of Keras 3, as `keras3.tensors` says;
      - in any other file, and where two would get one name, the path in the file, which in one of Keras 0.x is
        `layer_0/param_1`.
      What is not an array of numbers, and a link to another place or file, is listed with its reason and not read.

    Raises:
      WeightsError: the file is cut short or corrupt.
    """
    root = hdf5.root(reading.map_file(path), str(path))
    if _MODEL in root and not root.child(_MODEL).is_dataset:
        return hdf5.named([*_of_model(root.child(_MODEL)), *_of_optimizer(root)])
    if _names(root, "layer_names"):
        return hdf5.named(_of_model(root))
    datasets = hdf5.in_order(root)
    if keras3.wrote(datasets):
        return keras3.tensors(root, datasets)
    return hdf5.named((dataset.path, dataset) for dataset in datasets)


def read_model(path: Path) -> Any:
    """Return the config of the model in an HDF5 file; None where the file holds weights alone.

    Raises:
      WeightsError: the file is cut short or corrupt, or the config is not JSON.
    """
    config = hdf5.root(reading.map_file(path), str(path)).texts("model_config")
    return reading.parse_json(config[0].encode(), f"{path}: model_config") if config else None


def _of_model(group: hdf5.Object) -> Iterator[tuple[str, hdf5.Object]]:
    for layer in _names(group, "layer_names"):
        for weight, dataset in _weights(group[layer]):
            yield weight if f"{weight}/".startswith(f"{layer}/") else f"{layer}/{weight}", dataset
    if _TOP in group:
        yield from ((f"{_TOP}/{weight}", dataset) for weight, dataset in _weights(group.child(_TOP)))


def _of_optimizer(root: hdf5.Object) -> Iterator[tuple[str, hdf5.Object]]:
    if _OPTIMIZER in root:
        yield from ((f"{_OPTIMIZER}/{weight}", dataset) for weight, dataset in _weights(root.child(_OPTIMIZER)))


def _weights(group: hdf5.Object) -> Iterator[tuple[str, hdf5.Object]]:
    if group.is_dataset:  # a link instead of the group
        yield group.path.rpartition("/")[2], group
    for weight in _names(group, "weight_names"):
        yield names.op_name(weight), group[weight]


def _names(group: hdf5.Object, attribute: str) -> list[str]:
    # Lists that are too long for one attribute are cut into several, with a number behind the name.
    whole = group.texts(attribute)
    if whole is not None:
        return whole
    pieces = (group.texts(f"{attribute}{number}") for number in itertools.count())
    return [name for piece in itertools.takewhile(lambda texts: texts is not None, pieces) for name in piece or []]
