"""A model as a SavedModel: pixels or the bytes of pictures in, probabilities and names of classes out.

    def build(images):
        return squeezenet.squeezenet1_0(images, input_spec=input_spec)

    export_model(build, weights, input_spec, "served")

Preprocessing, and for bytes decoding and resizing too, are inside the graph, as the input spec says. What was
written is loaded again, and must answer as the weights do, before it takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfxfer import files, names
from tfxfer.callables import message
from tfxfer.errors import DataError, GraphError
from tfxfer.formats.buffers import owned
from tfxfer.graph import decoding
from tfxfer.graph.partitioned import bytes_of, groups, is_part, name_of, taken, wholes
from tfxfer.graph.traversal import placeholders, variables_read
from tfxfer.graph.variables import every_variable, model_variables, select
from tfxfer.input_spec import CHANNELS, InputSpec
from tfxfer.restore.plan import plan
from tfxfer.restore.session import configuration, session
from tfxfer.serving import export_check
from tfxfer.serving.saved_model import ENDPOINTS, GRAPH, IMAGE_BYTES, IMAGES, Served
from tfxfer.weights import Weights

Build = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]

LABELS = "labels.txt"
VARIABLES = "variables/variables"  # where a SavedModel has them


@dataclasses.dataclass(frozen=True)
class Exported:
    """What `export_model` wrote.

    Attributes:
      path: of the SavedModel.
      nbytes: of all its files.
      images: height, width and channels of what it takes.
      classes: how many there are.
      compared: on how many pictures it was compared with the weights.
      apart: by how much a probability differed at most.
      moved: where what was there before is now, by where it was.
    """

    path: Path
    nbytes: int
    images: tuple[int, ...]
    classes: int
    compared: int
    apart: float
    moved: Mapping[Path, Path]


def export_model(
    build: Build,
    weights: Weights,
    input_spec: InputSpec,
    out: str | os.PathLike[str],
    *,
    class_names: Sequence[str] = (),
    top_k: int = 5,
    examples: np.ndarray | None = None,
    pictures: Sequence[str] = (),
    frozen_graph: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **session_options: Any,
) -> Exported:
    """Write a SavedModel that takes pixels or encoded pictures, and check it.

    It has the signatures `serving_default`, whose input is `images`, uint8 [n, height, width, channels], and
    `image_bytes`, whose input `image_bytes`, string [n], takes whole files: JPEG, PNG, GIF, BMP. Where the model takes
    grey images, colours become grey. Both give what `Served.outputs` says. The classes are in `assets/labels.txt` too.

    Args:
      build: makes the model, of the images uint8 [n, height, width, channels]; its last endpoint is the probabilities.
        It is called twice, in a graph of its own each time: the export is compared with a second network, into which
        the arrays are assigned one by one.
      weights: every variable that the endpoints read, moving statistics among them.
      input_spec: what these expect of their input.
      out: the directory to write.
      class_names: one for each class. Default: those of the input spec, or numbers.
      top_k: how many of the most probable classes are named, where there are as many.
      examples: uint8 [m, height, width, channels], pixels to check it on besides random ones.
      pictures: files to check it on; those that cannot be read are passed over.
      frozen_graph: a file to write as well: the same graph with the variables as constants, its tensors `images:0`,
        `image_bytes:0`, `probabilities:0`, `top_k_names:0` and so on.
      overwrite: move what is there aside, to `<name>.old-N`.
      **session_options: as `session` takes them.

    Raises:
      DataError: something is there already, or the class names cannot be used.
      GraphError: the export does not answer as the weights do, or the model cannot be exported; nothing is written.
      RestoreError: the weights do not fit the model, or do not hold all that its endpoints read.
      OSError: it cannot be written.

    Example:
      >>> def build(images):
      ...     logits = tx.graph.layers.dense(tx.graph.layers.flatten(tf.cast(images, tf.float32)), 2, "logits")
      ...     return {"logits": logits, "prob": tf.nn.softmax(logits)}
      >>> arrays = {"logits/kernel": np.ones((64, 2), np.float32), "logits/bias": np.zeros(2, np.float32)}
      >>> np.savez("weights.npz", **arrays)
      >>> spec = tx.InputSpec("tiny", "my own", (8, 8), "grey", mean=(0.0,), scale=(1.0,))
      >>> exported = tx.export_model(build, tx.open_weights("weights.npz"), spec, "served")
      >>> exported.path.name, exported.images, exported.classes
      ('served', (8, 8, 1), 2)
    """
    goals = [Path(path) for path in (out, frozen_graph) if path is not None]
    check_free(goals, overwrite=overwrite)
    with tf.Graph().as_default(), contextlib.ExitStack() as stack:
        served, labels = _build(build, input_spec, class_names, top_k)
        outputs = [*served.outputs.values(), *served.endpoints.values()]
        restored = plan(select(".*", outputs=outputs), weights, outputs=outputs)
        saver = _saver(outputs)
        graph = _saved_model(saver, served)
        sess = stack.enter_context(session(restored, **session_options))
        parts = stack.enter_context(_parts(goals))
        cases = _cases(build, weights, input_spec, examples, pictures)
        try:
            saver.save(sess, os.fspath(_folders(parts[0]) / VARIABLES), write_meta_graph=False, write_state=False)
            if frozen_graph is not None:
                parts[1].write_bytes(_frozen(sess, served))
        except tf.errors.OpError as error:
            raise OSError(f"cannot write {goals[0]}: {message(error)}") from None
        _write(parts[0], graph, labels, input_spec)
        export_check.check_values(parts[0] / VARIABLES, restored)
        apart = max(export_check.check(part, cases, labels, weights.path) for part in parts)
        nbytes = _sync(parts[0])
        moved = _place(parts, goals)
    compared = sum(len(fed) for fed, _ in cases)
    return Exported(goals[0], nbytes, tuple(served.images.shape.as_list()[1:]), len(labels), compared, apart, moved)


def check_free(goals: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to write where something is.

    Raises:
      DataError: a goal is there already, and is not an empty folder, and `overwrite` is False; or the frozen graph
        would lie in the SavedModel.
    """
    out, *others = (goal.absolute() for goal in goals)
    if any(out == other or out in other.parents for other in others):
        raise DataError(
            f"{goals[1]} is in {goals[0]}, which is written as a whole; give the frozen graph another place"
        )
    nameless = [goal for goal in goals if goal.name in ("", "..")]
    if nameless:
        raise DataError(f"{nameless[0]} cannot be the name of what is written; give it a folder of its own")
    occupied = [goal for goal in goals if os.path.lexists(goal) and not _is_empty(goal)]
    if occupied and not overwrite:
        raise DataError(f"{occupied[0]} is there already; give another name, or let `overwrite=True` move it aside")


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


