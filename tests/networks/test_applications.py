"""The networks of `keras.applications` by name: Keras itself says what each layer gives."""

from __future__ import annotations

import json
import sys

import keras
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.networks.made_by_keras import application, outputs, pictures, save_weights_as_keras_2
from tests.networks.test_keras_file import FAMILIES, assert_same, ends_of
from tfxfer.errors import GraphError, SelectionError, WeightsError
from tfxfer.networks import applications
from tfxfer.networks.file_model import open_model
from tfxfer.networks.files import open_graph

# Of Keras itself, where it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def prepared(name, images):
    """Prepare pictures as the module of a network does it."""
    module = sys.modules[getattr(keras.applications, name).__module__]
    return module.preprocess_input(images.copy())


def compare(name, side, files, **options):
    """Save a network with random values in several ways, and compare all its layers from each."""
    keras.utils.clear_session()
    model = application(name, side, classes=7, **options)
    model.save("model.keras")
    model.save("model.h5")
    model.save_weights("model.weights.h5")
    save_weights_as_keras_2(model, "weights.h5", rename=later)
    expected = outputs(model, prepared(name, pictures(side)))
    for file in files:
        with tf.Graph().as_default():
            net = tx.network(name, weights=file, input_size=side)
            assert net.images.dtype == tf.uint8
            assert_same(ends_of(net, pictures(side).astype(np.uint8), expected), expected)


def later(layer):
    """Return the name that a layer would have if Keras had built others before, where it merely numbers it."""
    kind, _, number = layer.rpartition("_")
    numbered = ("conv2d", "batch_normalization", "separable_conv2d", "normalization", "layer_normalization")
    if layer in numbered:
        return f"{layer}_100"
    return f"{kind}_{100 + int(number)}" if kind in numbered else layer


FILES = ("model.keras", "model.h5", "model.weights.h5", "weights.h5")


@pytest.mark.slow
def test_weights_from_any_file_give_what_keras_computes_and_tell_classes_and_width():
    compare("MobileNet", 32, FILES[2:], alpha=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), FAMILIES.items())
def test_every_family_gives_what_keras_computes_from_any_file(name, side):
    compare(name, side, FILES)


@pytest.mark.slow
@pytest.mark.parametrize("rename", [lambda name: later(name), lambda name: name.replace("convnext_tiny", "mine")])
def test_a_convnext_without_its_classifier_is_read_from_a_file_that_keras_2_wrote(rename):
    model = application("ConvNeXtTiny", 32, include_top=False)
    save_weights_as_keras_2(model, "notop.h5", rename=rename)
    expected = outputs(model, pictures(32))
    again = keras.applications.ConvNeXtTiny(weights=None, input_shape=(32, 32, 3), include_top=False)
    again.load_weights("notop.h5")
    np.testing.assert_array_equal(again(pictures(32)), model(pictures(32)))
    with tf.Graph().as_default():
        net = tx.network("ConvNeXtTiny", weights="notop.h5", input_size=32)
        assert list(net)[-1] == "layer_normalization"
        assert_same(ends_of(net, pictures(32).astype(np.uint8), list(net)[-1:]), {list(net)[-1]: expected.popitem()[1]})


@pytest.mark.slow
@pytest.mark.parametrize("name", applications.known())
def test_every_network_is_built_with_the_size_that_keras_gives_it(name):
    with tf.Graph().as_default():
        file = tx.networks.files.open_graph(name)
    names = [variable.name for variable in file.variables.values()]
    assert len(set(names)) == len(names)
    model = getattr(keras.applications, name)(weights=None)
    assert len(names) == len(model.variables)
    assert file.stated.size == tuple(side or 224 for side in model.inputs[0].shape[1:3])


