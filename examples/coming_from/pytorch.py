"""Fine-tune a network of torchvision or timm from its .pth file, without PyTorch: a new head, then the last layers.

    python examples/coming_from/pytorch.py --weights=resnet18-f37072fd.pth --data_dir=hymenoptera_data
    python examples/coming_from/pytorch.py --weights=tf_efficientnet_lite0.pth --unfreeze="block7.*|head.*"

docs/coming_from/pytorch.md shows the same job as a script of PyTorch.
"""

import tensorflow.compat.v1 as tf
from absl import app, flags

import tfxfer as tx

FLAGS = flags.FLAGS
flags.DEFINE_string("weights", "resnet18-f37072fd.pth", "State dict of torchvision or timm; it tells the network.")
flags.DEFINE_string("data_dir", "hymenoptera_data", "Folder with a subfolder for each class; or train and val of such.")
flags.DEFINE_integer("image_size", None, "Side of the pictures in pixels; default: what the weights expect.")
flags.DEFINE_string("endpoint", "pool", "What the new head is put on.")
flags.DEFINE_string("unfreeze", "block4.*", "Variables of the network that are trained too, at a tenth of the rate.")
flags.DEFINE_integer("unfreeze_epoch", 5, "Epoch, counted from 0, from which they are.")
flags.DEFINE_integer("epochs", 10, "Times through the pictures.")
flags.DEFINE_integer("batch_size", 32, "Pictures a step.")
flags.DEFINE_float("learning_rate", 1e-3, "Size of a step.")
flags.DEFINE_string("logdir", "runs/pytorch", "Run directory.")
flags.DEFINE_string("store", "runs/store", "Folder in which the outputs of frozen layers are kept.")


def main(_):
    known = tx.recognise(FLAGS.weights)
    print(known.report())
    spec = tx.input_spec.with_size(known.input_spec, FLAGS.image_size)
    data = tx.data.folder(FLAGS.data_dir, size=spec.size)
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        net = tx.network(known.model, weights=FLAGS.weights, endpoint=FLAGS.endpoint, input_spec=spec)
        labels = tf.placeholder(tf.int64, [None], name="labels")
        logits = tx.models.heads.classifier(net[FLAGS.endpoint], classes=len(data.class_names))
        step = tx.train_step(
            net.images,
            labels,
            logits,
            # requires_grad and parameter groups: who is not in a stage is frozen, moving statistics included.
            stages=[tx.Stage(0, "logits/.*"), tx.Stage(FLAGS.unfreeze_epoch, FLAGS.unfreeze, multiplier=0.1)],
            optimizer="momentum",
            learning_rate=FLAGS.learning_rate,
        )
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            data = tx.precompute(sess, step, data, store=FLAGS.store)
            fitted = tx.fit(sess, step, data, epochs=FLAGS.epochs, batch_size=FLAGS.batch_size, logdir=FLAGS.logdir)
            print(f"{fitted.frozen} variables are frozen and unchanged")
            print(tx.evaluate(sess, step, data.test, class_names=data.class_names))


if __name__ == "__main__":
    app.run(main)
