"""The reader of TensorFlow Lite's models, against its interpreter.

The files in golden/tflite were made by TensorFlow 2.21, from one network of a convolution and a dense layer:

    rng = np.random.default_rng(0)
    kernel, bias, dense = (rng.normal(size=s).astype("f4") for s in ((3, 3, 3, 4), (4,), (64, 20)))

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3])])
    def net(images):
        images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
        maps = tf.nn.relu(tf.nn.conv2d(images, tf.constant(kernel), 2, "VALID") + tf.constant(bias))
        return tf.reshape(maps, [1, 64]) @ tf.constant(dense)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]                          # all but float32
    converter.target_spec = tf.lite.TargetSpec(supported_types=[tf.float16])      # float16
    converter.representative_dataset = examples                                   # int8: 4 times rng.random(...)
"""

from __future__ import annotations

import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from tests import fuzz, tflite_models
from tests.tflite_models import FLOAT16, FLOAT32, INT4, INT8, INT16, INT32, STRING, UINT8, Outside, Tensor, model
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights, tflite

GOLDEN = Path(__file__).parent / "golden" / "tflite"
# The other kernels round another way, each its own.
REFERENCE = tf.lite.experimental.OpResolverType.BUILTIN_REF
ONES = np.ones(2, "<f4").tobytes()


def interpreter(content: bytes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will move to another package
        made = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=REFERENCE)
    made.allocate_tensors()
    return made


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def check_against_interpreter(path: Path) -> int:
    """Compare every constant with the interpreter's; return how many there are."""
    weights, oracle = open_weights(path), interpreter(path.read_bytes())
    details = {detail["name"]: detail for detail in oracle.get_tensor_details()}
    constants = [name for name in weights if name in details]
    for name in constants:
        expected = oracle.get_tensor(details[name]["index"])
        assert (weights.shape(name), weights.dtype(name)) == (expected.shape, expected.dtype)
        assert weights[name].tobytes() == expected.tobytes()
        scales = details[name]["quantization_parameters"]
        assert (f"{name}_scale" in weights) == bool(len(scales["scales"]))
        if len(scales["scales"]):
            assert np.array_equal(weights[f"{name}_scale"], scales["scales"])
            assert np.array_equal(weights[f"{name}_zero_point"], scales["zero_points"])
        if len(scales["scales"]) > 1:
            assert weights[f"{name}_quantized_dimension"] == scales["quantized_dimension"]
    return len(constants)


@pytest.mark.parametrize("kind", ["float32", "float16", "dynamic_range", "int8"])
def test_constants_are_those_of_the_interpreter(kind):
    assert check_against_interpreter(GOLDEN / f"{kind}.tflite") == 5


def test_every_constant_of_a_real_model_is_the_interpreters(real_data):
    assert check_against_interpreter(real_data("formats/mobilenet_v2_1.0_224_quant.tflite")) == 107


def test_a_model_gives_its_weights_as_they_were_before_the_conversion():
    rng = np.random.default_rng(0)
    kernel, bias, dense = (rng.normal(size=s).astype("f4") for s in ((3, 3, 3, 4), (4,), (64, 20)))
    weights = open_weights(GOLDEN / "float32.tflite")
    assert weights.kind == "TensorFlow Lite model"
    assert np.array_equal(weights["Conv2D"], kernel.transpose(3, 0, 1, 2))
    assert np.array_equal(weights["Relu;add;Conv2D;Const_1"], bias)
    assert np.array_equal(weights["matmul1"], dense.T)
    half = open_weights(GOLDEN / "float16.tflite")
    assert np.array_equal(half["matmul"], dense.T.astype("f2"))
    for kind in ("dynamic_range", "int8"):
        real = open_weights(GOLDEN / f"{kind}.tflite", dequantize=True)
        assert [name for name in real if "_scale" in name or "_zero" in name] == []
        assert real.dtype("matmul1") == np.float32
        assert np.abs(real["matmul1"] - dense.T).max() < np.abs(dense).max() / 250
        assert np.abs(real["Conv2D"] - kernel.transpose(3, 0, 1, 2)).max() < np.abs(kernel).max() / 250


