"""The reader of Caffe's files, against protobuf's own library with the fields of caffe.proto."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests import fuzz, protos
from tfxfer.errors import WeightsError
from tfxfer.weights import caffemodel, open_weights

CAFFE = """
    BlobShape: dim 1 int64**
    BlobProto: num 1 int32, channels 2 int32, height 3 int32, width 4 int32, data 5 float**, diff 6 float**, shape 7 BlobShape, double_data 8 double**, double_diff 9 double**, raw_data_type 10 int32, raw_data 12 bytes
    V0LayerParameter: name 1 string, type 2 string, num_output 3 int32, blobs 50 BlobProto*, blobs_lr 51 float*
    V1LayerParameter: layer 1 V0LayerParameter, bottom 2 string*, top 3 string*, name 4 string, type 5 int32, blobs 6 BlobProto*, blobs_lr 7 float*
    LayerParameter: name 1 string, type 2 string, bottom 3 string*, top 4 string*, blobs 7 BlobProto*, phase 10 int32
    NetParameter: name 1 string, layers 2 V1LayerParameter*, input 3 string*, input_dim 4 int32*, force_backward 5 bool, layer 100 LayerParameter*
    SolverState: iter 1 int32, learned_net 2 string, history 3 BlobProto*, current_step 4 int32
