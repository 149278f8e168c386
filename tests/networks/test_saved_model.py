"""Networks out of SavedModels that Keras and plain TensorFlow wrote."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from google.protobuf import text_format
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

import tfxfer as tx
from tests.networks.made_by_keras import application
from tests.networks.test_keras_file import FAMILIES
from tests.tools.test_predict import coloured
from tfxfer.errors import GraphError, SelectionError, WeightsError
from tfxfer.graph_def.nodes import dtype_of
from tfxfer.networks import saved_model
from tfxfer.networks.files import open_graph

SIZE = 32


def randomised(model: keras.Model) -> keras.Model:
    """Give values of its own to each variable, statistics included, so that a mistaken one shows."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if len(variable.shape) > 1:
            variable.assign(rng.uniform(-1, 1, variable.shape) * np.sqrt(3 / np.prod(variable.shape[:-1])))
        else:
            positive = variable.path.endswith(("variance", "gamma"))
            variable.assign(rng.uniform(0.5 if positive else -0.5, 1, variable.shape))
    return model


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory) -> tuple[keras.Model, Path]:
    """A MobileNet, exported in both of Keras's ways."""
    folder = tmp_path_factory.mktemp("mobilenet")
    model = randomised(keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(SIZE, SIZE, 3), classes=3))
    model.export(folder / "export", verbose=False)
    tf2.saved_model.save(model, str(folder / "save"))
    return model, folder


