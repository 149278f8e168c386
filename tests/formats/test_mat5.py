"""The parser of MATLAB's version 5, against SciPy, and against files written by hand in either order of bytes."""

from __future__ import annotations

import io
import math
import struct
import time
import tracemalloc
import zlib

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from tfxfer.errors import WeightsError
from tfxfer.formats import mat5
from tfxfer.formats.tensors import Tensor

DTYPES = ["f4", "f8", "c8", "c16", "bool", *(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8))]


def element(kind: int, content: bytes, order: str = "<", size: int | None = None) -> bytes:
    size = len(content) if size is None else size
    return struct.pack(f"{order}II", kind, size) + content + bytes(-len(content) % 8)


def matrix(name: str, kind: int, shape: tuple, *parts: bytes, flags: int = 0, order: str = "<") -> bytes:
    head = element(6, struct.pack(f"{order}II", kind | flags, 0), order)
    dimensions = element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, head + dimensions + element(1, name.encode(), order) + b"".join(parts), order)


def cell(name: str, *values: bytes, order: str = "<") -> bytes:
    return matrix(name, 1, (1, len(values)), *values, order=order)


def file(*variables: bytes, order: str = "<") -> np.ndarray:
    mark = b"\0\1IM" if order == "<" else b"\1\0MI"
    return np.frombuffer(b"MATLAB 5.0 MAT-file".ljust(124) + mark + b"".join(variables), np.uint8)


def packed(variable: bytes, order: str = "<") -> bytes:
    content = zlib.compress(variable)
    return struct.pack(f"{order}II", 15, len(content)) + content


def parse(data: np.ndarray) -> dict[str, mat5.Value]:
    return mat5.variables(data, "a.mat")


def saved(values: dict, compressed: bool = False) -> np.ndarray:
    stream = io.BytesIO()
    scipy.io.savemat(stream, values, do_compression=compressed)
    return np.frombuffer(stream.getvalue(), np.uint8)


ONE = matrix("w", 6, (1, 1), element(9, np.float64(3).tobytes()))


@pytest.mark.parametrize("compressed", [False, True])
@settings(max_examples=40)
@given(value=arrays.arrays(st.sampled_from(DTYPES), arrays.array_shapes(min_dims=2, max_dims=4, max_side=4)))
def test_any_array_is_what_scipy_reads(compressed, value):
    data = saved({"w": value}, compressed)
    expected = scipy.io.loadmat(io.BytesIO(data.tobytes()), mat_dtype=value.dtype.kind != "c")["w"]
    tensor = parse(data)["w"]
    assert (tensor.shape, tensor.dtype) == (expected.shape, value.dtype)
    result = tensor.read()
    assert (result.shape, result.dtype) == (expected.shape, value.dtype)
    assert result.tobytes() == expected.astype(value.dtype).tobytes()
    if tensor.stream:
        assert b"".join(piece.tobytes() for piece in tensor.stream()) == result.tobytes()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("wrap", [lambda variable, order: variable, packed])
def test_either_order_of_bytes_is_read(order, wrap):
    values = np.arange(6).reshape(2, 3)
    kernel = matrix("w", 7, (2, 3), element(7, values.T.astype(f"{order}f4").tobytes(), order), order=order)
    small = struct.pack(f"{order}HH", *((2, 3) if order == ">" else (3, 2))) + struct.pack(f"{order}h", -5) + b"\0\0"
    words = matrix(
        "", 4, (1, 2), element(4, "né".encode("utf-16-le" if order == "<" else "utf-16-be"), order), order=order
    )
    inner = cell("c", words, matrix("", 6, (1, 1), small, order=order), order=order)
    found = parse(file(wrap(kernel, order), wrap(inner, order), order=order))
    assert found["w"].dtype == np.float32
    assert found["w"].read().tolist() == values.tolist()
    assert found["c"][0] == "né"
    assert found["c"][1].dtype == np.float64  # MATLAB keeps whole numbers in few bytes
    assert found["c"][1].read().tolist() == [[-5.0]]


def test_structs_cells_and_texts_nest_as_in_scipy():
    cells = np.empty((1, 3), object)
    cells[0] = [np.ones((2, 2)), "text", np.zeros((0, 0))]
    structs = np.zeros((1, 2), [("name", object), ("value", object)])
    structs[0] = [("a", np.eye(2)), ("", "b")]
    found = parse(saved({"one": {"x": cells, "y": {"z": 2.0}}, "many": structs}, True))
    assert list(found) == ["one", "many"]
    array, text, nothing = found["one"]["x"]
    assert (array.shape, text, nothing) == ((2, 2), "text", None)
    assert found["one"]["y"]["z"].read().tolist() == [[2.0]]
    assert [list(row) for row in found["many"]] == [["name", "value"]] * 2
    assert found["many"][0]["name"] == "a"
    assert found["many"][1]["value"] == "b"


