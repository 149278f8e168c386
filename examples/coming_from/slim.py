"""Fine-tune VGG16 from a checkpoint of TF-slim: a new classifier, and the last block at a tenth of the rate later on.

    python examples/coming_from/slim.py --checkpoint_path=vgg_16.ckpt --dataset_dir=flower_photos --train_dir=runs/slim

The checkpoint is that of slim's model zoo, names as `vgg_16/conv1/conv1_1/weights`. docs/coming_from/slim.md shows the
same job as a script of slim.
"""

import tensorflow.compat.v1 as tf
from absl import app, flags

import tfxfer as tx

FLAGS = flags.FLAGS
flags.DEFINE_string("checkpoint_path", "vgg_16.ckpt", "Checkpoint of slim's vgg_16, vgg_19 or vgg_a.")
flags.DEFINE_string("dataset_dir", "flower_photos", "Folder with a subfolder of pictures for each class.")
flags.DEFINE_string("train_dir", "runs/slim", "Run directory.")
flags.DEFINE_string("endpoint", "fc7", "What the new classifier is put on: fc7, or pool5 for a checkpoint without fc6.")
flags.DEFINE_integer("image_size", None, "Side of the pictures in pixels; default: 224.")
flags.DEFINE_integer("epochs", 10, "Times through the pictures.")
flags.DEFINE_integer("unfreeze", 5, "Epoch, counted from 0, from which the last block is trained too.")
flags.DEFINE_integer("batch_size", 32, "Pictures a step.")
flags.DEFINE_float("learning_rate", 1e-3, "Size of a step.")
flags.DEFINE_float("weight_decay", 4e-5, "Factor of half the sum of squares of the trained kernels.")
flags.DEFINE_string("store", "runs/store", "Folder in which the outputs of frozen layers are kept.")


def main(_):
    vgg = tx.recognise(FLAGS.checkpoint_path)
    print(vgg.report())
    spec = tx.input_spec.with_size(vgg.input_spec, FLAGS.image_size)
    data = tx.data.folder(FLAGS.dataset_dir, size=spec.size)
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        net = tx.network(vgg.model, weights=FLAGS.checkpoint_path, endpoint=FLAGS.endpoint, input_spec=spec)
        labels = tf.placeholder(tf.int64, [None], name="labels")
        logits = tx.models.heads.classifier(net[FLAGS.endpoint], classes=len(data.class_names))

        # Of the file, what the endpoint reads: slim's get_variables_to_restore(exclude=["vgg_16/fc8"]).
        restored = tx.plan(net.variables, net.weights)
        step = tx.train_step(
            net.images,
            labels,
            logits,
            stages=[tx.Stage(0, "logits/.*"), tx.Stage(FLAGS.unfreeze, "conv5.*", multiplier=0.1)],
            optimizer="momentum",
            learning_rate=FLAGS.learning_rate,
            l2=FLAGS.weight_decay,
        )
        with tx.session(restored) as sess:
            data = tx.precompute(sess, step, data, store=FLAGS.store)  # conv1_1 to pool4 run once for each picture
            tx.fit(sess, step, data, epochs=FLAGS.epochs, batch_size=FLAGS.batch_size, logdir=FLAGS.train_dir)
            print(tx.evaluate(sess, step, data.test, class_names=data.class_names))


if __name__ == "__main__":
    app.run(main)