def pictures(count: int = 4, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(2).random((count, size, size, 3), np.float32)


def layers_of(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each layer of a Keras model makes of images."""
    layers = [layer for layer in model.layers[1:] if not layer.name.startswith("dropout")]
    outputs = keras.Model(model.input, [layer.output for layer in layers])(images, training=False)
    return {layer.name: np.asarray(output) for layer, output in zip(layers, outputs, strict=True)}


def lasts_of(layers: Iterable[str], net: tx.Network) -> dict[str, str]:
    """Return the last endpoint within each layer: Keras calls the scope of a layer `LAYER_1`, or `LAYER_2` where a
    layer before it, of the name `LAYER_1`, say, has taken that."""
    there = {scope: name for name in net for scope in name.split("/")[:-1]}
    lasts: dict[str, str] = {}
    for layer in layers:
        scope = next((f"{layer}_{n}" for n in (1, 2) if there.get(f"{layer}_{n}", "") not in ("", *lasts.values())), "")
        if scope:
            lasts[layer] = there[scope]
    return lasts


def compare_with_keras(model: keras.Model, path: Path, size: int = SIZE) -> int:
    images = pictures(size=size)
    expected = layers_of(model, images)
    with tf.Graph().as_default():
        net = tx.network(path)
        ends = {layer: net[last] for layer, last in lasts_of(expected, net).items()}
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            outputs = sess.run(ends, {net.images: images})
    for layer, output in outputs.items():
        scale = np.abs(expected[layer]).max()
        np.testing.assert_allclose(output, expected[layer], rtol=0, atol=1e-4 * scale, err_msg=layer)
    return len(outputs)


@pytest.mark.parametrize("way", ["save", pytest.param("export", marks=pytest.mark.slow)])
def test_endpoints_equal_those_of_keras_by_name(mobilenet, way):
    model, folder = mobilenet
    assert compare_with_keras(model, folder / way) == len(model.layers) - 2  # all but the input and the dropout


def has_ops(layer: keras.layers.Layer) -> bool:
    """Say whether a layer adds an op where nothing is trained."""
    if isinstance(layer, keras.layers.Activation):
        return layer.activation is not keras.activations.linear
    return not isinstance(layer, (keras.layers.InputLayer, keras.layers.Dropout))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["export", "save"])
@pytest.mark.parametrize(("name", "side"), FAMILIES.items())
def test_endpoints_of_every_family_equal_those_of_keras_by_name(name, side, way, tmp_path):
    keras.utils.clear_session()
    model = application(name, side, classes=7)
    model.export(tmp_path / "saved", verbose=False) if way == "export" else tf2.saved_model.save(
        model, str(tmp_path / "saved")
    )
    wanted = sum(has_ops(layer) for layer in model.layers)
    assert compare_with_keras(model, tmp_path / "saved", side) == wanted


@pytest.mark.parametrize("way", ["export", "save"])
def test_variables_have_the_names_and_values_of_open_weights_and_keras_trainable_ones(mobilenet, way):
    model, folder = mobilenet
    weights = tx.open_weights(folder / way)
    with tf.Graph().as_default():
        net = tx.network(folder / way)
        plan = tx.plan(net.variables, weights)
        assert {variable.op.name for variable in net.variables} <= set(weights)
        trainable = {variable.op.name for variable in tf.trainable_variables()}
        with tx.session(plan) as sess:
            values = sess.run({variable.op.name: variable for variable in net.variables})
    assert set(values) == {variable.path for variable in model.weights}
    assert trainable == {variable.path for variable in model.trainable_variables}
    for variable in model.weights:
        np.testing.assert_array_equal(values[variable.path], variable)


def test_an_attribute_that_an_export_leaves_out_is_its_default():
    with tf.Graph().as_default():
        node = tf.nn.max_pool2d(tf.zeros([1, 4, 4, 1]), 2, 2, "SAME").op.node_def
    del node.attr["T"]
    assert dtype_of(node) == tf.float32
    assert "T" not in node.attr


def test_nothing_of_the_saver_and_of_the_calls_comes_in(mobilenet):
    with tf.Graph().as_default() as graph:
        tx.network(mobilenet[1] / "export")
        kinds = {op.type for op in graph.get_operations()}
    assert not kinds & {"RestoreV2", "SaveV2", "MergeV2Checkpoints", "StatefulPartitionedCall", "PartitionedCall"}


HEAD = """
import sys, numpy as np, tensorflow.compat.v1 as tf, tfxfer as tx
tf.disable_eager_execution()
images, labels = np.load("images.npy"), np.load("labels.npy")
net = tx.network(sys.argv[1], endpoint="conv_pw_3_relu_1/Relu6")
given = tf.placeholder(tf.int64, [None])
logits = tx.models.heads.classifier(net["conv_pw_3_relu_1/Relu6:mean"], hidden=[], classes=2)
step = tx.train_step(net.images, given, logits, train=tx.select("logits/.*"))
split = tx.Split(images, labels)
data = tx.Data(split, split, split, class_names=("a", "b"))
with tx.session(tx.plan(net.variables, net.weights)) as sess:
    before = sess.run({v.op.name: v for v in net.variables})
    data = tx.precompute(sess, step, data, store="store")
    for epochs, logdir in eval(sys.argv[2]):
        tx.fit(sess, step, data, epochs=epochs, batch_size=4, logdir=logdir)
    after = sess.run({v.op.name: v for v in net.variables})
    assert all(np.array_equal(before[name], after[name]) for name in before)
    print(tx.evaluate(sess, step, split).accuracy)
    np.savez(sys.argv[3], **{v.op.name.replace("/", "."): sess.run(v) for v in tx.select("logits/.*")})
"""


@pytest.mark.slow
def test_a_head_on_its_middle_is_trained_and_resumed_bit_for_bit_in_a_fresh_process(mobilenet, tmp_path):
    images = pictures(8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", (images.mean((1, 2, 3)) > np.median(images.mean((1, 2, 3)))).astype(np.int64))

    def run(fits: str, out: str) -> str:
        return run_in(tmp_path, sys.executable, "-c", HEAD, str(mobilenet[1] / "save"), fits, out)

    whole = run("[(4, 'whole')]", "whole.npz")
    run("[(2, 'parts')]", "half.npz")
    assert run("[(4, 'parts')]", "parts.npz") == whole
    with np.load(tmp_path / "whole.npz") as first, np.load(tmp_path / "parts.npz") as second:
        assert set(first) == {"logits.kernel", "logits.bias"}
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def run_in(folder: Path, *command: str) -> str:
    """Run a command in a fresh process and return the last line that it prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["export", "save"])
def test_a_run_on_it_is_resumed_evaluated_and_exported_by_tools_that_know_the_run_alone(mobilenet, way, tmp_path):
    shutil.copytree(mobilenet[1] / way, tmp_path / "net")
    coloured(tmp_path / "pictures", each=10)
    train = ["train", "--model=net", "--endpoint=conv_pw_3_relu_1/Relu6:mean", "--input_spec=tf", "--hidden=8",
             "--data_dir=pictures", "--store=store", "--learning_rate=0.01"]  # fmt: skip

    def run(*words: str) -> str:
        return run_in(tmp_path, str(Path(sys.executable).with_name("tfxfer")), *words)

    whole = run(*train, "--epochs=2", "--logdir=whole")
    run(*train, "--epochs=1", "--logdir=parts")
    assert run(*train, "--epochs=2", "--logdir=parts") == whole
    first, second = (tx.open_weights(tmp_path / name) for name in ("whole", "parts"))
    assert set(first) == set(second)
    assert "conv_pw_3/kernel" in first
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    of_file = tx.open_weights(mobilenet[1] / way)
    for name in set(first) & set(of_file):
        np.testing.assert_array_equal(first[name], of_file[name])
    shutil.rmtree(tmp_path / "net")
    shutil.rmtree(tmp_path / "store")
    assert re.fullmatch(r"test accuracy \d\.\d+", whole)
    assert run("evaluate", "parts") == run("evaluate", "whole") == whole
    said = run("export_model", "parts", "served")
    assert float(re.search(r"differ from those of \S+ by (\S+) at most", said)[1]) < 1e-5
    served = tf2.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    picture = np.asarray(Image.open(tmp_path / "pictures/rose/0.png").resize((SIZE, SIZE)))
    assert served(images=tf2.constant(picture[None]))["probabilities"].shape == (1, 3)


# --- plain TensorFlow ---


class Net(tf2.Module):
    """Variables that share a name, of which one is not trained; a branch, a loop, a captured constant and a table."""

    def __init__(self):
        rng = np.random.default_rng(3)
        super().__init__(name="net")
        self.kernel = tf2.Variable(rng.random((3, 3, 3, 4), np.float32), name="w")
        self.bias = tf2.Variable(rng.random(4, np.float32), name="w")
        self.scale = tf2.Variable(rng.random(4, np.float32), trainable=False, name="scale")
        self.constant = tf2.constant(rng.random(4, np.float32))
        keys = tf2.lookup.KeyValueTensorInitializer(["a"], [1.0])
        self.table = tf2.lookup.StaticHashTable(keys, 0.0)

    @tf2.function
    def features(self, x):
        x = tf2.nn.relu(tf2.nn.conv2d(x, self.kernel, 1, "SAME") + self.bias, name="relu1")
        x = tf2.cond(tf2.reduce_sum(x) > 0, lambda: x * self.scale, lambda: x)
        _, x = tf2.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, x * self.constant), [tf2.constant(0), x])
        return tf2.split(x, 2, axis=3)

    @tf2.function(input_signature=[tf2.TensorSpec([None, 8, 8, 3], tf2.float32, "images")])
    def pooled(self, images):
        first, second = self.features(images)
        return {"pooled": tf2.reduce_mean(second - first, [1, 2], name="pool")}

    @tf2.function(input_signature=[tf2.TensorSpec([None], tf2.string, "words")])
    def looked_up(self, words):
        return {"values": self.table.lookup(words)[:, None] * self.bias}

    @tf2.function(input_signature=[tf2.TensorSpec([None], tf2.string, "jpegs")])
    def decoded(self, jpegs):
        decode = lambda jpeg: tf2.cast(tf2.image.decode_jpeg(jpeg, 3)[:8, :8], tf2.float32)  # noqa: E731
        images = tf2.map_fn(decode, jpegs, fn_output_signature=tf2.TensorSpec([8, 8, 3], tf2.float32))
        return {"pooled": self.pooled(images / 255)["pooled"]}