def test_there_are_all_networks_of_keras_and_pictures_are_prepared_as_keras_does_it():
    assert len(applications.known()) == 40
    images = np.random.default_rng(0).integers(0, 256, (1, 2, 2, 3)).astype(np.float64)
    for name in applications.known():
        spec = applications.input_spec(name, (2, 2))
        pixels = images[..., ::-1] if spec.channels == "BGR" else images
        np.testing.assert_allclose((pixels - spec.mean) * spec.scale, prepared(name, images), rtol=1e-6, atol=1e-6)


def test_the_real_mobilenet_names_what_is_on_real_pictures(real_data):
    index = json.loads(real_data("imagenet/imagenet_class_index.json").read_text())
    classes = {synset: int(number) for number, (synset, _) in index.items()}
    files = sorted(real_data("imagenet/samples").iterdir())
    labels = np.array([classes[file.name.partition("_")[0]] for file in files])
    with tf.Graph().as_default():
        net = tx.network("MobileNet", weights=real_data("weights/mobilenet_7_5_224_tf.h5"))
        assert net.input_spec.size == (224, 224)
        assert net["conv_pw_13_relu"].shape[-1] == 768  # the width, 0.75, is that of the weights
        images = np.stack([decoded(file, net.input_spec) for file in files])
        probabilities = ends_of(net, images, ["predictions"])["predictions"]
    best = np.argsort(-probabilities, axis=1)
    assert np.mean(best[:, 0] == labels) >= 0.90
    assert np.mean((best[:, :5] == labels[:, None]).any(axis=1)) >= 0.98


def decoded(file, spec):
    return tx.data.decoding.decode(file.read_bytes(), spec.size, spec.resize)


@pytest.mark.slow
def test_weights_without_a_classifier_build_the_network_without_one(real_data):
    with tf.Graph().as_default():
        net = tx.network("MobileNetV2", weights=real_data("weights/mobilenet_v2_1_0_224_notop.h5"))
        assert list(net)[-1] == "out_relu"
        assert len(net.weights) == len(net.variables) == 260
    model = application("MobileNet", 32, alpha=0.25)
    save_weights_as_keras_2(model, "top.h5")
    with tf.Graph().as_default():
        net = tx.network("MobileNet", weights="top.h5", include_top=False, input_size=32)
        assert list(net)[-1] == "conv_pw_13_relu"


@pytest.mark.slow
def test_a_checkpoint_under_the_names_of_keras_in_a_scope_is_found():
    model = application("MobileNet", 32, alpha=0.25, classes=5)
    expected = outputs(model, prepared("MobileNet", pictures(32)))["predictions"]
    values = {variable.path: variable.numpy() for variable in model.variables if "seed" not in variable.path}
    with tf.Graph().as_default(), tf.Session() as sess:
        for path, value in values.items():
            tf.get_variable(f"net/{path}", initializer=value)
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, "ckpt")
    with tf.Graph().as_default():
        net = tx.network("MobileNet", weights="ckpt", image_size=32)
        result = ends_of(net, pictures(32).astype(np.uint8), ["predictions"])
        assert_same(result, {"predictions": expected})


@pytest.mark.slow
def test_files_with_older_names_of_layers_are_read_in_the_order_of_the_layers():
    model = application("MobileNetV3Small", 32, classes=5)
    save_weights_as_keras_2(model, "old.h5", rename=lambda name: name.replace("expanded_conv_", "expanded_conv/"))
    expected = outputs(model, pictures(32))["predictions"]
    with tf.Graph().as_default():
        net = tx.network("MobileNetV3Small", weights="old.h5", input_size=32)
        assert_same(ends_of(net, pictures(32).astype(np.uint8), ["predictions"]), {"predictions": expected})