# --- the graph ---


def _build(build: Build, input_spec: InputSpec, class_names: Sequence[str], top_k: int) -> tuple[Served, list[bytes]]:
    image_bytes = tf.placeholder(tf.string, [None], name=IMAGE_BYTES)
    pixels = decoding.decode(image_bytes, input_spec.size, input_spec.resize, input_spec.decode)
    channels = CHANNELS[input_spec.channels]
    # One network for both signatures: where images are fed, what decodes bytes does not run.
    images = tf.placeholder_with_default(
        decoding.grey(pixels) if channels == 1 else pixels, [None, *input_spec.size, channels], name=IMAGES
    )
    endpoints = dict(build(images))
    probabilities = list(endpoints.values())[-1]
    _check_fed(endpoints, [image_bytes, images])
    if probabilities.shape.rank != 2 or probabilities.shape[1] is None:
        raise GraphError(f"the last endpoint, {list(endpoints)[-1]} {probabilities.shape}, is not [n, classes]")
    labels = _labels(class_names, input_spec, int(probabilities.shape[1]))
    tf.constant(LABELS, name="labels_file")
    tf.add_to_collection(ENDPOINTS, json.dumps({name: tensor.name for name, tensor in endpoints.items()}))
    return Served(images, image_bytes, _outputs(probabilities, labels, top_k), endpoints), labels


