"""The reader of safetensors files, against the format's own library."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights
from tfxfer.weights import safetensors as reader

DTYPES = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)] + [
    "float16",
    "float32",
    "float64",
    "bool",
]


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def write(path: Path, header: object, data: bytes = b"", size: int | None = None) -> Path:
    """Write a file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if size is None else size).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list, *offsets: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


@given(
    st.dictionaries(
        st.text('abc/é"\\', min_size=1, max_size=6),
        arrays.arrays(st.sampled_from(DTYPES), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
        min_size=1,
        max_size=4,
    )
)
def test_safetensors_reader_returns_any_arrays_that_the_library_saved(tmp_path_factory, named):
    path = tmp_path_factory.mktemp("given") / "a.safetensors"
    safetensors.numpy.save_file(named, path, metadata={"format": "np"})
    tensors = reader.read(path)
    assert tensors.keys() == named.keys()
    for name, tensor in tensors.items():
        assert (tensor.shape, tensor.dtype) == (named[name].shape, named[name].dtype)
        assert same(tensor.read(), named[name])


def test_safetensors_reader_agrees_with_the_library_on_a_real_file(real_data):
    path = real_data("safetensors/mnist_dense.safetensors")
    expected = safetensors.numpy.load_file(path)
    weights = open_weights(path)
    assert weights.kind == "safetensors file"
    assert weights.keys() == expected.keys()
    assert all(same(weights[name], expected[name]) for name in weights)


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("BF16", ml_dtypes.bfloat16),
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
        ("C64", np.complex64),
    ],
)
def test_dtypes_that_numpy_lacks_are_read(tmp_path, text, dtype):
    values = np.array([[1, 2.5], [-0.5, 8]]).astype(dtype)
    path = write(tmp_path / "a", {"w": entry(text, [2, 2], 0, values.nbytes)}, values.tobytes())
    assert same(open_weights(path)["w"], values)


def test_an_array_is_read_once_and_read_only(tmp_path):
    safetensors.numpy.save_file({"a": np.ones((512, 1024)), "b": np.ones((512, 1024))}, tmp_path / "a")
    tracemalloc.start()
    array = open_weights(tmp_path / "a")["b"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not array.flags.writeable
    assert peak < (512 * 1024 * 8) + (1 << 20)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"w": entry("F32", [2], 0, 8), "v": entry("F32", [2], 4, 12)}, r"v: overlaps w"),
        ({"w": entry("F32", [2], 0, 8), "v": entry("F32", [1], 12, 16)}, r"v: leaves a gap behind w"),
        ({"w": entry("F32", [2], 4, 12)}, r"w: leaves a gap behind the header"),
        ({"w": entry("F32", [2], 0, 8)}, r"the tensors take 8 bytes, 16 follow the header"),
        ({"w": entry("F32", [8], 0, 32)}, r"the tensors take 32 bytes, 16 follow the header"),
        ({"w": entry("F32", [3], 0, 16)}, r"w: F32 \(3,\) takes 12 bytes, its data_offsets give 16"),
        ({"w": entry("F32", [4], 16, 0)}, r"w: F32 \(4,\) takes 16 bytes, its data_offsets give -16"),
        ({"w": entry("F32", [-4], 0, 16)}, r"w: its dtype, shape or data_offsets are missing or malformed"),
        ({"w": entry("F32", [4], -16, 0)}, r"w: its dtype, shape or data_offsets are missing or malformed"),
        ({"w": entry("F32", [4.0], 0, 16)}, r"w: its dtype, shape or data_offsets are missing or malformed"),
        ({"w": entry("F32", [True, 4], 0, 16)}, r"w: its dtype, shape or data_offsets are missing or malformed"),
        ({"w": entry("F32", [4], 0, 8, 16)}, r"w: its dtype, shape or data_offsets are missing or malformed"),
        ({"w": {"dtype": "F32", "shape": [4]}}, r"w: its dtype, shape or data_offsets are missing or malformed"),
        ({"w": [1, 2]}, r"w: its dtype, shape or data_offsets are missing or malformed"),
        ({"w": entry("F99", [4], 0, 16)}, r"w: its dtype 'F99' is unknown; known are BOOL, U8"),
        ({"w": entry("F32", [1] * 65, 0, 4)}, r"w: a shape of more than 64 dimensions is none that numpy can hold"),
        ({"w": entry("F32", [1 << 40, 1 << 40], 0, 16)}, r"w: the shape .* is too large for any array"),
        ({"w": entry("F32", [0, 1 << 62], 0, 0)}, r"w: the shape .* is too large for any array"),
        ({"w": entry("F32", [1 << 40], 0, 1 << 42)}, r"the tensors take 4,398,046,511,104 bytes, 16 follow"),
        (b'{"w": nonsense}', r"its description is not JSON"),
        (b"{" * 5000, r"its description is not JSON"),
        (b'{"w":' + b"[" * 100_000, r"its description is not JSON"),
        (b"{\xff}", r"its description is not JSON"),
        (b'{"w":' + b"9" * 5000 + b"}", r"its description is not JSON"),
        (b'{"w":[' + b"[]," * 500_000 + b"[]]}", r"bytes of JSON with so many values are not a description of weights"),
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path, header, message):
    path = write(tmp_path / "a", header, bytes(16))
    start = time.process_time()
    with pytest.raises(WeightsError, match=message):
        open_weights(path)
    assert time.process_time() - start < 1


