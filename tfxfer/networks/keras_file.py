"""Networks out of files of Keras: `.keras` archives and whole models in HDF5, built by Keras itself.

No code in a file runs: Lambda layers and classes that Keras does not know are refused by name before anything is built.
The values stay in the file: the model is built without any, and its variables get the names that `open_weights` gives
for the file, by what Keras itself writes where.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfxfer import names, tf_private
from tfxfer.errors import GraphError, WeightsError
from tfxfer.formats import hdf5, reading, zip_members
from tfxfer.formats.tensors import shown
from tfxfer.networks import keras_trace
from tfxfer.networks.graph_file import GraphFile
from tfxfer.weights import Weights, keras3, keras_h5, open_weights

# Names that the first versions of Keras gave to a variable, and today's.
OLD_NAMES = {"depthwise_kernel": "kernel"}
_MODELS = {"Functional", "Model", "Sequential"}
_CODE = {"Lambda", "__lambda__"}


def is_keras(path: str) -> bool:
    """Say whether a file is of Keras, or may be, by its content: an archive with its parts, or HDF5."""
    file = Path(path)
    head = reading.head(file, 8)
    if head.startswith(zip_members.MAGIC):
        return keras3.CONFIG in zip_members.members(reading.map_file(file), path)
    return hdf5.start(reading.map_file(file)) >= 0


def read(path: str | os.PathLike[str], *, weights: Weights | None = None) -> GraphFile:
    """Read a network from a `.keras` archive or from a whole model in HDF5 (`.h5`).

    Args:
      path: the file.
      weights: other values for its variables, under their names. Default: its own.

    Raises:
      WeightsError: the file cannot be read, or holds weights alone, or others than its model has.
      GraphError: Keras cannot build the model, or code is needed that no file may bring; all such layers are named.
      MissingPackageError: Keras is not installed.
    """
    name = os.fspath(path)
    archive = reading.head(Path(name), 8).startswith(zip_members.MAGIC)
    config, places = keras3.read_model(Path(name)) if archive else (keras_h5.read_model(Path(name)), {})
    if config is None:
        raise WeightsError(
            f"{name} holds weights and no model; give the name of its network, and this file as `weights`: "
            f'tx.network("MobileNet", weights={os.path.basename(name)!r}), or save the model whole (model.save)'
        )
    config = config if archive else _with_operators(config)
    with keras_trace.building() as keras:
        _check(keras, config, name, legacy=not archive)
        model = _built(keras, config, name, legacy=not archive)
        own = open_weights(name) if model.variables else Weights(name, "Keras model", {})
        variables = _of_archive(model, own, places) if archive else _of_h5(model, own)
        _check_variables(model, variables, own, name)
        file = keras_trace.trace(model, in_order(model, variables), path=name, kind="Keras model")
    return GraphFile(**{**vars(file), "weights": own if weights is None else weights})


def _check(keras: Any, config: Any, path: str, *, legacy: bool) -> None:
    """Refuse code in a model's config, and classes that nobody knows."""
    objects = list(_objects(config))
    code = [layer for layer, value in objects if value["class_name"] in _CODE]
    if code:
        raise GraphError(
            f"{path}: {names.listed(dict.fromkeys(code))} hold Python code (Lambda), which does not run from a file; "
            "put a layer of Keras in the place of each, or choose an export of the network without code (model.export)"
        )
    known = _known_to_legacy if legacy else _known
    unknown = [f"{layer} ({value['class_name']})" for layer, value in objects if not known(keras, value)]
    if unknown:
        raise GraphError(
            f"{path}: Keras {keras.__version__} does not know the classes of {names.listed(dict.fromkeys(unknown))}; "
            "import the code that registers them (keras.saving.register_keras_serializable), or export the network "
            "where that code is (model.export) and give the SavedModel"
        )