@pytest.mark.parametrize(
    ("type_number", "dtype", "scale", "zero_point", "dimension"),
    [
        (INT8, "i1", [0.1], [3], 0),
        (UINT8, "u1", [0.037], [131], 0),
        (INT16, "i2", [1e-4], [0], 0),
        (INT8, "i1", [0.1, 0.7, 1e-9], [0, 5, -7], 1),
        (UINT8, "u1", [0.1, 0.7], [0, 255], 0),
    ],
)
def test_dequantized_values_are_those_of_the_interpreters_op(
    tmp_path, type_number, dtype, scale, zero_point, dimension
):
    values = np.random.default_rng(1).integers(0, 256, (2, 3, 5)).astype(dtype)
    quantized = Tensor("w", type_number, values.shape, values.tobytes(), scale, zero_point, dimension)
    path = write(tmp_path / "a", model([quantized, Tensor("y", FLOAT32, values.shape)], dequantize=True))
    oracle = interpreter(path.read_bytes())
    oracle.invoke()
    weights = open_weights(path, dequantize=True)
    assert list(weights) == ["w"]
    assert weights.dtype("w") == np.float32
    assert weights["w"].tobytes() == oracle.get_tensor(1).tobytes()
    assert np.array_equal(open_weights(path)["w"], values)


@pytest.mark.slow
def test_models_converted_by_another_version_are_read_too(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(64, 32)).astype("f4")
    net = tf.function(lambda x: x @ tf.constant(kernel), input_signature=[tf.TensorSpec([1, 64])])
    for optimizations in ([], [tf.lite.Optimize.DEFAULT]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converter = tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()])
            converter.optimizations = optimizations
            content = converter.convert()
        assert check_against_interpreter(write(tmp_path / "a", content)) == 1


# --- what a model may hold ---


def test_dtypes_that_numpy_lacks_are_read(tmp_path):
    values = np.array([1, 2.5, -3]).astype(ml_dtypes.bfloat16)
    path = write(tmp_path / "a", model([Tensor("w", tflite_models.BFLOAT16, [3], values.tobytes())]))
    assert open_weights(path)["w"].tobytes() == values.tobytes()
    assert open_weights(path).dtype("w") == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (Tensor("odd", INT4, [3], b"ab", [1.0], [0]), "it is int4, two values in a byte, which is not read"),
        (Tensor("odd", STRING, [1], b"abc"), "it is string, which is not read"),
        (Tensor("odd", 99, [1], b"abc"), "it is of the unknown type 99, which is not read"),
        (Tensor("odd", -3, [1], b"abc"), "it is of the unknown type -3, which is not read"),
        (Tensor("odd", FLOAT32, [400], ONES, sparse=True), "it is sparse, which is not read"),
    ],
)
def test_an_entry_that_cannot_be_read_hides_no_other(tmp_path, odd, why):
    path = write(tmp_path / "a", model([odd, Tensor("w", FLOAT32, [2], ONES)]))
    weights = open_weights(path)
    assert list(weights) == ["w"]
    assert weights.skipped == {"odd": f"{path}: odd: {why}"}
    with pytest.raises(WeightsError, match=why):
        weights["odd"]


def test_what_the_graph_computes_is_not_listed(tmp_path):
    path = write(tmp_path / "a", model([Tensor("x", FLOAT32, [2]), Tensor("w", FLOAT32, [2], ONES)]))
    assert list(open_weights(path)) == ["w"]
    with pytest.raises(WeightsError, match="is a TensorFlow Lite model that holds no arrays"):
        open_weights(write(path, model([Tensor("x", FLOAT32, [2])])))


def test_names_that_are_empty_or_come_twice_get_the_number_of_the_tensor(tmp_path):
    tensors = [Tensor(name, FLOAT32, [2], ONES) for name in ("w", None, "w", "", "b")]
    path = write(tmp_path / "a", model(tensors, [Tensor("w", FLOAT32, [2], ONES)]))
    assert list(open_weights(path)) == ["w#0", "#1", "w#2", "#3", "b", "body/w"]
    with pytest.raises(WeightsError, match="two constants would both be called w#0"):
        open_weights(write(path, model([*tensors, Tensor("w#0", FLOAT32, [2], ONES)])))


def test_tensors_may_share_a_buffer(tmp_path):
    tensors = [Tensor("a", FLOAT32, [2], 1), Tensor("b", FLOAT32, [1, 2], 1)]
    weights = open_weights(write(tmp_path / "a", model(tensors, buffers=[ONES])))
    assert weights["a"].tolist() == [1, 1]
    assert weights["b"].tolist() == [[1, 1]]


def test_buffers_may_lie_behind_the_flatbuffer(tmp_path):
    tensors = [Tensor("w", FLOAT32, [2], 1), Tensor("v", FLOAT32, [2], ONES)]
    size = len(model(tensors, buffers=[Outside(1 << 40, 8)]))
    content = model(tensors, buffers=[Outside(size, 8)]) + np.array([5, 6], "<f4").tobytes()
    weights = open_weights(write(tmp_path / "a", content))
    assert {name: weights[name].tolist() for name in weights} == {"w": [5, 6], "v": [1, 1]}
    with pytest.raises(WeightsError, match=r"a buffer of 8 bytes at .* goes beyond the end of the file"):
        open_weights(write(tmp_path / "a", content[:-1]))


