"""What a model says of pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names, progress
from tfxfer.callables import compiled
from tfxfer.data import pillow
from tfxfer.data.batches import chunks
from tfxfer.data.folders import walk
from tfxfer.data.pictures import Files, Pictures, ahead, shortened
from tfxfer.data.scan import scan
from tfxfer.data.splits import Images
from tfxfer.errors import DataError, GraphError
from tfxfer.evaluation.normalization import check_set
from tfxfer.graph.eval_step import EvalStep
from tfxfer.graph.traversal import placeholders
from tfxfer.serving.saved_model import loaded

BATCH_SIZE = 32
OnePath = str | os.PathLike[str]
Paths = OnePath | Sequence[OnePath]
Examples = Images | Paths


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """The most probable classes of some examples.

    Attributes:
      classes: int64 [n, k], numbers of classes, the most probable first; of equals, the lower number.
      probabilities: float32 [n, k].
      class_names: one for each class of the model.
      examples: the n examples: an array, or the pictures that could be read.
      set_aside: why other files cannot be read, by their paths.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    examples: Images
    set_aside: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the examples are, if they are pictures in files; else empty."""
        return getattr(self.examples, "paths", ())

    @property
    def names(self) -> list[list[str]]:
        """The names of `classes`."""
        return [[self.class_names[number] for number in row] for row in self.classes]

    def to_json(self) -> list[dict[str, Any]]:
        """Return for each example its `path`, if it has one, and `top`: dicts of `class`, `name`, `probability`."""
        rows = zip(self.classes.tolist(), self.names, self.probabilities.tolist(), strict=True)
        tops = [
            [
                {"class": number, "name": name, "probability": probability}
                for number, name, probability in zip(*row, strict=True)
            ]
            for row in rows
        ]
        paths = [{"path": path} for path in self.paths] or [{} for _ in tops]
        return [{**path, "top": top} for path, top in zip(paths, tops, strict=True)]


def predict(
    sess: tf.Session,
    outputs: EvalStep | tf.Tensor,
    examples: Examples,
    *,
    images: tf.Tensor | None = None,
    top_k: int = 5,
    class_names: Sequence[str] = (),
    resize: str = "crop",
    decode: str = "exact",
    batch_size: int = BATCH_SIZE,
) -> Predictions:
    """Return the most probable classes of each example.

    Args:
      sess: a session in which everything is restored.
      outputs: what `eval_step` or `train_step` returned; or probabilities, float32 [n, classes].
      examples: uint8 [n, height, width, channels]; or paths of pictures, and of folders of them, which are brought to
        the size of the placeholder.
      images: the placeholder of the images; it may take whole files, string [n]. Default: that of the step, or the one
        placeholder that the probabilities come from.
      top_k: how many classes an example; no more than there are.
      class_names: one for each class. Default: their numbers.
      resize, decode: how pictures in files are brought to pixels, as `InputSpec` has them.
      batch_size: how many examples go through the network at once.

    Raises:
      DataError: `examples` is empty, none can be read, they do not fit the placeholder, or a number is not positive.
      GraphError: it is not clear which placeholder takes the images, or the step has no probabilities.
      RunError: the statistics of a `heads.normalize` are not set.

    Example:
      >>> images = tf.placeholder(tf.uint8, [None, 28, 28, 1])
      >>> ends = tx.models.autoencoder.encoder(images)
      >>> step = tx.eval_step(images, None, tx.models.heads.classifier(ends["flatten"], classes=10))
      >>> with tx.session() as sess:
      ...     predictions = tx.predict(sess, step, tx.data.digits().test.images, top_k=3)
      >>> predictions.classes.shape
      (360, 3)
    """
    if min(top_k, batch_size) < 1:
        raise DataError(f"`top_k={top_k}` and `batch_size={batch_size}` must be 1 or more")
    check_set(sess)
    probabilities, images, feeds = _tensors(outputs, images)
    classes = int(probabilities.shape[1])
    if class_names and len(class_names) != classes:
        raise DataError(f"there are {len(class_names)} class names, and the model has {classes} classes")
    set_aside: dict[str, str] = {}
    shown: Images
    rows: Images
    if _are_paths(examples):
        pictures, set_aside = _read(examples, images, resize, decode)
        shown, rows = pictures, Files(pictures.paths) if images.dtype == tf.string else pictures
    else:
        shown = rows = cast(Images, examples)
    _check_fits(rows, images)
    values = _run(sess, probabilities, images, feeds, rows, batch_size)
    order = np.argsort(-values, axis=1, kind="stable")[:, :top_k]
    return Predictions(
        classes=order,
        probabilities=np.take_along_axis(values, order, axis=1),
        class_names=tuple(class_names) or tuple(map(str, range(classes))),
        examples=shown,
        set_aside=set_aside,
    )


def predict_exported(
    path: str | os.PathLike[str], examples: Paths, *, top_k: int = 5, batch_size: int = BATCH_SIZE, **threads: int
) -> Predictions:
    """Return the most probable classes of pictures by a model that was exported, which decodes the files itself.

    Args:
      path: of a SavedModel or a frozen graph, as `export_model` writes them. Its graph is run: like any program, it
        must come from somebody who is trusted.
      examples: paths of pictures, and of folders of them.
      top_k, batch_size: as `predict` takes them.
      **threads: as `tfxfer.serving.saved_model.loaded` takes them.

    Raises:
      DataError: it does not take files of RGB pictures, or none of these can be read.
      WeightsError: it cannot be loaded.
    """
    with loaded(path, **threads) as (sess, export):
        height, width, channels = export.images.shape.as_list()[1:]
        if export.image_bytes is None or channels != 3 or "probabilities" not in export.outputs:
            raise DataError(f"{path} does not take files of RGB pictures and give probabilities; give the run itself")
        image = np.zeros((1, height or 224, width or 224, 3), np.uint8)
        class_names = sess.run(export.outputs["class_names"], {export.images: image})[0]
        return predict(
            sess,
            export.outputs["probabilities"],
            examples,
            images=export.image_bytes,
            top_k=top_k,
            class_names=[name.decode("utf-8", "replace") for name in class_names],
            batch_size=batch_size,
        )


def find_pictures(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the files that are named, and the pictures in the folders that are, by their paths.

    Raises:
      DataError: a folder has no pictures, or cannot be listed.
    """
    files: list[str] = []
    for path in paths:
        inside = walk([Path(path)])[0][0] if os.path.isdir(path) else [os.fspath(path)]
        if not inside:
            raise DataError(f"{path} has no pictures")
        files += inside
    return files


