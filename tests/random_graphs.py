"""Random graphs, trained from images and from what is stored of them: the same bits, or refused by name.

`python tests/random_graphs.py FIRST COUNT` tries so many seeds and prints a line for each that differs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.errors import TfxferError
from tfxfer.evaluation.feed import Feed
from tfxfer.graph import layers

BATCH, SIZE, CHANNELS = 4, 4, 2
IMAGES = np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 1)).astype(np.uint8)
LABELS = np.arange(12) % 3


class Builder:
    """Draws ops for a tensor [n, 4, 4, 2], each of which gives such a tensor again."""

    def __init__(self, seed: int) -> None:
        self.random, self.graph = np.random.default_rng(seed), tf.get_default_graph()
        self.seed, self.count = seed, 0
        self.shared: list[tf.Variable] = []
        self.trained: list[tf.Variable] = []

    def variable(self, shape: list[int], *, trained: bool | None = None) -> tf.Variable:
        """Make a variable that is trained or not, or take one that is there already."""
        same = [v for v in self.shared if v.shape.as_list() == shape]
        if same and self.random.random() < 0.3:
            return same[self.random.integers(len(same))]
        self.count += 1
        initial = tf.constant_initializer(np.random.default_rng([self.seed, self.count]).normal(0.3, 0.4, shape))
        chosen = self.random.random() < 0.2 if trained is None else trained
        inside = tf.get_default_graph() is not self.graph or tf.get_default_graph()._get_control_flow_context()
        # A reference is not passed to a function; two that are trained are read while they are written.
        made = tf.get_variable(
            f"v{self.count}",
            shape,
            initializer=initial,
            use_resource=bool(chosen or inside or self.random.random() < 0.5),
        )
        self.shared += [made] if made.dtype == tf.float32 else []
        self.trained += [made] if chosen else []
        return made

    def apply(self, x: tf.Tensor, depth: int = 0) -> tf.Tensor:
        """Apply one op that is drawn."""
        kinds = list(SIMPLE) + (list(NESTED) if depth < 2 else [])
        kind = kinds[self.random.integers(len(kinds))]
        y = SIMPLE[kind](self, x) if kind in SIMPLE else NESTED[kind](self, x, depth)
        return tf.ensure_shape(y, [None, SIZE, SIZE, CHANNELS]) if y.shape.rank is None else y


def _flat(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, SIZE * SIZE * CHANNELS])


def _back(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, SIZE, SIZE, CHANNELS])


def _conv(b: Builder, x: tf.Tensor, **options: object) -> tf.Tensor:
    return tf.nn.conv2d(x, b.variable([3, 3, CHANNELS, CHANNELS]), 1, "SAME", **options)


def _dilated(b: Builder, x: tf.Tensor) -> tf.Tensor:
    y = tf.space_to_batch_nd(x, [2, 2], [[2, 2], [2, 2]])
    y = tf.nn.conv2d(y, b.variable([3, 3, CHANNELS, CHANNELS]), 1, "VALID")
    return tf.batch_to_space_nd(y, [2, 2], [[0, 0], [0, 0]])


def _per_pixel(b: Builder, x: tf.Tensor) -> tf.Tensor:
    return _back(tf.matmul(tf.reshape(x, [-1, CHANNELS]), b.variable([CHANNELS, CHANNELS])))


def _dense(b: Builder, x: tf.Tensor) -> tf.Tensor:
    return _back(tf.matmul(_flat(x), b.variable([32, 32])) / 8)


def _moments(b: Builder, x: tf.Tensor) -> tf.Tensor:
    return tf.nn.batch_normalization(x, *tf.nn.moments(x, [0, 1, 2]), None, None, 1e-3)


def _moving(b: Builder, x: tf.Tensor) -> tf.Tensor:
    return tf.nn.batch_normalization(x, b.variable([CHANNELS]), tf.abs(b.variable([CHANNELS])), None, None, 1e-3)


def _fused(b: Builder, x: tf.Tensor, training: bool) -> tf.Tensor:
    more = {} if training else {"mean": tf.constant([0.1, 0.2]), "variance": tf.constant([1.1, 0.7])}
    return tf.nn.fused_batch_norm(x, b.variable([CHANNELS]), tf.zeros([CHANNELS]), is_training=training, **more)[0]


def _layer_norm(b: Builder, x: tf.Tensor) -> tf.Tensor:
    b.count += 1
    return layers.batch_norm(x, f"norm{b.count}")


def _views(b: Builder, x: tf.Tensor) -> tf.Tensor:
    first, second = tf.split(tf.nn.relu(tf.concat([x, x[:, ::-1]], 0)), 2, axis=0)
    return first + second


def _halves(b: Builder, x: tf.Tensor) -> tf.Tensor:
    half = tf.reshape(x, [-1, 2, SIZE, SIZE, CHANNELS])
    return tf.reshape(half[:, ::-1], [-1, SIZE, SIZE, CHANNELS])


def _by_shape(b: Builder, x: tf.Tensor) -> tf.Tensor:
    y = tf.reshape(x, tf.stack([tf.shape(x)[0], SIZE * SIZE, CHANNELS]))
    return tf.reshape(tf.nn.softmax(y, axis=1) * 4, tf.shape(x))


def _einsum(b: Builder, x: tf.Tensor) -> tf.Tensor:
    return tf.einsum("nhwc,cd->nhwd", x, b.variable([CHANNELS, CHANNELS]))


def _attention(b: Builder, x: tf.Tensor) -> tf.Tensor:
    y = tf.reshape(x, [-1, SIZE * SIZE, CHANNELS])
    return tf.reshape(tf.matmul(tf.nn.softmax(tf.matmul(y, y, transpose_b=True)), y), [-1, SIZE, SIZE, CHANNELS])


def _neighbours(b: Builder, x: tf.Tensor) -> tf.Tensor:
    y = _flat(x)
    return _back(tf.matmul(tf.nn.softmax(tf.matmul(y, y, transpose_b=True) / 50), y))


def _by_size(b: Builder, x: tf.Tensor) -> tf.Tensor:
    return x * (1 + tf.cast(tf.shape(x)[0], tf.float32) / 100)


def _one_hot(b: Builder, x: tf.Tensor) -> tf.Tensor:
    return x + tf.one_hot(tf.argmax(tf.reduce_mean(x, [1, 2]), 1), CHANNELS)[:, None, None]


def _embedding(b: Builder, x: tf.Tensor) -> tf.Tensor:
    index = tf.argmax(_flat(x), 1) % 4
    return x + tf.nn.embedding_lookup(b.variable([4, CHANNELS]), index)[:, None, None]


def _top(b: Builder, x: tf.Tensor) -> tf.Tensor:
    return x - tf.reduce_mean(tf.nn.top_k(_flat(x), 3)[0], 1)[:, None, None, None]


def _transposed(b: Builder, x: tf.Tensor) -> tf.Tensor:
    y = tf.transpose(tf.nn.relu(tf.transpose(x, [3, 1, 2, 0])), [3, 1, 2, 0])
    return y + tf.reverse(x, [2])


def _stacked(b: Builder, x: tf.Tensor) -> tf.Tensor:
    place = int(b.random.integers(5))
    return tf.add_n(tf.unstack(tf.stack([x, -x / 2], place), axis=place))


def _python(b: Builder, x: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.numpy_function(lambda y: y * 2, [x], tf.float32, stateful=False), x.shape)


SIMPLE = {
    "conv": _conv,
    "dilated": _dilated,
    "atrous": lambda b, x: _conv(b, x, dilations=2),
    "per pixel": _per_pixel,
    "dense": _dense,
    "bias": lambda b, x: tf.nn.bias_add(x, b.variable([CHANNELS])),
    "scale": lambda b, x: x * b.variable([CHANNELS]),
    "relu": lambda b, x: tf.nn.relu(x),
    "leaky": lambda b, x: tf.nn.leaky_relu(x),
    "tanh": lambda b, x: tf.tanh(x),
    "square": lambda b, x: x * x / 4,
    "double": lambda b, x: x + x,
    "negative": lambda b, x: -x,
    "twice negative": lambda b, x: tf.negative(-x),
    "clip": lambda b, x: tf.clip_by_value(x, -1.0, 2.0),
    "max pool": lambda b, x: tf.nn.max_pool2d(x, 3, 1, "SAME"),
    "average pool": lambda b, x: tf.nn.avg_pool2d(x, 3, 1, "SAME"),
    "pad": lambda b, x: tf.pad(x, [[0, 0], [1, 0], [0, 1], [0, 0]])[:, :SIZE, 1:],
    "lrn": lambda b, x: tf.nn.lrn(x),
    "layer norm": lambda b, x: x - tf.reduce_mean(x, [1, 2, 3], keepdims=True),
    "unit length": lambda b, x: tf.nn.l2_normalize(x, 3),
    "unit length of batch": lambda b, x: tf.nn.l2_normalize(x, 0),
    "softmax": lambda b, x: tf.nn.softmax(x),
    "batch mean": lambda b, x: x - tf.reduce_mean(x, 0),
    "batch maximum": lambda b, x: x / (1e-3 + tf.reduce_max(tf.abs(x))),
    "first": lambda b, x: x + x[:1],
    "reversed batch": lambda b, x: x + tf.reverse(x, [0]),
    "rolled batch": lambda b, x: x + tf.roll(x, 1, 0),
    "rolled": lambda b, x: tf.roll(x, 1, 1),
    "cumulated": lambda b, x: tf.cumsum(x, 1) / 4,
    "cumulated batch": lambda b, x: tf.cumsum(x, 0) / 4,
    "sorted batch": lambda b, x: tf.sort(x, axis=0),
    "moments": _moments,
    "moving": _moving,
    "fused": lambda b, x: _fused(b, x, False),
    "fused in training": lambda b, x: _fused(b, x, True),
    "batch norm": _layer_norm,
    "views": _views,
    "halves": _halves,
    "by shape": _by_shape,
    "einsum": _einsum,
    "attention": _attention,
    "neighbours": _neighbours,
    "by size": _by_size,
    "one hot": _one_hot,
    "embedding": _embedding,
    "top": _top,
    "transposed": _transposed,
    "stacked": _stacked,
    "python": _python,
    "quantized": lambda b, x: tf.quantization.quantize_and_dequantize_v2(x, -1.0, 1.0, range_given=True),
    "quantized by batch": lambda b, x: tf.quantization.quantize_and_dequantize_v2(x, -1.0, 1.0, range_given=False),
    "shape": lambda b, x: x + tf.ones(tf.shape(x)),
    "resized": lambda b, x: tf.image.resize_bilinear(x, [SIZE, SIZE]),
    "chosen": lambda b, x: tf.where(x > 0, x, x * 0.1),
    "residual": lambda b, x: x + tf.nn.relu(_conv(b, x)),
    "mapped": lambda b, x: tf.map_fn(tf.nn.relu, x),
    "dropout": lambda b, x: tf.nn.dropout(x, rate=0.25, seed=1),
}  # fmt: skip


def _function(b: Builder, x: tf.Tensor, depth: int) -> tf.Tensor:
    return tf.function(lambda y: b.apply(y, depth + 1), autograph=False)(x)


def _cond(b: Builder, x: tf.Tensor, depth: int) -> tf.Tensor:
    predicate = (tf.placeholder_with_default(True, []), tf.reduce_max(x) > 0.5, tf.constant(False))
    chosen = predicate[b.random.integers(3)]
    return tf.cond(chosen, lambda: b.apply(x, depth + 1), lambda: b.apply(x, depth + 1))


def _loop(b: Builder, x: tf.Tensor, depth: int) -> tf.Tensor:
    shape = tf.TensorShape([None, SIZE, SIZE, CHANNELS])
    seed = int(b.random.integers(2**31))

    def body(i: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        b.random = np.random.default_rng(seed)
        return i + 1, b.apply(y, depth + 1)

    return tf.while_loop(lambda i, y: i < 2, body, [0, x], [tf.TensorShape([]), shape])[1]


NESTED = {"function": _function, "cond": _cond, "loop": _loop}


def built(seed: int) -> tx.Step:
    """Build a graph and a step that trains some of its variables, wherever they are."""
    b = Builder(seed)
    (tf.enable_control_flow_v2 if b.random.random() < 0.5 else tf.disable_control_flow_v2)()
    tf.set_random_seed(seed)
    images = tf.placeholder(tf.uint8, [None, SIZE, SIZE, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    x = tf.concat([tf.cast(images, tf.float32) / 255, tf.cast(images, tf.float32) / 128 - 1], 3)
    for _ in range(b.random.integers(2, 7)):
        x = b.apply(x)
    logits = tf.matmul(_flat(x), b.variable([32, 3], trained=True), name="logits")
    return tx.train_step(
        images, labels, logits, train=b.trained, summaries=(), learning_rate=0.01,
        optimizer=tf.train.GradientDescentOptimizer,
    )  # fmt: skip


def trained(seed: int, store: Path | None) -> tuple[list[str], list[bytes]]:
    """Make two steps; return what was fed and the bytes of all trained variables."""
    with tf.Graph().as_default():
        step = built(seed)
        split = Split(IMAGES, LABELS)
        with tx.session() as sess:
            if store:
                split = tx.precompute(
                    sess, step, Data(split, split, split, ("a", "b", "c")), store=store, batch_size=BATCH
                ).train
            feed = Feed(step, split)
            for begin in (0, 5):
                arrays = dict(zip(feed.tensors, feed.arrays(np.arange(begin, begin + BATCH)), strict=True))
                sess.run(step.stages[0].apply, {**arrays, **step.stages[0].feeds})
            return [t.name for t in feed.tensors], [sess.run(v).tobytes() for v in step.trained]


REFUSALS = ("nothing is frozen", "the frozen part cannot be computed apart from what is trained")


def outcome(seed: int) -> str:
    """Return `same`, `refused`, `not built` where the step itself is, or what went wrong."""
    before = tf.control_flow_v2_enabled()
    store = Path(tempfile.mkdtemp(prefix="tfxfer-random-"))
    try:
        try:
            _, images = trained(seed, None)
        except (TfxferError, ValueError):  # TensorFlow's own: a function traced twice may not make variables again.
            return "not built"
        try:
            _, stored = trained(seed, store / "store")
        except TfxferError as error:
            known = any(reason in str(error) for reason in REFUSALS)
            return "refused" if known else f"refused: {str(error)[:300]}"
        return "same" if images == stored else "differs"
    finally:
        (tf.enable_control_flow_v2 if before else tf.disable_control_flow_v2)()
        shutil.rmtree(store)


if __name__ == "__main__":
    tf.disable_eager_execution()
    first, count = map(int, sys.argv[1:])
    outcomes: Counter[str] = Counter()
    for number in range(first, first + count):
        try:
            result = outcome(number)
        except (tf.errors.OpError, ValueError, TypeError, LookupError, AttributeError) as error:
            result = f"crash {type(error).__name__} {str(error)[:300]}"
        outcomes[result.split(":")[0].split()[0]] += 1
        if result not in ("same", "refused", "not built"):
            print(number, result, flush=True)
    print(dict(outcomes))