def _check_fed(endpoints: Mapping[str, tf.Tensor], fed: Sequence[tf.Tensor]) -> None:
    """Refuse placeholders that whoever asks the model would have to feed beside the images."""
    others = placeholders([tensor.op for tensor in endpoints.values()], fed)
    not_fed = [op.name for op in others if op.type != "PlaceholderWithDefault"]
    if not_fed:
        raise GraphError(
            f"nobody feeds {names.listed(not_fed)} in an export; build the model with a constant in its place, or with "
            "tf.placeholder_with_default, whose default is what is exported"
        )


def _labels(class_names: Sequence[str], input_spec: InputSpec, classes: int) -> list[bytes]:
    known = input_spec.class_names if len(input_spec.class_names) == classes else map(str, range(classes))
    chosen = tuple(class_names or known)
    if len(chosen) != classes:
        raise DataError(f"there are {len(chosen):,} names of classes, and the model has {classes:,} classes")
    broken = [repr(name) for name in chosen if "\n" in name or "\r" in name]
    if broken:
        raise DataError(f"{LABELS} has one class a line, and there are line breaks in {', '.join(broken)}")
    return [name.encode("utf-8", "surrogateescape") for name in chosen]


def _outputs(probabilities: tf.Tensor, labels: Sequence[bytes], top_k: int) -> dict[str, tf.Tensor]:
    named = tf.constant(list(labels), tf.string, name="labels")
    best = tf.nn.top_k(probabilities, min(top_k, len(labels)))
    outputs = {
        "probabilities": probabilities,
        # For every picture, since servers that gather requests want the batch as first dimension of all outputs.
        "class_names": tf.tile(named[tf.newaxis], [tf.shape(probabilities)[0], 1]),
        "top_k_probabilities": best.values,
        "top_k_indices": best.indices,
        "top_k_names": tf.gather(named, best.indices),
    }
    return {name: tf.identity(tensor, name) for name, tensor in outputs.items()}


def _saver(outputs: Sequence[tf.Tensor]) -> tf.train.Saver:
    """Return a Saver of all that the outputs read; slots and what else a MetaGraph brings along are not exported."""
    graph = tf.get_default_graph()
    read = set(variables_read(outputs))
    saved = [variable for variable in every_variable(graph) if variable.op in read]
    listed = {variable.op for variable in tf.global_variables()}
    for variable in saved:
        if variable.op not in listed:  # whoever loads a SavedModel looks there for its variables
            tf.add_to_collection(tf.GraphKeys.GLOBAL_VARIABLES, variable)
    return tf.train.Saver({name: split if is_part(split[0]) else split[0] for name, split in wholes(saved).items()})


