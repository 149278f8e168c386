"""Do what retrain.py does: a new last layer on a frozen graph or on a module of TensorFlow Hub, for your pictures.

    python examples/coming_from/retrain_and_hub.py --image_dir=flower_photos --graph=classify_image_graph_def.pb
    python examples/coming_from/retrain_and_hub.py --image_dir=flower_photos --graph=mobilenet_v2_module \
        --input= --bottleneck= --image_size=224 --mean=0 --scale=0.00392156862745098

The defaults are those of the graph of Inception v3 that retrain.py downloaded. docs/coming_from/retrain_and_hub.md
shows the same job as a script with hub.Module.
"""

import tensorflow.compat.v1 as tf
from absl import app, flags

import tfxfer as tx

FLAGS = flags.FLAGS
flags.DEFINE_string("image_dir", "flower_photos", "Folder with a subfolder of pictures for each class.")
flags.DEFINE_string("graph", "classify_image_graph_def.pb", "Frozen graph, or folder of a Hub module or SavedModel.")
flags.DEFINE_string("input", "Mul", "Tensor in the place of which pictures come; empty for the only placeholder.")
flags.DEFINE_string("bottleneck", "pool_3/_reshape", "Tensor that the new layer is put on; empty for the output.")
flags.DEFINE_integer("image_size", 299, "Side of the pictures in pixels.")
flags.DEFINE_float("mean", 128, "Subtracted from pixels in 0..255.")
flags.DEFINE_float("scale", 1 / 128, "What pixels are multiplied by then.")
flags.DEFINE_string("bottleneck_dir", "runs/bottlenecks", "Folder in which bottlenecks are kept, once a picture.")
flags.DEFINE_string("summaries_dir", "runs/retrain", "Run directory.")
flags.DEFINE_string("saved_model_dir", None, "SavedModel to write: pictures in, names and probabilities out.")
flags.DEFINE_integer("epochs", 40, "Times through the pictures.")
flags.DEFINE_integer("train_batch_size", 100, "Pictures a step.")
flags.DEFINE_float("learning_rate", 0.01, "Size of a step.")


def main(_):
    size, mean, scale = (FLAGS.image_size,) * 2, (FLAGS.mean,) * 3, (FLAGS.scale,) * 3
    spec = tx.InputSpec("module", FLAGS.graph, size, "RGB", mean, scale, resize="plain")
    # Each picture's split follows from its contents: it stays there as others are added.
    data = tx.data.folder(FLAGS.image_dir, size=size, resize="plain", split="digest")
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        net = tx.network(FLAGS.graph, input=FLAGS.input or None, endpoint=FLAGS.bottleneck or None, input_spec=spec)
        labels = tf.placeholder(tf.int64, [None], name="labels")
        bottleneck = list(net.endpoints.values())[-1]
        logits = tx.models.heads.classifier(bottleneck, classes=len(data.class_names))
        step = tx.train_step(
            net.images, labels, logits, train="logits/.*", optimizer="sgd", learning_rate=FLAGS.learning_rate
        )
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            bottlenecks = tx.precompute(sess, step, data, store=FLAGS.bottleneck_dir)
            tx.fit(
                sess,
                step,
                bottlenecks,
                epochs=FLAGS.epochs,
                batch_size=FLAGS.train_batch_size,
                logdir=FLAGS.summaries_dir,
            )
            print(tx.evaluate(sess, step, bottlenecks.test, class_names=data.class_names))
    if FLAGS.saved_model_dir:
        print("exported", tx.open_run(FLAGS.summaries_dir).export(FLAGS.saved_model_dir).path)


if __name__ == "__main__":
    app.run(main)