def test_what_is_not_an_array_is_named_and_hides_nothing():
    handle = matrix("f", 16, (1, 1), cell("", ONE))
    future = matrix("g", 99, (1, 1), bytes(64))
    opaque = element(14, element(6, struct.pack("<II", 17, 0)) + element(1, b"o") + bytes(16))
    data = file(handle, future, opaque, ONE, matrix("", 9, (1, 8), element(2, bytes(8))))
    found = parse(data)
    assert list(found) == ["f", "g", "o", "w"]
    assert [found[name].fault for name in "fgo"] == [
        "a.mat: f is a function handle, which is not an array of numbers",
        "a.mat: g is a value of the unknown class 99, which is not an array of numbers",
        "a.mat: o is an object, which is not an array of numbers",
    ]
    sparse = parse(saved({"s": scipy.sparse.csc_matrix(np.eye(3)), "w": np.eye(2)}))
    assert sparse["s"].fault == "a.mat: s is a sparse matrix, which is not an array of numbers"
    assert sparse["s"].shape == (3, 3)


def test_values_that_the_dtype_cannot_hold_are_named():
    floats = matrix("i", 8, (1, 1), element(9, np.float64(0.5).tobytes()))
    pair = matrix("c", 8, (1, 1), element(1, b"\1"), element(1, b"\2"), flags=0x800)
    found = parse(file(floats, pair))
    assert found["i"].fault == "a.mat: i has the dtype int8 and holds float64, which is not read"
    assert "holds int8 and int8" in found["c"].fault


def test_a_compressed_file_is_unpacked_once_when_it_is_read_in_order(monkeypatch):
    rng = np.random.default_rng(0)
    cells = np.empty((1, 4), object)
    cells[0] = [rng.integers(0, 9, (300, 500)).astype("f8") for _ in range(4)]
    found = parse(saved({"c": cells}, True))["c"]
    count = []
    step = mat5.Stream._read
    monkeypatch.setattr(mat5.Stream, "_read", lambda stream: count.append(1) or step(stream))
    for tensor, expected in zip(found, cells[0], strict=True):
        np.testing.assert_array_equal(tensor.read(), expected)
    once = len(count)
    for tensor, expected in reversed(list(zip(found, cells[0], strict=True))):
        np.testing.assert_array_equal(tensor.read(), expected)
    assert len(count) > 1.5 * once


def test_opening_keeps_no_large_array():
    cells = np.empty((1, 8), object)
    cells[0] = [np.full((1024, 1024), number, "f4") for number in range(8)]
    data = saved({"c": cells}, True)
    tracemalloc.start()
    found = parse(data)["c"]
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    value = found[5].read()
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert (value == 5).all()


def nested(depth: int) -> bytes:
    """Return a cell within a cell within a cell ..., each of which takes 48 bytes more."""
    head = cell("w", bytes(0))[8:24] + element(5, struct.pack("<2i", 1, 1)) + element(1, b"w")
    sizes = [len(ONE) + (len(head) + 8) * level for level in range(depth)]
    return b"".join(struct.pack("<II", 14, size + len(head)) + head for size in reversed(sizes)) + ONE


@pytest.mark.parametrize("depth", [mat5.MAX_DEPTH + 1, 10_000])
@pytest.mark.parametrize("wrap", [bytes, packed])
def test_what_is_nested_too_deep_is_named_and_hides_nothing(depth, wrap):
    found = parse(file(wrap(nested(depth)), ONE.replace(b"w", b"v")))
    value = found["w"]
    for _ in range(mat5.MAX_DEPTH):
        (value,) = value
    assert isinstance(value, Tensor)
    assert "lies in more than 64 cells and structs; it is not read" in value.fault
    assert found["v"].read().tolist() == [[3.0]]
    (value,) = parse(file(wrap(nested(1))))["w"]
    assert value.read().tolist() == [[3.0]]


