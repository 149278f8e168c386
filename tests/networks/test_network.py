"""Networks in the default graph, out of files that plain TensorFlow wrote and by name."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.networks.made import FEEDS
from tfxfer.errors import DataError, GraphError, SelectionError


def run(net, tensor, pictures):
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        return sess.run(tensor, {net.images: pictures})


def test_of_a_metagraph_the_way_to_the_endpoint_alone_is_imported_and_gives_the_same_bits(trained):
    pictures, (pool, logits) = trained
    for endpoint, expected in (("pool", pool), ("logits", logits)):
        with tf.Graph().as_default() as graph:
            net = tx.network("model.ckpt.meta", endpoint=endpoint, feeds=FEEDS)
            assert list(net)[-1] == endpoint
            kinds = {op.type for op in graph.get_operations()}
            np.testing.assert_array_equal(run(net, net[endpoint], pictures), expected)
        kinds = {kind for kind in kinds if not kind.startswith("StatelessRandom")}  # what variables start from
        assert not any("Iterator" in kind or "Random" in kind or "Apply" in kind for kind in kinds)
        assert not kinds & {"If", "Switch", "Merge", "StatefulPartitionedCall", "SaveV2", "AssignSubVariableOp"}


def test_its_variables_have_the_names_of_the_file_and_statistics_are_not_trainable(trained):
    net = tx.network("model.ckpt", endpoint="pool", feeds=FEEDS)
    names = [variable.op.name for variable in net.variables]
    assert set(names) == {
        *("conv1/kernel", "bn1/gamma", "bn1/beta", "bn1/moving_mean", "bn1/moving_variance"),
        *("conv2/kernel/part_0", "conv2/kernel/part_1"),
    }
    trainable = {variable.op.name for variable in tf.trainable_variables()}
    assert trainable == {name for name in names if "moving" not in name}
    assert {variable.op.name for variable in tx.select("conv2/kernel")} == {
        "conv2/kernel/part_0",
        "conv2/kernel/part_1",
    }


def test_a_new_head_on_a_tensor_in_its_middle_is_trained_and_the_rest_stays(trained):
    pictures, (pool, _) = trained
    labels_of = np.arange(5) % 2
    net = tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS)
    labels = tf.placeholder(tf.int64, [None])
    logits = tx.models.heads.classifier(net["pool"], hidden=[], classes=2)
    step = tx.train_step(net.images, labels, logits, train=tx.select("logits/.*"))
    split = tx.Split(pictures, labels_of)
    data = tx.Data(split, split, split, class_names=("a", "b"))
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        stored = tx.precompute(sess, step, data, store="store")
        features = stored.train.features
        assert len(features) == 1
        np.testing.assert_array_equal(next(iter(features.values()))[:], pool)
        tx.fit(sess, step, stored, epochs=1, batch_size=5, logdir="run")
        np.testing.assert_array_equal(sess.run(net["pool"], {net.images: pictures}), pool)


def test_two_scopes_hold_two_copies(trained):
    pictures, (pool, _) = trained
    nets = [tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS, scope=scope) for scope in ("a", "b")]
    assert nets[1].variables[0].op.name.startswith("b/")
    plans = [tx.plan(net.variables, net.weights) for net in nets]
    with tx.session(*plans) as sess:
        for net in nets:
            np.testing.assert_array_equal(sess.run(net["pool"], {net.images: pictures}), pool)


def test_pictures_are_prepared_as_an_input_spec_says(trained):
    spec = tx.InputSpec("mine", "own", (16, 16), "RGB", mean=(1, 2, 3), scale=(0.5, 0.25, 0.125))
    net = tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS, input_spec=spec)
    plain = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)
    assert net.images.dtype == tf.uint8
    prepared = ((plain - np.array(spec.mean)) * spec.scale).astype(np.float32)
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        first = sess.run(net["pool"], {net.images: plain})
    with tf.Graph().as_default():
        other = tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS)
        np.testing.assert_allclose(run(other, other["pool"], prepared), first, rtol=1e-5)


def test_an_input_spec_of_another_size_is_refused(trained):
    spec = tx.InputSpec("mine", "own", (32, 32), "RGB", mean=(0, 0, 0), scale=(1, 1, 1))
    with pytest.raises(DataError, match=r"takes float32 \(4, 16, 16, 3\), and gets float32 \(None, 32"):
        tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS, input_spec=spec)


def test_a_name_builds_the_model_and_a_misspelt_one_is_refused():
    with tf.Graph().as_default():
        net = tx.network("squeezenet1_1", endpoint="fire2")
    assert net.images.shape.as_list() == [None, *net.input_spec.size, 3]
    assert net.weights is None
    assert {variable.op.name.split("/")[0] for variable in net.variables} == {"conv1", "fire2"}
    with pytest.raises(SelectionError, match=r"'vgg61' is neither a file nor the name of a network \(did you mean vgg"):
        tx.network("vgg61")


def test_pictures_may_have_another_size_than_the_weights_were_trained_on(trained):
    with tf.Graph().as_default():
        net = tx.network("squeezenet1_1", endpoint="fire2", image_size=67)
    assert (net.images.shape.as_list(), net.input_spec.size) == ([None, 67, 67, 3], (67, 67))
    spec = tx.InputSpec.of_keras("tf", (32, 32), model="mine")
    net = tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS, input_spec=spec, image_size=16)
    assert (net.images.shape.as_list(), net.input_spec.size) == ([None, 16, 16, 3], (16, 16))
    with pytest.raises(DataError, match=r"`image_size=16`: model.ckpt.meta does not say what pictures it expects"):
        tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS, image_size=16, scope="other")
    with pytest.raises(DataError, match="`image_size=0` must be 1 or more"):
        tx.network("squeezenet1_1", image_size=0)


def test_a_model_is_built_up_to_an_average_or_several_endpoints_joined():
    for endpoint, last, width in (("fire2:mean", "fire2", 128), ("fire2:mean,fire4:mean", "fire4", 384)):
        with tf.Graph().as_default():
            net = tx.network("squeezenet1_1", endpoint=endpoint)
            assert net[endpoint].shape.as_list() == [None, width]
            assert net.variables[-1].op.name.startswith(last)
            assert {variable.op.name for variable in net.variables} == {v.op.name for v in tx.select(".*")}
    with tf.Graph().as_default(), pytest.raises(GraphError, match=r"no endpoint 'fire22'.* fire2"):
        tx.network("squeezenet1_1", endpoint="fire22:mean")


def test_an_endpoint_that_is_not_there_is_refused_with_the_nearest(trained):
    net = tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS)
    with pytest.raises(GraphError, match=r"no endpoint 'rellu1' \(did you mean relu"):
        net["rellu1"]
    assert net["relu2:mean"].shape.as_list() == [None, 8]


def test_the_input_spec_beside_a_checkpoint_says_how_pictures_are_prepared(trained):
    tx.InputSpec.of_keras("tf", (16, 16), model="mine").save("model.ckpt")
    net = tx.network("model.ckpt", endpoint="pool", feeds=FEEDS)
    assert (net.images.dtype, net.images.shape.as_list()) == (tf.uint8, [None, 16, 16, 3])
    assert net.input_spec == tx.InputSpec.load("model.ckpt")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    codes = run(net, net["pool"], pixels)
    with tf.Graph().as_default():
        plain = tx.network("model.ckpt", endpoint="pool", feeds=FEEDS, input="relu1")  # takes no pictures
        assert plain.input_spec is None
        assert plain.images.dtype == tf.float32
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        tf.train.import_meta_graph("model.ckpt.meta").restore(sess, "model.ckpt")
        feeds = {"batch:0": (pixels - 127.5) / 127.5, "is_training:0": False, "keep_prob:0": 1.0}
        np.testing.assert_allclose(codes, sess.run(graph.get_tensor_by_name("pool:0"), feeds), rtol=1e-5)


def test_what_only_files_use_is_refused_for_a_network_by_name():
    with pytest.raises(SelectionError, match=r"`feeds`, `moving_averages`: .*not used with squeezenet1_1; leave it"):
        tx.network("squeezenet1_1", feeds={"a": 1}, moving_averages=True)


def test_the_average_of_an_endpoint_without_positions_is_refused(trained):
    net = tx.network("model.ckpt", endpoint="pool", feeds=FEEDS)
    with pytest.raises(GraphError, match="has no positions to average over"):
        net["pool:mean"]


def test_a_classifier_has_as_many_classes_as_its_weights(tmp_path):
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 224, 224, 3])
        tx.models.squeezenet.squeezenet1_1(images, classes=7)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            prefix = tf.train.Saver().save(sess, str(tmp_path / "seven"))
    with tf.Graph().as_default():
        net = tx.network("squeezenet1_1", weights=prefix)
        assert net["prob"].shape.as_list() == [None, 7]
        assert {pairing.status for pairing in tx.plan(net.variables, net.weights).pairings} == {"restored"}


def test_outside_of_a_graph_the_cure_is_named():
    with pytest.raises(GraphError, match=r"executes eagerly here .* `with tf\.Graph\(\)\.as_default\(\):`"):
        tx.network("squeezenet1_1", endpoint="fire2")
