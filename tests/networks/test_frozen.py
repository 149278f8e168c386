"""Frozen graphs, thawed: against the graph that was frozen, run by TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.data.test_pictures import encoded, photo
from tfxfer.errors import GraphError, WeightsError
from tfxfer.networks import frozen
from tfxfer.networks.candidates import inspect
from tfxfer.networks.files import open_graph
from tfxfer.networks.thaw import thaw

PICTURES = np.random.default_rng(2).random((6, 12, 12, 3), np.float32)


def convolution(x, filters, name, fused):
    """A convolution and batch normalisation, by the fused op or by hand, as tf.slim's and others' graphs have it."""
    with tf.variable_scope(name):
        x = tf.nn.conv2d(x, tf.get_variable("kernel", [3, 3, x.shape[-1], filters]), [1, 1, 1, 1], "SAME")
        draw = tf.random_uniform_initializer(0.5, 1.5)
        gamma, beta, mean, variance = (
            tf.get_variable(part, [filters], initializer=draw, trainable=part in ("gamma", "beta"))
            for part in ("gamma", "beta", "mean", "variance")
        )
        if fused:
            x = tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, 1e-3, is_training=False)[0]
        else:
            x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)
        return tf.nn.relu(x, name="relu")


@pytest.fixture(params=["resource", "reference"])
def made(request, tmp_path, monkeypatch):
    """Write `frozen.pb` as convert_variables_to_constants makes it; return the values and what the graph computes."""
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph, tf.variable_scope("", use_resource=request.param == "resource"):
        tf.set_random_seed(4)
        x = tf.placeholder(tf.float32, [None, 12, 12, 3], "input")
        x = convolution(convolution(x, 8, "block1", fused=True), 8, "block2", fused=False)
        x = tf.reduce_mean(x, [1, 2], name="pool")
        x = tf.matmul(x, tf.get_variable("logits/weights", [8, 4])) + tf.get_variable("logits/biases", [4])
        tf.nn.softmax(x, name="softmax")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            values = {variable.op.name: sess.run(variable) for variable in tf.global_variables()}
            outputs = sess.run({"pool": "pool:0", "softmax": "softmax:0"}, {"input:0": PICTURES})
            graph_def = tf.graph_util.convert_variables_to_constants(sess, graph.as_graph_def(), ["softmax"])
    with open("frozen.pb", "wb") as file:
        file.write(graph_def.SerializeToString())
    with tf.Graph().as_default():
        yield values, outputs


def test_constants_become_variables_of_the_same_names_and_values(made):
    values, outputs = made
    net = tx.network("frozen.pb")
    assert {variable.op.name for variable in net.variables} == set(values)
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        for variable in net.variables:
            np.testing.assert_array_equal(sess.run(variable), values[variable.op.name])
        np.testing.assert_array_equal(sess.run(net["pool"], {net.images: PICTURES}), outputs["pool"])
        np.testing.assert_array_equal(sess.run(net["softmax"], {net.images: PICTURES}), outputs["softmax"])


def test_what_a_variable_is_read_by_may_be_called_as_in_the_graph_that_was_frozen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 4], "input")
        tf.get_variable("fc/kernel", [4, 2], use_resource=True)
        tf.matmul(x, graph.get_tensor_by_name("fc/kernel/Read/ReadVariableOp:0"), name="logits")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            expected = sess.run("logits:0", {"input:0": PICTURES[:, 0, 0, :1].repeat(4, 1)})
            graph_def = tf.graph_util.convert_variables_to_constants(sess, graph.as_graph_def(), ["logits"])
    assert "fc/kernel/Read/ReadVariableOp" in {node.name for node in graph_def.node}
    with open("frozen.pb", "wb") as file:
        file.write(graph_def.SerializeToString())
    with tf.Graph().as_default():
        net = tx.network("frozen.pb")
        assert [variable.op.name for variable in net.variables] == ["fc/kernel"]
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            values = sess.run(net["logits"], {net.images: PICTURES[:, 0, 0, :1].repeat(4, 1)})
        np.testing.assert_array_equal(values, expected)


def test_statistics_are_not_trained_whatever_they_are_called(made):
    tx.network("frozen.pb")
    trainable = {variable.op.name for variable in tf.trainable_variables()}
    assert trainable == {
        *(f"block{block}/{part}" for block in (1, 2) for part in ("kernel", "gamma", "beta")),
        *("logits/weights", "logits/biases"),
    }


def test_the_last_block_is_fine_tuned_with_the_rest_frozen_saved_and_read_again(made):
    values, outputs = made
    net = tx.network("frozen.pb", endpoint="pool")
    labels = tf.placeholder(tf.int64, [None])
    logits = tx.models.heads.classifier(net["pool"], hidden=[], classes=2)
    train = tx.select("block2/kernel", "block2/gamma", "logits/.*")
    step = tx.train_step(net.images, labels, logits, train=train)
    split = tx.Split(PICTURES, np.arange(6) % 2)
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        np.testing.assert_array_equal(sess.run(net["pool"], {net.images: PICTURES}), outputs["pool"])
        data = tx.Data(split, split, split, class_names=("a", "b"))
        fitted = tx.fit(sess, step, data, epochs=2, batch_size=3, logdir="run")
    after = tx.open_weights(fitted.best)
    moved = {name for name, value in values.items() if name in after and not np.array_equal(after[name], value)}
    assert moved == {"block2/kernel", "block2/gamma"}


def test_other_values_under_the_same_names_are_restored(made):
    values, _ = made
    np.savez("other.npz", **{name: value * 2 for name, value in values.items()})
    net = tx.network("frozen.pb", weights="other.npz")
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        for variable in net.variables:
            np.testing.assert_array_equal(sess.run(variable), values[variable.op.name] * 2)


def test_the_graph_holds_no_values_any_more(made):
    file = frozen.read("frozen.pb")
    constants = [node for node in file.graph_def.node if node.name in file.variables]
    assert len(constants) == 12
    assert not any(node.attr["value"].tensor.tensor_content for node in constants)


def test_a_batch_of_one_that_is_baked_in_is_left_behind_where_the_endpoint_does_not_need_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [1, 4, 4, 3], "Mul")
        kernel = tf.constant(np.random.default_rng(1).random((3, 3, 3, 5), np.float32), name="conv/conv2d_params")
        pool = tf.reduce_mean(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME"), [1, 2], keepdims=True, name="pool_3")
        tf.reshape(pool, [1, 5], name="pool_3/_reshape")
        with open("frozen.pb", "wb") as file:
            file.write(graph.as_graph_def().SerializeToString())
    with tf.Graph().as_default():
        net = tx.network("frozen.pb", input="Mul", endpoint="pool_3")
        assert net.images.shape.as_list() == [None, 4, 4, 3]
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            assert sess.run(net["pool_3"], {net.images: np.zeros((7, 4, 4, 3))}).shape == (7, 1, 1, 5)


def write_of_2015(path):
    """Write a GraphDef as Inception of 2015 has it: a JPEG goes in, batch normalisation is an op that TensorFlow makes
    no more, and weights have no Identity behind them. Return the weights."""
    rng = np.random.default_rng(7)
    graph_def = tf.GraphDef()
    graph_def.versions.producer = 8

    def node(name, op, *inputs, **attributes):
        made = graph_def.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            made.attr[key].CopyFrom(value)

    def attr(**kind):
        return tf.AttrValue(**kind)

    real, number = attr(type=tf.float32.as_datatype_enum), attr(type=tf.int32.as_datatype_enum)

    def constant(name, value):
        value = np.asarray(value, np.int32 if np.asarray(value).dtype.kind == "i" else np.float32)
        kind = number if value.dtype == np.int32 else real
        node(name, "Const", dtype=kind, value=attr(tensor=tf.make_tensor_proto(value)))
        return value

    node("DecodeJpeg/contents", "Placeholder", dtype=attr(type=tf.string.as_datatype_enum))
    node("DecodeJpeg", "DecodeJpeg", "DecodeJpeg/contents", channels=attr(i=3))
    node("Cast", "Cast", "DecodeJpeg", SrcT=attr(type=tf.uint8.as_datatype_enum), DstT=real)
    constant("ExpandDims/dim", 0)
    node("ExpandDims", "ExpandDims", "Cast", "ExpandDims/dim", T=real)
    constant("size", [8, 8])
    node("ResizeBilinear", "ResizeBilinear", "ExpandDims", "size", T=real)
    constant("Sub/y", 128.0)
    node("Sub", "Sub", "ResizeBilinear", "Sub/y", T=real)
    constant("Mul/y", 1 / 128)
    node("Mul", "Mul", "Sub", "Mul/y", T=real)
    weights = {"conv/conv2d_params": constant("conv/conv2d_params", rng.normal(size=(1, 1, 3, 4)))}
    strides = attr(list=tf.AttrValue.ListValue(i=[1, 1, 1, 1]))
    node("conv/Conv2D", "Conv2D", "Mul", "conv/conv2d_params", T=real, strides=strides, padding=attr(s=b"SAME"))
    parts = [f"conv/batchnorm/{part}" for part in ("moving_mean", "moving_variance", "beta", "gamma")]
    weights |= {part: constant(part, rng.uniform(0.5, 1.5, 4)) for part in parts}
    options = {"variance_epsilon": attr(f=0.001), "scale_after_normalization": attr(b=True)}
    node("conv/batchnorm", "BatchNormWithGlobalNormalization", "conv/Conv2D", *parts, T=real, **options)
    node("conv", "Relu", "conv/batchnorm", T=real)
    constant("pool_3/axes", [1, 2])
    node("pool_3", "Mean", "conv", "pool_3/axes", T=real, Tidx=number, keep_dims=attr(b=False))
    weights["softmax/weights"] = constant("softmax/weights", rng.normal(size=(4, 5)))
    node("softmax/logits/MatMul", "MatMul", "pool_3", "softmax/weights", T=real)
    weights["softmax/biases"] = constant("softmax/biases", rng.normal(size=5))
    node("softmax/logits", "BiasAdd", "softmax/logits/MatMul", "softmax/biases", T=real)
    node("softmax", "Softmax", "softmax/logits", T=real)
    path.write_bytes(graph_def.SerializeToString())
    return weights


def of_2015_by_numpy(weights, x):
    """Return what `pool_3` and `softmax` are of images as the network takes them, float32 [n, 8, 8, 3]."""
    mean, variance, beta, gamma = (weights[f"conv/batchnorm/{part}"].astype(float)
                                   for part in ("moving_mean", "moving_variance", "beta", "gamma"))  # fmt: skip
    x = x.astype(float) @ weights["conv/conv2d_params"][0, 0]
    x = np.maximum((x - mean) / np.sqrt(variance + 0.001) * gamma + beta, 0).mean(axis=(1, 2))
    powers = np.exp(x @ weights["softmax/weights"] + weights["softmax/biases"])
    return {"pool_3": x, "softmax": powers / powers.sum(1, keepdims=True)}


def test_a_graph_of_2015_is_looked_at_trained_and_thawed_and_gives_what_numpy_computes(tmp_path):
    weights = write_of_2015(tmp_path / "2015.pb")
    path, images = str(tmp_path / "2015.pb"), np.random.default_rng(1).uniform(-1, 1, (3, 8, 8, 3)).astype(np.float32)
    expected = of_2015_by_numpy(weights, images)
    with tf.Graph().as_default(), pytest.raises(GraphError, match=r"is of strings, .*\(`input`\): DecodeJpeg \(Decode"):
        tx.network(path)
    seen = inspect(open_graph(path), input="Mul")
    assert [each.name for each in seen.candidates if each.cut] == ["conv", "pool_3", "softmax"]
    assert seen.suggested == "pool_3"
    assert "batch norm" in seen.candidates[-1].on_the_way
    written = thaw(path, tmp_path / "thawed.ckpt")
    assert written.variables == {name: value.shape for name, value in weights.items()}
    for file in (path, f"{tmp_path}/thawed.ckpt.meta"):
        with tf.Graph().as_default():
            net = tx.network(file, input="Mul", endpoint="softmax")
            assert {variable.op.name for variable in net.variables} == set(weights)
            trainable = {variable.op.name for variable in tf.trainable_variables()}
            assert set(weights) - trainable == {f"conv/batchnorm/moving_{part}" for part in ("mean", "variance")}
            [kernel] = tx.select("conv/conv2d_params")
            (gradient,) = tf.gradients(net["pool_3"], kernel)
            with tx.session(tx.plan(net.variables, net.weights)) as sess:
                outputs = sess.run({name: net[name] for name in expected}, {net.images: images})
                before = sess.run(kernel)
                assert np.abs(sess.run(gradient, {net.images: images})).max() > 0
        np.testing.assert_array_equal(before, weights["conv/conv2d_params"])
        for name, value in expected.items():
            np.testing.assert_allclose(outputs[name], value, rtol=1e-5, atol=1e-6)
    picture = encoded(photo(8, 8), "PNG")
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.train.import_meta_graph(f"{tmp_path}/thawed.ckpt.meta").restore(sess, f"{tmp_path}/thawed.ckpt")
        pixels, result = sess.run(["ResizeBilinear:0", "softmax:0"], {"DecodeJpeg/contents:0": picture})
    np.testing.assert_array_equal(pixels[0], photo(8, 8))
    np.testing.assert_allclose(result, of_2015_by_numpy(weights, (pixels - 128) / 128)["softmax"], rtol=1e-5)


def test_a_file_that_is_not_a_graph_is_refused(tmp_path):
    (tmp_path / "a.pb").write_bytes(b"\x0a\xff\xff\xff\xff\x7f garbage")
    with pytest.raises(WeightsError, match="is not a GraphDef"):
        frozen.read_graph_def(str(tmp_path / "a.pb"))
    with pytest.raises(WeightsError, match="cannot be read"):
        frozen.read_graph_def(str(tmp_path / "gone.pb"))


def test_an_endpoint_before_the_input_is_refused(made):
    with pytest.raises(GraphError, match="does not come from the input"):
        tx.network("frozen.pb", input="pool", endpoint="block1/relu")


def test_a_graph_as_text_is_refused_and_the_cure_writes_it_in_binary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 2], "x")
        tf.matmul(x, tf.constant([[1.0], [2.0]], name="fc/kernel"), name="y")
        tf.io.write_graph(graph, ".", "frozen.pbtxt", as_text=True)
        with pytest.raises(WeightsError, match=r"frozen\.pbtxt is a graph as text; .*as_text=False"):
            open_graph("frozen.pbtxt")
        tf.io.write_graph(graph, ".", "frozen.pb", as_text=False)
    assert list(open_graph("frozen.pb").variables) == ["fc/kernel"]
