"""Tell flowers apart: VGG16 gives the codes of each picture once, and a head of 256 units learns from them.

    python examples/flowers_vgg16.py --data_dir=flower_photos --weights=vgg16_weights.npz --picture=rose.jpg

It needs a folder with a subfolder of pictures for each class (`tfxfer fetch flower_photos`) and VGG16's convolutions
(`tfxfer fetch vgg16_npz`). The codes are kept in --store: a further run does not open VGG16's layers again.
--endpoint=fc6 takes the 4096 numbers of fc6, if the file has it.

On 600 flowers of five classes, five splits 8:1:1 (--seed=0 to 4): test accuracy 0.860 +- 0.025 (0.83 to 0.90).
"""

import os

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags
from sklearn.preprocessing import LabelBinarizer

import tfxfer as tx

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", "flower_photos", "Folder with a subfolder of pictures for each class.")
flags.DEFINE_string("weights", "vgg16_weights.npz", "File with the weights of VGG16.")
flags.DEFINE_string("endpoint", "pool5:mean", "Layer whose output is the code of a picture; :mean averages positions.")
flags.DEFINE_string("store", "store", "Folder that keeps the codes.")
flags.DEFINE_string("logdir", "runs/flowers_vgg16", "Run directory.")
flags.DEFINE_string("picture", None, "A picture to tell the flower of; default: none.")
flags.DEFINE_integer("epochs", 20, "Times through the training pictures.")
flags.DEFINE_integer("seed", 0, "Seed of the split, of the initial weights and of the order of pictures.")


def read_pictures(size):
    """Return the pictures in three splits, 8:1:1, each class at its share; labels are one-hot."""
    paths = sorted(tf.gfile.Glob(os.path.join(FLAGS.data_dir, "*", "*")))
    names = np.array([os.path.basename(os.path.dirname(path)) for path in paths])
    binarizer = LabelBinarizer()
    everything = tx.Split(tx.data.Pictures(paths, size), binarizer.fit_transform(names))
    parts = tx.data.splits.stratified(names, (8, 1, 1), FLAGS.seed)
    return tx.Data(*map(everything.subset, parts), class_names=tuple(binarizer.classes_))


def main(_):
    with tf.Graph().as_default():
        tf.set_random_seed(FLAGS.seed)
        vgg16 = tx.network("vgg16", weights=FLAGS.weights, endpoint=FLAGS.endpoint)
        data = read_pictures(vgg16.input_spec.size)
        classes = len(data.class_names)

        codes = tx.models.heads.normalize(vgg16[FLAGS.endpoint], "l2")  # all codes get the length 1
        logits = tx.models.heads.classifier(codes, hidden=[256], classes=classes, dropout=0.5)
        labels = tf.placeholder(tf.int64, [None, classes], name="labels")
        step = tx.train_step(
            vgg16.images, labels, logits, train=["fc1/.*", "logits/.*"], optimizer="adam", learning_rate=3e-3
        )

        with tx.session(tx.plan(vgg16.variables, vgg16.weights)) as sess:
            data = tx.precompute(sess, step, data, store=FLAGS.store)
            lowest_loss = tx.CheckpointOptions(monitor="loss")
            fitted = tx.fit(
                sess, step, data, epochs=FLAGS.epochs, logdir=FLAGS.logdir, seed=FLAGS.seed, checkpoints=lowest_loss
            )
            step.saver.restore(sess, fitted.best)
            print("test accuracy", tx.evaluate(sess, step, data.test, class_names=data.class_names).accuracy)
            if FLAGS.picture:
                prediction = tx.predict(sess, step, FLAGS.picture, class_names=data.class_names)
                for name, probability in zip(prediction.names[0], prediction.probabilities[0], strict=True):
                    print(f"{name:12} {probability:.3f}")


if __name__ == "__main__":
    app.run(main)
