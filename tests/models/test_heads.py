"""The head: its names and scopes in full, its values against numpy, what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError
from tfxfer.graph import layers
from tfxfer.models import heads


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def names_and_shapes():
    return {variable.op.name: tuple(variable.shape.as_list()) for variable in tf.global_variables()}


def features(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_a_head_without_hidden_layers_is_linear():
    logits = heads.classifier(tf.zeros([4, 7]), classes=3)
    assert logits.shape == [4, 3]
    assert names_and_shapes() == {"logits/kernel": (7, 3), "logits/bias": (3,)}


def test_any_list_of_hidden_sizes_makes_fc1_fc2_and_so_on():
    heads.classifier(tf.zeros([4, 7]), hidden=(20, 5, 9), classes=3)
    assert list(names_and_shapes().items()) == [
        ("fc1/kernel", (7, 20)),
        ("fc1/bias", (20,)),
        ("fc2/kernel", (20, 5)),
        ("fc2/bias", (5,)),
        ("fc3/kernel", (5, 9)),
        ("fc3/bias", (9,)),
        ("logits/kernel", (9, 3)),
        ("logits/bias", (3,)),
    ]


def test_all_ops_lie_in_the_scope_HEAD_and_no_variable_is_named_after_it(graph):
    heads.classifier(tf.placeholder(tf.float32, [None, 2, 2, 3], name="features"), hidden=[4], classes=2, dropout=0.5)
    tops = {operation.name.split("/")[0] for operation in graph.get_operations()}
    assert tops == {"features", "HEAD", "fc1", "logits", "global_step"}
    assert not any("HEAD" in name for name in names_and_shapes())


def test_logits_are_what_numpy_computes_from_the_features():
    x = features(6, 2, 3, 4)
    logits = heads.classifier(tf.constant(x), hidden=[8, 5], classes=3, dropout=0.5)
    with tx.session() as sess:
        for variable in tf.global_variables():
            if variable.op.name.endswith("bias"):
                sess.run(variable.initializer, {variable.initializer.inputs[1]: features(*variable.shape.as_list())})
        got, values = sess.run([logits, {variable.op.name: variable for variable in tf.global_variables()}])
    hidden = x.reshape(6, 24)
    for name in ("fc1", "fc2"):
        hidden = np.maximum(hidden @ values[f"{name}/kernel"] + values[f"{name}/bias"], 0)
    np.testing.assert_allclose(got, hidden @ values["logits/kernel"] + values["logits/bias"], atol=1e-5)


def test_dropout_comes_after_each_hidden_layer_and_only_where_it_is_switched_on():
    x = features(200, 30)
    logits = heads.classifier(tf.constant(x), hidden=[40, 50], classes=3, dropout=0.25)
    switches = tf.get_collection(layers.DROPOUTS)
    assert [switch.op.name for switch in switches] == ["HEAD/dropout1/switch", "HEAD/dropout2/switch"]
    fed = tf.get_default_graph().get_tensor_by_name("HEAD/logits/MatMul:0").op.inputs[0]
    with tx.session() as sess:
        off = sess.run(fed)
        on = sess.run(fed, {switches[1]: True})
        both = sess.run(logits, dict.fromkeys(switches, True))
        plain = sess.run(logits)
    assert (on[off > 0] == 0).mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(on[on > 0], off[on > 0] / 0.75, rtol=1e-6)
    assert not np.isclose(both, plain).any(axis=1).all()


def test_without_dropout_there_is_no_switch():
    heads.classifier(tf.zeros([4, 7]), hidden=[5], classes=3)
    assert tf.get_collection(layers.DROPOUTS) == []
    assert tf.train.get_global_step() is None


def test_sigmoid_tells_two_classes_apart_by_one_logit():
    logits = heads.classifier(tf.zeros([4, 7]), hidden=[5], classes=2, loss="sigmoid")
    assert logits.shape == [4, 1]
    assert names_and_shapes()["logits/kernel"] == (5, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 3, "loss": "hinge"}, "loss is 'softmax' or 'sigmoid', not 'hinge'"),
        ({"classes": 3, "loss": "sigmoid"}, "`loss='sigmoid'` tells two classes apart, and there are 3; use `loss="),
        ({"classes": 1}, "`classes=1`: there must be 2 or more to tell apart"),
        ({"classes": 0, "loss": "sigmoid"}, "`classes=0`: there must be 2 or more to tell apart"),
        ({"classes": 2, "hidden": [3], "dropout": 1.0}, "dropout 'dropout1': rate=1.0 is not in [0, 1)"),
    ],
)
def test_what_makes_no_classifier_is_refused(options, message):
    with pytest.raises(GraphError, match=re.escape(message)):
        heads.classifier(tf.zeros([4, 7]), **options)
