"""Models of Keras as graphs: what stands in the graph, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.networks import importing, keras_trace

MOMENTS = [1.0, 2.0, 3.0], [4.0, 9.0, 16.0]


def traced(build):
    """Build a model within the scope and trace it, in a graph of TensorFlow 1."""
    with tf.Graph().as_default(), keras_trace.building() as own:
        model = build(own)
        variables = {variable.path: variable for variable in model.variables}
        return keras_trace.trace(model, variables, path="here", kind="model")


def sequential(own, *layers):
    return own.Sequential([own.layers.Input((4, 4, 3), name="pictures"), *layers])


def test_variables_are_known_by_themselves_and_have_no_values_in_the_graph():
    file = traced(lambda own: sequential(own, own.layers.Conv2D(64, 3, name="conv"), own.layers.BatchNormalization()))
    assert list(file.variables) == [variable.name for variable in file.variables.values()]
    assert [variable.trainable for variable in file.variables.values()] == [True, True, True, True, False, False]
    assert file.variables["sequential/conv/kernel"].shape == (3, 3, 3, 64)
    assert file.graph_def.ByteSize() < 20_000
    assert file.inputs == ("pictures:0",)
    assert len(file.outputs) == 1
    assert set(file.endpoints) == {"conv", "batch_normalization"}


def test_functions_are_inlined_and_gradients_that_live_in_one_process_are_forgotten():
    file = traced(lambda own: sequential(own, own.layers.Conv2D(4, 1, activation="swish", name="conv")))
    assert not any("Call" in node.op for node in file.graph_def.node)
    assert not any("_gradient_op_type" in node.attr for node in file.graph_def.node)
    way = importing.find_way(file)
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [None, 4, 4, 3])
        ends, variables = importing.import_way(file, way, images)
        values = [np.full(variable.shape, 0.5, np.float32) for variable in variables]
        for variable, value in zip(variables, values, strict=True):
            variable.load(value, sess)
        x = np.linspace(-2, 2, 48, dtype=np.float32).reshape(1, 4, 4, 3)
        (slope,) = tf.gradients(ends["conv"], images)
        result = sess.run(slope, {images: x})
    z = x.sum(-1, keepdims=True) * 0.5 + 0.5
    sigmoid = 1 / (1 + np.exp(-z))
    expected = np.broadcast_to(4 * 0.5 * (sigmoid + z * sigmoid * (1 - sigmoid)), x.shape)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_values_that_a_layer_was_given_are_constants_and_those_of_variables_are_not():
    mean, variance = MOMENTS
    file = traced(lambda own: sequential(own, own.layers.Normalization(mean=mean, variance=variance, name="given")))
    assert not file.variables
    way = importing.find_way(file)
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [None, 4, 4, 3])
        ends, _ = importing.import_way(file, way, images)
        result = sess.run(ends["given"], {images: np.full((1, 4, 4, 3), 5.0)})
    np.testing.assert_allclose(result[0, 0, 0], [2.0, 1.0, 0.5])
    own = traced(lambda own: sequential(own, own.layers.Normalization(name="adapted")))
    assert set(importing.find_way(own).variables) == {"sequential/adapted/mean", "sequential/adapted/variance"}


def test_a_model_that_does_not_tell_its_input_is_refused():
    with pytest.raises(GraphError, match=r"does not tell the input of Sequential 'empty'.*model\.export"):
        traced(lambda own: own.Sequential([own.layers.Dense(2)], name="empty"))


def test_every_build_numbers_layers_from_the_beginning():
    names = []
    for _ in range(2):
        keras.layers.Conv2D(1, 1)
        names.append(list(traced(lambda own: sequential(own, own.layers.Conv2D(1, 1))).endpoints))
    assert names == [["conv2d"], ["conv2d"]]