@pytest.fixture(scope="module")
def module(tmp_path_factory) -> tuple[Net, str]:
    net, path = Net(), str(tmp_path_factory.mktemp("module") / "saved")
    signatures = {"pooled": net.pooled, "words": net.looked_up, "jpegs": net.decoded}
    tf2.saved_model.save(net, path, signatures=signatures)
    return net, path


def test_variables_that_share_a_name_are_told_apart_by_the_objects(module):
    net, path = module
    images = pictures(2, 8)
    with tf.Graph().as_default():
        imported = tx.network(path, signature="pooled")
        names = {variable.op.name for variable in imported.variables}
        assert names == {"kernel", "bias", "scale"} == set(imported.weights)
        assert {variable.op.name for variable in tf.trainable_variables()} == {"kernel", "bias"}
        relu, pool = imported["relu1"], imported["pool"]
        with tx.session(tx.plan(imported.variables, imported.weights)) as sess:
            relued, pooled = sess.run((relu, pool), {imported.images: images})
    np.testing.assert_array_equal(relued, tf2.nn.relu(tf2.nn.conv2d(images, net.kernel, 1, "SAME") + net.bias))
    np.testing.assert_array_equal(pooled, net.pooled(images)["pooled"])


def test_paths_of_objects_that_no_variable_may_be_called_lose_what_is_not_allowed(tmp_path):
    class Private(tf2.Module):
        def __init__(self):
            self._a, self._b = (tf2.Variable([value], name="w") for value in (1.0, 2.0))

        @tf2.function(input_signature=[tf2.TensorSpec([None], tf2.float32)])
        def run(self, x):
            return x * self._a + self._b

    module = Private()
    tf2.saved_model.save(module, str(tmp_path / "saved"), signatures=module.run)
    assert list(tx.open_weights(tmp_path / "saved")) == ["_a", "_b"]
    with tf.Graph().as_default():
        net = tx.network(tmp_path / "saved")
        assert {variable.op.name for variable in net.variables} == {"a", "b"}
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            assert sess.run(net[list(net)[-1]], {net.images: [3.0]}) == [5.0]


