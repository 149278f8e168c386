"""Take the convolutions of a model that tensorpack dumped to .npz, and train new fully connected layers on them.

    python examples/coming_from/tensorpack.py --load=mnist-convnet.npz --data_dir=MNIST_data

The names in the file are tensorpack's: `conv0/W:0`, `conv0/bn/mean/EMA:0`. docs/coming_from/tensorpack.md shows the
same job as a script of tensorpack.
"""

import re

import tensorflow.compat.v1 as tf
from absl import app, flags

import tfxfer as tx

FLAGS = flags.FLAGS
flags.DEFINE_string("load", "mnist-convnet.npz", "What dump-model-params.py wrote, or the prefix of a checkpoint.")
flags.DEFINE_string("data_dir", None, "Directory of MNIST's four idx files; default: scikit-learn's digits.")
flags.DEFINE_string("logdir", "train_log/mnist-convnet", "Run directory.")
flags.DEFINE_integer("max_epoch", 10, "Times through the images.")
flags.DEFINE_integer("batch_size", 128, "Images a step.")

ENDS = {"W": "kernel", "b": "bias", "mean/EMA": "moving_mean", "variance/EMA": "moving_variance"}


def rename(name: str) -> str:
    """Return our name for one of tensorpack's: conv0/kernel for conv0/W:0."""
    name = name.removesuffix(":0")
    return re.sub(r"(?<=/)(W|b|mean/EMA|variance/EMA)$", lambda end: ENDS[end[0]], name)


def convolve(x: tf.Tensor, name: str) -> tf.Tensor:
    """Conv2D(name, 32, 3, use_bias=False, activation=BNReLU), with tensorpack's defaults of batch normalisation."""
    x = tx.graph.layers.conv2d(x, 32, 3, name, use_bias=False, activation=None)
    return tf.nn.relu(tx.graph.layers.batch_norm(x, f"{name}/bn", momentum=0.9, epsilon=1e-5))


def main(_):
    weights = tx.open_weights(FLAGS.load, rename=rename)
    data = tx.data.mnist(FLAGS.data_dir) if FLAGS.data_dir else tx.data.digits()
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        images = tf.placeholder(tf.uint8, [None, 28, 28, 1], name="input")
        labels = tf.placeholder(tf.int64, [None], name="label")
        x = convolve(tf.cast(images, tf.float32) / 255 * 2 - 1, "conv0")
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = convolve(convolve(x, "conv1"), "conv2")
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tx.graph.layers.flatten(convolve(x, "conv3"))
        x = tx.graph.layers.dense(x, 512, "fc0")
        x = tx.graph.layers.dropout(x, 0.5, "dropout")
        logits = tx.graph.layers.dense(x, 10, "fc1", activation=None)

        restored = tx.plan("conv.*", weights)  # kernels and batch normalisation with its averages; fc0 and fc1 are new
        print(restored.report())
        step = tx.train_step(images, labels, logits, train="fc.*", l2=1e-5)
        with tx.session(restored) as sess:
            tx.fit(sess, step, data, epochs=FLAGS.max_epoch, batch_size=FLAGS.batch_size, logdir=FLAGS.logdir)
            print("test error", 1 - tx.evaluate(sess, step, data.test).accuracy)


if __name__ == "__main__":
    app.run(main)