@pytest.mark.slow
def test_weights_of_imagenet_for_efficientnet_are_scaled_as_keras_scales_them(monkeypatch):
    keras.utils.clear_session()
    model = application("EfficientNetB0", 32, include_top=False)
    mean, variance, _ = model.get_layer("normalization").variables
    mean.assign([0.485, 0.456, 0.406])
    variance.assign([0.05, 0.05, 0.06])
    save_weights_as_keras_2(model, "imagenet.h5")
    module = sys.modules[keras.applications.EfficientNetB0.__module__]
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: "imagenet.h5")
    official = keras.applications.EfficientNetB0(weights="imagenet", input_shape=(32, 32, 3), include_top=False)
    expected = outputs(official, pictures(32))
    with tf.Graph().as_default():
        net = tx.network("EfficientNetB0", weights="imagenet.h5", input_size=32)
        result = ends_of(net, pictures(32).astype(np.uint8), ["stem_conv", "top_activation"])
    assert_same(result, {name: expected[name] for name in result})


def test_weights_of_another_network_are_refused_and_both_are_named(real_data):
    weights = real_data("weights/mobilenet_7_5_224_tf.h5")
    with pytest.raises(WeightsError, match=r"is not of MobileNetV2; it is of MobileNet: name that network"):
        tx.network("MobileNetV2", weights=weights)
    with pytest.raises(WeightsError, match=r"is not of MobileNet; (.|\n)*conv1/kernel has the shape"):
        tx.network("MobileNet", weights=weights, alpha=0.5)


@pytest.mark.slow
def test_a_deeper_network_of_the_same_family_is_not_taken_for_a_shorter_one():
    save_weights_as_keras_2(application("ResNet101", 32), "resnet.h5")
    with pytest.raises(WeightsError, match=r"is not of ResNet50; it is of ResNet101"):
        tx.network("ResNet50", weights="resnet.h5")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("MobilNetV2", {}, r"'MobilNetV2' is neither a file nor the name of a network \(did you mean MobileNetV2\?\)"),
        ("vgg61", {}, r"\(did you mean vgg1.\?\); .* vgg16, .*VGG16"),
        (
            "MobileNet",
            {"input_size": 8},
            r"cannot build MobileNet for pictures of 8x8: .* at least 32x32.*give another `image_size`",
        ),
        ("VGG16", {"alpha": 0.5}, r"VGG16 has no width .*`alpha`"),
        ("VGG16", {"include_top": False, "classes": 3}, r"leave `classes` out"),
    ],
)
def test_what_cannot_be_built_is_refused(name, options, words):
    with pytest.raises((SelectionError, GraphError), match=words):
        tx.network(name, **options)


def test_a_name_of_the_registry_stays_ours_and_keras_spells_its_own():
    with tf.Graph().as_default():
        assert "conv1_1" in tx.network("vgg16", endpoint="conv1_2").endpoints
    with tf.Graph().as_default():
        net = tx.network("VGG16", endpoint="block1_conv2", include_top=False, input_size=64)
        assert {variable.op.name for variable in net.variables} == {
            f"block1_conv{number}/{part}" for number in (1, 2) for part in ("kernel", "bias")
        }
        assert net.input_spec.channels == "BGR"
        assert net.weights is None


def test_a_network_is_described_without_memory_for_its_values():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    if not sys.platform.startswith("linux"):
        pytest.skip("memory is read from /proc")
    tx.networks.files.open_graph("MobileNet")  # what TensorFlow itself needs to begin
    before = resident()
    file = tx.networks.files.open_graph("VGG16")
    size = sum(np.prod(variable.shape) * 4 for variable in file.variables.values())
    assert size > 500 << 20
    assert resident() - before < size / 3


def test_how_pictures_are_prepared_is_said_of_the_input_alone_and_not_of_a_layer():
    with tf.Graph().as_default():
        net = tx.network("MobileNet", input="conv1_relu", endpoint="conv_pw_1_relu")
        assert net.input_spec is None
        assert net.images.dtype == tf.float32
    opened = open_model("MobileNet", input="conv1_relu", endpoint="conv_pw_1_relu")
    assert opened.stated is None
    named = open_model("MobileNet", endpoint="conv_pw_1_relu").stated
    assert named.class_names[640] == "manhole cover"
    assert open_graph("MobileNet", include_top=False).stated.class_names == ()
