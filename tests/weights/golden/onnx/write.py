"""Write the golden files of test_onnx.py with onnx 1.23 and ml_dtypes 0.6: python write.py FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT = Path(sys.argv[1])
LEFT_OUT = ("UNDEFINED", "STRING", "FLOAT6E2M3", "FLOAT6E3M2")
RANGES = {"BOOL": (0, 2), "INT4": (-8, 8), "UINT4": (0, 16), "INT2": (-2, 2), "UINT2": (0, 4)}
rng = np.random.default_rng(0)


def values(name: str, dtype: np.dtype) -> np.ndarray:
    """Draw values of any dtype, [3, 5]."""
    if name in RANGES:
        return rng.integers(*RANGES[name], (3, 5)).astype(dtype)
    if dtype.kind in "iu":
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (3, 5), dtype=dtype, endpoint=True)
    if dtype.kind == "c":
        return (rng.normal(size=(3, 5)) + 1j * rng.normal(size=(3, 5))).astype(dtype)
    return rng.normal(size=(3, 5)).astype(dtype)


def typed(name: str, array: np.ndarray, raw: bytes) -> onnx.TensorProto:
    """Make a tensor whose values lie in the field for its dtype."""
    number = TensorProto.DataType.Value(name)
    tensor = TensorProto(name=f"{name}/typed", data_type=number, dims=array.shape)
    field = helper.tensor_dtype_to_field(number)
    if name[-2:] in ("T4", "T2", "M1"):  # of 2 and 4 bits: the bytes of the raw data
        tensor.int32_data.extend(raw)
    elif field == "int32_data" and array.dtype.kind not in "iub":
        tensor.int32_data.extend(array.view(f"u{array.itemsize}").ravel().tolist())
    elif array.dtype.kind == "c":
        getattr(tensor, field).extend(array.view(f"f{array.itemsize // 2}").ravel().tolist())
    else:
        getattr(tensor, field).extend(array.ravel().astype("i4" if field == "int32_data" else array.dtype).tolist())
    return tensor


def branch(output: str) -> onnx.GraphProto:
    """Make one side of a conditional, with a constant and an initializer."""
    nodes = [
        helper.make_node("Constant", [], [f"{output}_c"], value=weight),
        helper.make_node("Add", ["own", f"{output}_c"], [output]),
    ]
    made = helper.make_tensor_value_info(output, 1, (2, 3))
    return helper.make_graph(nodes, output, [], [made], [numpy_helper.from_array(np.full((2, 3), 7, "f4"), "own")])


weight = numpy_helper.from_array(rng.normal(size=(2, 3)).astype("f4"), "inside")
tensors = [numpy_helper.from_array(np.float32(2.5), "scalar"), numpy_helper.from_array(np.zeros((0, 3), "f4"), "empty")]
for kind in (name for name in dict(TensorProto.DataType.items()) if name not in LEFT_OUT):
    drawn = values(kind, np.dtype(helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind))))
    raw = numpy_helper.from_array(drawn, f"{kind}/raw")
    tensors += [raw, typed(kind, drawn, raw.raw_data)]
expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
expected["kernel"] = numpy_helper.to_array(weight)
for side, output in (("then_branch", "a"), ("else_branch", "b")):
    expected |= {f"if1/{side}/{output}_c": expected["kernel"], f"if1/{side}/own": np.full((2, 3), 7, "f4")}
tensors.append(numpy_helper.from_array(np.array(["a", "b"], object), "text"))
nodes = [
    helper.make_node("Constant", [], ["kernel"], value=weight),
    helper.make_node("Constant", [], ["axes"], value=numpy_helper.from_array(np.array([1, 2]), "v")),
    helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.float32(1), "v")),
    helper.make_node("If", ["cond"], ["y"], name="if1", then_branch=branch("a"), else_branch=branch("b")),
]
thin = onnx.SparseTensorProto(
    values=numpy_helper.from_array(np.ones(2, "f4"), "thin"),
    indices=numpy_helper.from_array(np.array([1, 4]), "i"),
    dims=[9],
)
graph = helper.make_graph(
    nodes,
    "net",
    [helper.make_tensor_value_info("cond", TensorProto.BOOL, ())],
    [helper.make_tensor_value_info("y", 1, (2, 3))],
    tensors,
    sparse_initializer=[thin],
)
onnx.save(helper.make_model(graph), OUT / "all.onnx")
listed = {name: [array.dtype.name, list(array.shape), array.tobytes().hex()] for name, array in expected.items()}
(OUT / "all.json").write_text(json.dumps(listed))
beside = [
    numpy_helper.from_array(np.arange(300, dtype="f4").reshape(3, 100), "fc/kernel"),
    numpy_helper.from_array(np.arange(64, dtype="f2"), "fc/bias"),
]
onnx.save_model(
    helper.make_model(helper.make_graph([], "net", [], [], beside)),
    str(OUT / "external.onnx"),
    save_as_external_data=True,
    location="external.data",
    size_threshold=0,
)
