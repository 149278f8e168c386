"""The reader of ONNX models: against golden files that onnx wrote, and protobuf's own library with onnx.proto's fields.

The files in golden/onnx were written, and read for comparison, by onnx 1.23 with the write.py beside them. Where
TFXFER_ORACLE_PYTHON names a Python that has onnx, it does so anew.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests import fuzz, oracle, protos
from tfxfer.errors import WeightsError
from tfxfer.weights import onnx as reader
from tfxfer.weights import open_weights

GOLDEN = Path(__file__).parent / "golden" / "onnx"

ONNX = """
    Entry: key 1 string, value 2 string
    Segment: begin 1 int64, end 2 int64
    Tensor: dims 1 int64*, data_type 2 int32, segment 3 Segment, float_data 4 float**, int32_data 5 int32**, string_data 6 bytes*, int64_data 7 int64**, name 8 string, raw_data 9 bytes, double_data 10 double**, uint64_data 11 uint64**, external_data 13 Entry*, data_location 14 int32
    Sparse: values 1 Tensor, indices 2 Tensor, dims 3 int64*
    Attribute: name 1 string, t 5 Tensor, g 6 Graph, graphs 11 Graph*, type 20 int32
    Node: input 1 string*, output 2 string*, name 3 string, op_type 4 string, attribute 5 Attribute*
    Graph: node 1 Node*, name 2 string, initializer 5 Tensor*, input 11 Entry*, sparse_initializer 15 Sparse*
    Opset: domain 1 string, version 2 int64
    Function: name 1 string, node 7 Node*, domain 10 string, overload 13 string
    Model: ir_version 1 int64, producer_name 2 string, graph 7 Graph, opset_import 8 Opset*, functions 25 Function*
