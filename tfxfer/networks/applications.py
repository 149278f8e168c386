"""The networks of `keras.applications` by name, built by Keras's own code, with weights from any file of them.

What can be asked of Keras is asked: which networks there are, which options each takes, its usual size of pictures and
how pictures are prepared. Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfxfer import names, tf_private
from tfxfer.errors import GraphError, SelectionError, WeightsError
from tfxfer.formats.tensors import shown
from tfxfer.input_spec import InputSpec
from tfxfer.models import imagenet
from tfxfer.networks import keras_trace
from tfxfer.networks.graph_file import GraphFile
from tfxfer.networks.keras_file import OLD_NAMES, first_line, in_order, is_value
from tfxfer.weights import Weights
from tfxfer.weights.roles import is_of_training, slots_by_place

SIDE = 224  # where Keras leaves the size of pictures open
CLASSES = 1000
_WIDTHS = (1.0, 0.75, 0.5, 0.25, 0.35, 1.3, 1.4)  # for which weights of MobileNets circulate (`alpha`)
# What Keras calls layers that have no name of their own; the numbers behind depend on what was built before.
_NUMBERED = re.compile(
    "(conv2d|depthwise_conv2d|separable_conv2d|batch_normalization|layer_normalization|normalization|dense)"
    "(?:_([0-9]+))?"
)
_UNNAMED = re.compile("[Vv]ariable(?:_[0-9]+)?")  # what Keras 2 and 3 call a variable that a layer does not name
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def known() -> list[str]:
    """Return the names of the networks of `keras.applications`, as Keras spells them.

    Raises:
      GraphError: Keras uses another backend than TensorFlow.
      MissingPackageError: it is not installed.
    """
    applications = keras_trace.load_keras().applications
    return [name for name, value in vars(applications).items() if inspect.isfunction(value) and name[0].isupper()]


def read(
    name: str,
    *,
    weights: Weights | None = None,
    classes: int | None = None,
    include_top: bool | None = None,
    alpha: float | None = None,
    input_size: int | tuple[int, int] | None = None,
) -> GraphFile:
    """Describe a network of `keras.applications`.

    Its variables are called `LAYER/VARIABLE`, as `conv1/kernel`, and its endpoints are Keras's layers. Files of weights
    may be those of `keras.applications` (`.h5`), `.weights.h5`, `.keras`, or a checkpoint under Keras's names.

    Args:
      name: as Keras spells it, `MobileNetV2`.
      weights: the values of its variables.
      classes: of its own classifier. Default: those of the weights, or 1000.
      include_top: whether it has that classifier. Default: if the weights have it, or there are none.
      alpha: the width of a MobileNet. Default: that of the weights, or 1.
      input_size: height and width of pictures, or one number for both, in pixels. Default: as Keras has it, mostly 224.

    Raises:
      SelectionError: Keras has no such network, or the network has no such option.
      GraphError: Keras cannot build it so: a size that is too small, say.
      WeightsError: the weights are of another network, or not whole.
    """
    if name not in known():
        raise SelectionError(f"{name!r} is not a network of keras.applications{names.did_you_mean(name, known())}")
    size = (input_size, input_size) if isinstance(input_size, int) else input_size
    asked = {"classes": classes, "include_top": include_top, "alpha": alpha, "size": size}
    _check_options(name, asked)
    with keras_trace.building():
        fit = _fitting(name, weights, asked)
        if fit.faults and weights is not None:
            raise WeightsError(_refusal(name, weights, fit))
        model, pairs = _as_trained(name, fit.model, weights, fit.pairs)
        variables = in_order(model, _by_name(model))
        file = keras_trace.trace(model, variables, path=name, kind="network of Keras", size=fit.size)
    values = None if weights is None else weights.only(pairs).renamed(lambda old: _short(pairs[old]))
    classes_known = imagenet.class_names() if fit.model.output_shape == (None, CLASSES) else ()
    stated = dataclasses.replace(input_spec(name, fit.size), class_names=classes_known)
    return dataclasses.replace(file, weights=values, stated=stated)


def input_spec(name: str, size: tuple[int, int]) -> InputSpec:
    """Return how a network of `keras.applications` wants its pictures, as its `preprocess_input` does it."""
    function = getattr(keras_trace.load_keras().applications, name)
    prepare = sys.modules[function.__module__].preprocess_input

    def of(pixel: Sequence[float]) -> np.ndarray:
        return np.asarray(prepare(np.array(pixel, np.float64).reshape(1, 1, 1, 3), data_format="channels_last")).ravel()

    zero = of((0, 0, 0))
    bgr = of((255, 0, 0))[0] == zero[0]
    scale = (of((255, 255, 255)) - zero) / 255
    return InputSpec(
        model=name,
        source="keras.applications",
        size=size,
        channels="BGR" if bgr else "RGB",
        mean=tuple(float(f"{value:.10g}") + 0.0 for value in -zero / scale),
        scale=tuple(float(f"{value:.10g}") for value in scale),
    )


class _Fit(NamedTuple):
    """A model, and how weights fit to it.

    Attributes:
      model: as Keras built it.
      size: height and width of its pictures.
      pairs: variables by the names in the file.
      faults: what does not fit, in words.
      named: whether all names fit, whatever the shapes.
    """

    model: Any
    size: tuple[int, int]
    pairs: Mapping[str, Any]
    faults: Sequence[str]
    named: bool = True


def _check_options(name: str, asked: Mapping[str, Any]) -> None:
    taken = inspect.signature(getattr(keras_trace.load_keras().applications, name)).parameters
    if asked["alpha"] is not None and "alpha" not in taken:
        raise SelectionError(f"{name} has no width that can be chosen; leave `alpha` out")
    if asked["include_top"] is False and asked["classes"] is not None:
        raise SelectionError("without `include_top` the network has no classes; leave `classes` out")


def _fitting(name: str, weights: Weights | None, asked: Mapping[str, Any]) -> _Fit:
    """Return the first variant of a network that weights fit to, or the nearest."""
    if weights is None:
        return _fit(name, None, {**asked, "include_top": asked["include_top"] is not False})
    fits = []
    for top in _tops(asked):
        for alpha in _widths(name, asked):
            options = {**asked, "include_top": top, "alpha": alpha}
            fit = _fit(name, weights, options, without_top=asked["include_top"] is False)
            if not fit.faults:
                return fit
            fits.append(fit)
            if not fit.named:  # another width has the same names
                break
    return min(fits, key=lambda fit: len(fit.faults))


def _tops(asked: Mapping[str, Any]) -> list[bool]:
    if asked["include_top"] is not None:
        return [asked["include_top"]]
    return [True] if asked["classes"] is not None else [True, False]


def _widths(name: str, asked: Mapping[str, Any]) -> Sequence[float | None]:
    taken = inspect.signature(getattr(keras_trace.load_keras().applications, name)).parameters
    return _WIDTHS if "alpha" in taken and asked["alpha"] is None else [asked["alpha"]]


def _fit(name: str, weights: Weights | None, options: Mapping[str, Any], *, without_top: bool = False) -> _Fit:
    model, size = _build(name, **options)
    if weights is None:
        return _Fit(model, size, {}, ())
    pairs = _paired(model, weights)
    last = next((entry for entry, variable in pairs.items() if variable is model.variables[-1]), None)
    if (
        options["include_top"]
        and options["classes"] is None
        and last
        and weights.shape(last)[-1:] not in ((), (CLASSES,))
    ):
        return _fit(name, weights, {**options, "classes": weights.shape(last)[-1]})
    left = [entry for entry in _of_network(weights) if entry not in pairs and weights.dtype(entry).kind not in "iu"]
    if left and without_top:
        left = _without_top(name, model, left, options)
    missing = [f"{_short(variable)} {tuple(variable.shape)} is not in the file" for variable in _lacking(model, pairs)]
    extra = [f"{entry} {weights.shape(entry)} is not in the network" for entry in left]
    others = [
        f"{entry} has the shape {weights.shape(entry)}, and {_short(variable)} {tuple(variable.shape)}"
        for entry, variable in pairs.items()
        if weights.shape(entry) != tuple(variable.shape)
    ]
    return _Fit(model, size, pairs, [*missing, *others, *extra], named=not missing and not extra)


def _build(
    name: str, *, include_top: bool, classes: int | None, alpha: float | None, size: tuple[int, int] | None
) -> tuple[Any, tuple[int, int]]:
    """Build a model, and tell the size of its pictures.

    Raises:
      GraphError: Keras refuses.
    """
    options: dict[str, Any] = {"include_top": include_top, "classes": classes or CLASSES}
    options |= {} if alpha is None else {"alpha": alpha}
    size = _usual_size(name) if size is None else size
    try:
        with keras_trace.building() as keras:
            return getattr(keras.applications, name)(weights=None, input_shape=(*size, 3), **options), size
    except (ValueError, TypeError) as error:
        raise GraphError(
            f"Keras cannot build {name} for pictures of {size[0]}x{size[1]}: {first_line(error)}; give another "
            "`image_size`, or leave it out for the usual one"
        ) from None


@functools.cache
def _usual_size(name: str) -> tuple[int, int]:
    with keras_trace.building() as keras:
        height, width = getattr(keras.applications, name)(weights=None).inputs[0].shape[1:3]
    return height or SIDE, width or SIDE


def _short(variable: Any) -> str:
    """Return `LAYER/VARIABLE` of a variable."""
    return "/".join(variable.path.split("/")[-2:])


def _by_name(model: Any) -> dict[str, Any]:
    return {_short(variable): variable for variable in model.variables}


def _of_network(weights: Weights) -> list[str]:
    """List what is not of training alone."""
    slots = slots_by_place(weights, weights.shape)
    return [entry for entry in weights if not is_of_training(entry, weights, slots)]


def _paired(model: Any, weights: Weights) -> dict[str, Any]:
    """Pair names in a file with variables of a model: by layer and variable, or as Keras counts the layers."""
    entries = _of_network(weights)
    best: dict[str, Any] = {}
    for way in (_by_layer, _by_place, _by_count):
        pairs = way(model, entries)
        if not _lacking(model, pairs):
            return pairs
        best = max(best, pairs, key=len)
    return best


def _lacking(model: Any, pairs: Mapping[str, Any]) -> list[Any]:
    paired = {id(variable) for variable in pairs.values()}
    return [variable for variable in model.variables if id(variable) not in paired and is_value(variable)]


def _by_layer(model: Any, entries: Sequence[str]) -> dict[str, Any]:
    variables = dict(zip(_keys([_short(variable) for variable in model.variables]), model.variables, strict=True))
    if any(entry.rpartition("/")[2].isdigit() for entry in entries):
        numbers = _numbers(model)
        variables |= dict(zip(_keys(numbers), numbers.values(), strict=True))
    keys = _keys(entries)
    count = Counter(keys)
    return {
        entry: variables[key] for entry, key in zip(entries, keys, strict=True) if key in variables and count[key] == 1
    }


def _numbers(model: Any) -> dict[str, Any]:
    """Return variables by layer and number, which stands where Keras 3 does not tell the name of a variable."""
    places = tf_private.keras_places(model).items()
    return {f"{_short(variable).partition('/')[0]}/{place.rpartition('/')[2]}": variable for place, variable in places}


def _by_place(model: Any, entries: Sequence[str]) -> dict[str, Any]:
    """Pair keys of a file of Keras 3 that knows no names of layers."""
    if not any("/vars/" in entry for entry in entries):
        return {}
    places = tf_private.keras_places(model)
    today = {entry: entry.replace("_layer_checkpoint_dependencies", "layers") for entry in entries}
    return {entry: places[today[entry]] for entry in entries if today[entry] in places}


def _by_count(model: Any, entries: Sequence[str]) -> dict[str, Any]:
    """Pair the layers of a file with those of a model as they follow each other, where all have the same variables.

    So Keras reads its files of HDF5, which are older than some of today's names of layers.
    """
    ordered = (v for layer in model.layers for v in (*layer.trainable_weights, *layer.non_trainable_weights))
    ours = _grouped(_short(variable) for variable in ordered if is_value(variable))
    theirs = _grouped(entries)
    if [set(group) for group in ours.values()] != [set(group) for group in theirs.values()]:
        return {}
    variables = _by_name(model)
    return {
        their[last]: variables[our[last]]
        for our, their in zip(ours.values(), theirs.values(), strict=True)
        for last in our
    }


def _grouped(entries: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the names in each layer by the names of the variables there."""
    groups: dict[str, dict[str, str]] = {}
    for entry in entries:
        layer, _, last = entry.rpartition("/")
        groups.setdefault(layer, {})[_last(last)] = entry
    for group in groups.values():
        if "pointwise_kernel" in group and "kernel" in group:
            group["depthwise_kernel"] = group.pop("kernel")
    return groups