def _objects(value: Any, layer: str = "the model") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield whatever a config describes by a class, each with the layer that it is in."""
    if isinstance(value, list):
        for item in value:
            yield from _objects(item, layer)
    if isinstance(value, dict):
        config = value.get("config")
        if isinstance(value.get("class_name"), str):
            layer = str(config["name"]) if isinstance(config, dict) and "name" in config else layer
            yield layer, value
        for key, item in value.items():
            if key != "compile_config":
                yield from _objects(item, layer)


def _known(keras: Any, value: Mapping[str, Any]) -> bool:
    module, registered = value.get("module"), value.get("registered_name")
    if any(name and keras.saving.get_registered_object(name) for name in (registered, value["class_name"])):
        return True
    return "module" not in value or (module or "").split(".")[0] in ("keras", "builtins")


def _known_to_legacy(keras: Any, value: Mapping[str, Any]) -> bool:
    name = value["class_name"]
    if name in _MODELS or name in tf_private.keras_own() or keras.saving.get_registered_object(name):
        return True
    parts = (keras.layers, keras.initializers, keras.regularizers, keras.constraints, keras.dtype_policies, keras)
    return name.startswith("__") or any(hasattr(part, name) for part in parts)


def _built(keras: Any, config: Any, path: str, *, legacy: bool) -> Any:
    config = _uncompiled(config)
    try:
        if legacy:
            return tf_private.legacy_keras_model(config)
        return keras.saving.deserialize_keras_object(config, safe_mode=True)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, ImportError, NotImplementedError) as error:
        raise GraphError(
            f"{path}: Keras {keras.__version__} cannot build the model: {first_line(error)}; save it as `.keras` "
            "by this version of Keras, or export it where it was made (model.export) and give the SavedModel"
        ) from None


def _with_operators(value: Any) -> Any:
    """Give operators between tensors, as in `x + 3`, names of their own: in HDF5 they have those of layers."""
    if isinstance(value, list):
        return [_with_operators(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _with_operators(item) for key, item in value.items()}
    name = f"{tf_private.KERAS_OPERATOR}{value.get('class_name')}"
    if "inbound_nodes" in value and "trainable" not in value["config"] and name in tf_private.keras_own():
        changed["class_name"] = name
    return changed


def _uncompiled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: None if key == "compile_config" else _uncompiled(item) for key, item in value.items()}
    return [_uncompiled(item) for item in value] if isinstance(value, list) else value


def _of_archive(model: Any, weights: Weights, places: Mapping[str, str]) -> dict[str, Any]:
    """Return variables by the names of the file: of each, where Keras saves it and where the file has it are one."""
    saved = tf_private.keras_places(model)
    # The first versions of Keras 3 had another name for the layers of a model.
    today = {name: place.replace("_layer_checkpoint_dependencies", "layers") for name, place in places.items()}
    return {name: saved[today[name]] for name in weights if today.get(name) in saved}


def _of_h5(model: Any, weights: Weights) -> dict[str, Any]:
    """Return variables by the names of the file: those of a layer stand there in the order in which Keras counts them,
    what is trained first."""
    groups: dict[str, list[str]] = {}
    for name in weights:
        groups.setdefault(name.removeprefix("model_weights/").partition("/")[0], []).append(name)
    owned = [(layer.name, [*layer.trainable_weights, *layer.non_trainable_weights]) for layer in model.layers]
    return {
        name: variable
        for layer, variables in owned
        if len(variables) == len(groups.get(layer, ()))
        for name, variable in zip(groups.get(layer, ()), variables, strict=True)
    }


def _check_variables(model: Any, variables: Mapping[str, Any], weights: Weights, path: str) -> None:
    """Refuse a file in which variables of the model are missing, or are others.

    Called while nothing but the model was built.
    """
    hidden = tf_private.keras_unnamed(model.variables)
    if hidden:
        raise GraphError(
            f"{path}: layers keep variables that the model does not list: "
            f"{names.listed(variable.path for variable in hidden)}; export it (model.export) and give the SavedModel"
        )
    paired = {id(variable) for variable in variables.values()}
    faults = [f"{variable.path} {tuple(variable.shape)}: the file does not have it"
              for variable in model.variables if id(variable) not in paired and is_value(variable)]  # fmt: skip
    faults += [
        f"{name} {weights.shape(name)}: the model has {variable.path} {tuple(variable.shape)}"
        for name, variable in variables.items()
        if weights.shape(name) != tuple(variable.shape) or not _is_named(name, variable, variables)
    ]
    if faults:
        raise WeightsError(f"{path}: the model and the weights in the file do not fit together:\n  {shown(faults)}")


def is_value(variable: Any) -> bool:
    """Say whether a variable takes part in what a network computes; counters and seeds do not."""
    return str(variable.dtype).startswith(("float", "bfloat"))


def _is_named(name: str, variable: Any, variables: Mapping[str, Any]) -> bool:
    """Say whether the name in a file does not speak against a variable: it is not that of another beside it."""
    last = name.rpartition("/")[2]
    beside = {other.name for other in variables.values() if _layer(other) == _layer(variable)}
    return last not in beside or last == variable.name or OLD_NAMES.get(last) == variable.name


def _layer(variable: Any) -> str:
    return variable.path.rpartition("/")[0]


def in_order(model: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables by name in the order of the model."""
    place = {id(variable): number for number, variable in enumerate(model.variables)}
    return dict(sorted(variables.items(), key=lambda pair: place[id(pair[1])]))


def first_line(error: Exception) -> str:
    """Return the first line of what Keras says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
