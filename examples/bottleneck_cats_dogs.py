"""Cats and dogs from bottleneck features: VGG16's convolutions write a `.npy`, and a small network is trained on it.

    python examples/bottleneck_cats_dogs.py --data_dir=cats_dogs/train --weights=vgg16_weights.npz

It needs a folder of pictures whose names begin with their class, `cat.0.jpg`, `dog.0.jpg`, as Kaggle's Dogs vs. Cats
has them, VGG16's convolutions (`tfxfer fetch vgg16_npz`), and matplotlib (`pip install 'tfxfer[plots]'`) for the
curves. The features of pictures of 150x150 are 4 x 4 x 512 numbers each. They are computed once; delete --features to
compute them again.

On 600 pictures, of which 60 are tested, five splits (--seed=0 to 4): test accuracy 0.970 +- 0.014 (lowest 0.95).
"""

import os

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import tfxfer as tx

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", "cats_dogs/train", "Folder of pictures named cat.*.jpg and dog.*.jpg.")
flags.DEFINE_string("weights", "vgg16_weights.npz", "File with the convolutions of VGG16.")
flags.DEFINE_string("store", "store", "Folder that keeps the features while they are computed.")
flags.DEFINE_string("features", "bottleneck_features.npy", "File of the features; written if it is not there.")
flags.DEFINE_string("logdir", "runs/bottleneck", "Run directory.")
flags.DEFINE_string("curves", "curves.png", "Picture of loss and accuracy by epoch.")
flags.DEFINE_integer("epochs", 20, "Times through the training features.")
flags.DEFINE_integer("seed", 0, "Seed of the split, of the initial weights and of the order of features.")


def save_bottleneck_features(paths):
    """Run the pictures through the convolutions, and write the features of all as one array."""
    with tf.Graph().as_default():
        vgg16 = tx.network("vgg16", weights=FLAGS.weights, endpoint="pool5", image_size=150)
        with tx.session(tx.plan(vgg16.variables, vgg16.weights)) as sess:
            pictures = tx.data.Pictures(paths, vgg16.input_spec.size)
            [[features]] = tx.extract(sess, vgg16.images, [vgg16["pool5"]], [pictures], FLAGS.store)
            np.save(FLAGS.features, features[np.arange(len(features))])


def train_top_model(features, labels, class_names):
    """Train the head on 8 of 10 pictures, and return its accuracy on 1 of 10 that it has not seen."""
    parts = tx.data.splits.stratified(labels, (8, 1, 1), FLAGS.seed)
    data = tx.Data(*((features[part], labels[part]) for part in parts), class_names=class_names)
    with tf.Graph().as_default():
        tf.set_random_seed(FLAGS.seed)
        x = tf.placeholder(tf.float32, [None, *features.shape[1:]], name="features")
        y = tf.placeholder(tf.int64, [None], name="labels")
        unit = tx.models.heads.normalize(x, "l2")  # the features of each picture get the length 1
        logits = tx.models.heads.classifier(unit, hidden=[256], classes=2, dropout=0.5, loss="sigmoid")
        step = tx.train_step(x, y, logits, train=".*", loss="sigmoid", optimizer="rmsprop", learning_rate=1e-3)
        with tx.session() as sess:
            fitted = tx.fit(sess, step, data, epochs=FLAGS.epochs, logdir=FLAGS.logdir, seed=FLAGS.seed)
            with tf.gfile.Open(FLAGS.curves, "wb") as file:
                file.write(tx.plots.curves.draw(fitted.history))
            step.saver.restore(sess, fitted.best)
            return tx.evaluate(sess, step, data.test).accuracy


def main(_):
    paths = sorted(tf.gfile.Glob(os.path.join(FLAGS.data_dir, "*.jpg")))
    class_names, labels = np.unique([os.path.basename(path).split(".")[0] for path in paths], return_inverse=True)
    if not os.path.exists(FLAGS.features):
        save_bottleneck_features(paths)
    features = np.load(FLAGS.features)
    print("test accuracy", train_top_model(features, labels, tuple(class_names)))


if __name__ == "__main__":
    app.run(main)