def readable(
    paths: Sequence[str], size: tuple[int, int], resize: str = "crop", decode: str = "exact"
) -> tuple[Pictures, dict[str, str]]:
    """Return the pictures among some files, and why each of the others cannot be read, by its path.

    Args:
      paths: of the files.
      size, resize, decode: how pictures are brought to pixels for a model, as its input spec has it.

    Raises:
      DataError: none can be read; the message says why.
    """
    distinct = list(dict.fromkeys(paths))
    scanned = dict(zip(distinct, scan(distinct, way=decode), strict=True))
    bad = {path: result.reason for path, result in scanned.items() if result.reason}
    good = [path for path in distinct if path not in bad]
    if not good:
        _refuse_all(bad)
    return Pictures(good, size, resize, decode=decode, digests=[scanned[path].digest for path in good]), bad


def without_pillow(pictures: Pictures, bad: Mapping[str, str]) -> tuple[Pictures, dict[str, str]]:
    """Set aside what Pillow decodes and TensorFlow's ops, which an export consists of, do not.

    Raises:
      DataError: no picture is left.
    """
    kinds = [pillow_kind(path) for path in pictures.paths]
    more = {
        path: f"is a {kind}, which an export does not decode; save it as PNG, or ask the run itself"
        for path, kind in zip(pictures.paths, kinds, strict=True)
        if kind
    }
    kept = np.array([place for place, kind in enumerate(kinds) if not kind], np.int64)
    if not len(kept):
        _refuse_all(more)
    return pictures.subset(kept), {**bad, **more}