def test_signatures_that_leave_a_choice_or_do_not_exist_are_listed(module):
    with pytest.raises(WeightsError, match=r"has 3 signatures; name one \(`signature`\): jpegs, pooled, words"):
        tx.network(module[1])
    with pytest.raises(WeightsError, match=r"no signature 'poold' \(did you mean pooled\?\); it has jpegs, pooled"):
        tx.network(module[1], signature="poold")


def test_tables_and_strings_are_refused_and_the_tensor_behind_cures(module):
    _, path = module
    with tf.Graph().as_default():
        with pytest.raises(GraphError, match="is of strings, such as encoded pictures; name the tensor behind"):
            tx.network(path, signature="jpegs")
        with pytest.raises(GraphError, match="reads the tables hash_table, which are filled outside"):
            tx.network(path, signature="words", input="words_words")
        net = tx.network(path, signature="jpegs", input="truediv")
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            output = sess.run(net["pool"], {net.images: pictures(2, 8)})
    np.testing.assert_array_equal(output, module[0].pooled(pictures(2, 8))["pooled"])


def test_without_a_signature_its_functions_are_named(tmp_path):
    net = Net()
    tf2.saved_model.save(net, str(tmp_path / "saved"), signatures={})
    with pytest.raises(WeightsError, match=r"no signature, and its functions \(.*pooled.*\) cannot be called"):
        tx.network(tmp_path / "saved")


