"""Networks that plain TensorFlow code makes and writes, as others have them: nothing of tfxfer is in it."""

from __future__ import annotations

import numpy as np
import tensorflow.compat.v1 as tf

FEEDS = {"is_training": False, "keep_prob": 1.0}


def batch_norm(x, training, name):
    """Batch normalisation by hand, whose statistics the branch for training moves."""
    with tf.variable_scope(name):
        depth = [x.shape[-1]]
        gamma, beta = (
            tf.get_variable(part, depth, initializer=tf.random_uniform_initializer(0.5, 1.5, seed=1))
            for part in ("gamma", "beta")
        )
        mean, variance = (
            tf.get_variable(part, depth, initializer=tf.constant_initializer(value), trainable=False)
            for part, value in (("moving_mean", 0.0), ("moving_variance", 1.0))
        )

        def train():
            now_mean, now_variance = tf.nn.moments(x, [0, 1, 2])
            moves = [
                tf.assign(mean, mean * 0.9 + now_mean * 0.1),
                tf.assign(variance, variance * 0.9 + now_variance * 0.1),
            ]
            with tf.control_dependencies(moves):
                return tf.identity(now_mean), tf.identity(now_variance)

        used = tf.cond(training, train, lambda: (tf.identity(mean), tf.identity(variance)))
        return tf.nn.batch_normalization(x, *used, beta, gamma, 1e-3)


def write_trained(prefix="model.ckpt"):
    """Write a MetaGraph and checkpoint of a network with batch norm, dropout, an input pipeline and an Adam.

    Returns pictures float32 [5, 16, 16, 3], and what `pool` and `logits` are of them.
    """
    rng = np.random.default_rng(3)
    with tf.Graph().as_default():
        tf.set_random_seed(5)
        table = rng.random((4, 16, 16, 3), np.float32), np.array([0, 1, 0, 1])
        dataset = tf.data.Dataset.from_tensors(table).repeat()
        images, labels = tf.data.make_one_shot_iterator(dataset).get_next()
        images = tf.placeholder_with_default(images, [None, 16, 16, 3], "batch")
        training = tf.placeholder(tf.bool, [], name="is_training")
        keep = tf.placeholder(tf.float32, [], name="keep_prob")
        kernel = tf.get_variable("conv1/kernel", [3, 3, 3, 8])
        x = tf.nn.conv2d(images, kernel, [1, 1, 1, 1], "SAME")
        x = tf.nn.relu(batch_norm(x, training, "bn1"), name="relu1")
        x = tf.nn.dropout(x, rate=1 - keep)
        split = tf.get_variable("conv2/kernel", [3, 3, 8, 8], partitioner=tf.fixed_size_partitioner(2))
        x = tf.nn.relu(tf.nn.conv2d(x, tf.convert_to_tensor(split), [1, 2, 2, 1], "SAME"), name="relu2")
        pool = tf.reduce_mean(x, [1, 2], name="pool")
        logits = tf.matmul(pool, tf.get_variable("fc/kernel", [8, 2]), name="logits")
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        step = tf.train.get_or_create_global_step()
        average = tf.train.ExponentialMovingAverage(0.5)
        train = tf.train.AdamOptimizer().minimize(loss, global_step=step)
        with tf.control_dependencies([train]):
            train = average.apply(tf.trainable_variables())
        saver = tf.train.Saver()
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            for _ in range(3):
                sess.run(train, {training: True, keep: 0.5})
            pictures = rng.random((5, 16, 16, 3), np.float32)
            outputs = sess.run((pool, logits), {images: pictures, training: False, keep: 1.0})
            saver.save(sess, prefix)
    return pictures, outputs


def write_frozen(path="frozen.pb", prefix="model.ckpt"):
    """Write the same network with its variables as constants and a softmax, `prob`, as one GraphDef."""
    pictures, outputs = write_trained(prefix)
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        saver = tf.train.import_meta_graph(f"{prefix}.meta", clear_devices=True)
        saver.restore(sess, prefix)
        tf.nn.softmax(graph.get_tensor_by_name("logits:0"), name="prob")
        frozen = tf.graph_util.convert_variables_to_constants(sess, graph.as_graph_def(), ["prob"])
    with open(path, "wb") as file:
        file.write(frozen.SerializeToString())
    return pictures, outputs
