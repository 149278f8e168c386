"""Take the encoder of a TensorFlow 1 autoencoder, made by `tf.layers`, and train a classifier of digits on it.

    python examples/coming_from/tensorflow1.py --checkpoint=autoencoder.ckpt --data_dir=MNIST_data

The checkpoint is read as it is: names of `tf.layers`, Adam's slots and all. docs/coming_from/tensorflow1.md shows the
same job as a script of TensorFlow 1.
"""

import tensorflow.compat.v1 as tf
from absl import app, flags

import tfxfer as tx

FLAGS = flags.FLAGS
flags.DEFINE_string("checkpoint", "autoencoder.ckpt", "Prefix of the autoencoder's checkpoint.")
flags.DEFINE_string("data_dir", None, "Directory of MNIST's four idx files; default: scikit-learn's digits.")
flags.DEFINE_string("logdir", "runs/tensorflow1", "Run directory.")
flags.DEFINE_integer("epochs", 10, "Times through the images.")
flags.DEFINE_integer("batch_size", 50, "Images a step.")
flags.DEFINE_float("keep_prob", 0.5, "Share of the hidden units that dropout keeps.")


def encode(x: tf.Tensor) -> tf.Tensor:
    """Build the encoder under the names that `tf.layers` gave it: conv2d/kernel, conv2d_1/kernel."""
    x = tx.graph.layers.conv2d(x, 8, 3, "conv2d")
    x = tf.nn.max_pool2d(x, 2, 2, "SAME")
    x = tx.graph.layers.conv2d(x, 4, 3, "conv2d_1")
    return tf.nn.max_pool2d(x, 2, 2, "SAME")


def main(_):
    weights = tx.open_weights(FLAGS.checkpoint)  # NewCheckpointReader: names and shapes, no array is read yet
    for name in weights:
        print(name, weights.shape(name))
    data = tx.data.mnist(FLAGS.data_dir) if FLAGS.data_dir else tx.data.digits()
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        images = tf.placeholder(tf.uint8, [None, 28, 28, 1], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        codes = encode(tf.cast(images, tf.float32) / 255)

        x = tx.graph.layers.dense(tx.graph.layers.flatten(codes), 128, "dense")
        x = tx.graph.layers.dropout(x, 1 - FLAGS.keep_prob, "dropout")
        logits = tx.graph.layers.dense(x, 10, "dense_1", activation=None)

        encoder = tx.plan("conv2d(_1)?/.*", weights)  # init_from_checkpoint, checked before a session exists
        step = tx.train_step(images, labels, logits, train="dense.*", optimizer=tf.train.AdamOptimizer)
        saver = tf.train.Saver(tx.select("conv2d.*", "dense.*"))  # your own Savers work as ever
        with tx.session(encoder) as sess:  # restore, initialise the rest, finalize the graph
            tx.fit(sess, step, data, epochs=FLAGS.epochs, batch_size=FLAGS.batch_size, logdir=FLAGS.logdir)
            print("test accuracy", tx.evaluate(sess, step, data.test).accuracy)
            print("saved", saver.save(sess, f"{FLAGS.logdir}/classifier", write_meta_graph=False))


if __name__ == "__main__":
    app.run(main)
