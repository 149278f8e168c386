"""Whether a model that was exported answers as its weights do, on random pictures and on given ones."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.data.batches import chunks
from tfxfer.data.decoding import decode, read_file
from tfxfer.errors import DataError, GraphError
from tfxfer.graph.decoding import LUMA
from tfxfer.input_spec import CHANNELS, InputSpec
from tfxfer.restore.plan import Plan
from tfxfer.serving.saved_model import Served, ask, loaded
from tfxfer.weights import open_weights

TOLERANCE = 1e-5
RANDOM, BATCH_SIZE = 4, 8


class Case(NamedTuple):
    """What a model is asked, pixels or the bytes of files [n], and the probabilities [n, classes] that are right."""

    pictures: np.ndarray
    probabilities: np.ndarray


def cases(
    sess: tf.Session,
    served: Served,
    input_spec: InputSpec,
    examples: np.ndarray | None = None,
    paths: Sequence[str] = (),
) -> list[Case]:
    """Ask a model in whose session the weights are; files are decoded by `data.decoding`, and not by its graph.

    Args:
      sess: the session.
      served: the model.
      input_spec: what it expects of its input.
      examples: uint8 [n, height, width, channels], pixels besides random ones.
      paths: of files of pictures besides random ones; those that cannot be read are passed over.
    """
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (RANDOM, *served.images.shape.as_list()[1:])).astype(np.uint8)
    pixels = pixels if examples is None else np.concatenate([pixels, examples])
    encoded, decoded = [], []
    for data in (*_encoded(generator, input_spec.size), *map(_read, paths)):
        with contextlib.suppress(DataError):
            decoded.append(decode(data, input_spec.size, input_spec.resize, way=input_spec.decode))
            encoded.append(data)
    from_files = _grey(np.stack(decoded)) if CHANNELS[input_spec.channels] == 1 else np.stack(decoded)
    return [
        Case(asked[chunk], ask(sess, served, seen[chunk])["probabilities"])
        for asked, seen in ((pixels, pixels), (np.array(encoded, object), from_files))
        for chunk in chunks(len(seen), BATCH_SIZE)
    ]


def check(path: str | os.PathLike[str], asked: Sequence[Case], labels: Sequence[bytes], source: str) -> float:
    """Load an export, ask it the same, and return by how much a probability differs at most.

    Args:
      path: of a SavedModel or a frozen graph.
      asked: what `cases` returned.
      labels: the name of each class, in UTF-8.
      source: what messages call the weights.

    Raises:
      GraphError: it differs by more than TOLERANCE, or other classes are named than the probabilities say.
      WeightsError: it cannot be loaded.
    """
    apart, named = 0.0, np.array(labels, object)
    with loaded(path) as (sess, served):
        for case in asked:
            answer = ask(sess, served, case.pictures)
            apart = float(np.maximum(apart, np.abs(answer["probabilities"] - case.probabilities).max()))
            best = np.argsort(-answer["probabilities"], axis=1, kind="stable")[:, : answer["top_k_indices"].shape[1]]
            if (best != answer["top_k_indices"]).any() or (named[best] != answer["top_k_names"]).any():
                raise GraphError(f"the export of {source} names other classes than its probabilities say")
    if not apart <= TOLERANCE:
        raise GraphError(
            f"the export of {source} does not answer as that does: probabilities differ by {apart:.1e}, more than "
            f"{TOLERANCE:.0e}; nothing was written"
        )
    return apart


def check_values(prefix: Path, plan: Plan) -> int:
    """Compare what an export's checkpoint holds with the weights of a plan, bit by bit; return how many arrays.

    Args:
      prefix: of the checkpoint, which is read without TensorFlow.
      plan: what was exported.

    Raises:
      GraphError: some differ; all are named.
    """
    written = open_weights(prefix)
    chosen = [pairing.variable for pairing in plan.chosen()]
    wrong = [name for name in chosen if name not in written or written[name].tobytes() != plan.weights[name].tobytes()]
    if wrong:
        raise GraphError(
            f"the export of {plan.weights.path} does not hold its arrays: {names.listed(wrong)}; nothing was written"
        )
    return len(chosen)


def _read(path: str) -> bytes:
    with contextlib.suppress(DataError):
        return read_file(path)
    return b""


def _encoded(generator: np.random.Generator, size: tuple[int, int]) -> Iterator[bytes]:
    """Yield files of random pictures: a JPEG, one that lies on its side by its EXIF tag, and a PNG."""
    height, width = size
    coarse = generator.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    with tf.Graph().as_default(), tf.Session() as sess:
        pixels = tf.placeholder(tf.uint8, [None, None, 3])
        jpeg, png = tf.image.encode_jpeg(pixels), tf.image.encode_png(pixels)
        for kind, rows, columns in (
            (jpeg, height + height // 3 + 2, width),
            (jpeg, 2 * height + 1, 3 * width + width // 2 + 1),  # which may be decoded at a half
            (png, height // 2 + 1, width // 2 + 1),
        ):
            large = coarse[np.arange(rows) * 5 // rows][:, np.arange(columns) * 7 // columns]
            data = sess.run(kind, {pixels: large})
            yield _on_its_side(data) if columns > width else data


def _on_its_side(jpeg: bytes) -> bytes:
    block = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def _grey(pixels: np.ndarray) -> np.ndarray:
    sums = (pixels.astype(np.int64) * LUMA).sum(axis=-1, keepdims=True)
    return ((sums + (1 << 15)) >> 16).astype(np.uint8)
