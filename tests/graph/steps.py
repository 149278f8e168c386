"""Small networks with their step of training, and what tests do with them."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.graph import layers
from tfxfer.models import heads

OPTIMIZERS = {
    "sgd": tf.train.GradientDescentOptimizer,
    "momentum": functools.partial(tf.train.MomentumOptimizer, momentum=0.9),
    "rmsprop": tf.train.RMSPropOptimizer,
    "adam": tf.train.AdamOptimizer,
}
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(12, 4, 4, 1)).astype(np.float32)
LABELS = RNG.permutation(np.repeat([0, 1, 2], [6, 5, 1]))


def placeholders():
    return tf.placeholder(tf.float32, [None, 4, 4, 1]), tf.placeholder(tf.int64, [None])


def linear(**options):
    """Softmax regression of 3 classes: logits/kernel and logits/bias."""
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    return tx.train_step(images, labels, logits, **({"train": tx.select(".*")} | options))


def deep(*, dropout=0.0, **options):
    """conv1, conv2, fc1 and logits; `train` and `stages` are functions without arguments."""
    images, labels = placeholders()
    x = layers.conv2d(layers.conv2d(images, 3, 3, "conv1"), 4, 3, "conv2", strides=2)
    logits = heads.classifier(x, hidden=[8], classes=3, dropout=dropout)
    options = {key: value() if key in ("train", "stages") else value for key, value in options.items()}
    return tx.train_step(images, labels, logits, **options)


def fetch(sess):
    variables = tf.global_variables()
    return dict(zip([v.op.name for v in variables], sess.run(variables), strict=True))


def load(sess, name, value):
    (variable,) = tx.select(name, among=tf.global_variables())
    sess.run(variable.initializer, {variable.initializer.inputs[1]: value})


def feeds(step, stage=0, images=IMAGES, labels=LABELS):
    return {step.images: images, step.labels: labels} | dict(step.stages[stage].feeds)


def train(sess, step, steps=1, stage=0):
    for _ in range(steps):
        sess.run(step.stages[stage].apply, feeds(step, stage))


def moved(before, after):
    return {name for name, value in before.items() if value.tobytes() != after[name].tobytes()}


def softmax(logits):
    odds = np.exp(logits.astype(np.float64))
    return odds / odds.sum(axis=1, keepdims=True)


def gradients_at(kernel, bias):
    """The gradients of softmax regression's mean loss, by hand."""
    x = IMAGES.reshape(12, 16).astype(np.float64)
    error = (softmax(x @ kernel + bias) - np.eye(3)[LABELS]) / 12
    return x.T @ error, error.sum(axis=0)


def op_names(variables):
    return [variable.op.name for variable in variables]


def staged(**options):
    def stages():
        return [
            tx.Stage(0, tx.select("logits/.*")),
            tx.Stage(2, tx.select("fc1/.*"), multiplier=0.1),
            tx.Stage(5, tx.select("conv2/.*")),
        ]

    return deep(stages=stages, **options)


def normalised(**options):
    images, labels = placeholders()
    x = layers.batch_norm(layers.conv2d(images, 2, 3, "conv", activation=None), "norm1")
    x = layers.batch_norm(tf.nn.relu(x), "norm2")
    logits = heads.classifier(x, hidden=[5], classes=3, dropout=0.2)
    options = {key: value() if key in ("train", "stages") else value for key, value in options.items()}
    return tx.train_step(images, labels, logits, **options)