def _cases(
    build: Build, weights: Weights, input_spec: InputSpec, examples: np.ndarray | None, pictures: Sequence[str]
) -> list[export_check.Case]:
    """Ask a second network, whose variables are assigned from the weights without a plan or a Saver."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, [None, *input_spec.size, CHANNELS[input_spec.channels]], IMAGES)
        probabilities = list(build(images).values())[-1]
        with tf.Session(graph=graph, config=configuration()) as sess:
            initializers = [variable.initializer for variable in every_variable(graph)]
            sess.run(initializers + graph.get_collection(tf.GraphKeys.TABLE_INITIALIZERS))
            variables = {variable.op.name: variable for variable in model_variables(graph, outputs=[probabilities])}
            sizes = {name: bytes_of(variable.shape, variable.dtype) for name, variable in variables.items()}
            for group in groups(sizes):
                _assign(sess, [variables[name] for name in group], weights)
            served = Served(images, None, {"probabilities": probabilities}, {})
            return export_check.cases(sess, served, input_spec, examples, pictures)


def _assign(sess: tf.Session, variables: Sequence[tf.Variable], weights: Weights) -> None:
    """Assign the arrays of weights; variables that were made from one initial value come one after the other."""
    later: list[tf.Variable] = []
    feeds: dict[Any, np.ndarray] = {}
    initializers = []
    for variable in variables:
        fed = variable.initializer.inputs[1].ref()
        if fed in feeds:
            later.append(variable)
        else:
            feeds[fed] = owned(taken(variable, weights[name_of(variable)]))
            initializers.append(variable.initializer)
    sess.run(initializers, {fed.deref(): array for fed, array in feeds.items()})
    if later:
        _assign(sess, later, weights)


# --- writing ---


@contextlib.contextmanager
def _parts(goals: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield a path beside each goal at which to write what becomes it; what is left there in the end is deleted."""
    with contextlib.ExitStack() as stack:
        parts = []
        for goal in goals:
            folder = goal.absolute().parent
            folder.mkdir(parents=True, exist_ok=True)
            beside = stack.enter_context(tempfile.TemporaryDirectory(files.PART, f".{goal.name}.", folder))
            parts.append(Path(beside, goal.name or "out"))
        yield parts


def _folders(folder: Path) -> Path:
    for part in ("assets", "variables"):
        (folder / part).mkdir(parents=True)
    return folder


def _write(folder: Path, graph: bytes, labels: Sequence[bytes], input_spec: InputSpec) -> None:
    """Write what is in a SavedModel besides the variables; the input spec lies beside these."""
    (folder / GRAPH).write_bytes(graph)
    (folder / "assets" / LABELS).write_bytes(b"".join(label + b"\n" for label in labels))
    class_names = tuple(label.decode("utf-8", "surrogateescape") for label in labels)
    dataclasses.replace(input_spec, class_names=class_names).save(folder / VARIABLES)


def _saved_model(saver: tf.train.Saver, served: Served) -> bytes:
    meta = saver.export_meta_graph(clear_devices=True, strip_default_attrs=True)
    meta.meta_info_def.tags.append(tf.saved_model.SERVING)
    # A file has to belong to a tensor; whoever loads it feeds that with where the file is.
    meta.asset_file_def.add(filename=LABELS).tensor_info.name = "labels_file:0"
    signatures = {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: served.images, IMAGE_BYTES: served.image_bytes}
    for key, tensor in signatures.items():
        meta.signature_def[key].CopyFrom(_signature(tensor, served.outputs))
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=[meta])
    return model.SerializeToString(deterministic=True)


def _signature(tensor: tf.Tensor, outputs: Mapping[str, tf.Tensor]) -> Any:
    info = tf.saved_model.build_tensor_info
    return tf.saved_model.build_signature_def(
        {tensor.op.name: info(tensor)},
        {name: info(output) for name, output in outputs.items()},
        tf.saved_model.PREDICT_METHOD_NAME,
    )


def _frozen(sess: tf.Session, served: Served) -> bytes:
    outputs = [tensor.op.name for tensor in served.outputs.values()]
    graph = tf.graph_util.convert_variables_to_constants(sess, sess.graph.as_graph_def(), outputs)
    return graph.SerializeToString(deterministic=True)


def _sync(folder: Path) -> int:
    """Flush what is in a folder to disk, and return how many bytes its files have."""
    inside = sorted(folder.rglob("*"))
    for path in inside:
        files.sync(path)
    return sum(path.stat().st_size for path in inside if path.is_file())


def _place(parts: Sequence[Path], goals: Sequence[Path]) -> dict[Path, Path]:
    moved = {}
    for part, goal in zip(parts, goals, strict=True):
        files.sync(part)
        if _is_empty(goal):
            goal.rmdir()
        if os.path.lexists(goal):
            moved[goal] = files.move_aside(goal)
        part.rename(goal)
        files.sync_folder(goal.absolute().parent)
    return moved
