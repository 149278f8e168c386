"""Endpoints of all examples for TensorBoard's embedding projector, with class, path and split, and thumbnails.

train/projector_config.pbtxt     what there is, as TensorBoard reads it
train/projector/pool5.tsv        a row of numbers an example
train/projector/metadata.tsv     class, split and name of each example
train/projector/sprite.png       a thumbnail of each
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import files
from tfxfer.data.batches import chunks
from tfxfer.data.pictures import Pictures
from tfxfer.data.splits import Data, Split, class_numbers
from tfxfer.plots import tiles
from tfxfer.plots.png import png

CONFIG, FOLDER = "projector_config.pbtxt", "projector"
MOST = 2000  # examples; more make t-SNE slow in a browser
MOST_NUMBERS = 1024  # of an example; of larger endpoints, blocks of positions are averaged
SIDE, LARGEST = 48, 8192  # of a thumbnail, and of the sprite that TensorBoard takes, in pixels
BATCH_SIZE = 32
NOTHING: Mapping[tf.Tensor, np.ndarray] = {}


class _Part(NamedTuple):
    """The examples of one split that are shown."""

    name: str
    split: Split
    places: np.ndarray


def write(
    sess: tf.Session,
    images: tf.Tensor,
    endpoints: Mapping[str, tf.Tensor],
    data: Data,
    folder: Path,
    *,
    feeds: Mapping[tf.Tensor, np.ndarray] = NOTHING,
) -> int:
    """Write what the projector shows; what is there already is replaced, the configuration last.

    What was precomputed is taken from where it is stored; for all else, the images go through the network.

    Args:
      sess: a session in which the variables are what they should be.
      images: the placeholder of the images.
      endpoints: tensors [batch, ...] by name.
      data: the examples; of more than 2,000, each split's at its share, evenly spaced.
      folder: of a run's events, as `train/`.
      feeds: what else is fed, the same for all examples.

    Returns:
      How many examples there are.

    Raises:
      OSError: the disk is full, or the folder cannot be written.
    """
    from tensorboard.plugins import projector

    parts = _parts(data)
    out = folder / FOLDER
    out.mkdir(parents=True, exist_ok=True)
    files.write_bytes(out / "metadata.tsv", _metadata(parts, data.class_names).encode())
    side = _sprite(parts, out / "sprite.png")
    config = projector.ProjectorConfig()
    for name, rows in zip(endpoints, _values(sess, images, endpoints, parts, feeds), strict=True):
        file = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.tsv"
        text = "".join("\t".join(f"{number:.5g}" for number in row) + "\n" for row in rows.tolist())
        files.write_bytes(out / file, text.encode())
        shown = config.embeddings.add(tensor_name=name, tensor_path=f"{FOLDER}/{file}")
        shown.tensor_shape.extend(rows.shape)
        shown.metadata_path = f"{FOLDER}/metadata.tsv"
        if side:
            shown.sprite.image_path = f"{FOLDER}/sprite.png"
            shown.sprite.single_image_dim.extend([side, side])
    with tempfile.TemporaryDirectory() as part:
        projector.visualize_embeddings(part, config)
        files.write_bytes(folder / CONFIG, Path(part, CONFIG).read_bytes())
    return sum(len(part.places) for part in parts)


def _parts(data: Data) -> list[_Part]:
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    share = min(1.0, MOST / max(sum(map(len, splits.values())), 1))
    return [
        _Part(name, split, np.unique(np.linspace(0, len(split) - 1, math.floor(len(split) * share)).astype(np.int64)))
        for name, split in splits.items()
        if len(split)
    ]


# --- what each example is ---


def _metadata(parts: list[_Part], class_names: tuple[str, ...]) -> str:
    rows = [("class", "split", "example")]
    for part in parts:
        labels = [None] * len(part.split) if part.split.labels is None else class_numbers(part.split.labels).tolist()
        for place in part.places.tolist():
            label = labels[place]
            named = "" if label is None else class_names[label] if label < len(class_names) else str(label)
            rows.append((named, part.name, _example(part.split, place)))
    return "".join("\t".join(map(_cell, row)) + "\n" for row in rows)


def _example(split: Split, place: int) -> str:
    """Return the last two parts of a picture's path, its class and name as a rule; or which example it is."""
    return "/".join(Path(split.images.paths[place]).parts[-2:]) if isinstance(split.images, Pictures) else str(place)


def _cell(text: str) -> str:
    """Return a cell of a table whose rows end with a line and whose cells with a tab, and that is HTML to nobody."""
    line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return line.replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}") or "-"


def _sprite(parts: list[_Part], path: Path) -> int:
    """Write thumbnails row by row in a square; return the side of one, 0 if the examples are not pictures."""
    if not tiles.are_pictures(parts[0].split.images):
        return 0
    count = sum(len(part.places) for part in parts)
    across = math.ceil(math.sqrt(count))
    side = min(SIDE, LARGEST // across)
    sheet = np.full((across * across, side, side, 3), 255, np.uint8)
    row = 0
    for part in parts:
        for chunk in chunks(len(part.places), 256):
            sheet[row : row + len(chunk)] = tiles.thumbnails(part.split.images, part.places[chunk], side)
            row += len(chunk)
    square = sheet.reshape(across, across, side, side, 3).swapaxes(1, 2).reshape(across * side, across * side, 3)
    files.write_bytes(path, png(square))
    return side


# --- what the network makes of it ---


def _values(
    sess: tf.Session,
    images: tf.Tensor,
    endpoints: Mapping[str, tf.Tensor],
    parts: list[_Part],
    feeds: Mapping[tf.Tensor, np.ndarray],
) -> Iterator[np.ndarray]:
    """Yield the rows of each endpoint, float32 [n, numbers]."""
    stored = {
        name for name, tensor in endpoints.items() if all(tensor.name in (part.split.features or {}) for part in parts)
    }
    computed = {name: tensor for name, tensor in endpoints.items() if name not in stored}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in endpoints}
    for part in parts:
        for chunk in chunks(len(part.places), BATCH_SIZE):
            places = part.places[chunk]
            outputs = sess.run(computed, {images: part.split.images[places], **feeds}) if computed else {}
            outputs |= {name: (part.split.features or {})[endpoints[name].name][places] for name in stored}
            for name, values in outputs.items():
                rows[name].append(_flat(values))
    return (np.concatenate(rows[name]) for name in endpoints)


def _flat(values: np.ndarray) -> np.ndarray:
    """Flatten [n, ...]; where that gives too many numbers, average blocks of positions of [n, height, width, channels].

    What is still too long is thinned out evenly.
    """
    values = np.nan_to_num(values.astype(np.float32))
    if values.ndim == 4:
        block = 1
        while math.prod(values.shape[3:]) * math.prod(-(-side // block) for side in values.shape[1:3]) > MOST_NUMBERS:
            if block >= max(values.shape[1:3]):
                break
            block += 1
        values = _averaged(values, block) if block > 1 else values
    flat = values.reshape(len(values), -1)
    return flat[:, :: -(-flat.shape[1] // MOST_NUMBERS)]


def _averaged(values: np.ndarray, block: int) -> np.ndarray:
    for axis in (1, 2):
        starts = np.arange(0, values.shape[axis], block)
        sizes = np.diff(np.append(starts, values.shape[axis]))
        shape = [-1 if number == axis else 1 for number in range(4)]
        values = np.add.reduceat(values, starts, axis=axis) / sizes.reshape(shape)
    return values.astype(np.float32)
