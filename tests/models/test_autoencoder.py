"""The autoencoder: its names, shapes and scopes in full, and its values against numpy."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import DataError, GraphError
from tfxfer.graph import layers
from tfxfer.graph.variables import global_step
from tfxfer.models import autoencoder, heads


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def pictures(n, *shape):
    return np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8)


def placeholder(*shape, dtype=tf.uint8):
    return tf.placeholder(dtype, [None, *shape], name="images")


def names_and_shapes():
    return {variable.op.name: tuple(variable.shape.as_list()) for variable in tf.global_variables()}


def shapes(ends):
    return {name: tuple(tensor.shape.as_list()) for name, tensor in ends.items()}


def top_level_scopes(graph):
    return {operation.name.split("/")[0] for operation in graph.get_operations()}


ENCODER = {
    "input": (None, 28, 28, 1),
    "conv1": (None, 14, 14, 16),
    "conv2": (None, 7, 7, 32),
    "flatten": (None, 1568),
}
CLASSIFIER = {
    "conv1/kernel": (5, 5, 1, 16),
    "conv1/bias": (16,),
    "conv2/kernel": (5, 5, 16, 32),
    "conv2/bias": (32,),
    "fc1/kernel": (1568, 200),
    "fc1/bias": (200,),
    "logits/kernel": (200, 10),
    "logits/bias": (10,),
}
AUTOENCODER = {
    **{name: shape for name, shape in CLASSIFIER.items() if "logits" not in name},
    "latent/kernel": (200, 50),
    "latent/bias": (50,),
    "dec_fc1/kernel": (50, 1568),
    "dec_fc1/bias": (1568,),
    "deconv2/kernel": (5, 5, 16, 32),
    "deconv2/bias": (16,),
    "deconv1/kernel": (5, 5, 1, 16),
    "deconv1/bias": (1,),
}


def test_the_encoders_endpoints_and_variables_are_these():
    ends = autoencoder.encoder(placeholder(28, 28, 1))
    assert shapes(ends) == ENCODER
    assert names_and_shapes() == {name: shape for name, shape in CLASSIFIER.items() if "conv" in name}


def test_the_encoder_as_a_classifier_has_exactly_these_8_variables_in_this_order():
    ends = autoencoder.encoder(placeholder(28, 28, 1))
    logits = heads.classifier(ends["flatten"], hidden=[200], classes=10)
    assert logits.shape.as_list() == [None, 10]
    assert list(names_and_shapes().items()) == list(CLASSIFIER.items())


def test_the_autoencoders_endpoints_and_variables_are_these():
    ends = autoencoder.autoencoder(placeholder(28, 28, 1))
    assert shapes(ends) == {
        **ENCODER,
        "fc1": (None, 200),
        "latent": (None, 50),
        "dec_fc1": (None, 1568),
        "deconv2": (None, 14, 14, 16),
        "deconv1": (None, 28, 28, 1),
        "reconstruction": (None, 28, 28, 1),
        "loss": (None,),
    }
    assert list(names_and_shapes().items()) == list(AUTOENCODER.items())


def test_the_patterns_conv_and_fc_take_nothing_of_the_decoder():
    autoencoder.autoencoder(placeholder(28, 28, 1))
    assert [v.op.name for v in tx.select("conv.*")] == ["conv1/kernel", "conv1/bias", "conv2/kernel", "conv2/bias"]
    assert [v.op.name for v in tx.select("fc.*")] == ["fc1/kernel", "fc1/bias"]


def test_the_classifiers_graph_has_these_scopes_on_top_and_no_other(graph):
    images, labels = placeholder(28, 28, 1), tf.placeholder(tf.int64, [None], name="labels")
    logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=[20], classes=10, dropout=0.5)
    tx.train_step(images, labels, logits, train=tx.select("fc.*", "logits/.*"), clip_norm=1.0)
    with tx.session():
        pass
    named = {"ENCODER", "HEAD", "LOSS", "SOLVER", "SUMMARY"}
    variables = {"conv1", "conv2", "fc1", "logits", "beta1_power", "beta2_power", "global_step"}
    assert top_level_scopes(graph) == named | variables | {"images", "labels", "save"}
    holding = {"conv1", "conv2", "fc1", "logits"}
    computing = {o.type for o in graph.get_operations() if o.name.split("/")[0] in holding}
    assert not computing & {"Conv2D", "MatMul", "BiasAdd", "Relu", "ResourceApplyAdam", "Conv2DBackpropFilter"}


def test_the_scopes_hold_the_ops_that_they_are_named_for(graph):
    images = placeholder(28, 28, 1)
    ends = autoencoder.autoencoder(images, mask=0.3, patch=2)
    tx.train_step(images, None, ends["reconstruction"], loss=ends["loss"], train=tx.select(".*"))
    where = {}
    for operation in graph.get_operations():
        where.setdefault(operation.type, []).append(operation.name.split("/")[0])
    assert where["Conv2D"] == ["ENCODER"] * 2 + ["SOLVER"] * 2  # A transposed convolution's gradient is one.
    assert where["MatMul"][:3] == ["LATENT", "LATENT", "DECODER"]
    assert set(where["MatMul"][3:]) == {"SOLVER"}
    assert where["Conv2DBackpropInput"][:2] == ["DECODER", "DECODER"]
    assert set(where["Conv2DBackpropInput"][2:]) == {"SOLVER"}
    assert set(where["Conv2DBackpropFilter"]) == set(where["ResourceApplyAdam"]) == {"SOLVER"}
    assert [ends[name].op.name.split("/")[0] for name in ("input", "conv2", "flatten")] == ["ENCODER"] * 3
    assert [ends[name].op.name.split("/")[0] for name in ("fc1", "latent")] == ["LATENT"] * 2
    assert ends["loss"].op.name == "LOSS/loss"
    assert ends["reconstruction"].op.name == "DECODER/reconstruction"


def test_two_models_in_one_graph_are_told_apart_by_variable_scopes():
    for scope in ("teacher", "student"):
        with tf.variable_scope(scope):
            autoencoder.encoder(placeholder(8, 8, 1))
    assert list(names_and_shapes())[::4] == ["teacher/conv1/kernel", "student/conv1/kernel"]


def test_pixels_are_bytes_and_come_to_0_to_1():
    with pytest.raises(DataError, match="images are float32; pass uint8"):
        autoencoder.encoder(placeholder(8, 8, 1, dtype=tf.float32))
    x = pictures(2, 8, 8, 1)
    end = autoencoder.encoder(tf.constant(x))["input"]
    with tx.session() as sess:
        np.testing.assert_allclose(sess.run(end), x / 255, rtol=1e-6)


@pytest.mark.parametrize("sizes", [(None, 8, 1), (8, 8, 2)])
def test_the_encoder_wants_images_of_known_size_grey_or_rgb(sizes):
    with pytest.raises(GraphError, match=r"takes \[n, h, w, 1\] or \[n, h, w, 3\]"):
        autoencoder.encoder(tf.placeholder(tf.uint8, [None, *sizes]))


def test_the_endpoints_follow_from_each_other_as_the_layers_say():
    ends = autoencoder.autoencoder(tf.constant(pictures(3, 8, 12, 3)), latent=5)
    names = ["fc1/kernel", "latent/kernel", "dec_fc1/kernel"]
    kernels = [variable for variable in tf.global_variables() if variable.op.name in names]
    with tx.session() as sess:
        got, (fc1, latent, dec_fc1) = sess.run([ends, kernels])
    assert got["conv1"].shape == (3, 4, 6, 16)
    assert got["conv2"].shape == (3, 2, 3, 32)
    assert got["reconstruction"].shape == (3, 8, 12, 3)
    assert np.array_equal(got["flatten"], got["conv2"].reshape(3, -1))
    np.testing.assert_allclose(got["fc1"], np.maximum(got["flatten"] @ fc1, 0), atol=1e-5)
    np.testing.assert_allclose(got["latent"], got["fc1"] @ latent, atol=1e-5)
    np.testing.assert_allclose(got["dec_fc1"], np.maximum(got["latent"] @ dec_fc1, 0), atol=1e-5)
    assert min(got["conv1"].min(), got["conv2"].min(), got["deconv2"].min()) == 0
    assert got["deconv1"].min() < 0
    np.testing.assert_allclose(got["reconstruction"], 1 / (1 + np.exp(-got["deconv1"])), rtol=1e-5)


def cross_entropy(logits, pixels):
    """The mean over an image's pixels, in float64 and by the definition."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(pixels * np.log(p) + (1 - pixels) * np.log1p(-p)).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("mask", [0.0, 0.4])