def build(images: tf.Tensor, training: tf.Tensor | None = None) -> tf.Tensor:
    """Build a network whose last op has the name of a scope."""
    kernel = tf.get_variable("conv/kernel", [3, 3, 3, 4])
    x = tf.nn.relu(tf.nn.conv2d(images, kernel, 1, "SAME"), name="conv")
    if training is not None:
        x = tf.cond(training, lambda: tf.nn.dropout(x, rate=0.5), lambda: x)
    x = tf.reduce_mean(x, [1, 2], name="pool")
    return tf.nn.softmax(tf.matmul(x, tf.get_variable("softmax/weights", [4, 2])), name="softmax")


@pytest.fixture(params=[True, False], ids=["resource variables", "reference variables"])
def exported(request, tmp_path, control_flow):
    """A SavedModel as TensorFlow 1 writes it with `is_training` among its inputs, and what it gives."""
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [None, 8, 8, 3], name="x")
        training = tf.placeholder(tf.bool, [], name="is_training")
        with tf.variable_scope("", use_resource=request.param):
            y = build(images, training)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            tf.saved_model.simple_save(sess, str(tmp_path / "saved"), {"x": images, "t": training}, {"y": y})
            yield tmp_path / "saved", sess.run(y, {images: pictures(3, 8), training: False})


def outputs_of(path: Path, **options: object) -> np.ndarray:
    with tf.Graph().as_default():
        net = tx.network(path, **options)
        with tx.session(tx.plan(net.variables, tx.open_weights(path))) as sess:
            return sess.run(net[list(net)[-1]], {net.images: pictures(3, 8)})


def test_of_tensorflow_1_names_stay_and_inputs_of_signatures_are_fed(exported):
    path, expected = exported
    with pytest.raises(GraphError, match=r"softmax:0 needs 2 inputs: .*is_training:0 \(bool|also needs is_training"):
        tx.network(path)
    feeds = {"is_training": False}
    np.testing.assert_array_equal(outputs_of(path, feeds=feeds), expected)
    with tf.Graph().as_default() as graph:
        net = tx.network(path / "saved_model.pb", feeds=feeds, input="x")
        assert {variable.op.name for variable in net.variables} == {"conv/kernel", "softmax/weights"}
        assert net["softmax"].op.name == "softmax"
        assert graph.get_operation_by_name("conv").type == "Relu"


