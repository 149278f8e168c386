"""Two models that are compared by what they make of the same pictures: runs, exports, files of weights."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import input_spec as input_specs
from tfxfer.data.pictures import Files, Pictures
from tfxfer.errors import DataError, RestoreError, WeightsError
from tfxfer.input_spec import InputSpec, with_size
from tfxfer.models.network import build_classifier, build_endpoints, count_classes
from tfxfer.models.recognition import Rename, recognise
from tfxfer.models.registry import MODELS, Model, all_sources
from tfxfer.models.sources import candidates
from tfxfer.serving.compare_outputs import PIXELS
from tfxfer.serving.export import VARIABLES
from tfxfer.serving.predict import find_pictures, readable, without_pillow
from tfxfer.serving.run import find_run_of
from tfxfer.serving.saved_model import Served, loaded, takes_images
from tfxfer.serving.trained_network import TrainedNetwork
from tfxfer.weights import Weights, open_weights


@dataclasses.dataclass(frozen=True)
class FileOptions:
    """How files of weights are read.

    Attributes:
      model: the network that they are of. Default: as their input spec, or their names and shapes, say.
      source, rename: as `tfxfer.recognise` takes them.
      image_size: side of the square that pictures are brought to, in pixels. Default: what the weights expect.
      open: opens a file by its path, where they are of a network in a file.
    """

    model: str | None = None
    source: str | None = None
    rename: Rename | None = None
    image_size: int | None = None
    open: Callable[[str], TrainedNetwork] | None = None


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
      path: as it was given.
      network: how it is built and restored; None for an export, which is run as it is.
      input_spec: what it expects of pictures; None for an export of others.
    """

    path: str
    network: TrainedNetwork | None
    input_spec: InputSpec | None

    @property
    def model(self) -> str | None:
        """The name of the network; None where nothing says."""
        return self.input_spec.model if self.input_spec else None


@dataclasses.dataclass(frozen=True)
class OpenSide:
    """A side in a session.

    Attributes:
      side: the side.
      shape: height, width and channels of an image; None is a size that varies.
      takes_files: whether it decodes pictures itself.
      run: from pixels uint8 [n, ...], or the bytes of files [n], to the values of its endpoints.
    """

    side: Side
    shape: tuple[int | None, ...]
    takes_files: bool
    run: Callable[[np.ndarray], dict[str, np.ndarray]]


# --- what two paths are ---


def open_pair(
    paths: Sequence[str], *, checkpoint: str = "best", endpoint: str | None = None, options: FileOptions | None = None
) -> list[Side]:
    """Find out what two paths are.

    Args:
      paths: of run directories, checkpoints in them, SavedModels, files of weights.
      checkpoint: of run directories, as `Run.weights` takes it.
      endpoint: build no further than to this endpoint. Default: all, the head that a run put on it included.
      options: how files of weights are read.

    Raises:
      WeightsError: a file cannot be read, or does not show which network it is of, or the two are of different ones.
      RunError: a run has no checkpoint.
    """
    options = options or FileOptions()
    known = [_of_run(path, checkpoint, endpoint, options) or _of_export(path) for path in paths]
    models = [side.model if side else _model_of(path) for path, side in zip(paths, known, strict=True)]
    # A file is of the network of the other side where it does not say itself, and takes pictures of the same size.
    other = next((side for side in known if side and side.network), None) or next(filter(None, known), None)
    likely = next(filter(None, models), "")
    sides = [
        side or _of_file(path, options.model or model or likely, other, endpoint, options)
        for path, side, model in zip(paths, known, models, strict=True)
    ]
    a, b = (side.model for side in sides)
    if a and b and a != b:
        raise WeightsError(f"{paths[0]} is of {a}, and {paths[1]} of {b}: they have no endpoints in common")
    return sides


def _of_run(path: str, checkpoint: str, endpoint: str | None, options: FileOptions) -> Side | None:
    """Return the side that a run directory is, or a checkpoint in one."""
    run = find_run_of(path)
    if run is None:
        return None
    if run.path != Path(path):
        weights = open_weights(path)
        if options.model or not weights.checkpoint or not weights.input_spec_path.exists():
            return None
        checkpoint = path
    network = run.network(checkpoint, endpoint=endpoint)
    return Side(path, network, network.input_spec)


def _of_export(path: str) -> Side | None:
    if not takes_images(path):
        return None
    prefix = Path(path, VARIABLES)
    return Side(path, None, InputSpec.load(prefix) if input_specs.sidecar(prefix).exists() else None)


def _model_of(path: str) -> str | None:
    """Return the network that a file is of, by the input spec beside it, or by names and shapes."""
    weights = open_weights(path)
    input_spec = weights.input_spec()
    if input_spec:
        return input_spec.model
    models = {comparison.source.input_spec.model for comparison in candidates(weights, all_sources())}
    return models.pop() if len(models) == 1 else None


def _of_file(path: str, name: str, other: Side | None, endpoint: str | None, options: FileOptions) -> Side:
    if options.open is not None:
        network = options.open(path)
        return Side(path, network, network.input_spec)
    if name not in MODELS:
        raise WeightsError(f"{path} does not show which network it is of; name it by `model`")
    model = MODELS[name]
    weights, input_spec = _open_file(path, model, other.input_spec if other else None, options)
    if other and other.network:
        return Side(path, dataclasses.replace(other.network, weights=weights, input_spec=input_spec), input_spec)
    classes = count_classes(name, weights)
    if endpoint is None and model.classifier:
        build = functools.partial(build_classifier, name, classes=classes, endpoint="prob")
    else:
        build = functools.partial(build_endpoints, name, classes=classes, endpoint=endpoint)
    return Side(path, TrainedNetwork(build, weights, input_spec), input_spec)


