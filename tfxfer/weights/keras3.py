"""Files of Keras 3: `.weights.h5`, whose keys are classes and numbers, and `.keras` archives around it.

A layer's variables lie under a key such as `layers/conv2d_1/vars/0`, made of the layer's class and its place among the
layers of that class. The group `vars` has an attribute with the layer's own name, if Keras was new enough; a `.keras`
archive has all names in config.json.

Source: keras/src/saving/saving_lib.py; the order of variables is that of `save_own_variables` in the layers' classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import hdf5, reading, zip_members
from tfxfer.formats.tensors import Tensor

MAX_UNPACKED = 32 << 20  # bytes of a compressed model.weights.h5, which has to be unpacked whole

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_KEYS_KEPT = ("optimizer", "metrics")

_KERNEL, _NORM = ("kernel", "bias"), ("gamma", "beta")
_VARIABLES = {
    **dict.fromkeys(
        (
            "dense",
            "conv1d",
            "conv2d",
            "conv3d",
            "conv1d_transpose",
            "conv2d_transpose",
            "conv3d_transpose",
            "depthwise_conv1d",
            "depthwise_conv2d",
        ),
        _KERNEL,
    ),
    **dict.fromkeys(("separable_conv1d", "separable_conv2d"), ("depthwise_kernel", "pointwise_kernel", "bias")),
    **dict.fromkeys(("layer_normalization", "group_normalization"), _NORM),
    "batch_normalization": (*_NORM, "moving_mean", "moving_variance"),
    "embedding": ("embeddings",),
}
_OPTIONAL = {"bias": "use_bias", "gamma": "scale", "beta": "center"}  # and the layer's argument that decides


def wrote(datasets: Sequence[hdf5.Object]) -> bool:
    """Say whether Keras 3 wrote the file of these arrays: all then lie in groups `vars`."""
    return bool(datasets) and all(f"/{dataset.path}".split("/")[-2] == "vars" for dataset in datasets)


def read(path: Path) -> dict[str, Tensor]:
    """List the variables of a `.keras` archive; see `tensors` for their names. They are checked when they are read.

    Raises:
      WeightsError: the archive is corrupt, lacks a part, or its config and its weights do not belong together.
    """
    archive = _opened(path)
    named = tensors(archive.root, hdf5.in_order(archive.root), archive.config)
    return zip_members.checked_once(named, archive.member, archive.weights)


def read_model(path: Path) -> tuple[Any, dict[str, str]]:
    """Return the config.json of a `.keras` archive, and where each variable lies by the name that `read` gives to it.

    Raises:
      WeightsError: as `read`.
    """
    archive = _opened(path)
    datasets = hdf5.in_order(archive.root)
    places = {id(dataset.tensor): dataset.path for dataset in datasets}
    named = tensors(archive.root, datasets, archive.config)
    return archive.config, {name: places[id(tensor)] for name, tensor in named.items()}


class _Archive(NamedTuple):
    config: Any
    root: hdf5.Object
    member: zip_members.Member
    weights: np.ndarray


def _opened(path: Path) -> _Archive:
    data, where = reading.map_file(path), str(path)
    members = zip_members.members(data, where)
    if missing := {CONFIG, WEIGHTS} - members.keys():
        raise WeightsError(f"{where} is not a .keras archive that tfxfer reads: it lacks {', '.join(sorted(missing))}")
    config_member, weights_member = members[CONFIG], members[WEIGHTS]
    if max(config_member.size, 0 if weights_member.stored else weights_member.size) > MAX_UNPACKED:
        raise WeightsError(
            f"{where} holds a compressed {WEIGHTS}, or a {CONFIG}, of more than {MAX_UNPACKED:,} bytes; "
            f"unzip it and open its {WEIGHTS}"
        )
    config = reading.parse_json(config_member.whole().tobytes(), f"{where}: {CONFIG}")
    weights = weights_member.whole()
    return _Archive(config, hdf5.root(weights, f"{where}: {WEIGHTS}"), weights_member, weights)


def tensors(root: hdf5.Object, datasets: Sequence[hdf5.Object], config: Any = None) -> dict[str, Tensor]:
    """Name the variables of a `.weights.h5` file.

    Returns:
      Tensors by name. Names are made of the names of the layers and of the variables: `conv1/kernel`, and
      `vgg16/block1_conv1/kernel` in a model within the model. Variables have names where the layer is of a class that
      is known here and their number and shapes leave no doubt, else numbers: `lstm/lstm_cell/0`. Those of the
      optimizer keep their keys (`optimizer/vars/0`), and so do all (`layers/conv2d_1/vars/0`) in a file
      without names and without a config.

    Args:
      root: the first group of the file.
      datasets: all arrays in it.
      config: what config.json of the archive holds, or None.

    Raises:
      WeightsError: the file knows no names, and by class and number its layers do not fit to the config.
    """
    layers = _Layers(root, config)
    owners: dict[str, list[hdf5.Object]] = {}
    for dataset in datasets:
        owners.setdefault(dataset.path.rpartition("/vars/")[0], []).append(dataset)
    if config is None and not any(map(layers.own_name, owners)):
        return hdf5.named((dataset.path, dataset) for dataset in datasets)
    return hdf5.named(pair for owner, variables in owners.items() for pair in layers.named(owner, variables))


class _Layers:
    """The layers of a file, by the paths of their groups."""

    def __init__(self, root: hdf5.Object, config: Any) -> None:
        self.root = root
        self.config = config
        self._groups = {"": root}
        self._inside: dict[str, dict[str, dict[str, Any]]] = {}

    def named(self, path: str, variables: list[hdf5.Object]) -> Iterator[tuple[str, hdf5.Object]]:
        """Yield the variables of one layer with their names."""
        if not path or path.split("/")[0] in _KEYS_KEPT:
            yield from ((variable.path, variable) for variable in variables)
            return
        scope = "/".join(self._scope(path))
        config = self._config(path) or {}
        kind = _snake_case(config.get("class_name", "")) or re.sub(r"_\d+$", "", path.rpartition("/")[2])
        shapes = [variable.tensor.shape for variable in variables]
        numbers = [variable.path.rpartition("/")[2] for variable in variables]
        names = _variable_names(kind, config.get("config", {}), shapes) or numbers
        yield from ((f"{scope}/{name}", variable) for name, variable in zip(names, variables, strict=True))

    def own_name(self, path: str) -> str:
        """Return the name that the file itself gives to a layer, or the empty string."""
        group = self._group(path)
        texts = group.child("vars").texts("name") if "vars" in group else None
        return texts[0] if texts else ""

    def _scope(self, path: str) -> Iterator[str]:
        # The names of the layers that lead to this one; what only holds layers has no name.
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            layer = "/".join(parts[:end])
            config = self._config(layer)
            if name := self.own_name(layer) or (config["config"]["name"] if config else ""):
                yield name
            elif "vars" in self._group(layer):
                if self.config is not None and parts[end - 2] in _CONTAINERS:
                    raise WeightsError(
                        f"{self.root.file.where} does not fit to config.json: {layer} has no name, and there are "
                        "not as many layers of its class, of the same sizes, in both"
                    )
                yield parts[end - 1]

    def _group(self, path: str) -> hdf5.Object:
        if path not in self._groups:
            above, _, key = path.rpartition("/")
            self._groups[path] = self._group(above).child(key)
        return self._groups[path]

    def _config(self, path: str) -> dict[str, Any] | None:
        # The part of config.json about one layer, if it does not contradict the file.
        container, _, key = path.rpartition("/")
        if self.config is None or container.rpartition("/")[2] not in _CONTAINERS:
            return None
        if container not in self._inside:
            above = container.rpartition("/")[0]
            model = self._config(above) if above else self.config
            self._inside[container] = _by_key(model, list(self._group(container).links))
        found = self._inside[container].get(key)
        if found is None or self.own_name(path) not in ("", found["config"]["name"]):
            return None
        return found if self._sizes_fit(path, found) else None

    def _sizes_fit(self, path: str, layer: dict[str, Any]) -> bool:
        group = self._group(path)
        variables = list(group.child("vars").datasets()) if "vars" in group else []
        size = layer["config"].get("filters", layer["config"].get("units"))
        return not variables or size is None or any(size in variable.tensor.shape for variable in variables)


def _by_key(model: dict[str, Any] | None, keys: list[str]) -> dict[str, dict[str, Any]]:
    # Keys are the class and a number that counts up, not always by one: the n-th key is the n-th layer of the class.
    layers: dict[str, list[dict[str, Any]]] = {}
    for layer in _layers_of(model):
        layers.setdefault(_snake_case(layer["class_name"]), []).append(layer)
    numbered: dict[str, dict[int, str]] = {}
    for key in keys:
        kind, _, number = key.rpartition("_")
        if key in layers:
            numbered.setdefault(key, {})[0] = key
        elif kind in layers and re.fullmatch("[1-9][0-9]{0,8}", number):
            numbered.setdefault(kind, {})[int(number)] = key
    return {
        key: layer
        for kind, found in numbered.items()
        if len(found) == len(layers[kind])
        for (_, key), layer in zip(sorted(found.items()), layers[kind], strict=True)
    }


def _layers_of(model: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    match model:
        case {"config": {"layers": [*layers]}}:
            for layer in layers:
                match layer:
                    case {"class_name": str(), "config": {"name": str()}}:
                        yield layer


def _snake_case(name: str) -> str:
    # As keras/src/utils/naming.py does it: Conv2D gives conv2d, BatchNormalization batch_normalization.
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _variable_names(kind: str, config: dict[str, Any], shapes: Sequence[tuple[int, ...]]) -> list[str] | None:
    # The names of a layer's variables where its class, its arguments, their number and ranks leave one possibility.
    every = _VARIABLES.get(kind, ())
    free = [name for name in every if name in _OPTIONAL and _OPTIONAL[name] not in config]
    off = [name for name in every if config.get(_OPTIONAL.get(name, "")) is False]
    some = [name for name in every if name not in off]
    if len(shapes) < len(some) == len(shapes) + len(free):
        some = [name for name in some if name not in free]
    vectors = [name not in ("embeddings",) and not name.endswith("kernel") for name in some]
    fits = len(some) == len(shapes) and all(
        (len(shape) == 1) == vector for shape, vector in zip(shapes, vectors, strict=True)
    )
    return some if some and fits else None