def pillow_kind(path: str) -> str:
    """Return the kind of a picture that Pillow decodes and TensorFlow's ops do not; else the empty string."""
    with open(path, "rb") as file:
        return pillow.kind_of(file.read(16))


def _refuse_all(bad: Mapping[str, str]) -> None:
    lines = shortened([f"{path} {reason}" for path, reason in bad.items()])
    raise DataError("\n  ".join(["none of the pictures can be read:", *lines] if bad else ["no pictures"]))


def _tensors(
    outputs: EvalStep | tf.Tensor, images: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, Mapping[tf.Tensor, Any]]:
    """Return the probabilities, the placeholder of the images, and what other placeholders are fed."""
    if isinstance(outputs, EvalStep):
        if outputs.probabilities is None:
            raise GraphError("the step has no probabilities, as its `loss` is a tensor; give them as a tensor")
        return outputs.probabilities, outputs.images if images is None else images, outputs.eval_feeds
    if outputs.shape.rank != 2 or outputs.shape[1] is None:
        raise GraphError(f"the outputs {outputs.name} {outputs.shape} are not probabilities [n, classes]")
    if images is None:
        candidates = [op for op in placeholders([outputs.op]) if op.type != "PlaceholderWithDefault"]
        if len(candidates) != 1:
            listed = names.listed([op.name for op in candidates]) if candidates else "none"
            raise GraphError(f"name the placeholder of the images (`images`): {outputs.name} comes from {listed}")
        images = candidates[0].outputs[0]
    return outputs, images, {}


def _are_paths(examples: Examples) -> TypeGuard[Paths]:
    if isinstance(examples, str | os.PathLike):
        return True
    return isinstance(examples, Sequence) and all(isinstance(path, str | os.PathLike) for path in examples)


def _read(paths: Paths, images: tf.Tensor, resize: str, decode: str) -> tuple[Pictures, dict[str, str]]:
    """Return pictures in the size that a placeholder takes, and why other files cannot be read."""
    files = find_pictures([paths] if isinstance(paths, str | os.PathLike) else paths)
    if images.dtype == tf.string:
        return without_pillow(*readable(files, (224, 224)))
    sides = _sides(images) if images.shape.rank in (None, 4) else []
    if len(sides) != 3 or sides[2] != 3:
        kind = "grey images" if sides[2:] == [1] else "images"
        size = "x".join("?" if side is None else str(side) for side in sides[:2] or _sides(images))
        raise DataError(f"the network takes {kind} of {size}, and not RGB pictures")
    height, width, _ = sides
    if height is None or width is None:
        raise DataError(f"{images.name} {images.shape} does not say of what size images are; give arrays of one size")
    return readable(files, (height, width), resize, decode)


def _sides(images: tf.Tensor) -> list[int | None]:
    """Return the shape of an example; height, width and 3 channels where the placeholder has no shape."""
    return images.shape.as_list()[1:] if images.shape.rank else [None, None, 3]


def _check_fits(examples: Images, images: tf.Tensor) -> None:
    shape = tuple(examples.shape[1:])
    if not images.shape.is_compatible_with([None, *shape]) or examples.dtype != images.dtype.as_numpy_dtype:
        wanted = f"{images.dtype.name} {tuple(_sides(images))}" if images.shape.rank else images.dtype.name
        raise DataError(f"the examples are {examples.dtype} {shape}, and the model takes {wanted}")
    if not len(examples):
        raise DataError("`examples` is empty")


def _run(
    sess: tf.Session,
    probabilities: tf.Tensor,
    images: tf.Tensor,
    feeds: Mapping[tf.Tensor, Any],
    examples: Images,
    batch_size: int,
) -> np.ndarray:
    run = compiled(sess, [probabilities], [images, *feeds])
    rows = []
    with (
        progress.bar(len(examples), 0, "predict") as bar,
        contextlib.closing(ahead(examples.__getitem__, chunks(len(examples), batch_size), depth=1)) as batches,
    ):
        for batch in batches:
            rows += run(batch, *feeds.values())
            bar.advance(count=len(batch))
    return np.concatenate(rows)