def _open_file(path: str, model: Model, other: InputSpec | None, options: FileOptions) -> tuple[Weights, InputSpec]:
    """Open a file under our names, and say what it expects of pictures."""
    weights = open_weights(path, rename=options.rename)
    input_spec = weights.input_spec()
    if input_spec is None and model.input_spec is not None:
        has_our_names = not set(model.variables).isdisjoint(weights)
        try:
            file = recognise(path, model=model.name, source=options.source, rename=options.rename)
            input_spec = with_size(file.input_spec, options.image_size)
            weights = weights if has_our_names and not options.source else file.weights
        except WeightsError:
            if options.source or not has_our_names:
                raise
            input_spec = other or with_size(model.input_spec, options.image_size)
    input_spec = input_spec or other or _spec_of_any_size(weights, model, options.image_size or 28)
    if other is not None and not options.image_size:  # only what sees pictures of one size can be compared
        input_spec = dataclasses.replace(input_spec, size=other.size)
    return weights, input_spec


def _spec_of_any_size(weights: Weights, model: Model, side: int) -> InputSpec:
    """Return the input spec of a model that takes images of any size, grey or RGB as its first kernel says."""
    kernel = f"{model.first_layer}/kernel"
    channels = weights.shape(kernel)[2] if kernel in weights else 1
    order = "grey" if channels == 1 else "RGB"
    return InputSpec(model.name, "its weights", (side, side), order, (0.0,) * channels, (1 / 255,) * channels)


# --- running them ---


@contextlib.contextmanager
def running(side: Side, **session_options: Any) -> Iterator[OpenSide]:
    """Restore a side in a session of its own.

    Args:
      side: the side.
      **session_options: as `tfxfer.session` takes them.

    Raises:
      RestoreError: the weights do not fit the network.
      WeightsError: the export cannot be loaded.
      DataError: the network does not take pictures.
    """
    if side.network is None:
        threads = {name: number for name, number in session_options.items() if name.endswith("threads")}
        with loaded(side.path, **threads) as (sess, export):
            shape = tuple(export.images.shape.as_list()[1:])
            takes_files = export.image_bytes is not None
            yield OpenSide(side, shape, takes_files, functools.partial(_run_export, sess, export))
        return
    with contextlib.ExitStack() as stack:
        try:
            sess, images, endpoints = stack.enter_context(side.network.session(**session_options))
        except RestoreError as error:
            raise RestoreError(
                f"{error}\nor compare no further than to an endpoint that both files have: `endpoint=NAME`", error.plan
            ) from None
        shape = _image_shape(side, images)
        call = sess.make_callable(endpoints, [images])
        yield OpenSide(side, shape, False, lambda pixels: {PIXELS: pixels, **call(pixels)})


def _image_shape(side: Side, images: tf.Tensor) -> tuple[int | None, ...]:
    if images.dtype != tf.uint8 or images.shape.rank not in (None, 4):
        taken = f"{images.dtype.name} {images.shape}"
        raise DataError(f"{side.path} takes {taken}, and not pictures, uint8 [n, height, width, channels]")
    return tuple(images.shape.as_list()[1:]) if images.shape.rank else (None, None, None)


def _run_export(sess: tf.Session, export: Served, fed: np.ndarray) -> dict[str, np.ndarray]:
    fetches = dict(export.endpoints) or {"prob": export.outputs["probabilities"]}
    if fed.dtype == np.uint8:
        return {PIXELS: fed, **sess.run(fetches, {export.images: fed})}
    return sess.run({PIXELS: export.images, **fetches}, {export.image_bytes: fed})


def random_pictures(sides: Sequence[OpenSide], count: int, seed: int) -> list[np.ndarray]:
    """Return the same random pictures for each of two sides, uint8 [count, height, width, channels].

    Raises:
      DataError: the sides do not take images of one size, or do not say of what size.
    """
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *_shape(sides))).astype(np.uint8)
    return [pixels, pixels]


def pictures_in(sides: Sequence[OpenSide], paths: Sequence[str]) -> tuple[list[Files | Pictures], dict[str, str]]:
    """Return the pictures in files as each of two sides takes them, and why other files cannot be read, by path.

    Args:
      sides: the two.
      paths: of pictures, and of folders of them.

    Raises:
      DataError: the sides do not take RGB images of one size, or no picture can be read.
    """
    height, width, channels = _shape(sides)
    if channels != 3:
        size = f"{height}x{width}x{channels}"
        raise DataError(f"{sides[0].side.path} takes images of {size}, and not RGB; leave `images` out")
    resizes = [side.side.input_spec.resize if side.side.input_spec else "" for side in sides]
    decodes = [side.side.input_spec.decode if side.side.input_spec else "" for side in sides]
    pictures, bad = readable(find_pictures(paths), (height, width), decode=max(decodes) or "exact")
    if any(side.takes_files for side in sides):
        pictures, bad = without_pillow(pictures, bad)
    return [
        Files(pictures.paths)
        if side.takes_files
        else Pictures(
            pictures.paths, pictures.size, resize or max(resizes) or "crop", decode=decode or max(decodes) or "exact"
        )
        for side, resize, decode in zip(sides, resizes, decodes, strict=True)
    ], bad


def _shape(sides: Sequence[OpenSide]) -> tuple[int, ...]:
    pairs = list(zip(*(side.shape for side in sides), strict=True))
    if any(a is not None and b is not None and a != b for a, b in pairs):
        shapes = [f"{side.side.path} takes {'x'.join(map(str, side.shape))}" for side in sides]
        raise DataError(f"{' and '.join(shapes)}: they cannot be shown the same pictures")
    known = tuple(b if a is None else a for a, b in pairs)
    if None in known:
        raise DataError(f"{sides[0].side.path} and {sides[1].side.path} do not say of what size images are")
    return known