def test_one_constant_of_a_large_model_is_read_alone(tmp_path):
    large = Tensor("large", FLOAT32, [1 << 23], bytes(32 << 20))
    path = write(tmp_path / "a", model([large, Tensor("w", FLOAT32, [2], ONES)]))
    assert fuzz.little_memory(path, room=1 << 20) == "read"


# --- hostile ---


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor("w", FLOAT32, [3], ONES), r"w: float32 \(3,\) takes 12 bytes, its buffer holds 8"),
        (Tensor("w", FLOAT32, [1 << 30, 1 << 20], ONES), r"takes 4,503,599,627,370,496 bytes, its buffer holds 8"),
        (Tensor("w", FLOAT16, [-1], ONES), r"w: the shape \(-1,\) is negative"),
        (Tensor("w", FLOAT32, [1 << 30] * 3, ONES), "w: the shape .* is too large for any array"),
        (Tensor("w", FLOAT32, [1] * 65, ONES), "65 numbers where at most 64 belong"),
        (Tensor("w", INT8, [8], ONES, [1.0, 2.0], [0, 0]), r"w: it has 2 scales for dimension 0 of \(8,\)"),
        (Tensor("w", INT8, [8], ONES, [1.0] * 8, [0] * 8, 1), r"w: it has 8 scales for dimension 1 of \(8,\)"),
        (Tensor("w", INT8, [8], ONES, [1.0] * 8, [0] * 8, -1), r"w: it has 8 scales for dimension -1 of \(8,\)"),
        (Tensor("w", INT8, [8], ONES, [1.0], []), "w: it has 1 scales and 0 zero points"),
        (Tensor("w", FLOAT32, [2], 7), "tensor 0 lies in buffer 7 of 1"),
        (Tensor("w" * 66_000, FLOAT32, [2], ONES), "longer than 65,536 bytes"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, tensor, message):
    with pytest.raises(WeightsError, match=message):
        open_weights(write(tmp_path / "a", model([tensor])))


def test_scales_that_are_not_finite_are_refused_when_they_are_needed(tmp_path):
    tensors = [Tensor("w", INT8, [8], ONES, [scale], [0]) for scale in (np.nan, np.inf)]
    for tensor in tensors:
        path = write(tmp_path / "a", model([tensor]))
        assert open_weights(path)["w"].tobytes() == ONES
        with pytest.raises(WeightsError, match="w: one of its scales is not a finite number; leave `dequantize` out"):
            open_weights(path, dequantize=True)["w"]


def test_a_list_that_leads_to_one_tensor_again_and_again_takes_little_time(tmp_path, monkeypatch):
    tensor = Tensor("w" * 3000, INT8, [1, 8], ONES, [1.0] * 8, [0] * 8, 1)
    path = tmp_path / "a"
    with pytest.raises(WeightsError, match="more than 10,000 constants, or more than 4,194,304 bytes of names"):
        open_weights(write(path, model([tensor] * 2000)))
    nothing, small = Tensor("x", INT8, [8]), Tensor("w", INT8, [1, 8], ONES, [1.0] * 8, [0] * 8, 1)
    assert len(open_weights(write(path, model([nothing] * 10_000 + [small] * 10_000)))) == 40_000
    monkeypatch.setattr(tflite, "MAX_CONSTANTS", 100)
    with pytest.raises(WeightsError, match="more than 100 constants"):
        open_weights(write(path, model([small] * 50, [small] * 51)))
    monkeypatch.setattr(tflite, "MAX_TENSORS", 1000)
    with pytest.raises(WeightsError, match="it has more than 1,000 tensors"):
        open_weights(write(path, model([nothing] * 500, [nothing] * 501)))


def test_broken_models_give_only_weights_errors(tmp_path, fuzz_cases):
    for kind in ("int8", "float16"):
        good = (GOLDEN / f"{kind}.tflite").read_bytes()
        assert fuzz.check_all(tmp_path / "a", fuzz.broken(good, fuzz_cases // 2, begin=len(good)))["refused"] > 50
    tensors = [Tensor("w", INT8, [2, 4], ONES, [1.0, 2.0], [0, 1]), Tensor("v", INT32, [2], ONES)]
    good = model(tensors, tensors)
    assert fuzz.check_all(tmp_path / "a", fuzz.broken(good, fuzz_cases, begin=len(good)))["refused"] > 100
