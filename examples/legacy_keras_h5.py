"""Take a network out of a file that the first versions of Keras wrote, layer by layer, and train a head on it.

    python examples/legacy_keras_h5.py --weights=keras0_autoencoder.h5 --data_dir=MNIST_data

Such a file has no names: layer k has the group `layer_k`, its kernel `param_0` and its bias `param_1`. Kernels are
Theano's: (filters, channels, rows, columns), turned by 180 degrees. LAYERS says which layer is which. It needs the
encoder of a convolutional autoencoder in this form, and the four files of MNIST; without --data_dir it takes the small
digits of scikit-learn. The VGG16 of the Keras blog, vgg16_weights.h5, has the same form, and its layers are known:
`tx.network("vgg16", weights="vgg16_weights.h5")`.

On the 10,000 test images of MNIST, --seed=0 and 1: test accuracy 0.9834 +- 0.0002.
"""

import tensorflow.compat.v1 as tf
from absl import app, flags

import tfxfer as tx

layers = tx.graph.layers
FLAGS = flags.FLAGS
flags.DEFINE_string("weights", "keras0_autoencoder.h5", "File of layer_0/param_0, layer_0/param_1, ...")
flags.DEFINE_string("data_dir", None, "Directory of MNIST's four idx files; default: scikit-learn's digits.")
flags.DEFINE_string("store", "store", "Folder that keeps what the restored layers give.")
flags.DEFINE_string("logdir", "runs/legacy_keras", "Run directory.")
flags.DEFINE_string("save", "head.h5", "File for the weights of the head, as Keras has them.")
flags.DEFINE_integer("epochs", 50, "Times through the training images.")
flags.DEFINE_integer("batch_size", 128, "Images a step.")
flags.DEFINE_integer("seed", 0, "Seed of the initial weights, the validation split and the order of images.")

# What the layers of the file are here. Between them lie activations, a pooling and a flattening, without weights.
LAYERS = {"layer_0": "conv1", "layer_2": "conv2", "layer_5": "conv3", "layer_7": "conv4", "layer_9": "conv5",
          "layer_12": "code"}  # fmt: skip
PARAMETERS = {"param_0": "kernel", "param_1": "bias"}
# How its arrays come to lie as TensorFlow has them. The rows of the first dense kernel are in the order of Theano.
LAYOUT = [("conv./kernel", "theano_conv"), ("code/kernel", "chw_fc:2,2,16")]


def encoder(images):
    x = tf.cast(images, tf.float32) / 255
    x = layers.conv2d(x, 8, 4, "conv1", padding="VALID")
    x = layers.conv2d(x, 8, 4, "conv2", padding="VALID")
    x = layers.max_pool2d(x, 2, "pool")
    for name in ("conv3", "conv4", "conv5"):
        x = layers.conv2d(x, 16, 4, name, padding="VALID")
    return layers.dense(layers.flatten(x), 200, "code")


def main(_):
    data = tx.data.mnist(FLAGS.data_dir, FLAGS.seed) if FLAGS.data_dir else tx.data.digits(FLAGS.seed)
    rename = [*((f"^{old}/", f"{new}/") for old, new in LAYERS.items()), *PARAMETERS.items()]
    weights = tx.open_weights(FLAGS.weights, rename=rename, layout=LAYOUT)
    with tf.Graph().as_default():
        tf.set_random_seed(FLAGS.seed)
        images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
        logits = tx.models.heads.classifier(encoder(images), hidden=[256], classes=10, dropout=0.5)
        plan = tx.plan(["conv.*", "code/.*"], weights)
        print(plan.report())
        step = tx.train_step(images, labels, logits, train=["fc1/.*", "logits/.*"])
        options = {"epochs": FLAGS.epochs, "batch_size": FLAGS.batch_size, "seed": FLAGS.seed}
        with tx.session(plan) as sess:
            data = tx.precompute(sess, step, data, store=FLAGS.store)
            fitted = tx.fit(sess, step, data, logdir=FLAGS.logdir, **options)
            step.saver.restore(sess, fitted.best)
            print("test accuracy", tx.evaluate(sess, step, data.test).accuracy)
    head = tx.open_weights(fitted.best).only(variable.op.name for variable in step.trained)
    tx.weights.writers.write(FLAGS.save, {name: head.tensor(name) for name in head}, overwrite=True)


if __name__ == "__main__":
    app.run(main)
