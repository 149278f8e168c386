"""What a model says of pictures."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import progress
from tfxfer.callables import compiled
from tfxfer.data.batches import chunks
from tfxfer.data.pictures import Pictures, ahead, shortened
from tfxfer.data.scan import scan
from tfxfer.data.splits import Images
from tfxfer.errors import DataError

BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Top:
    """The most probable classes of some examples.

    Attributes:
      classes: int64 [n, k], numbers of classes, the most probable first; of equals, the lower number.
      probabilities: float32 [n, k].
    """

    classes: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)


def readable(paths: Sequence[str], size: tuple[int, int], resize: str = "crop") -> tuple[Pictures, dict[str, str]]:
    """Return the pictures among some files, and why each of the others cannot be read, by its path.

    Args:
      paths: of the files.
      size, resize: how pictures are brought to the size of a model, as its input spec has it.

    Raises:
      DataError: none can be read; the message says why.
    """
    distinct = list(dict.fromkeys(paths))
    scanned = dict(zip(distinct, scan(distinct), strict=True))
    bad = {path: one.reason for path, one in scanned.items() if one.reason}
    good = [path for path in distinct if path not in bad]
    if not good:
        lines = shortened([f"{path} {reason}" for path, reason in bad.items()])
        raise DataError(
            "\n  ".join([f"none of {len(bad):,} pictures can be read:", *lines] if bad else ["no pictures"])
        )
    return Pictures(good, size, resize, digests=[scanned[path].digest for path in good]), bad


def predict(
    sess: tf.Session,
    images: tf.Tensor,
    probabilities: tf.Tensor,
    examples: Images,
    *,
    top: int = 5,
    batch_size: int = BATCH_SIZE,
) -> Top:
    """Return the most probable classes of each example.

    Args:
      sess: a session in which everything is restored.
      images: the placeholder of the images.
      probabilities: float32 [n, classes].
      examples: uint8 [n, height, width, channels], pictures in files or an array.
      top: how many classes an example; no more than there are.
      batch_size: how many examples go through the network at once.

    Raises:
      DataError: there are no examples, they do not fit the placeholder, or a number is not positive.

    Example:
      >>> images = tf.placeholder(tf.uint8, [None, 28, 28, 1])
      >>> ends = tx.models.autoencoder.encoder(images)
      >>> probabilities = tf.nn.softmax(tx.models.heads.classifier(ends["flatten"], classes=10))
      >>> with tx.session() as sess:
      ...     top = tx.predict(sess, images, probabilities, tx.data.digits().test.images, top=3)
      >>> top.classes.shape
      (360, 3)
    """
    if min(top, batch_size) < 1:
        raise DataError(f"`top={top}` and `batch_size={batch_size}` must be 1 or more")
    shape = tuple(examples.shape[1:])
    if not images.shape.is_compatible_with([None, *shape]) or examples.dtype != images.dtype.as_numpy_dtype:
        wanted = f"{images.dtype.name} {tuple(images.shape.as_list()[1:])}"
        raise DataError(f"the examples are {examples.dtype} {shape}, and the model takes {wanted}")
    run = compiled(sess, [probabilities], [images])
    rows = []
    with (
        progress.bar(len(examples), 0, "predict") as bar,
        contextlib.closing(ahead(examples.__getitem__, chunks(len(examples), batch_size), depth=1)) as loaded,
    ):
        for batch in loaded:
            rows += run(batch)
            bar.advance(count=len(batch))
    values = np.concatenate(rows)
    classes = np.argsort(-values, axis=1, kind="stable")[:, :top]
    return Top(classes, np.take_along_axis(values, classes, axis=1))