"""  # noqa: E501
caffe = protos.classes("caffe", CAFFE)
loose = protos.classes("loose", CAFFE.replace("**", "*"))

rng = np.random.default_rng(0)
KERNEL, BIAS = rng.normal(size=(4, 3, 2, 2)).astype("f4"), rng.normal(size=4).astype("f4")


def blob(array: np.ndarray, proto: dict = caffe, **more):
    """Make a blob as Caffe writes it since 2015."""
    shape = proto["BlobShape"](dim=array.shape)
    return proto["BlobProto"](shape=shape, data=array.ravel().tolist(), **more)


def legacy(array: np.ndarray):
    """Make a blob as Caffe wrote it before."""
    num, channels, height, width = (1,) * (4 - array.ndim) + array.shape
    values = array.ravel().tolist()
    return caffe["BlobProto"](num=num, channels=channels, height=height, width=width, data=values, diff=values)


def net(*layers, proto: dict = caffe, **more) -> bytes:
    """Serialize a net of layers; each is a name and blobs."""
    made = [proto["LayerParameter"](name=name, type="Convolution", blobs=blobs) for name, *blobs in layers]
    return proto["NetParameter"](name="net", layer=made, **more).SerializeToString()


def v1(*layers) -> bytes:
    made = [caffe["V1LayerParameter"](name=name, type=4, top=[name], blobs=blobs) for name, *blobs in layers]
    data = caffe["V1LayerParameter"](name="data", type=5, top=["data"])
    return caffe["NetParameter"](name="VGG_ILSVRC_16_layers", layers=[data, *made]).SerializeToString()


def v0(*layers) -> bytes:
    inner = [caffe["V0LayerParameter"](name=name, type="conv", blobs=blobs) for name, *blobs in layers]
    made = [caffe["V1LayerParameter"](layer=layer, bottom=["data"], top=["x"]) for layer in inner]
    return caffe["NetParameter"](name="CaffeNet", layers=made).SerializeToString()


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["a.caffemodel", "a.npz", "a"])
def test_layers_of_each_age_are_read_under_the_name_and_the_number_of_the_blob(tmp_path, name):
    new = open_weights(
        put(tmp_path / name, net(("data",), ("conv1/3x3", blob(KERNEL), blob(BIAS)), ("bn", *[blob(BIAS)] * 3)))
    )
    assert new.kind == "Caffe model (.caffemodel)"
    assert list(new) == ["conv1/3x3/0", "conv1/3x3/1", "bn/0", "bn/1", "bn/2"]
    assert same(new["conv1/3x3/0"], KERNEL)
    assert same(new["bn/2"], BIAS)
    for write in (v1, v0):
        old = open_weights(put(tmp_path / name, write(("conv1", legacy(KERNEL), legacy(BIAS)))))
        assert list(old) == ["conv1/0", "conv1/1"]
        assert same(old["conv1/0"], KERNEL)
        assert same(old["conv1/1"], BIAS.reshape(1, 1, 1, 4))


def test_values_that_are_not_packed_are_the_same(tmp_path):
    weights = open_weights(put(tmp_path / "a", net(("conv1", blob(KERNEL, loose), blob(BIAS, loose)), proto=loose)))
    assert same(weights["conv1/0"], KERNEL)
    assert same(weights["conv1/1"], BIAS)


def test_doubles_and_raw_halves_keep_their_dtype(tmp_path):
    double = caffe["BlobProto"](double_data=[1.5, 2.5], shape=caffe["BlobShape"](dim=[2]))
    half = caffe["BlobProto"](raw_data_type=2, raw_data=BIAS.astype("<f2").tobytes(), shape=caffe["BlobShape"](dim=[4]))
    odd = caffe["BlobProto"](raw_data_type=9, raw_data=b"1234", shape=caffe["BlobShape"](dim=[4]))
    weights = open_weights(put(tmp_path / "a", net(("fc", double, half, odd))))
    assert same(weights["fc/0"], np.array([1.5, 2.5]))
    assert same(weights["fc/1"], BIAS.astype("f2"))
    assert "fc/2 is of the unknown type 9 of raw data" in weights.skipped["fc/2"]


def test_scalars_empty_blobs_and_blobs_without_values_are_listed(tmp_path):
    empty = caffe["BlobProto"](shape=caffe["BlobShape"](dim=[0, 3]))
    bare = caffe["BlobProto"](shape=caffe["BlobShape"](dim=[5, 3]), diff=[0.0] * 15)
    weights = open_weights(put(tmp_path / "a", net(("s", caffe["BlobProto"](data=[2.5])), ("e", empty), ("b", bare))))
    assert same(weights["s/0"], np.array(2.5, "f4"))
    assert weights["e/0"].shape == (0, 3)
    assert "b/0 holds no values" in weights.skipped["b/0"]


def test_layers_of_one_name_and_without_a_name_are_numbered(tmp_path):
    weights = open_weights(
        put(tmp_path / "a", net(("conv1", blob(BIAS)), ("conv1", blob(-BIAS)), ("", blob(2 * BIAS))))
    )
    assert list(weights) == ["conv1/0", "conv1#2/0", "layer2/0"]
    assert same(weights["conv1#2/0"], -BIAS)


def test_a_mean_file_is_read_as_one_blob(tmp_path):
    mean = rng.normal(size=(1, 3, 8, 8)).astype("f4")
    weights = open_weights(put(tmp_path / "mean.binaryproto", legacy(mean).SerializeToString()))
    assert weights.kind == "Caffe blob (.binaryproto)"
    assert same(weights["blob"], mean)
    cut = put(tmp_path / "cut.binaryproto", legacy(mean).SerializeToString()[:-20])
    with pytest.raises(WeightsError, match=r"cut\.binaryproto is corrupt: a field of 768 bytes goes beyond"):
        open_weights(cut)


def test_a_net_without_blobs_holds_no_arrays(tmp_path):
    with pytest.raises(WeightsError, match=r"a Caffe model \(\.caffemodel\) that holds no arrays"):
        open_weights(put(tmp_path / "a", net(("data",))))


@pytest.mark.parametrize("dims", [(2, 2), (5,), (-4,), (1 << 40, 1 << 40), (1,) * 65, (1 << 31, 1 << 31, 0)])
def test_every_blob_whose_values_do_not_fit_to_its_shape_is_named(tmp_path, dims):
    wrong = caffe["BlobProto"](data=[1.0] * 3, shape=caffe["BlobShape"](dim=dims))
    with pytest.raises(WeightsError, match=r"a\.caffemodel"):
        open_weights(put(tmp_path / "a.caffemodel", net(*((f"l{i}", wrong) for i in range(3)))))
    if len(dims) < 64:
        with pytest.raises(WeightsError, match=r"(?s)l0/0: .*l1/0: .*l2/0: .*copy it again"):
            open_weights(tmp_path / "a.caffemodel")


def test_a_file_that_is_cut_short_is_named_as_such(tmp_path):
    data = net(("conv1", blob(KERNEL)), ("conv2", blob(KERNEL)))
    for size in (len(data) - 1, len(data) // 2, 40):
        with pytest.raises(WeightsError, match=r"a\.caffemodel is corrupt: a field of [\d,]+ bytes goes beyond"):
            open_weights(put(tmp_path / "a.caffemodel", data[:size]))


def test_fields_that_other_branches_of_caffe_add_to_a_net_are_passed_over(tmp_path):
    name, rest = net(("conv1", blob(KERNEL)))[:5], net(("conv1", blob(KERNEL)))[5:]
    engine, forward_type, scale = b"\x4a\x06MKLDNN", b"\x58\x01", b"\x7d\0\0\x80\x3f"
    for more in (engine, forward_type + scale):
        assert same(open_weights(put(tmp_path / "a", name + more + rest))["conv1/0"], KERNEL)


def test_what_begins_alike_is_not_a_caffemodel(tmp_path):
    with tf.Graph().as_default() as graph:
        tf.constant(np.ones((4, 3), "f4"), name="fc1/kernel")
        meta = tf.train.export_meta_graph(graph=graph)
    caffe2 = protos.classes(
        "caffe2",
        "Op: input 1 string*, output 2 string*, name 3 string, type 4 string, arg 5 Op*\nNet: name 1 string, op 2 Op*",
    )
    op = caffe2["Op"](output=["conv1_w"], type="GivenTensorFill", arg=[caffe2["Op"]()])
    others = [
        graph.as_graph_def().SerializeToString(),
        meta.SerializeToString(),
        caffe2["Net"](name="init", op=[op]).SerializeToString(),
        b"\x08\x02\x10\x07\x3a\x02\x01\x02\x42\x10ssssssssssssssss",  # a tensor of ONNX, int64
        caffe["SolverState"](iter=3, learned_net="a.caffemodel", history=[blob(BIAS)]).SerializeToString(),
        b"",
    ]
    for other in others:
        assert not caffemodel.begins(other)
        assert not caffemodel.begins_blob(other)
    assert caffemodel.begins(v1(("a", legacy(BIAS))))
    assert not caffemodel.begins_blob(v1(("a", legacy(BIAS))))


def test_one_layer_of_a_large_file_touches_only_its_bytes(tmp_path):
    size = 400 << 20
    shape = caffe["BlobShape"](dim=[size // 4]).SerializeToString()
    small = net(("fc8", blob(BIAS)))
    path = tmp_path / "a.caffemodel"
    with open(path, "wb") as file:  # with a hole for the values
        file.write(_field(100, _layer("fc6", _field(7, _field(7, shape) + _head(5, size), size), size), size))
        file.seek(size, 1)
        file.write(small)
    tracemalloc.start()
    start = time.process_time()
    weights = open_weights(path)
    assert weights.shape("fc6/0") == (size // 4,)
    assert same(weights["fc8/0"], BIAS)
    assert time.process_time() - start < 1
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def _varint(value: int) -> bytes:
    low = bytes([value & 127 | (128 if value > 127 else 0)])
    return low + (_varint(value >> 7) if value > 127 else b"")


def _head(number: int, size: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(size)


def _field(number: int, content: bytes, more: int = 0) -> bytes:
    """Return a field whose last `more` bytes follow later."""
    return _head(number, len(content) + more) + content


def _layer(name: str, blobs: bytes, more: int) -> bytes:
    assert more
    return _field(1, name.encode()) + _field(2, b"InnerProduct") + blobs


@pytest.mark.parametrize("count", [30_000, 110_000])
def test_too_many_blobs_are_refused_in_little_time(tmp_path, count):
    layer = _field(1, b"a") + _field(2, b"b") + _field(7, b"\x3a\x02\x0a\x00") * count
    path = put(tmp_path / "a.caffemodel", _field(100, layer))
    start = time.process_time()
    with pytest.raises(WeightsError, match=r"holds more than 20,000 blobs|a message of it holds more than 100,000"):
        open_weights(path)
    assert time.process_time() - start < fuzz.SECONDS


def test_a_blob_takes_little_memory_until_it_is_read(tmp_path):
    put(tmp_path / "a", net(*((f"layer{i}", blob(BIAS)) for i in range(500))))
    assert fuzz.little_memory(tmp_path / "a", room=500 * fuzz.ROOM // caffemodel.MAX_BLOBS) == "read"


def test_broken_caffemodels_give_only_weights_errors(tmp_path, fuzz_cases):
    double = caffe["BlobProto"](double_data=[1.5, 2.5], shape=caffe["BlobShape"](dim=[2]))
    files = (
        net(("conv1", blob(KERNEL), blob(BIAS)), ("fc", double)),
        v1(("conv1", legacy(KERNEL))),
        net(("fc", blob(BIAS, loose)), proto=loose),
        legacy(KERNEL).SerializeToString(),
    )
    for good in files:
        count = fuzz.check_all(tmp_path / "a", fuzz.broken(good, fuzz_cases // 2, begin=len(good)))
        assert count["refused"] > 50
        assert count["read"] > 5
