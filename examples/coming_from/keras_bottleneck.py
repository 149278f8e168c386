"""Do what the Keras blog's second script does: bottleneck features to .npy, a head of 256 units on them, an .h5 of it.

    python examples/coming_from/keras_bottleneck.py --weights=mobilenet_7_5_224_tf.h5 --data_dir=data

`data` has `train` and `validation`, each with a subfolder for each class. Where the .npy files are there, as the blog's
script left them, only the head is trained. docs/coming_from/keras.md shows the same job as a script of Keras 2.
"""

import os

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import tfxfer as tx

FLAGS = flags.FLAGS
flags.DEFINE_string("network", "MobileNet", "A network of keras.applications.")
flags.DEFINE_string("weights", "mobilenet_7_5_224_tf.h5", "Its weights, as keras.applications has them.")
flags.DEFINE_string("data_dir", "data", "Folder with train and validation.")
flags.DEFINE_integer("image_size", 150, "Side of the pictures in pixels.")
flags.DEFINE_list("class_names", ["cats", "dogs"], "Of class 0 and of class 1.")
flags.DEFINE_string("features", "bottleneck_features", "Beginning of the names of the .npy files.")
flags.DEFINE_string("top_model_weights", "bottleneck_fc_model.h5", "File to write the trained head to.")
flags.DEFINE_string("logdir", "runs/keras", "Run directory.")
flags.DEFINE_integer("epochs", 50, "Times through the features.")
flags.DEFINE_integer("batch_size", 16, "Pictures a step.")


def save_bottleneck_features():
    side = FLAGS.image_size
    data = tx.data.folder(FLAGS.data_dir, size=(side, side), resize="plain")
    with tf.Graph().as_default():
        net = tx.network(FLAGS.network, weights=FLAGS.weights, include_top=False, image_size=side)
        last = list(net.endpoints.values())[-1]
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            parts = {"train": data.train, "validation": data.validation}
            rows = tx.extract(sess, net.images, [last], [split.images for split in parts.values()], "runs/store")
    for (name, split), [codes] in zip(parts.items(), rows, strict=True):
        np.save(f"{FLAGS.features}_{name}.npy", codes[np.arange(len(codes))])
        np.save(f"{FLAGS.features}_{name}_labels.npy", split.labels)


def read(name):
    """Return features and labels; without a file of labels, the first half is class 0, as on the blog."""
    x, labels = np.load(f"{FLAGS.features}_{name}.npy"), f"{FLAGS.features}_{name}_labels.npy"
    return x, np.load(labels) if os.path.exists(labels) else np.repeat(np.int64([0, 1]), [len(x) // 2, -(-len(x) // 2)])


def train_top_model():
    train, validation = read("train"), read("validation")
    data = tx.Data(train, validation, validation, class_names=tuple(FLAGS.class_names))
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        features = tf.placeholder(tf.float32, [None, *train[0].shape[1:]], name="features")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        logits = tx.models.heads.classifier(features, hidden=[256], dropout=0.5, classes=2, loss="sigmoid")
        step = tx.train_step(features, labels, logits, train=".*", optimizer="rmsprop", loss="sigmoid")
        with tx.session() as sess:
            fitted = tx.fit(sess, step, data, epochs=FLAGS.epochs, batch_size=FLAGS.batch_size, logdir=FLAGS.logdir)
            print("validation accuracy", tx.evaluate(sess, step, data.validation).accuracy)
    head = tx.weight_tools.convert_weights.plan(tx.open_weights(fitted.last), drop_slots=True)
    tx.weights.writers.write(FLAGS.top_model_weights, head.tensors, overwrite=True)


def main(_):
    if not os.path.exists(f"{FLAGS.features}_train.npy"):
        save_bottleneck_features()
    train_top_model()


if __name__ == "__main__":
    app.run(main)
