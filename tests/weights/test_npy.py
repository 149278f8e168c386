"""The reader of .npy files and its walk over pickles, against numpy; numpy unpickles here, in the tests, alone."""

from __future__ import annotations

import pickle
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz
from tfxfer.errors import WeightsError
from tfxfer.weights import npy, open_weights

RNG = np.random.default_rng(0)
OBJECTS = b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(69) + b"\n"
ARRAYS = arrays.arrays(
    arrays.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufcSU"),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def native(value: object) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="))


def pickled(path: Path, content: object, protocol: int = 4) -> Path:
    """Write a .npy file around the pickle of anything."""
    path.write_bytes(OBJECTS + (content if isinstance(content, bytes) else pickle.dumps(content, protocol)))
    return path


@given(array=ARRAYS, fortran=st.booleans())
def test_npy_reader_returns_any_array_that_numpy_saved(tmp_path_factory, array, fortran):
    path = tmp_path_factory.mktemp("given") / "a.npy"
    np.save(path, np.asfortranarray(array) if fortran and array.ndim else array)
    tensors = npy.read(path)
    assert list(tensors) == ["arr_0"]
    assert (tensors["arr_0"].shape, tensors["arr_0"].dtype) == (array.shape, native(array).dtype)
    assert same(tensors["arr_0"].read(), native(array))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", None),
        ("{'shape':(3L,),'fortran_order':True,'descr':'<f4'}", None),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }",
            r"float32 \(4,\) takes 16 bytes, 12 follow the header",
        ),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", r"the shape \(-3,\) is negative"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999, 3), }", "is too large for any array"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3**9,), }", "its shape is"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': 3, }", "of a structured dtype"),
        (
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }",
            "of a structured dtype",
        ),
        ("{'descr': '<f4', 'descr': '<f4', 'shape': (3,), }", "header is corrupt"),
        ("{'descr': '<f3', 'fortran_order': False, 'shape': (4,), }", r"the dtype '<f3' is none of numbers, booleans"),
        ("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (4,), }", r"the dtype '<M8\[s\]' is none of numbers"),
        ("{'descr': '|S0', 'fortran_order': False, 'shape': (268435456,), }", r"'\|S0' is of strings of no characters"),
        ("{'descr': '<U00', 'fortran_order': False, 'shape': (1125899906842624,), }", "is of strings of no characters"),
        (
            "{'descr': '<U999999', 'fortran_order': False, 'shape': (0, 144115188075855872), }",
            "too large for any array",
        ),
        ("{'descr': '<U999999', 'fortran_order': False, 'shape': (0, 1125899906842624), }", "too large for any array"),
        ("__import__('os').system('true')", "header is corrupt"),
    ],
)
def test_headers_of_npy_files_are_parsed_and_never_run(tmp_path, header, message):
    text = header.encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(12))
    if message is None:
        assert same(npy.read(tmp_path / "a.npy")["arr_0"].read(), np.zeros(3, "f4"))
    else:
        with pytest.raises(WeightsError, match=message):
            open_weights(tmp_path / "a.npy")


def test_an_unknown_version_and_another_kind_of_file_are_named(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x09\x00" + bytes(20))
    with pytest.raises(WeightsError, match=r"version 9 of the \.npy format is unknown"):
        npy.read(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(b"something")
    with pytest.raises(WeightsError, match=r"is not a \.npy file: it does not begin with"):
        npy.read(tmp_path / "a.npy")


def test_broken_npy_files_give_only_weights_errors(tmp_path, fuzz_cases):
    net = {
        "conv1": [RNG.normal(size=(3, 3, 1, 2)).astype("f4"), np.zeros(2, "f4")],
        "fc": {"weights": np.ones((2, 2)), "n": 3},
    }
    np.save(tmp_path / "plain.npy", RNG.normal(size=(3, 4)))
    for protocol in (2, 4, 5):
        pickled(tmp_path / f"{protocol}.npy", net, protocol)
    for name in ("plain", "2", "4", "5"):
        good = (tmp_path / f"{name}.npy").read_bytes()
        assert fuzz.check_all(tmp_path / "a.npy", fuzz.broken(good, fuzz_cases, begin=len(good)))["refused"] > 50