HUGE = 1 << 30
HOSTILE = {
    "no order": (lambda: file(ONE)[:126], "its header does not tell the order of its bytes"),
    "cut short": (lambda: file(ONE)[:-4], "a variable takes 2.. bytes, the file has"),
    "cut in a tag": (lambda: file(ONE, b"\x0e\0\0"), "is cut short or corrupt: a variable takes"),
    "not a variable": (lambda: file(element(9, bytes(8))), "what stands at byte 128 is not a variable"),
    "twice": (lambda: file(ONE, ONE), "it holds the variable w twice"),
    "overflow": (lambda: file(matrix("w", 6, (2**31 - 1,) * 3, element(9, bytes(8)))), "is too large for any array"),
    "negative": (lambda: file(matrix("w", 6, (-1, 2), element(9, bytes(8)))), r"the shape \(-1, 2\) is negative"),
    "dimensions": (lambda: file(matrix("w", 6, (1,) * 65, element(9, bytes(8)))), "more than 64 dimensions"),
    "too few values": (lambda: file(matrix("w", 6, (2, 2), element(9, bytes(8)))), "takes 32 bytes, the file holds 8"),
    "beyond": (lambda: file(matrix("w", 6, (HUGE, 1), element(9, bytes(8), size=HUGE * 8 % 2**32))), "corrupt"),
    "unknown kind": (lambda: file(matrix("w", 6, (1, 1), element(77, bytes(8)))), "values of the unknown kind 77"),
    "many cells": (lambda: file(matrix("w", 1, (HUGE, 9), ONE)), "bytes are missing in a variable"),
    "long name": (lambda: file(matrix("w" * 70_000, 6, (1, 1))), "a name, a text or a shape takes 70,000 bytes"),
    "small of 9": (lambda: file(matrix("w", 6, (1, 1), struct.pack("<HHI", 9, 9, 0))), "9 bytes stand where"),
    "too long inside": (
        lambda: file(cell("c", struct.pack("<II", 14, 1 << 20) + bytes(64))),
        "c/0 is missing, or longer than what it lies in",
    ),
    "no flags": (
        lambda: file(element(14, element(6, b"") + element(5, b"") + element(1, b"w"))),
        "does not tell its class",
    ),
    "no field names": (lambda: file(matrix("s", 2, (1, 1), element(5, bytes(4)), element(1, b"a"))), "of no length"),
    "same fields": (
        lambda: file(matrix("s", 2, (1, 1), element(5, b"\2\0\0\0"), element(1, b"a\0a\0"), ONE, ONE)),
        "two fields of s have one name",
    ),
    "long path": (
        lambda: file(matrix("s", 2, (1, 1), element(5, struct.pack("<i", 5000)), element(1, b"a" * 5000), ONE)),
        "4,096 on the way to one value",
    ),
    "not zlib": (lambda: file(element(15, b"not zlib")), "a compressed variable does not unpack"),
    "zlib cut": (lambda: file(element(15, zlib.compress(ONE)[:-4])), "ends too early|does not unpack"),
    "zlib checksum": (lambda: file(element(15, zlib.compress(ONE)[:-1] + b"?")), "does not unpack: .*incorrect data"),
    "zlib of else": (lambda: file(packed(element(9, bytes(8)))), "a compressed variable holds something else"),
    "bomb": (
        lambda: file(packed(struct.pack("<II", 14, 3 << 30) + bytes(1 << 20))),
        "announces 3,221,225,472 bytes in a compressed variable, far more .* write them without compression",
    ),
    "many values": (lambda: file(cell("c", *[struct.pack("<II", 14, 0)] * 50_001)), "hold more than 50,000 values"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_files_that_cannot_be_are_refused(case):
    make, message = HOSTILE[case]
    data = make()
    start = time.process_time()
    with pytest.raises(WeightsError, match=message):
        parse(data)
    assert time.process_time() - start < 2


def test_compressed_variables_are_limited_together(monkeypatch):
    variables = [packed(ONE), packed(ONE.replace(b"w", b"v"))]
    assert list(parse(file(*variables))) == ["w", "v"]
    monkeypatch.setattr(mat5, "MAX_INFLATED", len(ONE))
    monkeypatch.setattr(mat5, "MAX_GROWTH", 0)
    assert list(parse(file(variables[0]))) == ["w"]
    with pytest.raises(WeightsError, match="announces 64 bytes in a compressed variable, far more"):
        parse(file(*variables))


def test_scipy_reads_what_the_writer_of_this_test_writes():
    data = file(ONE, cell("c", matrix("", 7, (1, 2), element(7, np.float32([1, 2]).tobytes()))))
    found = scipy.io.loadmat(io.BytesIO(data.tobytes()))
    assert found["w"].tolist() == [[3.0]]
    assert math.prod(found["c"][0, 0].shape) == 2