def _keys(entries: Iterable[str]) -> list[str]:
    """Return what names mean: the layer and the variable, the n-th of those layers that Keras only numbers."""
    parts = [("", *entry.split("/"))[-2:] for entry in entries]
    numbers: dict[str, set[int]] = {}
    for layer, _ in parts:
        if numbered := _NUMBERED.fullmatch(layer):
            numbers.setdefault(numbered[1], set()).add(int(numbered[2] or 0))
    ranks = {kind: {number: rank for rank, number in enumerate(sorted(there))} for kind, there in numbers.items()}
    separable = {layer for layer, last in parts if last == "pointwise_kernel"}
    keys = []
    for layer, last in parts:
        numbered = _NUMBERED.fullmatch(layer)
        place = f"{numbered[1]} {ranks[numbered[1]][int(numbered[2] or 0)]}" if numbered else layer
        keys.append(f"{place}/{last if layer in separable else _last(last)}")
    return keys


def _last(name: str) -> str:
    """Return today's name of a variable within its layer."""
    return "variable" if _UNNAMED.fullmatch(name) else OLD_NAMES.get(name, name)


def _without_top(name: str, model: Any, entries: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """Leave out what belongs to the classifier, which was not asked for."""
    whole, _ = _build(name, **{**options, "include_top": True})
    top = _by_name(whole).keys() - _by_name(model).keys()
    layers = {entry.rpartition("/")[0] for entry in top}
    return [entry for entry in entries if ("", *entry.split("/"))[-2] not in layers]


def _as_trained(
    name: str, model: Any, weights: Weights | None, pairs: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any]]:
    """Return the model as Keras builds it for ImageNet's weights of EfficientNet B0 to B7: it divides the pictures once
    more by the root of ImageNet's deviation, which no variable tells."""
    mean = next((entry for entry, variable in pairs.items() if _short(variable) == "normalization/mean"), None)
    if weights is None or mean is None or not name.startswith("EfficientNetB"):
        return model, pairs
    if not np.allclose(weights[mean], _IMAGENET_MEAN, atol=1e-3):
        return model, pairs
    keras = keras_trace.load_keras()

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        output = layer(*args, **kwargs)
        if layer.name != "normalization":
            return output
        return keras.layers.Rescaling([deviation**-0.5 for deviation in _IMAGENET_DEVIATION], name="rescaling_1")(
            output
        )

    scaled = keras.models.clone_model(model, call_function=call)
    variables = _by_name(scaled)
    return scaled, {entry: variables[_short(variable)] for entry, variable in pairs.items()}


def _refusal(name: str, weights: Weights, fit: _Fit) -> str:
    others = [other for other in known() if other != name and _family(other) == _family(name)]
    asked = dict.fromkeys(("classes", "include_top", "alpha", "size"))
    fits = next((other for other in others if not _fitting(other, weights, asked).faults), None)
    cure = f"it is of {fits}: name that network, or give weights of {name}" if fits else f"give weights of {name}"
    return f"{weights.path} is not of {name}; {cure}:\n  {shown(list(fit.faults))}"


def _family(name: str) -> str:
    return re.match("[A-Za-z]*?(?=V?[0-9]|[BV][0-9]|$|Tiny|Small|Base|Large|XLarge|Mobile$)", name)[0]  # type: ignore[index]