def test_a_saved_model_as_text_is_read(exported):
    path, expected = exported
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    (path / "saved_model.pbtxt").write_text(text_format.MessageToString(saved))
    (path / "saved_model.pb").unlink()
    np.testing.assert_array_equal(outputs_of(path, feeds={"is_training": False}), expected)


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """A module as TensorFlow Hub writes it: a graph without tags, and one for training."""
    path = tmp_path_factory.mktemp("hub") / "module"
    builder = tf.saved_model.Builder(str(path))
    for tags in ([], ["train"]):
        with tf.Graph().as_default():
            images = tf.placeholder(tf.float32, [None, 8, 8, 3], name="hub_input/images")
            y = build(images) * (2 if tags else 1)
            signature = tf.saved_model.predict_signature_def({"images": images}, {"default": y})
            other = tf.saved_model.predict_signature_def({"images": images}, {"default": y, "twice": y * 2})
            tf.add_to_collection("module_attachments", "size")
            with tf.Session() as sess:
                sess.run(tf.global_variables_initializer())
                if tags:
                    builder.add_meta_graph(tags, signature_def_map={"default": signature})
                else:
                    signatures = {"default": signature, "image_feature_vector": other}
                    builder.add_meta_graph_and_variables(sess, tags, signature_def_map=signatures)
    builder.save()
    (path / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return path


def test_of_a_hub_module_the_graph_without_tags_and_the_default_signature_are_taken(hub):
    plain, doubled = outputs_of(hub), outputs_of(hub, tags=["train"])
    np.testing.assert_allclose(plain.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(doubled, plain * 2)
    np.testing.assert_array_equal(outputs_of(hub, tags=[], signature="image_feature_vector", endpoint="softmax"), plain)


def test_tags_that_leave_a_choice_or_do_not_exist_are_listed(hub, tmp_path):
    with pytest.raises(WeightsError, match=r"no graph with the tags serve; it has \(none\), train"):
        tx.network(hub, tags="serve")
    saved = saved_model_pb2.SavedModel.FromString((hub / "saved_model.pb").read_bytes())
    saved.meta_graphs[0].meta_info_def.tags.extend(["serve", "gpu"])
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(WeightsError, match=r"has 2 graphs; say which by its tags \(`tags`\): gpu,serve, train"):
        tx.network(tmp_path)


def test_constants_of_a_frozen_one_become_variables(module, tmp_path):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    net, _ = module
    frozen = convert_variables_to_constants_v2(net.pooled.get_concrete_function())
    holder = tf2.Module()
    tf2.saved_model.save(holder, str(tmp_path / "saved"), signatures={"pooled": frozen})
    for part in Path(tmp_path / "saved/variables").iterdir():
        part.unlink()
    with tf.Graph().as_default():
        imported = tx.network(tmp_path / "saved")
        shapes = sorted(tuple(variable.shape) for variable in imported.variables)
        assert shapes == [(3, 3, 3, 4), (4,), (4,), (4,)] or shapes == [(3, 3, 3, 4), (4,), (4,)]
        with tx.session(tx.plan(imported.variables, imported.weights)) as sess:
            output = sess.run(imported["pool"], {imported.images: pictures(2, 8)})
    np.testing.assert_allclose(output, net.pooled(pictures(2, 8))["pooled"], rtol=1e-6)


# --- bad input ---


def test_a_directory_without_a_saved_model_and_a_corrupt_one_are_named(tmp_path, module):
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"a directory without saved_model\.pb; it holds nothing"):
        tx.network(tmp_path / "empty")
    with pytest.raises(WeightsError, match=r"there is a SavedModel in saved: give .*saved$"):
        tx.network(Path(module[1]).parent)
    with pytest.raises(SelectionError, match="neither a file nor the name"):
        tx.network(tmp_path / "nowhere")
    for content in (b"nonsense", b""):
        (tmp_path / "empty/saved_model.pb").write_bytes(content)
        with pytest.raises(WeightsError, match=r"saved_model\.pb is corrupt: it is not a SavedModel"):
            tx.network(tmp_path / "empty")


def test_a_variable_of_which_nothing_tells_the_value_is_named(module, tmp_path):
    _, path = module
    saved = saved_model_pb2.SavedModel.FromString(Path(path, "saved_model.pb").read_bytes())
    saved.meta_graphs[0].object_graph_def.concrete_functions.clear()
    os.symlink(Path(path, "variables"), tmp_path / "variables")
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(WeightsError, match=r"nothing tells which values of its checkpoint these variables have: scale"):
        tx.network(tmp_path, signature="pooled")


def test_python_functions_are_named(tmp_path):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 8, 8, 3], name="x")
        y = tf.py_func(lambda x: x, [x], tf.float32, name="mine")
        y = tf.reduce_mean(tf.reshape(y, [-1, 8, 8, 3]), [1, 2], name="y") * tf.get_variable("w", [3])
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            tf.saved_model.simple_save(sess, str(tmp_path / "saved"), {"x": x}, {"y": y})
    with pytest.raises(GraphError, match="mine run Python functions"):
        tx.network(tmp_path / "saved")


def test_it_says_what_kind_it_is_and_which_signatures_it_has(module):
    file = open_graph(module[1], signature="pooled")
    assert file.kind == "SavedModel of TensorFlow 2"
    assert file.signatures == ("jpegs", "pooled", "words")
    assert saved_model.is_saved_model(module[1])
