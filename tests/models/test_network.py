"""A model up to an endpoint, and a classifier on it: what is built, restored and trained."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError, SelectionError
from tfxfer.models.network import (
    build_classifier,
    build_endpoints,
    build_network,
    build_several,
    count_classes,
    endpoint_parts,
)


@pytest.fixture
def images():
    with tf.Graph().as_default():
        yield tf.placeholder(tf.uint8, [None, 32, 32, 3])


def test_the_default_is_the_bottleneck_and_an_average_has_no_positions(images):
    ends = build_endpoints("squeezenet1_1", images)
    assert list(ends)[-2:] == ["fire9", "fire9:mean"]
    assert ends["fire9:mean"].shape.as_list() == [None, 512]


def test_a_new_head_is_trained_and_the_model_restored(images):
    network = build_network("squeezenet1_1", images, classes=3, endpoint="conv1:mean", hidden=[5])
    assert network.logits.shape.as_list() == [None, 3]
    assert {v.op.name for v in tx.select(*network.restored)} == {"conv1/kernel", "conv1/bias"}
    assert [v.op.name for v in tx.select(*network.trained)] == [
        "fc1/kernel", "fc1/bias", "logits/kernel", "logits/bias",
    ]  # fmt: skip


def test_a_head_keeps_its_names_on_layers_that_are_called_alike(images):
    network = build_network("vgg16", images, classes=3, endpoint="fc6", hidden=[5])
    assert {v.op.name.partition("/")[0] for v in tx.select(*network.restored)} >= {"conv1_1", "fc6"}
    assert [v.op.name for v in tx.select(*network.trained)] == [
        "fc1/kernel", "fc1/bias", "logits/kernel", "logits/bias",
    ]  # fmt: skip


def test_the_models_own_classifier_is_made_for_the_classes(images):
    network = build_network("squeezenet1_1", images, classes=3, endpoint="pool10", hidden=[200])
    assert network.logits.shape.as_list() == [None, 3]
    assert [v.op.name for v in tx.select(*network.trained)] == ["conv10/kernel", "conv10/bias"]


@pytest.mark.parametrize(("options", "last"), [
    ({"endpoint": "conv1:mean", "hidden": [5]}, ["conv1:mean", "fc1", "logits", "prob"]),
    ({"endpoint": "conv1:mean", "loss": "sigmoid"}, ["conv1:mean", "logits", "prob"]),
    ({"endpoint": "pool10"}, ["conv10", "pool10", "prob"]),
    ({"endpoint": "prob"}, ["conv10", "pool10", "prob"]),
])  # fmt: skip
def test_a_classifier_ends_in_probabilities(images, options, last):
    ends = build_classifier("squeezenet1_1", images, classes=2, **options)
    assert list(ends)[-len(last) :] == last
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        probabilities = sess.run(ends["prob"], {images: np.full((2, 32, 32, 3), 9, np.uint8)})
    np.testing.assert_allclose(probabilities.sum(axis=1), [1, 1], rtol=1e-5)


def test_what_cannot_be_built_is_refused(images):
    with pytest.raises(SelectionError, match="'vgg61' is not a model"):
        build_endpoints("vgg61", images)
    with pytest.raises(GraphError, match="squeezenet1_1 has no endpoint 'fc6'"):
        build_endpoints("squeezenet1_1", images, endpoint="fc6")
    with tf.Graph().as_default(), pytest.raises(GraphError, match="has no endpoint 'max'; it has mean"):
        build_endpoints("squeezenet1_1", tf.placeholder(tf.uint8, [None, 32, 32, 3]), endpoint="fire2:max")


def test_classes_are_counted_by_the_models_own_last_layer(tmp_path):
    np.savez(tmp_path / "w.npz", **{"conv10/bias": np.zeros(7, np.float32)})
    weights = tx.open_weights(tmp_path / "w.npz")
    assert count_classes("squeezenet1_1", weights) == 7
    assert count_classes("vgg16", weights) == count_classes("autoencoder", None) == 1000


def test_several_endpoints_are_built_once_as_far_as_the_deepest(images):
    endpoints = endpoint_parts("fire3:mean, fire2,fire2:mean")
    ends = build_several("squeezenet1_1", images, list(endpoints))
    assert {name: ends[name].shape.as_list() for name in endpoints} == {
        "fire3:mean": [None, 128], "fire2": [None, 7, 7, 128], "fire2:mean": [None, 128]}  # fmt: skip
    assert {variable.op.name.partition("/")[0] for variable in tf.global_variables()} == {"conv1", "fire2", "fire3"}


def test_endpoints_that_cannot_be_are_refused_by_name(images):
    for text in ("fire2,fire2", "fire2,", ""):
        with pytest.raises(GraphError, match="name each endpoint once"):
            endpoint_parts(text)
    with pytest.raises(GraphError, match="squeezenet1_1 has no endpoint 'fire22'"):
        build_several("squeezenet1_1", images, ["fire2", "fire22:mean"])
    with pytest.raises(GraphError, match="fire2:max has no endpoint 'max'"):
        build_several("squeezenet1_1", images, ["fire3", "fire2:max"])
