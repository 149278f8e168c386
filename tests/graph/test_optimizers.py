"""What `train_step` takes for an optimizer, and which numbers it refuses."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph.optimizers import OPTIMIZERS

IMAGES = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
LABELS = np.arange(12) % 3


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def linear(**options):
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
    kernel = tf.get_variable("kernel", [4, 3], initializer=tf.ones_initializer())
    return tx.train_step(images, labels, tf.matmul(images, kernel), **{"train": [kernel], "summaries": ()} | options)


def trained(step):
    with tx.session() as sess:
        sess.run(step.stages[0].apply, {step.images: IMAGES, step.labels: LABELS})
        return sess.run(step.trained[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_name_stands_for_the_class_of_tf_train(name):
    values = []
    for optimizer in (name, functools.partial(getattr(tf.train, OPTIMIZERS[name][0]), **OPTIMIZERS[name][1])):
        with tf.Graph().as_default():
            values.append(trained(linear(optimizer=optimizer, learning_rate=0.1)))
    assert values[0].tobytes() == values[1].tobytes()
    assert not np.array_equal(values[0], np.ones([4, 3]))


def test_an_optimizer_that_is_made_already_is_refused_and_the_cure_cures():
    with pytest.raises(GraphError, match=r"optimizer=tf\.train\.AdamOptimizer, learning_rate=1e-3"):
        linear(optimizer=tf.train.AdamOptimizer(1e-3))
    with tf.Graph().as_default():
        linear(optimizer=tf.train.AdamOptimizer, learning_rate=1e-3)


def test_what_does_not_make_an_optimizer_of_tf_train_is_refused_by_name():
    class Sgd:
        def __init__(self, learning_rate):
            pass

    for optimizer, told in {
        "adamax": "optimizer='adamax' is not known; there are adadelta, adagrad, adam",
        Sgd: "Sgd does not make an optimizer of tf.train",
        tf.train.MomentumOptimizer: "MomentumOptimizer cannot be called with learning_rate alone: .*momentum",
        3: "builtins.int does not make an optimizer",
    }.items():
        with tf.Graph().as_default(), pytest.raises(GraphError, match=told):
            linear(optimizer=optimizer)
    with tf.Graph().as_default(), pytest.raises(GraphError, match=r"optimizer gives a .*Sgd"):
        linear(optimizer=lambda learning_rate: Sgd(learning_rate))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"clip_norm": 0.0}, r"`clip_norm=0\.0`: give a number above 0"),
        ({"clip_norm": float("nan")}, "clip_norm=nan"),
        ({"learning_rate": -0.1}, r"learning_rate=-0\.1"),
        ({"learning_rate": float("inf")}, "learning_rate=inf"),
        ({"learning_rate": "0.1"}, "learning_rate='0.1'"),
        ({"multipliers": {"kernel": -1.0}}, r"multipliers\['kernel'\]=-1\.0"),
        ({"multipliers": {"kernel": float("nan")}}, r"multipliers\['kernel'\]=nan"),
        ({"clip_norm": -1.0, "learning_rate": -1.0}, r"learning_rate=-1\.0`.*; `clip_norm=-1\.0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, told):
    with pytest.raises(GraphError, match=told):
        linear(**options)


def test_the_multiplier_of_a_stage_is_checked_too():
    with pytest.raises(GraphError, match=r"the multiplier of the stage at epoch 0=-2"):
        linear(train=None, stages=[tx.Stage(0, "kernel", -2)])


# --- what else stands at the door ---


@pytest.mark.parametrize("train", ["kernel", ["kern.*"]])
def test_regular_expressions_say_what_is_trained(train):
    assert [variable.op.name for variable in linear(train=train).trained] == ["kernel"]


def test_what_is_neither_a_variable_nor_an_expression_is_refused():
    with pytest.raises(SelectionError, match=r"3: give variables of this graph"):
        linear(train=[3])


@pytest.mark.parametrize("dtype", [tf.int32, tf.uint8, tf.int64])
def test_integer_labels_of_any_width_are_taken(dtype):
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(dtype, [None])
    kernel = tf.get_variable("kernel", [4, 3], initializer=tf.ones_initializer())
    step = tx.train_step(images, labels, tf.matmul(images, kernel), train="kernel", class_weights=[1, 2, 3])
    with tx.session() as sess:
        assert tx.evaluate(sess, step, (IMAGES, LABELS)).metrics["loss"] == pytest.approx(np.log(3))


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.int32])
def test_one_hot_labels_give_what_class_numbers_give(dtype):
    values = []
    for one_hot in (False, True):
        with tf.Graph().as_default():
            tf.set_random_seed(3)
            images = tf.placeholder(tf.float32, [None, 4])
            labels = tf.placeholder(dtype, [None, 3]) if one_hot else tf.placeholder(tf.int64, [None])
            kernel = tf.get_variable("kernel", [4, 3])
            step = tx.train_step(images, labels, tf.matmul(images, kernel), train="kernel", class_weights=[1, 2, 3])
            with tx.session() as sess:
                fed = np.eye(3)[LABELS] if one_hot else LABELS
                sess.run(step.stages[0].apply, {images: IMAGES, labels: fed})
                result = tx.evaluate(sess, step, (IMAGES, LABELS))
                if one_hot:
                    rows = tx.evaluate(sess, step, (IMAGES, np.eye(3, dtype=np.float32)[LABELS]))
                    assert rows.labels.tolist() == LABELS.tolist()
                    assert rows.metrics == result.metrics
                values.append([sess.run(kernel), result.metrics["loss"], result.accuracy])
    np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-5)
    assert values[0][1:] == pytest.approx(values[1][1:], rel=1e-5)


def test_labels_of_another_shape_are_refused_with_what_to_give():
    kernel = tf.get_variable("kernel", [3])
    for labels in (tf.placeholder(tf.float32, [None]), tf.placeholder(tf.int64, [None, 1]), tf.placeholder(tf.int64)):
        images = tf.placeholder(tf.float32, [None, 4])
        with pytest.raises(GraphError, match=r"tf\.placeholder\(tf\.int64, \[None\]\)"):
            tx.train_step(images, labels, images[:, :3] * kernel, train=[kernel])


def test_a_finalized_graph_and_what_is_not_a_tensor_are_refused():
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
    logits = tf.matmul(images, tf.get_variable("kernel", [4, 3]))
    with pytest.raises(GraphError, match="images is array"):
        tx.train_step(IMAGES, labels, logits, train="kernel")
    with tf.Graph().as_default(), pytest.raises(GraphError, match="images, outputs, labels of another graph"):
        tx.train_step(images, labels, logits, train="kernel")
    with (
        tx.session(),
        pytest.raises(GraphError, match="train_step: the graph is finalized"),
    ):
        tx.train_step(images, labels, logits, train="kernel")


@pytest.mark.parametrize("name", ["adam", "momentum", "rmsprop"])
@pytest.mark.parametrize("resource", [True, False])
def test_slots_of_an_imported_graph_stay_and_new_ones_have_names_of_their_own(name, resource, tmp_path):
    with tf.Graph().as_default() as other:
        x = tf.placeholder(tf.float32, [None, 4], "x")
        logits = tf.matmul(x, tf.get_variable("kernel", [4, 3], use_resource=resource), name="y")
        kind, more = OPTIMIZERS[name]
        getattr(tf.train, kind)(0.1, **more).minimize(tf.reduce_sum(logits))
        meta = tf.train.export_meta_graph(graph=other)
    tf.train.import_meta_graph(meta)
    graph = tf.get_default_graph()
    images, labels = graph.get_tensor_by_name("x:0"), tf.placeholder(tf.int64, [None])
    old = {variable.op.name for variable in tf.global_variables()}
    step = tx.train_step(images, labels, graph.get_tensor_by_name("y:0"), train="kernel", optimizer=name)
    assert step.slots
    assert not old & {variable.op.name for variable in step.slots}
    feeds = {images: IMAGES, labels: LABELS}
    with tx.session() as sess:
        sess.run(step.stages[0].apply, feeds)
        step.saver.save(sess, str(tmp_path / "model"), global_step=1)
        sess.run(step.stages[0].apply, feeds)
        expected = sess.run(step.trained)
        step.saver.restore(sess, str(tmp_path / "model-1"))
        sess.run(step.stages[0].apply, feeds)
        assert sess.run(step.trained)[0].tobytes() == expected[0].tobytes()
