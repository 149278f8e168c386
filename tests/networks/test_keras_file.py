"""Networks out of files that Keras wrote: Keras itself says what each layer gives."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.networks.made_by_keras import application, outputs, pictures, randomise
from tfxfer.errors import GraphError, WeightsError

# Of Keras itself, where it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning", "ignore::UserWarning")

FAMILIES = {
    "MobileNet": 64, "MobileNetV2": 64, "MobileNetV3Small": 64, "MobileNetV3Large": 64, "ResNet50": 64,
    "ResNet50V2": 64, "InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71, "DenseNet121": 64,
    "NASNetMobile": 64, "EfficientNetB0": 64, "EfficientNetV2B0": 64, "ConvNeXtTiny": 64, "VGG16": 32,
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def mixed():
    """A model with most of what may be in one: a model within it, a layer used twice, preprocessing, dropout."""
    layers = keras.layers
    keras.utils.clear_session()
    inner = keras.Sequential(
        [layers.Input((8, 8, 6)), layers.SeparableConv2D(4, 3, name="sep"), layers.BatchNormalization(name="bn")],
        name="inner",
    )
    images = layers.Input((16, 16, 3), name="pictures")
    x = layers.Rescaling(1 / 255, name="scaled")(images)
    normal = layers.Normalization(name="normal")
    x = normal(x)
    x = layers.RandomFlip(name="flip")(x)
    x = layers.Conv2D(6, 3, padding="same", activation="swish", name="conv")(x)
    x = layers.BatchNormalization(name="bn", scale=False)(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="dw")(x)
    x = (x + 3.0) * (1 / 6) - x / 4.0
    x = layers.SpatialDropout2D(0.5, name="drop")(x)
    x = inner(x)
    same = layers.Conv2D(4, 1, name="same", use_bias=False)
    x = layers.Add(name="sum")([same(x), same(same(x))])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(images, layers.Dense(3, name="top")(x), name="mixed")
    return randomise(model)


def ends_of(net, pictures, ends):
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        return sess.run({name: net[name] for name in ends}, {net.images: pictures})


def assert_same(ends, expected):
    for name, value in expected.items():
        assert np.abs(value).max() > 0, name
        np.testing.assert_allclose(ends[name], value, rtol=0, atol=1e-4 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_layers_of_any_kind_give_what_keras_computes_and_variables_have_the_names_of_the_file(file):
    model = mixed()
    model.get_layer("inner").trainable = False
    model.save(file)
    inner = model.get_layer("inner")
    expected = {name: np.asarray(value) for name, value in outputs_once(model, pictures(16)).items()}
    expected["inner/sep"] = np.asarray(inner.layers[0](expected["drop"]))
    with tf.Graph().as_default():
        net = tx.network(file)
        assert_same(ends_of(net, pictures(16), expected), expected)
        assert net["same/call_1"] is not net["same"]
        assert list(net)[-1] == "top"
        names = {variable.op.name for variable in net.variables}
        assert names == {
            name for name in tx.open_weights(file) if "seed" not in name and net.weights.dtype(name).kind == "f"
        }
        trainable = {variable.op.name for variable in tf.trainable_variables()}
        assert names - trainable == {name for name in names if "moving" in name or name.startswith("normal/")}
        assert any(name.startswith("inner/") for name in trainable)


def outputs_once(model, images):
    layers = [layer for layer in model.layers if layer.name not in ("pictures", "same")]
    whole = keras.Model(model.inputs, [layer.output for layer in layers])
    return dict(zip([layer.name for layer in layers], whole([images], training=False), strict=True))


@pytest.mark.parametrize(("name", "side", "file"), [("MobileNet", 32, "model.h5"), ("MobileNetV2", 32, "model.keras")])
def test_a_network_of_keras_gives_what_keras_computes_in_every_layer(name, side, file):
    compare(name, side, file)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
@pytest.mark.parametrize(("name", "side"), FAMILIES.items())
def test_every_family_gives_what_keras_computes_in_every_layer(name, side, file):
    compare(name, side, file)


def compare(name, side, file):
    model = application(name, side, classes=7, **({"alpha": 0.5} if name in ("MobileNet", "MobileNetV2") else {}))
    model.save(file)
    expected = outputs(model, pictures(side))
    with tf.Graph().as_default():
        net = tx.network(file)
        assert_same(ends_of(net, pictures(side), expected), expected)
        assert {variable.op.name for variable in net.variables} <= set(tx.open_weights(file))


@pytest.mark.parametrize("file", ["model.keras", pytest.param("model.h5", marks=pytest.mark.slow)])
def test_a_head_on_a_layer_in_the_middle_is_trained_on_stored_features_and_resumed(file, caplog):
    caplog.set_level("INFO", "tfxfer")
    model = mixed()
    model.save(file)
    images = pictures(16, 12).copy()
    expected = np.asarray(outputs_once(model, images)["pool"])
    split = tx.Split(images, np.arange(12) % 2)
    data = tx.Data(split, split, split, class_names=("a", "b"))
    for epochs in (1, 2):
        with tf.Graph().as_default():
            net = tx.network(file, endpoint="pool")
            labels = tf.placeholder(tf.int64, [None])
            logits = tx.models.heads.classifier(net["pool"], hidden=[], classes=2)
            step = tx.train_step(net.images, labels, logits, train=tx.select("logits/.*"))
            with tx.session(tx.plan(net.variables, net.weights)) as sess:
                stored = tx.precompute(sess, step, data, store="store")
                features = stored.train.features
                assert len(features) == 1
                np.testing.assert_allclose(next(iter(features.values()))[:], expected, rtol=1e-4, atol=1e-5)
                tx.fit(sess, step, stored, epochs=epochs, batch_size=5, logdir="run")
                for variable in net.variables:
                    np.testing.assert_array_equal(sess.run(variable), net.weights[variable.op.name])
    assert "computed once, up to " in caplog.text
    assert "go on from step 3 of 6" in caplog.text


@pytest.mark.slow
def test_a_block_of_the_network_itself_is_trained():
    model = mixed()
    model.trainable = False
    model.save("model.keras")
    split = tx.Split(pictures(16, 6).copy(), np.arange(6) % 3)
    data = tx.Data(split, split, split, class_names=("a", "b", "c"))
    with tf.Graph().as_default():
        net = tx.network("model.keras", endpoint="top")
        labels = tf.placeholder(tf.int64, [None])
        step = tx.train_step(net.images, labels, net["top"], train=tx.select("conv/.*", "inner/sep/.*", "top/.*"))
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            tx.fit(sess, step, data, epochs=2, batch_size=3, logdir="run")
            changed = {v.op.name for v in net.variables if not np.array_equal(sess.run(v), net.weights[v.op.name])}
    assert {name.rpartition("/")[0] for name in changed} == {"conv", "inner/sep", "top"}


def test_the_keras_models_and_the_graph_of_the_user_are_left_alone():
    model = mixed()
    model.save("model.keras")
    keras.layers.ReLU()
    number = int(keras.layers.ReLU().name.removeprefix("re_lu_"))
    with tf.Graph().as_default() as graph:
        tx.networks.files.open_graph("model.keras")
        tx.networks.files.open_graph("VGG16")
        assert not graph.get_operations()
    assert keras.layers.ReLU().name == f"re_lu_{number + 1}"
    assert np.isfinite(model(pictures(16))).all()


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_python_code_in_a_file_is_refused_by_the_names_of_the_layers_and_does_not_run(file):
    images = keras.layers.Input((4, 4, 3))
    x = keras.layers.Lambda(lambda x: x * 2, output_shape=(4, 4, 3), name="twice")(images)
    x = keras.Sequential([keras.layers.Lambda(lambda x: x + 1, output_shape=(4, 4, 3), name="more")])(x)
    keras.Model(images, x).save(file)
    with pytest.raises(GraphError, match=r"twice, more hold Python code \(Lambda\), which does not run"):
        tx.network(file)
    assert tf.get_default_graph() is not None


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_classes_that_keras_does_not_know_are_named_and_registering_them_cures(file):
    class Halved(keras.layers.Layer):
        def call(self, inputs):
            return inputs / 2

        def compute_output_shape(self, shape):
            return shape

    images = keras.layers.Input((4, 4, 3))
    keras.Model(images, Halved(name="third")(Halved(name="half")(images))).save(file)
    with pytest.raises(GraphError, match=r"does not know the classes of half \(Halved\), third \(Halved\)"):
        tx.networks.files.open_graph(file)
    with keras.saving.custom_object_scope({"Halved": Halved}), tf.Graph().as_default():
        net = tx.network(file)
        with tx.session() as sess:
            np.testing.assert_array_equal(sess.run(net["third"], {net.images: pictures(4)}), pictures(4) / 4)


def module_of(name):
    """Return the module of Keras that a network is in, whose layers of its own HDF5 tells by their names alone."""
    return sys.modules[getattr(keras.applications, name).__module__]


def test_layers_of_keras_own_networks_are_known_in_hdf5_and_a_class_of_the_user_comes_first():
    images = keras.layers.Input((4, 4, 3))
    x = module_of("ConvNeXtTiny").LayerScale(0.5, 3, name="scale")(images)
    x = module_of("InceptionResNetV2").CustomScaleLayer(0.25, name="join")([images, x])
    keras.Model(images, x).save("model.h5")
    with tf.Graph().as_default():
        net = tx.network("model.h5")
        result = ends_of(net, pictures(4), ["scale", "join"])
    np.testing.assert_array_equal(result["scale"], pictures(4) / 2)
    np.testing.assert_array_equal(result["join"], pictures(4) * 1.125)

    class LayerScale(module_of("ConvNeXtTiny").LayerScale):
        def call(self, x):
            return x + self.gamma

    with keras.saving.custom_object_scope({"LayerScale": LayerScale}), tf.Graph().as_default():
        result = ends_of(tx.network("model.h5"), pictures(4), ["scale"])
    np.testing.assert_array_equal(result["scale"], pictures(4) + 0.5)


def test_a_file_of_weights_alone_is_refused_and_the_name_of_the_network_cures():
    model = application("MobileNet", 32, alpha=0.25)
    model.save_weights("mine.weights.h5")
    with pytest.raises(WeightsError, match=r'holds weights and no model; .*tx.network\("MobileNet", weights='):
        tx.network("mine.weights.h5")
    with tf.Graph().as_default():
        net = tx.network("MobileNet", weights="mine.weights.h5", endpoint="conv1_relu", input_size=32)
    assert net["conv1_relu"].shape.as_list() == [None, 16, 16, 8]


def test_weights_that_are_not_of_the_model_are_refused_by_name():
    for name, units in (("a", 3), ("b", 4)):
        images = keras.layers.Input((8,))
        keras.Model(images, keras.layers.Dense(units, name="fc")(images)).save(f"{name}.keras")
    parts = [("a", "metadata.json"), ("a", "config.json"), ("b", "model.weights.h5")]
    with zipfile.ZipFile("mixed.keras", "w") as archive:
        for name, part in parts:
            with zipfile.ZipFile(f"{name}.keras") as other:
                archive.writestr(part, other.read(part))
    with pytest.raises(WeightsError, match=r"do not fit together:(.|\n)*\(8, 4\): the model has fc/kernel \(8, 3\)"):
        tx.networks.files.open_graph("mixed.keras")


def test_two_inputs_are_refused_by_name_and_input_and_feeds_settle_them():
    images = keras.layers.Input((4, 4, 3), name="pictures")
    other = keras.layers.Input((2,), name="place")
    x = keras.layers.Concatenate(name="both")([keras.layers.Flatten()(images), other])
    model = randomise(keras.Model([images, other], keras.layers.Dense(2, name="fc")(x)))
    model.save("two.keras")
    with pytest.raises(GraphError, match=r"fc_1/BiasAdd:0 also needs place:0 \(float32 \(None, 2\)\).*`feeds`"):
        tx.network("two.keras")
    place = np.full((2, 2), 0.5, np.float32)
    expected = np.asarray(model([pictures(4), place]))
    with tf.Graph().as_default():
        net = tx.network("two.keras", input="pictures", feeds={"place": place})
        assert_same(ends_of(net, pictures(4), ["fc"]), {"fc": expected})


def test_a_model_that_keras_cannot_rebuild_is_refused():
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    model.save("model.keras")
    with zipfile.ZipFile("model.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(b'"units": 2', b'"unities": 2')
    with zipfile.ZipFile("broken.keras", "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    with pytest.raises((GraphError, WeightsError), match=r"broken\.keras"):
        tx.networks.files.open_graph("broken.keras")


def test_another_backend_of_keras_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(GraphError, match=r"Keras uses torch, .*KERAS_BACKEND=tensorflow"):
        tx.network("MobileNet")


@pytest.mark.slow
def test_a_backend_of_keras_that_is_not_installed_is_refused_and_the_cure_cures():
    for backend, told in (("jax", "GraphError: Keras uses jax, "), ("tensorflow", "")):
        code = "import tensorflow.compat.v1 as tf, tfxfer as tx\nwith tf.Graph().as_default(): tx.network('MobileNet')"
        environment = {**os.environ, "KERAS_BACKEND": backend}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert told in done.stderr
        assert (done.returncode == 0) == (backend == "tensorflow")