"""  # noqa: E501
proto = protos.classes("onnx", ONNX)
loose = protos.classes("onnx_loose", ONNX.replace("**", "*"))
other = protos.classes(
    "onnx_others",
    "Meta: name 1 string\nSavedModel: version 1 int64, graphs 2 Meta*\n"
    "Ports: input 1 Meta*\nMlModel: version 1 int32, description 2 Ports, network 500 Meta",
)

KERNEL = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype("f4")


def tensor(name: str, array: np.ndarray = KERNEL, **more):
    """Make a tensor of float32 with raw data."""
    values = {"raw_data": array.astype("<f4").tobytes(), "data_type": 1, "dims": array.shape, **more}
    return proto["Tensor"](name=name, **values)


def model(*initializers, nodes=(), sparse=(), kind: dict = proto) -> bytes:
    graph = kind["Graph"](name="net", initializer=initializers, node=nodes, sparse_initializer=sparse)
    opset = [kind["Opset"](version=17)]
    return kind["Model"](ir_version=8, producer_name="test", graph=graph, opset_import=opset).SerializeToString()


def external(name: str, location: str, array: np.ndarray = KERNEL, **more):
    """Make a tensor of float32 whose values lie in another file."""
    entries = {"location": location, **more}
    return proto["Tensor"](
        name=name,
        dims=array.shape,
        data_type=1,
        data_location=1,
        external_data=[proto["Entry"](key=key, value=str(value)) for key, value in entries.items()],
    )


def constant(output: str, value):
    attribute = proto["Attribute"](name="value", t=value, type=4)
    return proto["Node"](op_type="Constant", output=[output], attribute=[attribute])


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def check_golden(folder: Path) -> None:
    weights = open_weights(folder / "all.onnx")
    expected = json.loads((folder / "all.json").read_text())
    assert weights.keys() == expected.keys()
    for name, (dtype, shape, values) in expected.items():
        assert (weights.dtype(name).name, weights.shape(name)) == (dtype, tuple(shape))
        array = weights[name]
        assert (array.dtype.name, array.shape, array.tobytes().hex()) == (dtype, tuple(shape), values), name
        stream = weights.tensor(name).stream
        assert stream is None or b"".join(piece.tobytes() for piece in stream()).hex() == values
    assert weights.skipped["text"].endswith("text holds text and not numbers")
    assert "thin is a sparse tensor" in weights.skipped["thin"]
    assert set(weights.skipped) == {"text", "thin"}
    beside = open_weights(folder / "external.onnx")
    assert list(beside) == ["fc/kernel", "fc/bias"]
    assert same(beside["fc/kernel"], np.arange(300, dtype="f4").reshape(3, 100))
    assert same(beside["fc/bias"], np.arange(64, dtype="f2"))


def test_every_dtype_is_read_as_onnx_reads_it_in_both_of_its_forms():
    check_golden(GOLDEN)


def test_files_that_onnx_writes_now_are_read_as_it_reads_them(tmp_path):
    python = oracle.oracle_python("onnx")
    subprocess.run([python, GOLDEN / "write.py", tmp_path], check=True)
    check_golden(tmp_path)


@pytest.mark.parametrize("name", ["a.onnx", "a.npz", "a"])
def test_initializers_are_read_whatever_the_file_is_called(tmp_path, name):
    weights = open_weights(put(tmp_path / name, model(tensor("conv1.weight"), tensor("b", KERNEL[0, 0, 0]))))
    assert weights.kind == "model of ONNX"
    assert list(weights) == ["conv1.weight", "b"]
    assert same(weights["conv1.weight"], KERNEL)


def test_fields_in_another_order_and_a_model_without_a_producer_are_read(tmp_path):
    graph = proto["Graph"](initializer=[tensor("w")]).SerializeToString()
    version = proto["Model"](ir_version=3).SerializeToString()
    first = proto["Model"](graph=proto["Graph"].FromString(graph)).SerializeToString()
    for data in (first + version, version + first):
        assert same(open_weights(put(tmp_path / "a", data))["w"], KERNEL)


def test_what_begins_alike_is_not_onnx():
    inner = other["Meta"](name="net")
    ports = other["Ports"](input=[inner])
    others = [
        other["SavedModel"](version=1, graphs=[inner]),
        other["MlModel"](version=4, description=ports, network=inner),
    ]
    assert not any(reader.begins(message.SerializeToString()) for message in others)
    assert not reader.begins(b"")
    assert reader.begins(model(tensor("w")))
    assert reader.begins(model(tensor("w"))[:60])  # cut short


def test_numbers_that_are_not_packed_are_the_same(tmp_path):
    made = [
        loose["Tensor"](name="f", data_type=1, dims=[2], float_data=[1.5, -2]),
        loose["Tensor"](name="i", data_type=7, dims=[3], int64_data=[1, -2, 1 << 40]),
        loose["Tensor"](name="h", data_type=10, dims=[1], int32_data=[0x3C00]),
        loose["Tensor"](name="z", data_type=14, dims=[1], float_data=[1, 2]),
    ]
    weights = open_weights(put(tmp_path / "a", model(*made, kind=loose)))
    assert {name: weights[name].tolist() for name in weights} == {
        "f": [1.5, -2],
        "i": [1, -2, 1 << 40],
        "h": [1],
        "z": [1 + 2j],
    }


def test_constants_are_weights_under_the_names_of_their_outputs_but_arguments_are_left_out(tmp_path):
    shape = proto["Tensor"](dims=[2], data_type=7, int64_data=[-1, 8])
    scalar = proto["Tensor"](data_type=1, float_data=[2])
    nodes = [constant("w", tensor("")), constant("shape", shape), constant("one", scalar)]
    weights = open_weights(put(tmp_path / "a", model(nodes=nodes)))
    assert list(weights) == ["w"]
    assert same(weights["w"], KERNEL)


def test_graphs_within_graphs_are_read_to_a_depth(tmp_path):
    def nested(depth: int):
        graph = proto["Graph"](initializer=[tensor("w")])
        for _ in range(depth):
            attribute = proto["Attribute"](name="body", g=graph)
            graph = proto["Graph"](node=[proto["Node"](op_type="Loop", name="l", attribute=[attribute])])
        return proto["Model"](ir_version=8, graph=graph).SerializeToString()

    assert list(open_weights(put(tmp_path / "a", nested(2)))) == ["l/body/l/body/w"]
    with pytest.raises(WeightsError, match="its graphs lie in each other more than 16 deep"):
        open_weights(put(tmp_path / "a", nested(30)))


def test_constants_within_functions_are_read_under_its_domain_and_name(tmp_path):
    function = proto["Function"](domain="my", name="F", node=[constant("w", tensor(""))])
    data = model(tensor("init")) + proto["Model"](functions=[function]).SerializeToString()
    weights = open_weights(put(tmp_path / "a", data))
    assert list(weights) == ["init", "my/F/w"]
    assert same(weights["my/F/w"], KERNEL)


def test_one_entry_that_cannot_be_read_hides_no_other(tmp_path):
    odd = [
        tensor("unknown", data_type=99),
        tensor("undefined", data_type=0),
        tensor("part", segment=proto["Segment"](begin=0, end=3)),
        proto["Tensor"](name="bare", data_type=1, dims=[3]),
        proto["Tensor"](name="words", data_type=8, dims=[1], string_data=[b"a"]),
    ]
    weights = open_weights(put(tmp_path / "a", model(*odd, tensor("w"), tensor(""))))
    assert list(weights) == ["w", "unnamed_6"]
    assert "is of the unknown dtype 99 of ONNX" in weights.skipped["unknown"]
    assert "is of the unknown dtype 0 of ONNX" in weights.skipped["undefined"]
    assert "is one segment of a tensor" in weights.skipped["part"]
    assert "bare holds no values" in weights.skipped["bare"]
    assert "words holds text" in weights.skipped["words"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dims": [5]}, r"FLOAT \(5,\) takes 20 bytes, the file holds 192"),
        ({"dims": [-4]}, r"the shape \(-4,\) is negative"),
        ({"dims": [1 << 40, 1 << 40]}, "the shape .* is too large for any array"),
        ({"dims": [0, 1 << 62]}, "the shape .* is too large for any array"),
        ({"raw_data": b"", "float_data": [1, 2]}, r"FLOAT \(4, 3, 2, 2\) takes 192 bytes, the file holds 8"),
        (
            {"raw_data": b"", "data_type": 7, "int64_data": [1, 2]},
            r"INT64 \(4, 3, 2, 2\) takes 48 numbers, which is not",
        ),
        ({"data_type": 22}, r"INT4 \(4, 3, 2, 2\) takes 24 bytes, the file holds 192"),
    ],
)
def test_every_tensor_whose_values_do_not_fit_to_its_shape_is_named(tmp_path, wrong, message):
    with pytest.raises(WeightsError, match=f"(?s)a.onnx is corrupt, .*a: {message}.*b: {message}"):
        open_weights(put(tmp_path / "a.onnx", model(tensor("a", **wrong), tensor("b", **wrong))))


def test_a_shape_of_too_many_dimensions_and_names_that_are_twice_there_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="more than 64 dimensions"):
        open_weights(put(tmp_path / "a", model(tensor("a", dims=[1] * 65))))
    with pytest.raises(WeightsError, match="two tensors are called a"):
        open_weights(put(tmp_path / "a", model(tensor("a"), tensor("a"))))


def test_varints_of_another_number_are_seen_when_they_are_read(tmp_path):
    # 4 numbers in 5 bytes, where the shape takes 5.
    made = proto["Tensor"](name="w", data_type=6, dims=[5], int32_data=[1, 2, 3, 300])
    weights = open_weights(put(tmp_path / "a", model(made)))
    with pytest.raises(WeightsError, match=r"a: w is corrupt: it does not hold the 5 numbers of int32 \(5,\)"):
        weights["w"]


def test_a_file_that_is_cut_short_is_named_as_such(tmp_path):
    data = model(tensor("a"), tensor("b"))
    for size in (len(data) - 30, len(data) // 2, 60):
        with pytest.raises(WeightsError, match=r"a\.onnx is corrupt: a field of [\d,]+ bytes goes beyond"):
            open_weights(put(tmp_path / "a.onnx", data[:size]))


# --- values in files of their own ---


def test_external_values_are_read_at_their_offsets(tmp_path):
    (tmp_path / "sub").mkdir()
    put(tmp_path / "sub" / "data", bytes(64) + KERNEL.tobytes())
    put(tmp_path / "whole", KERNEL.tobytes())
    made = [external("a", "sub/data", offset=64, length=192), external("b", "whole", checksum="da39a3ee")]
    weights = open_weights(put(tmp_path / "a.onnx", model(*made)))
    assert same(weights["a"], KERNEL)
    assert same(weights["b"], KERNEL)


def test_every_external_file_that_is_missing_is_named(tmp_path):
    made = [external("a", "one.data"), external("b", "two.data"), external("c", ".")]
    with pytest.raises(
        WeightsError, match=r"(?s)a: .*'one\.data', which is not a file in .*b: .*'two\.data'.*c: .*'\.'"
    ):
        open_weights(put(tmp_path / "a.onnx", model(*made)))


@pytest.mark.parametrize("location", ["/dev/zero", "/etc/passwd", "../x", "sub/../../x", "", "..", "a\0b", "..\\x"])
def test_external_values_outside_the_folder_are_refused(tmp_path, location):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    put(tmp_path / "x", KERNEL.tobytes())
    path = put(tmp_path / "in" / "a.onnx", model(external("a", location)))
    with pytest.raises(WeightsError, match=r"a: its values are said to lie in .* not a file below that of the model"):
        open_weights(path)


def test_links_out_of_the_folder_are_refused_and_the_cure_cures(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    put(tmp_path / "x", KERNEL.tobytes())
    os.symlink(tmp_path, folder / "sub")
    os.symlink("/dev/zero", folder / "zero")
    os.symlink("../x", folder / "link")
    made = [external("a", "sub/x"), external("b", "zero"), external("c", "link")]
    path = put(folder / "a.onnx", model(*made))
    with pytest.raises(WeightsError, match=r"(?s)a: .*a link that leads out.*b: .*a link that.*c: .*a link that"):
        open_weights(path)
    put(path, model(external("c", "link")))
    (folder / "link").unlink()
    put(folder / "link", KERNEL.tobytes())
    assert same(open_weights(path)["c"], KERNEL)


def test_a_cache_of_links_to_one_folder_is_read(tmp_path):
    for folder in ("blobs", "snapshots/1"):
        (tmp_path / folder).mkdir(parents=True)
    put(tmp_path / "blobs" / "0", model(external("a", "a.onnx_data")))
    put(tmp_path / "blobs" / "1", KERNEL.tobytes())
    snapshot = tmp_path / "snapshots" / "1"
    os.symlink("../../blobs/0", snapshot / "a.onnx")
    os.symlink("../../blobs/1", snapshot / "a.onnx_data")
    assert same(open_weights(snapshot / "a.onnx")["a"], KERNEL)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"offset": 1}, r"its 192 bytes at 1 go beyond the end of 'data' \(192 bytes\)"),
        ({"offset": 1 << 62}, r"its 192 bytes at 4,611,686,018,427,387,904 go beyond the end of 'data'"),
        ({"offset": -1}, r"the offset of its values is '-1', which is not a number of bytes"),
        ({"offset": "1e3"}, r"the offset of its values is '1e3'"),
        ({"offset": "9" * 5000}, r"the offset of its values is '9{40}'"),
        ({"length": 8}, r"FLOAT \(4, 3, 2, 2\) takes 192 bytes, the file holds 8"),
    ],
)
def test_external_offsets_that_cannot_be_are_refused(tmp_path, more, message):
    put(tmp_path / "data", KERNEL.tobytes())
    with pytest.raises(WeightsError, match=f"a: {message}"):
        open_weights(put(tmp_path / "a.onnx", model(external("a", "data", **more))))


def test_an_external_file_that_changes_after_opening_is_refused(tmp_path):
    put(tmp_path / "data", KERNEL.tobytes())
    weights = open_weights(put(tmp_path / "a.onnx", model(external("a", "data"))))
    put(tmp_path / "data", KERNEL.tobytes()[:-4])
    with pytest.raises(WeightsError, match="data has changed since the model was opened; open it again"):
        weights["a"]
    (tmp_path / "data").unlink()
    with pytest.raises(WeightsError, match="data"):
        weights["a"]


def test_many_external_files_do_not_use_up_the_open_files(tmp_path):
    for i in range(300):
        put(tmp_path / f"d{i}", KERNEL.tobytes())
    put(tmp_path / "a.onnx", model(*(external(f"w{i}", f"d{i}") for i in range(300))))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        weights = open_weights(tmp_path / "a.onnx")
        assert all(same(weights[name], KERNEL) for name in weights)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- hostile ---


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (field(5, b"\x10\x01\x25abcd") * 30_001, "it holds more than 30,000 tensors"),
        (field(5, b"\x42\x01w") + field(1, b"\x0a\x00") * 310_000, "its messages hold more than 600,000 fields"),
    ],
)
def test_too_many_tensors_and_nodes_are_refused_in_little_time(tmp_path, graph, message):
    put(tmp_path / "a", b"\x08\x08" + field(7, graph))
    start = time.process_time()
    with pytest.raises(WeightsError, match=message):
        open_weights(tmp_path / "a")
    assert time.process_time() - start < fuzz.SECONDS


def test_a_tensor_takes_little_memory_until_it_is_read(tmp_path):
    put(tmp_path / "a", model(*(tensor(f"layer{i}", KERNEL[0]) for i in range(500))))
    assert fuzz.little_memory(tmp_path / "a", room=500 * fuzz.ROOM // reader.MAX_TENSORS) == "read"


def test_integers_take_little_memory_while_they_are_read(tmp_path):
    values = np.arange(3_000_000, dtype="i8")
    made = proto["Tensor"](name="w", data_type=7, dims=values.shape)
    made.int64_data.extend(values)
    put(tmp_path / "a", model(made))
    start = time.process_time()
    assert np.array_equal(open_weights(tmp_path / "a")["w"], values)
    assert time.process_time() - start < fuzz.SECONDS
    assert fuzz.little_memory(tmp_path / "a", room=24 << 20) == "read"


def test_broken_onnx_models_give_only_weights_errors(tmp_path, fuzz_cases):
    golden = (GOLDEN / "all.onnx").read_bytes()
    count = fuzz.check_all(tmp_path / "a", fuzz.broken(golden, fuzz_cases, begin=len(golden)))
    assert count["refused"] > 50
    put(tmp_path / "external.data", (GOLDEN / "external.data").read_bytes())
    beside = (GOLDEN / "external.onnx").read_bytes()
    count = fuzz.check_all(tmp_path / "a", fuzz.broken(beside, fuzz_cases, begin=len(beside)))
    assert count["refused"] > 50
    assert count["read"] > 5