def test_every_faulty_tensor_is_named(tmp_path):
    path = write(tmp_path / "a", {f"w{i}": entry("F32", [2], 0, 4) for i in range(12)}, bytes(16))
    with pytest.raises(WeightsError, match=r"(?s)w0: .*w9: .*and 2 more\ncopy it again"):
        open_weights(path)


def test_a_file_that_is_cut_short_is_named_as_such(tmp_path):
    path = write(tmp_path / "a", {"w": entry("F32", [4], 0, 16)}, bytes(16))
    raw = path.read_bytes()
    path.write_bytes(raw[:-5])
    with pytest.raises(
        WeightsError, match="is corrupt or cut short:\n  the tensors take 16 bytes, 11 follow the header"
    ):
        open_weights(path)
    path.write_bytes(raw[:30])
    with pytest.raises(WeightsError, match=r"is corrupt or cut short: it announces a header of \d+ bytes"):
        open_weights(path)
    with pytest.raises(WeightsError, match="is refused: its header of 16,777,217 bytes is larger than 16,777,216"):
        open_weights(write(path, b"{" + b" " * (reader.MAX_HEADER - 1) + b"}"))
    write(path, b"[]")
    with pytest.raises(WeightsError, match="its header is not a JSON object"):
        reader.read(path)


def test_broken_safetensors_files_give_only_weights_errors(tmp_path, fuzz_cases):
    safetensors.numpy.save_file(
        {"a/kernel": np.ones((3, 4), "f4"), "b": np.arange(5), "c": np.zeros((0, 3))}, tmp_path / "good"
    )
    good = (tmp_path / "good").read_bytes()
    assert fuzz.check_all(tmp_path / "a", fuzz.broken(good, fuzz_cases, begin=len(good)))["refused"] > 50


@pytest.mark.parametrize("dtype", ["F8_E4M3FNUZ", "F8_E5M2FNUZ"])
def test_floats_of_8_bits_of_every_kind_are_read(tmp_path, dtype):
    weights = open_weights(write(tmp_path / "a", {"w": entry(dtype, [16], 0, 16)}, bytes(range(16))))
    kind = np.dtype(getattr(ml_dtypes, f"float8_{dtype[3:].lower()}"))
    assert weights.dtype("w") == kind
    assert weights["w"].tobytes() == bytes(range(16))


@pytest.mark.parametrize(("dtype", "size"), [("F4", 4), ("F6_E2M3", 6), ("F99", 7)])
def test_a_tensor_of_an_unknown_dtype_hides_no_other(tmp_path, dtype, size):
    header = {"odd": entry(dtype, [8], 0, size), "w": entry("F32", [2], size, size + 8)}
    weights = open_weights(write(tmp_path / "a", header, bytes(size + 8)))
    assert list(weights) == ["w"]
    assert f"its dtype '{dtype}' is unknown" in weights.skipped["odd"]


def test_50_000_tensors_are_not_too_many(tmp_path):
    header = {f"model.layers.{k}.weight": entry("U8", [1], k, k + 1) for k in range(50_000)}
    weights = open_weights(write(tmp_path / "a", header, bytes(50_000)))
    assert len(weights) == 50_000
