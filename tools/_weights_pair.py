"""What two paths are, to be compared by what they make of pictures: runs, exports, files of weights of some network."""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfxfer import input_spec as input_specs
from tfxfer.errors import WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.runs.files import is_run
from tfxfer.tools import _model_flags, predict
from tfxfer.tools.evaluate import settings_of
from tfxfer.tools.predict import Model
from tfxfer.weights import Weights, open_weights


class Side(NamedTuple):
    """One of the two that are compared.

    Attributes:
      path: as it was given.
      model: how it is built and restored; None for an export, which is asked as it is.
      last: the endpoint up to which it is built; None for all of it, the head that a run put on it included.
      input spec: what it expects of pictures; None for an export of others.
    """

    path: str
    model: Model | None
    last: str | None
    input_spec: InputSpec | None


def sides(paths: Sequence[str], values: Any) -> list[Side]:
    """Find out what two paths are.

    Args:
      paths: of run directories, checkpoints in them, SavedModels, files of weights.
      values: the flags of `compare_outputs`.

    Raises:
      WeightsError: a file cannot be read, or does not show which network it is of, or the two are of different ones.
      RunError: a run has no checkpoint.
    """
    known = [_of_run(path, values) or _of_export(path) for path in paths]
    given = next((side for side in known if side and side.model), None) or next(filter(None, known), None)
    models = [_model_of(path, side) for path, side in zip(paths, known, strict=True)]
    found = []
    for path, side, model in zip(paths, known, models, strict=True):
        name = values.model or model or next(filter(None, models), "")
        found.append(side or _of_file(path, name, given, values))
    a, b = (side.input_spec.model if side.input_spec else None for side in found)
    if a and b and a != b:
        raise WeightsError(f"{paths[0]} is of {a}, and {paths[1]} of {b}: they have no endpoints in common")
    return found


def _of_run(path: str, values: Any) -> Side | None:
    """Return the side that a run directory is, or a checkpoint in one."""
    folders = [folder for folder in (Path(path), *Path(path).parents[:2]) if is_run(folder)]
    if not folders:
        return None
    if folders[0] == Path(path):
        model = predict.of_run(types.SimpleNamespace(run=path, checkpoint=values.checkpoint, class_names=None))
        return Side(path, model, values.endpoint, model.input_spec)
    weights = open_weights(path)
    if values.model or not weights.checkpoint or not input_specs.sidecar(weights.checkpoint).exists():
        return None
    input_spec = InputSpec.load(weights.checkpoint)
    model = Model(settings_of(folders[0]), weights, input_spec, input_spec.class_names)
    return Side(path, model, values.endpoint, input_spec)


def _of_export(path: str) -> Side | None:
    if not Path(path, "saved_model.pb").is_file():
        return None

    from tfxfer.serving.export import VARIABLES
    from tfxfer.serving.saved_model import takes_images

    if not takes_images(path):
        return None
    prefix = Path(path, VARIABLES)
    return Side(path, None, None, InputSpec.load(prefix) if input_specs.sidecar(prefix).exists() else None)


def _model_of(path: str, side: Side | None) -> str | None:
    """Return the network that a path is of, by the input spec beside it, or by names and shapes."""
    if side:
        return side.input_spec.model if side.input_spec else None
    weights = open_weights(path)
    prefix = weights.checkpoint or path
    if input_specs.sidecar(prefix).exists():
        return InputSpec.load(prefix).model

    from tfxfer.models import squeezenet, vgg
    from tfxfer.models.sources import candidates

    found = {one.source.input_spec.model for one in candidates(weights, [*vgg.SOURCES, *squeezenet.SOURCES])}
    return found.pop() if len(found) == 1 else None


def _of_file(path: str, name: str, given: Side | None, values: Any) -> Side:
    if name not in _model_flags.MODELS:
        raise WeightsError(f"{path} does not show which network it is of; name it by --model")
    weights, input_spec = _weights(path, name, given and given.input_spec, values)
    if given and given.model:
        return Side(
            path, Model(given.model.settings, weights, input_spec, given.model.class_names), given.last, input_spec
        )
    last = values.endpoint or ("prob" if _model_flags.MODELS[name].own else _model_flags.MODELS[name].endpoint)
    class_names = tuple(map(str, range(_model_flags.classes_of(weights))))
    return Side(path, Model(types.SimpleNamespace(model=name), weights, input_spec, class_names), last, input_spec)


def _weights(path: str, name: str, given: InputSpec | None, values: Any) -> tuple[Weights, InputSpec]:
    """Open a file under our names, and say what it expects of pictures."""
    weights = open_weights(path, rename=values.rename or None)
    prefix = weights.checkpoint or path
    wanted = types.SimpleNamespace(
        model=name, weights=path, source=values.source, rename=values.rename, image_size=values.image_size
    )
    input_spec: InputSpec | None
    if input_specs.sidecar(prefix).exists():
        input_spec = InputSpec.load(prefix)
    elif not values.source and _is_ours(weights, name):
        input_spec = _shown_by(wanted) or given or _model_flags.opened(_without_weights(wanted))[1]
    else:
        opened, input_spec = _model_flags.opened(wanted, show=False)
        weights = opened or weights
    input_spec = input_spec or given or _of_encoder(weights, values)
    # Only what sees pictures of one size can be compared: a file takes that of the other side, unless told.
    return weights, dataclasses.replace(input_spec, size=given.size) if given and not values.image_size else input_spec


def _shown_by(wanted: Any) -> InputSpec | None:
    """Return what a file under our names shows of its input; None where it shows nothing."""
    try:
        return _model_flags.opened(wanted, show=False)[1]
    except WeightsError:
        return None


def _without_weights(wanted: Any) -> Any:
    return types.SimpleNamespace(**{**vars(wanted), "weights": None, "rename": [], "source": None})


def _is_ours(weights: Weights, name: str) -> bool:
    """Whether a file has our names."""
    module = importlib.import_module(f"tfxfer.models.{_model_flags.MODELS[name].module}")
    return not hasattr(module, "variables") or not set(module.variables(name)).isdisjoint(weights)


def _of_encoder(weights: Weights, values: Any) -> InputSpec:
    channels = weights.shape("conv1/kernel")[2] if "conv1/kernel" in weights else 1
    side = values.image_size or 28
    order = "grey" if channels == 1 else "RGB"
    return InputSpec("autoencoder", "its weights", (side, side), order, (0.0,) * channels, (1 / 255,) * channels)