def test_the_loss_of_an_image_is_the_mean_cross_entropy_of_its_whole_pixels(mask):
    x = pictures(5, 8, 8, 1)
    ends = autoencoder.autoencoder(tf.constant(x), mask=mask)
    on = dict.fromkeys(tf.get_collection(layers.DROPOUTS), True)
    with tx.session() as sess:
        loss, logits = sess.run([ends["loss"], ends["deconv1"]], on)
    assert loss.shape == (5,)
    np.testing.assert_allclose(loss, cross_entropy(logits, x / 255), rtol=1e-5)


def masked_input(ends):
    """Return what conv1 convolves, which is not an endpoint."""
    convolution = ends["conv1"].op.inputs[0].op.inputs[0].op
    assert convolution.type == "Conv2D"
    return convolution.inputs[0]


@pytest.mark.parametrize(("patch", "channels"), [(1, 1), (2, 3), (4, 1)])
def test_a_mask_sets_its_share_of_patches_to_zero_and_leaves_every_bit_of_the_others(patch, channels):
    x = np.maximum(pictures(40, 24, 16, channels), 1)
    ends = autoencoder.autoencoder(tf.constant(x), mask=0.3, patch=patch)
    (switch,) = tf.get_collection(layers.DROPOUTS)
    advance = global_step().assign_add(1, read_value=False)
    with tx.session() as sess:
        whole = sess.run(masked_input(ends))
        now = sess.run(masked_input(ends), {switch: True})
        sess.run(advance)
        later = sess.run(masked_input(ends), {switch: True})
    np.testing.assert_allclose(whole, x / 255, rtol=1e-6)
    dropped = []
    for masked in (now, later):
        assert np.array_equal(masked, np.where(masked == 0, 0, whole))
        patches = (masked == 0).reshape(40, 24 // patch, patch, 16 // patch, patch, channels)
        assert np.array_equal(patches.all(axis=(2, 4, 5)), patches.any(axis=(2, 4, 5)))
        dropped.append(patches.all(axis=(2, 4, 5)))
        assert dropped[-1].mean() == pytest.approx(0.3, abs=0.05)
    assert (dropped[0] != dropped[1]).mean() == pytest.approx(2 * 0.3 * 0.7, abs=0.06)


def test_evaluation_sees_whole_images_whatever_the_mask_in_training():
    x = pictures(3, 8, 8, 1)
    values = []
    for mask in (0.0, 0.4):
        with tf.Graph().as_default():
            ends = autoencoder.autoencoder(tf.constant(x), mask=mask)
            with tx.session() as sess:
                values.append(sess.run(ends))
    for name, plain in values[0].items():
        assert np.array_equal(values[1][name], plain), name


@pytest.mark.parametrize("shape", [(28, 30, 1), (27, 28, 1), (None, 28, 1)])
def test_a_size_that_the_decoder_cannot_come_out_at_is_refused(shape):
    shown = re.escape(f"images {tf.TensorShape([None, *shape])}: height and width must be multiples of 4")
    with pytest.raises(GraphError, match=shown):
        autoencoder.autoencoder(placeholder(*shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": 1.0}, "dropout 'mask': rate=1.0 is not in [0, 1)"),
        ({"mask": -0.5}, "dropout 'mask': rate=-0.5 is not in [0, 1)"),
        ({"mask": 0.5, "patch": 3}, "`patch=3` does not divide the height and width of images"),
        ({"mask": 0.5, "patch": 0}, "`patch=0` does not divide the height and width of images"),
    ],
)
def test_a_mask_that_cannot_be_laid_on_the_images_is_refused(options, message):
    with pytest.raises(GraphError, match=re.escape(message)):
        autoencoder.autoencoder(placeholder(8, 8, 1), **options)
