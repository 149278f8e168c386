"""A graph of your own in a session and a loop of your own: MobileNet in plain `tf.nn`, with a head on its average.

    python examples/your_own_graph.py --data_dir=flower_photos --weights=mobilenet_7_5_224_tf.h5

Of tfxfer, `plan` restores the variables from a Keras file, moving statistics included, and `precompute` runs the frozen
layers once for each picture; `train_step` tells it what is trained, and what the switches are fed. It needs a folder
with a subfolder of pictures for each class (`tfxfer fetch flower_photos`) and MobileNet 0.75 of keras.applications.
On 600 flowers, five splits 8:1:1 (--seed=0 to 4): test accuracy 0.847 +- 0.061.
"""

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import tfxfer as tx

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", "flower_photos", "Folder with a subfolder of pictures for each class.")
flags.DEFINE_string("weights", "mobilenet_7_5_224_tf.h5", "Keras file of MobileNet 0.75.")
flags.DEFINE_string("store", "store", "Folder that keeps what the frozen layers give.")
flags.DEFINE_integer("epochs", 20, "Times through the training pictures.")
flags.DEFINE_integer("seed", 0, "Seed of the split, of the initial weights and of the order of pictures.")


def batch_norm(x, name, is_training):
    with tf.variable_scope(name):
        size, ones, zeros = [x.shape[-1]], tf.ones_initializer(), tf.zeros_initializer()
        gamma, beta = tf.get_variable("gamma", size, initializer=ones), tf.get_variable("beta", size, initializer=zeros)
        mean = tf.get_variable("moving_mean", size, initializer=zeros, trainable=False)
        variance = tf.get_variable("moving_variance", size, initializer=ones, trainable=False)
        used = tf.cond(is_training, lambda: tf.nn.moments(x, [0, 1, 2]), lambda: (mean.value(), variance.value()))
        return tf.nn.relu6(tf.nn.batch_normalization(x, *used, beta, gamma, 1e-3))


def mobilenet(images, is_training):
    x = tf.nn.conv2d(tf.cast(images, tf.float32) / 127.5 - 1, tf.get_variable("conv1/kernel", [3, 3, 3, 24]), 2, "SAME")
    x = batch_norm(x, "conv1_bn", is_training)
    for block, filters in enumerate((48, 96, 96, 192, 192, *[384] * 6, 768, 768), 1):
        channels, stride = int(x.shape[-1]), 2 if block in (2, 4, 6, 12) else 1
        kernel = tf.get_variable(f"conv_dw_{block}/depthwise_kernel", [3, 3, channels, 1])
        x = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME")
        x = batch_norm(x, f"conv_dw_{block}_bn", is_training)
        x = tf.nn.conv2d(x, tf.get_variable(f"conv_pw_{block}/kernel", [1, 1, channels, filters]), 1, "SAME")
        x = batch_norm(x, f"conv_pw_{block}_bn", is_training)
    return tf.reduce_mean(x, [1, 2])


def main(_):
    data = tx.data.folder(FLAGS.data_dir, seed=FLAGS.seed)
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(FLAGS.seed)
        images, labels = tf.placeholder(tf.uint8, [None, 224, 224, 3]), tf.placeholder(tf.int64, [None])
        is_training, keep_prob = tf.placeholder(tf.bool, []), tf.placeholder(tf.float32, [])
        x = tf.nn.dropout(mobilenet(images, is_training), rate=1 - keep_prob)
        logits = tf.matmul(x, tf.get_variable("fc/kernel", [768, len(data.class_names)]))
        accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float32))

        training, testing = {is_training: False, keep_prob: 0.5}, {is_training: False, keep_prob: 1.0}
        step = tx.train_step(images, labels, logits, train="fc/.*", train_feeds=training, eval_feeds=testing)
        plan = tx.plan("conv.*", FLAGS.weights)
        sess.run(tf.global_variables_initializer())
        plan.restore(sess)
        data = tx.precompute(sess, step, data, store=FLAGS.store)

        [code] = data.train.features  # the name of the tensor that the frozen layers end in
        for epoch in range(FLAGS.epochs):
            order = np.random.RandomState(FLAGS.seed + epoch).permutation(len(data.train))
            for rows in np.array_split(order, -(-len(order) // 32)):
                batch = {code: data.train.features[code][rows], labels: data.train.labels[rows]}
                sess.run(step.stage(0).apply, {**batch, **training})  # the train_op: Adam, of fc/kernel alone
        batch = {code: data.test.features[code][:], labels: data.test.labels}
        print("test accuracy", sess.run(accuracy, {**batch, **testing}))


if __name__ == "__main__":
    app.run(main)
