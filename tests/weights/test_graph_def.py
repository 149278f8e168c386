"""Constants of graphs, against TensorFlow's own `make_ndarray` and the variables that they were made from."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf2  # functions are TF 2's alone
import tensorflow.compat.v1 as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tests import fuzz, tables
from tfxfer.errors import WeightsError
from tfxfer.weights import Weights, graph_def, open_weights

RNG = np.random.default_rng(0)
FLOAT = 1  # DT_FLOAT


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def opened(path: Path, graph: tf.Graph | tf.GraphDef) -> Weights:
    definition = graph.as_graph_def() if isinstance(graph, tf.Graph) else graph
    path.write_bytes(definition.SerializeToString())
    return open_weights(path)


def node(name: str, op: str, *inputs: str, tensor: bytes | None = None) -> bytes:
    """Write a node of a GraphDef; a constant holds a TensorProto."""
    value = (
        b"" if tensor is None else tables.field(5, tables.field(1, b"value") + tables.field(2, tables.field(8, tensor)))
    )
    texts = [(1, name), (2, op), *((3, source) for source in inputs)]
    return tables.field(1, b"".join(tables.field(number, text.encode()) for number, text in texts) + value)


def proto(shape: list[int], content: bytes = b"", dtype: int = FLOAT, more: bytes = b"") -> bytes:
    sizes = b"".join(tables.field(2, tables.field(1, size)) for size in shape)
    return tables.field(1, dtype) + tables.field(2, sizes) + (tables.field(4, content) if content else b"") + more


def network(x: tf.Tensor) -> tf.Tensor:
    """Build what a network of TensorFlow 1 has: convolutions, batch normalisation, an embedding, a dense layer."""

    def variable(name, *shape):
        return tf.get_variable(name, shape, initializer=tf.random_normal_initializer())

    with tf.variable_scope("conv1"):
        y = tf.nn.conv2d(x, variable("weights", 3, 3, 3, 4), 1, "SAME") + variable("biases", 4)
    with tf.variable_scope("bn"):
        statistics = [variable(name, 4) for name in ("gamma", "beta", "moving_mean", "moving_variance")]
        y, *_ = tf.nn.fused_batch_norm(y, *statistics, is_training=False)
        y = tf.nn.batch_normalization(y, statistics[2], statistics[3], statistics[1], statistics[0], 1e-3)
    with tf.variable_scope("scale"):
        y = tf.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]]) * variable("temperature")
    y = tf.reshape(tf.reduce_mean(y, [1, 2]), [-1, 4])
    rows = tf.nn.embedding_lookup(variable("embedding", 10, 4), tf.constant([1, 2, 3]))
    return tf.nn.softmax(tf.nn.bias_add(tf.matmul(y, rows, transpose_b=True), variable("fc/biases", 3)), name="out")


def frozen(resources: bool) -> tuple[tf.GraphDef, dict[str, np.ndarray]]:
    """Freeze the network; return the graph, and the values of the variables."""
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        with tf.variable_scope("", use_resource=resources):
            network(tf.placeholder(tf.float32, [None, 8, 8, 3], "x"))
        sess.run(tf.global_variables_initializer())
        values = {variable.op.name: sess.run(variable) for variable in tf.global_variables()}
        return tf.graph_util.convert_variables_to_constants(sess, graph.as_graph_def(), ["out"]), values


@pytest.mark.parametrize("resources", [False, True], ids=["reference variables", "resource variables"])
def test_a_frozen_graph_has_the_names_and_values_of_its_variables(tmp_path, resources):
    graph, values = frozen(resources)
    weights = opened(tmp_path / "frozen.bin", graph)
    assert weights.kind == "constants of a GraphDef"
    assert weights.skipped == {}
    assert weights.keys() == values.keys()
    assert all(same(weights[name], values[name]) for name in values)


def test_a_graph_that_tensorflow_2_froze_is_read(tmp_path):
    kernel = tf2.Variable(RNG.random((3, 2), np.float32), name="fc/kernel")
    call = tf2.function(lambda x: tf2.matmul(x, kernel) + 0.5, autograph=False)
    function = convert_variables_to_constants_v2(call.get_concrete_function(tf2.TensorSpec([None, 3])))
    weights = opened(tmp_path / "a", function.graph)
    assert [same(weights[name], kernel.numpy()) for name in weights] == [True]


@pytest.mark.slow
def test_a_frozen_mobilenet_of_keras_has_all_its_weights(tmp_path, real_data):
    shape = {"weights": None, "alpha": 0.75, "input_shape": (224, 224, 3)}
    model = tf2.keras.applications.MobileNet(**shape)
    model.load_weights(real_data("weights/mobilenet_7_5_224_tf.h5"))
    call = tf2.function(lambda x: model(x), autograph=False)
    function = convert_variables_to_constants_v2(call.get_concrete_function(tf2.TensorSpec([1, 224, 224, 3])))
    weights = opened(tmp_path / "a", function.graph)
    stored = open_weights(real_data("weights/mobilenet_7_5_224_tf.h5"))
    assert len(weights) == len(stored) == 137
    assert sorted(array.tobytes() for array in weights.values()) == sorted(array.tobytes() for array in stored.values())


def test_every_array_is_bit_for_bit_that_of_tensorflow(tmp_path):
    values = [RNG.normal(size=(3, 2)).astype(kind) for kind in ("f4", "f8", "f2", ml_dtypes.bfloat16, "c8", "i1", "u2")]
    with tf.Graph().as_default() as graph:
        for value in [*values, np.zeros((0, 2), "f4")]:
            tf.reduce_sum(tf.constant(value)) if value.dtype != np.uint16 else tf.constant(value)
        tf.fill([2, 2], 1.0) + tf.constant(2.0, shape=[2, 2])  # one number for all elements
    weights = opened(tmp_path / "a", graph)
    protos = {op.name: op.node_def.attr["value"].tensor for op in graph.get_operations() if op.type == "Const"}
    assert len(weights) == 9
    assert all(same(weights[name], tf.make_ndarray(protos[name])) for name in weights)


def test_numbers_that_are_not_there_are_those_that_tensorflow_takes(tmp_path):
    def listed(*values: float) -> bytes:
        return tables.field(5, np.array(values, "f4").tobytes())

    tensors = {"none": b"", "one": listed(7), "two": listed(7, 8), "all": listed(1, 2, 3, 4)}
    half = proto([2, 2], dtype=19, more=tables.field(13, b"\x80\x78"))  # 1.0, as the number 0x3c00
    graph = b"".join(node(name, "Const", tensor=proto([2, 2], more=more)) for name, more in tensors.items())
    (tmp_path / "a").write_bytes(graph + node("half", "Const", tensor=half))
    weights = open_weights(tmp_path / "a")
    definition = tf.GraphDef.FromString((tmp_path / "a").read_bytes())
    assert list(weights) == ["none", "one", "two", "all", "half"]
    for each in definition.node:
        assert same(weights[each.name], tf.make_ndarray(each.attr["value"].tensor))


def test_one_number_that_stands_for_many_takes_little_memory(tmp_path):
    graph = tf.GraphDef()
    with tf.Graph().as_default() as made:
        tf.identity(tf.constant(2.0, shape=[40 << 20], name="w") * 3.0, "y")
        graph.CopyFrom(made.as_graph_def())
    (tmp_path / "a.pb").write_bytes(graph.SerializeToString())
    assert (tmp_path / "a.pb").stat().st_size < 1000
    tensor = open_weights(tmp_path / "a.pb").tensor("w")
    total, peak = fuzz.streamed(tensor)
    assert total == 80 << 20
    assert peak < 10 << 20


def test_a_graph_whose_values_somebody_took_out_is_not_one_of_zeros(tmp_path):
    kept = proto([3], more=tables.field(5, np.array([1], "f4").tobytes()))  # one number for all elements
    graph = b"".join(node(f"w{number}", "Const", tensor=proto([2, 2])) for number in range(2))
    (tmp_path / "tensorflowjs_model.pb").write_bytes(graph + node("ones", "Const", tensor=kept))
    with pytest.raises(WeightsError, match=r"shapes but no values, as the .*; open the weights_manifest\.json"):
        open_weights(tmp_path / "tensorflowjs_model.pb")


# --- what a weight is ---


def test_ranges_of_quantization_are_read_with_what_they_belong_to(tmp_path):
    quantized = (RNG.random((4, 3)) * 255).astype("u1")
    with tf.Graph().as_default() as graph:
        stored = tf.bitcast(tf.constant(quantized, name="w_as_uint8"), tf.quint8)
        least, most = tf.constant(-1.5, name="w_min"), tf.constant(2.5, name="w_max")
        tf.matmul(tf.ones([2, 4]), tf.dequantize(stored, least, most))
        with tf.name_scope("act_quant"):
            highest = tf.identity(tf.constant(6.0, name="max"), "read")
            tf.quantization.fake_quant_with_min_max_vars(
                tf.placeholder(tf.float32, [2]), tf.constant(0.0, name="min"), highest
            )
    weights = opened(tmp_path / "a", graph)
    assert set(weights) >= {"w_as_uint8", "w_min", "w_max", "act_quant/min", "act_quant/max"}
    assert same(weights["w_as_uint8"], quantized)
    assert [float(weights[name]) for name in ("w_min", "w_max", "act_quant/max")] == [-1.5, 2.5, 6.0]


@pytest.mark.parametrize(("dtype", "kind"), [(11, "i1"), (12, "u1"), (13, "i4"), (15, "i2"), (16, "u2")])
def test_arrays_of_quantized_integers_are_weights_as_they_are_stored(tmp_path, dtype, kind):
    values = np.arange(6).astype(kind).reshape(2, 3)
    tensor = proto([2, 3], values.tobytes(), dtype)
    (tmp_path / "a").write_bytes(node("w_const", "Const", tensor=tensor) + node("c", "QuantizedConv2D", "x", "w_const"))
    assert same(open_weights(tmp_path / "a")["w_const"], values)


def test_shapes_axes_scalars_and_texts_are_left_out_and_tables_are_listed(tmp_path):
    with tf.Graph().as_default() as graph:
        kernel = tf.constant(np.ones((4, 3), "f4"), name="kernel")
        y = tf.tile(tf.transpose(tf.reshape(kernel, [3, 4]), [1, 0]), [2, 2]) * 0.5
        tf.raw_ops.Assert(condition=tf.reduce_all(y > 0.0), data=["y is not positive", y])
        tf.gather(tf.constant(np.arange(1000), name="table"), tf.cast(y, tf.int32))
        tf.gather(tf.constant(np.ones(1000, bool), name="mask"), tf.cast(y, tf.int32))
        tf.gather(tf.constant(["cat", "dog"], name="classes"), tf.cast(y, tf.int32))
        tf.raw_ops.ZerosLike(x=tf.constant(np.arange(5.0), name="template"))
    weights = opened(tmp_path / "a", graph)
    assert list(weights) == ["kernel"]
    assert weights.skipped.keys() == {"table", "mask", "classes", "template"}
    assert "it is an array of int64: a table or an index, which is not a weight" in weights.skipped["table"]
    assert "it is a table of strings" in weights.skipped["classes"]
    assert "no op computes by it" in weights.skipped["template"]


def test_floating_point_arrays_are_weights_wherever_they_are(tmp_path):
    with tf.Graph().as_default() as graph:
        tf.constant(np.ones(3), name="unused")
        tf.identity(tf.constant(np.ones(3), name="returned"), name="output")
        tf.image.crop_and_resize(
            tf.ones([1, 8, 8, 3]), tf.constant(np.ones((2, 4), "f4"), name="boxes"), [0, 0], [4, 4]
        )
        tf.placeholder(tf.float32, [None, 3]) - tf.constant([103.9, 116.8, 123.7], name="mean")
    assert set(opened(tmp_path / "a", graph)) >= {"unused", "returned", "boxes", "mean"}


def test_initial_values_are_weights_where_they_are_more_than_one_number(tmp_path):
    with tf.Graph().as_default():
        with tf.variable_scope("", use_resource=False):
            tf.Variable(np.arange(6.0).reshape(2, 3), name="pretrained")
            tf.get_variable("bias", [4], initializer=tf.zeros_initializer())
        tf.train.export_meta_graph(str(tmp_path / "model.meta"))
    weights = open_weights(tmp_path / "model.meta")
    assert weights.kind == "constants of a MetaGraphDef"
    assert same(weights["pretrained/initial_value"], np.arange(6.0).reshape(2, 3))
    assert set(weights.skipped) == {"pretrained", "bias", "bias/Initializer/zeros"}
    assert "it is a variable (VariableV2), whose value lies in the checkpoint" in weights.skipped["bias"]
    assert "one number throughout" in weights.skipped["bias/Initializer/zeros"]


@pytest.mark.parametrize("resources", [False, True])
def test_a_graph_of_variables_alone_is_refused_by_their_ops(tmp_path, resources):
    with tf.Graph().as_default() as graph, tf.variable_scope("", use_resource=resources):
        network(tf.placeholder(tf.float32, [None, 8, 8, 3]))
    op = "VarHandleOp" if resources else "VariableV2"
    with pytest.raises(
        WeightsError, match=rf"a GraphDef whose variables \({op}\) have their .*: conv1/weights, .* and 6 m"
    ):
        opened(tmp_path / "a", graph)


def test_a_graph_without_weights_says_what_it_has(tmp_path):
    with tf.Graph().as_default() as graph:
        tf.reshape(tf.placeholder(tf.float32), [1, 2])
    with pytest.raises(WeightsError, match=r"a GraphDef without variables, and with no constants that are weights$"):
        opened(tmp_path / "a", graph)
    with graph.as_default():
        tf.constant(np.arange(1000), name="table")
    with pytest.raises(WeightsError, match="no constants that are weights:\n  table: it is an array of int64"):
        opened(tmp_path / "a", graph)


def test_constants_within_functions_are_read_and_functions_may_call_each_other(tmp_path):
    def function(name: str, *nodes: bytes) -> bytes:
        bodies = b"".join(tables.field(3, tf.GraphDef.FromString(each).node[0].SerializeToString()) for each in nodes)
        return tables.field(1, tables.field(1, tables.field(1, name.encode())) + bodies)

    kernel = np.arange(6, dtype="f4")
    body = [node("w", "Const", tensor=proto([6], kernel.tobytes())), node("call", "g", "w")]
    library = tables.field(2, function("f", *body) + function("g", *body[:1], node("call", "f", "w")))
    for begin in (b"", node("x", "Placeholder"), tables.field(4, tables.field(1, 27))):
        (tmp_path / "a").write_bytes(begin + library)
        weights = open_weights(tmp_path / "a")
        assert list(weights) == ["f/w", "g/w"]
        assert same(weights["g/w"], kernel)


# --- files that cannot be, and large ones ---


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (proto([3], bytes(8)), r"w: float32 \(3,\) takes 12 bytes, its values have 8"),
        (proto([3], bytes(16)), r"w: float32 \(3,\) takes 12 bytes, its values have 16"),
        (proto([1], more=tables.field(5, bytes(8))), r"w: float32 \(1,\) takes 4 bytes, its values have 8"),
        (proto([3], more=tables.field(5, bytes(7))), r"w: float32 \(3,\) takes 12 bytes, its values have 7"),
        (proto([(1 << 64) - 1], bytes(4)), r"w: the shape \(-1,\) is negative"),
        (proto([1 << 40, 1 << 40], bytes(4)), "w: the shape .* is too large for any array"),
        (proto([1] * 65, bytes(4)), "w: a shape of more than 64 dimensions"),
        (
            proto([1 << 40], more=tables.field(5, bytes(4))),
            "announces 4,398,046,511,104 bytes of tensors, more than max",
        ),
        (proto([2], bytes(8))[:-3], "a field of 8 bytes goes beyond the end of its message"),
        (proto([2], more=tables.field(5, b"") * 20_001), "a message of more than 20,000 fields"),
    ],
)
def test_constants_that_cannot_be_are_refused(tmp_path, tensor, message):
    (tmp_path / "a").write_bytes(node("w", "Const", tensor=tensor))
    with pytest.raises(WeightsError, match=message):
        open_weights(tmp_path / "a")


def test_too_many_numbers_of_different_lengths_are_refused_when_they_are_read(tmp_path):
    (tmp_path / "a").write_bytes(node("w", "Const", tensor=proto([2], dtype=6, more=tables.field(7, b"\1\2\3"))))
    weights = open_weights(tmp_path / "a")
    with pytest.raises(WeightsError, match=r"a: w is corrupt: it has more values than its shape .2,. has elements"):
        weights["w"]


@pytest.mark.parametrize(("dtype", "why"), [(99, "its dtype has number 99"), (21, "it is the state of an object")])
def test_a_constant_of_an_unknown_dtype_hides_no_other(tmp_path, dtype, why):
    odd = node("odd", "Const", tensor=proto([2], bytes(8), dtype))
    (tmp_path / "a").write_bytes(odd + node("w", "Const", tensor=proto([2], bytes(8))))
    weights = open_weights(tmp_path / "a")
    assert list(weights) == ["w"]
    assert why in weights.skipped["odd"]


def test_two_constants_of_one_name_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(node("w", "Const", tensor=proto([2], bytes(8))) * 2)
    with pytest.raises(WeightsError, match="a is corrupt: two constants are called w"):
        open_weights(tmp_path / "a")


def test_one_layer_of_a_large_file_touches_its_bytes_alone(tmp_path):
    size, layer = 1 << 28, np.arange(1000, dtype="f4")
    tensor = tables.field(1, FLOAT) + tables.field(2, tables.field(2, tables.field(1, size // 4)))
    value = tensor + b"\x22" + tables.varint(size)
    for number in (8, 2):
        value = bytes([number << 3 | 2]) + tables.varint(len(value) + size) + value
    value = b"\x2a" + tables.varint(len(value) + 7 + size) + tables.field(1, b"value") + value
    head = tables.field(1, b"large") + tables.field(2, b"Const") + value
    with open(tmp_path / "a", "wb") as file:
        file.write(b"\x0a" + tables.varint(len(head) + size) + head)
        file.seek(size, os.SEEK_CUR)
        file.write(node("layer", "Const", tensor=proto([1000], layer.tobytes())))
    tracemalloc.start()
    weights = open_weights(tmp_path / "a")
    assert same(weights["layer"], layer)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert weights.shape("large") == (size // 4,)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["nodes", "constants", "inputs", "chain"])
def test_endless_graphs_are_refused_in_little_time_and_memory(tmp_path, case):
    graph = {
        "nodes": lambda: b"\x0a\x00" * 2_000_000,
        "constants": lambda: b"".join(node(str(number), "Const") for number in range(100_000)),
        "inputs": lambda: node("y", "Relu", *(str(number) for number in range(1_100_000))),
        "chain": lambda: b"".join(node(str(number), "Identity", str(number + 1)) for number in range(260_000)),
    }[case]()
    (tmp_path / "a").write_bytes(node("x", "Placeholder") + graph)
    fuzz.check_bomb(tmp_path / "a")
    with pytest.raises(WeightsError, match="is refused: its nodes have more than 1,000,000 fields"):
        open_weights(tmp_path / "a")


def test_broken_graphs_give_only_weights_errors(tmp_path, fuzz_cases):
    with tf.Graph().as_default() as graph:
        tf.matmul(tf.constant(np.ones((3, 4), "f4")), tf.identity(tf.constant(2.0, shape=[4, 2])))
        tf.reduce_sum(tf.constant(RNG.normal(size=5).astype("f2")))
        tf.get_variable("v", [3])
    good = graph.as_graph_def().SerializeToString()
    meta = tf.train.export_meta_graph(graph_def=graph.as_graph_def(), graph=graph).SerializeToString()
    for content in (good, meta):
        outcome = fuzz.check_all(tmp_path / "a", fuzz.broken(content, fuzz_cases // 2, begin=len(content)))
        assert outcome["refused"] > 20


def test_the_kinds_are_told_by_their_first_bytes():
    with tf.Graph().as_default() as graph:
        tf.constant(1.0, name="a/rather/long/name" * 10)
        assert graph_def.kind(graph.as_graph_def().SerializeToString()) == "GraphDef"
        assert graph_def.kind(tf.train.export_meta_graph().SerializeToString()) == "MetaGraphDef"
    foreign = [
        b"\x08\x07\x12\x07pytorch",
        b"\x0a\x0fsqueezenet_v1.1\xa2\x06\x20\x0a\x04data",
        b"\x0a\x03net\x12\x10\x0a\x04data",
    ]
    assert [graph_def.kind(head) for head in (b"", b"\x0a", b"\x0a" * 4096, b"\x22" * 4096, *foreign)] == [""] * 7
    start = time.process_time()
    for head in (
        b"\x0a\x09" + b"\x22\x22" * 2047,
        b"\x0a\x7f\x0a" + b"x" * 4093,
        b"\x08\x01\x12\x01\x0a\x01" + b'"aa' * 1360,
    ):
        graph_def.kind(head)
    assert time.process_time() - start < 1


def test_the_graphs_of_real_checkpoints_are_told_by_their_first_bytes(real_data):
    for meta in Path(real_data("checkpoints")).rglob("*.meta"):
        assert graph_def.kind(meta.read_bytes()[:4096]) == "MetaGraphDef"
