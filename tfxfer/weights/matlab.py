"""MATLAB's files of versions 5 to 7.3, above all networks of MatConvNet with what they say of pictures and classes.

Source: for the files see `mat5` and `mat73`; for what stands in them MatConvNet's manual, "Pretrained models", and
examples/imagenet/cnn_imagenet_deploy.m, matlab/+dagnn/@DagNN/saveobj.m and matlab/simplenn/vl_simplenn_tidy.m.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import mat5, mat73, reading
from tfxfer.formats.mat5 import Value
from tfxfer.formats.tensors import Tensor, unreadable
from tfxfer.input_spec import InputSpec

MAX_PICTURE = 16 << 20  # bytes of an average picture
MAX_NAME = 256  # letters of the name of a layer
_CHANNELS = {1: "grey", 3: "RGB"}
_FIVE, _SEVEN = b"MATLAB 5.0", b"MATLAB 7.3"
_PARAMETER = re.compile(r"(?:.*/)?params/\d+/value")


class Contents(NamedTuple):
    """What such a file holds.

    Attributes:
      kind: the kind of file, in words.
      tensors: by name, in the order of the file.
      sources: of each name the fields and indices that lead there.
      stated: what the file says of its input and of its classes, if it does.
    """

    kind: str
    tensors: Mapping[str, Tensor]
    sources: Mapping[str, str]
    stated: InputSpec | None


def begins(head: bytes) -> bool:
    """Say whether a file, by its first bytes, is of MATLAB 5 to 7.3."""
    return head.startswith((_FIVE, _SEVEN))


def read(path: Path) -> Contents:
    """List the arrays of numbers in a file, and what it says of its input.

    A name joins the fields of structs and the indices of cells, from 0 on, by `/`: `layers/0/stride`. Where a struct
    in a cell or array has a `name` that no other there has, as the layers of MatConvNet have, names begin with it:
    `conv1_1/weights/0`, in older files `conv1_1/filters`; one further down stands for its index. The `value` of what
    stands in `params` (DagNN) has the name alone: `conv1_filter`. Where that gives two arrays one name, they are
    called by fields and indices, which `sources` has of all.

    Every array of numbers is listed, in the order of the file and with the dimensions of MATLAB: kernels of MatConvNet
    are (h, w, in, out), which is TensorFlow's order, and biases (1, n) or (n, 1) (see the layout `vector`). As in
    MATLAB a 1 at the end, beyond the second dimension, is dropped: a kernel for one output is (h, w, in). Numbers that
    are not weights, such as `conv1_1/stride`, are among them. Logical arrays are booleans. Left out are texts and what
    has no elements. Sparse matrices, objects and functions are listed with the reason and refuse to be read.

    `stated` is made of `meta.normalization` and `meta.classes`, or `normalization` and `classes`: see `stated`. Where
    it cannot be, the entry `meta/normalization` is listed with the reason.

    In a compressed file of version 5, an array costs unpacking its variable up to it; what is read in the order of the
    file is unpacked once.

    Raises:
      WeightsError: the file is cut short or corrupt.
    """
    data, where = reading.map_file(path), str(path)
    seven = reading.head(path, len(_SEVEN)) == _SEVEN
    variables = (mat73 if seven else mat5).variables(data, where)
    tensors, sources = _named(list(_leaves(variables, where)), where)
    spec = None
    try:
        spec = stated(variables)
    except WeightsError as error:
        tensors.setdefault("meta/normalization", unreadable(f"{where}: meta/normalization is not used: {error}"))
    return Contents(f"MATLAB {'7.3' if seven else '5.0'} file", tensors, sources, spec)


def stated(variables: Mapping[str, Value]) -> InputSpec | None:
    """Say what a network of MatConvNet expects of pictures, and what its classes are called.

    The mean is that of each channel of `averageImage` (in the file h x w x channels, or a number for each channel;
    `[]` where nothing is subtracted), channels are RGB, and nothing is scaled. The size is `imageSize`, or that of
    the picture. `keepAspect`, true by default, crops. `interpolation` is not looked at: we know bilinear alone. Class
    names are `classes.description`, or else `classes.name`.

    Args:
      variables: as `mat5.variables` and `mat73.variables` return them.

    Returns:
      An input spec; None where the file does not tell.

    Raises:
      WeightsError: what it tells cannot be.
    """
    for network in (variables, *variables.values()):
        meta = _fields(network).get("meta", network)
        normalization, classes = _fields(_fields(meta).get("normalization")), _fields(_fields(meta).get("classes"))
        if "averageImage" in normalization:
            return _input_spec(normalization, _texts(classes.get("description")) or _texts(classes.get("name")))
    return None


# --- names ---


class _Place(NamedTuple):
    """Where a value is: the fields and indices that lead there, and its name, if it is known to begin elsewhere."""

    path: str
    name: str = ""

    def inner(self, key: str, label: str = "") -> _Place:
        """Return the place of a field or an element; `label` is the name of a struct."""
        name = f"{self.name}/{label or key}" if self.name else label
        return _Place(f"{self.path}/{key}" if self.path else key, name)


def _leaves(variables: Mapping[str, Value], where: str) -> Iterator[tuple[_Place, Tensor]]:
    # Of 7.3, one value may stand in many places: what is looked at is bounded once more.
    limits = mat5.Limits(0)
    waiting: list[tuple[_Place, Value]] = [(_Place(""), dict(variables))]
    while waiting:
        place, value = waiting.pop()
        limits.value(place.path + place.name, where)
        if isinstance(value, Tensor):
            yield place, value
        waiting += reversed(list(_inner(place, value)))


def _inner(place: _Place, value: Value) -> Iterator[tuple[_Place, Value]]:
    if isinstance(value, dict):
        yield from ((place.inner(field), inside) for field, inside in value.items())
    elif isinstance(value, list):
        labels = [_label(element) for element in value]
        count = Counter(labels)
        for index, (label, element) in enumerate(zip(labels, value, strict=True)):
            yield place.inner(str(index), label if count[label] == 1 else ""), element


def _label(value: Value) -> str:
    name = _fields(value).get("name")
    # Digits alone would be taken for an index.
    fits = isinstance(name, str) and len(name) <= MAX_NAME and name.isprintable() and not name.isdigit()
    return name.strip("/ ") if isinstance(name, str) and fits else ""


def _named(leaves: list[tuple[_Place, Tensor]], where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    paths = {place.path for place, _ in leaves}
    names = [_name(place) for place, _ in leaves]
    count = Counter(names)
    tensors, sources = {}, {}
    for (place, tensor), name in zip(leaves, names, strict=True):
        unique = name if count[name] == 1 and name not in paths else place.path
        if unique in tensors:
            raise WeightsError(f"{where}: two arrays would both be called {unique}")
        tensors[unique], sources[unique] = tensor, place.path
    return tensors, sources


def _name(place: _Place) -> str:
    if place.name and _PARAMETER.fullmatch(place.path):
        return place.name.removesuffix("/value")
    return place.name or place.path


# --- what is said of the input ---


def _fields(value: object) -> Mapping[str, Value]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) and all(isinstance(text, str) for text in value) else ()


def _input_spec(normalization: Mapping[str, Value], class_names: tuple[str, ...]) -> InputSpec:
    picture = _numbers(normalization["averageImage"], MAX_PICTURE, "averageImage")
    shape = _numbers(normalization.get("imageSize"), 1 << 10, "imageSize").reshape(-1)
    size = [*map(float, shape if len(shape) > 1 else picture.shape)][:2]
    channels = int(shape[2]) if len(shape) > 2 and shape[2] in _CHANNELS else 3
    mean = _mean(picture) if picture.size else (0.0,) * channels
    if len(mean) not in _CHANNELS:
        raise WeightsError(f"averageImage {picture.shape} has neither one channel nor three")
    keeps = _numbers(normalization.get("keepAspect"), 8, "keepAspect")
    return InputSpec(
        "a network of MatConvNet",
        "what the file itself says",
        tuple(int(side) if side.is_integer() else side for side in size),  # type: ignore[arg-type]
        _CHANNELS[len(mean)],
        mean,
        (1.0,) * len(mean),
        resize="crop" if keeps.all() else "plain",
        class_names=class_names,
    )


def _mean(picture: np.ndarray) -> tuple[float, ...]:
    if picture.size == 3:
        return tuple(map(float, picture.reshape(-1)))
    by_channel = picture.reshape(math.prod(picture.shape[:2]), -1)
    return tuple(map(float, by_channel.mean(axis=0, dtype=np.float64)))


def _numbers(value: Value, limit: int, name: str) -> np.ndarray:
    """Read an array; an empty one where the file has none."""
    if value is None:
        return np.empty(0)
    if not isinstance(value, Tensor) or value.dtype.kind not in "biuf" or value.nbytes > limit:
        raise WeightsError(f"{name} is not an array of numbers, or takes more than {limit:,} bytes")
    return value.read()
