"""Arrays within pickled dicts and lists, against numpy, which unpickles here, in the tests, alone."""

from __future__ import annotations

import argparse
import collections
import datetime
import pickle
import tracemalloc
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz
from tests.weights.test_npy import ARRAYS, OBJECTS, RNG, native, pickled, same
from tfxfer.errors import WeightsError
from tfxfer.weights import npy, open_weights, streams

NUMBERS = st.one_of(st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False))


def flat(value: object, name: str = "") -> dict[str, np.ndarray]:
    """Return what the reader should list, by plain recursion over what numpy unpickled."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.item() if value.shape == () else list(value.ravel())
    if isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        return {} if value is None or isinstance(value, str | bytes) else {name or "arr_0": native(value)}
    found = [flat(inner, f"{name}/{key}".removeprefix("/")) for key, inner in items]
    return {key: array for inner in found for key, array in inner.items()}


@given(
    content=st.dictionaries(
        st.text("abcé", min_size=1, max_size=5),
        st.one_of(
            ARRAYS,
            st.lists(ARRAYS, max_size=3),
            st.tuples(ARRAYS, NUMBERS),
            st.dictionaries(st.text("wb", min_size=1, max_size=3), ARRAYS),
        ),
        min_size=1,
        max_size=4,
    ),
    protocol=st.sampled_from([3, 4, 5]),
)
def test_npy_reader_returns_any_dict_that_numpy_pickled(tmp_path_factory, content, protocol):
    path = pickled(tmp_path_factory.mktemp("given") / "a.npy", np.array(content, object), protocol)
    expected = flat(np.load(path, allow_pickle=True))
    tensors = npy.read(path)
    assert list(tensors) == list(expected)
    assert all(same(tensor.read(), expected[name]) for name, tensor in tensors.items())


@given(array=ARRAYS, data=st.data(), protocol=st.sampled_from([1, 2, 3, 4, 5]))
def test_axes_come_in_any_order_by_any_protocol(tmp_path_factory, array, data, protocol):
    content = {"w": array.transpose(data.draw(st.permutations(range(array.ndim))))}
    path = pickled(tmp_path_factory.mktemp("given") / "a.npy", content, protocol)
    expected = np.load(path, allow_pickle=True)["w"]
    [tensor] = npy.read(path).values()
    assert tensor.shape == expected.shape
    assert same(tensor.read(), native(expected))
    assert b"".join(piece.tobytes() for piece in streams.pieces(tensor)) == native(expected).tobytes()


def test_booleans_of_old_protocols_are_what_python_reads(tmp_path):
    array = np.asfortranarray(np.arange(6).reshape(2, 3))
    path = pickled(tmp_path / "a.npy", {"w": array, "yes": True, "no": False}, 1)
    assert b"I01\n" in path.read_bytes()
    weights = open_weights(path)
    np.testing.assert_array_equal(weights["w"], array)
    assert (weights["yes"].dtype, weights["yes"], weights["no"]) == (np.bool_, True, False)
    path.write_bytes(path.read_bytes().replace(b"I01\n", b"K\x07", 1))  # any other number is true as well
    np.testing.assert_array_equal(open_weights(path)["w"], array)


def test_strings_of_no_characters_are_listed_and_not_read(tmp_path):
    weights = open_weights(pickled(tmp_path / "a.npy", {"w": np.ones(2), "s": np.ndarray(1 << 28, "S0")}))
    assert list(weights) == ["w"]
    assert "s" in weights.skipped


def test_axes_that_cannot_be_are_refused(tmp_path):
    good = pickle.dumps({"w": np.ones((2, 3, 4)).transpose(1, 2, 0)}, 5)
    assert good.count(b"K\x01K\x02K\x00\x87") == 1
    for axes in (b"K\x01K\x01K\x00\x87", b"K\x01K\x03K\x00\x87", b"K\x01K\x00\x86", b"K\x01K\x02N\x87", b"N"):
        with pytest.raises(WeightsError, match="a call that numpy's arrays do not need"):
            open_weights(pickled(tmp_path / "a.npy", good.replace(b"K\x01K\x02K\x00\x87", axes)))


def test_npy_reader_agrees_with_numpy_on_real_pickles_of_python_2(real_data):
    for name in ("weights/det1.npy", "weights/det2.npy"):
        expected = flat(np.load(real_data(name), allow_pickle=True, encoding="latin1"))
        tensors = npy.read(real_data(name))
        assert list(tensors) == list(expected)
        assert "conv1/weights" in tensors
        for key, tensor in tensors.items():
            assert (tensor.shape, tensor.dtype) == (expected[key].shape, expected[key].dtype)
            assert same(tensor.read(), expected[key])


def test_the_layout_of_vgg16_npy_gives_names_with_indices(tmp_path):
    net = {
        "conv1_1": [np.ones((3, 3, 3, 4), "f4"), np.zeros(4, "f4")],
        "fc6": [np.ones((8, 2), "f4"), np.zeros(2, "f4")],
    }
    np.save(tmp_path / "vgg16.npy", net)
    weights = open_weights(tmp_path / "vgg16.npy", rename=[("/0$", "/kernel"), ("/1$", "/bias")])
    assert {name: weights.shape(name) for name in weights} == {
        "conv1_1/kernel": (3, 3, 3, 4),
        "conv1_1/bias": (4,),
        "fc6/kernel": (8, 2),
        "fc6/bias": (2,),
    }
    assert weights.kind == "NumPy .npy file"


def test_strings_and_none_are_left_out_and_numbers_are_scalars(tmp_path):
    content = {"w": np.ones(2), "note": "text", "none": None, 5: 7, "pi": 3.5, "yes": True, "f": np.float32(2)}
    tensors = npy.read(pickled(tmp_path / "a.npy", content))
    assert {name: (tensor.shape, tensor.dtype.name) for name, tensor in tensors.items()} == {
        "w": ((2,), "float64"),
        "5": ((), "int64"),
        "pi": ((), "float64"),
        "yes": ((), "bool"),
        "f": ((), "float32"),
    }
    assert tensors["pi"].read() == 3.5


def test_the_bytes_of_pickled_arrays_stay_in_the_file(tmp_path):
    np.save(tmp_path / "a.npy", {f"v{i}": RNG.normal(size=(128, 1024)) for i in range(32)})
    tracemalloc.start()
    weights = open_weights(tmp_path / "a.npy")
    listed = tracemalloc.get_traced_memory()[1]
    array = weights["v7"]
    read = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert listed < 1 << 20
    assert read < array.nbytes + (1 << 20)
    assert not array.flags.writeable


def test_two_arrays_of_one_name_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="two arrays would both be called a/b"):
        open_weights(pickled(tmp_path / "a.npy", {"a": {"b": 1}, "a/b": 2}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K\x03\x85", b"K\x04\x85", r"float32 \(4,\) takes 16 bytes, the file holds 12"),
        (b"K\x03\x85", b"J\xfd\xff\xff\xff\x85", r"the shape \(-3,\) is negative"),
        (b"K\x03\x85", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", r"is too large for any array"),
        (b"K\x03\x85", b"N\x85", r"is not an array of numbers, booleans or strings"),
        (b"K\x03\x85", b"K\x03", r"is not an array of numbers, booleans or strings"),
        (b"\x8c\x02f4", b"\x8c\x02f3", r"is not an array of numbers, booleans or strings"),
        (b"\x8c\x02f4", b"\x8c\x02M8", r"is not an array of numbers, booleans or strings"),
        (b"\x8c\x02f4", b"\x8c\x02O8", r"is not an array of numbers, booleans or strings"),
    ],
)
def test_arrays_that_cannot_be_are_refused(tmp_path, old, new, message):
    good = pickle.dumps({"w": np.zeros(3, "f4")}, 4)
    assert good.count(old) == 1
    with pytest.raises(WeightsError, match=message):
        open_weights(pickled(tmp_path / "a.npy", good.replace(old, new)))


def test_a_file_without_arrays_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"is a NumPy \.npy file that holds no arrays"):
        open_weights(pickled(tmp_path / "a.npy", "only text"))


def test_broken_real_pickles_give_only_weights_errors(tmp_path, real_data, fuzz_cases):
    good = real_data("weights/det1.npy").read_bytes()
    assert fuzz.check_all(tmp_path / "a.npy", fuzz.broken(good, fuzz_cases))["refused"] > 50


def by_old_numpy(value: object) -> bytes:
    """Pickle as `np.save` of Python 3 with NumPy up to 1.16 did: by protocol 2, which has no bytes."""
    return pickle.dumps(np.array(value, object), protocol=2)


def test_files_of_python_3_with_old_numpy_are_read(tmp_path):
    w = RNG.normal(size=(3, 4)).astype("f4")
    table = {"conv": {"weights": w, "biases": w[0].astype(">f8")}, "fc": [w.T, np.zeros((0, 3))], "n": np.float32(2)}
    code = by_old_numpy(table)
    assert b"_codecs\nencode" in code
    (tmp_path / "a.npy").write_bytes(OBJECTS + code)
    weights = open_weights(tmp_path / "a.npy")
    assert {name: same(weights[name], expected) for name, expected in flat(table).items()} == dict.fromkeys(
        ["conv/weights", "conv/biases", "fc/0", "fc/1", "n"], True
    )


def test_text_that_stands_for_too_few_bytes_is_found_when_it_is_read(tmp_path):
    code = by_old_numpy({"w": np.array([1.0, 2.0])})
    # The text of 1.0 and 2.0 has bytes beyond 127, which take two: as many of one byte are too many for the shape.
    assert code.count("\xf0".encode()) == 1
    (tmp_path / "a.npy").write_bytes(OBJECTS + code.replace("\xf0".encode(), b"ab"))
    with pytest.raises(WeightsError, match="its text does not stand for the bytes of float64"):
        open_weights(tmp_path / "a.npy")["w"]


def test_a_key_of_characters_beyond_unicode_is_refused(tmp_path):
    good = pickle.dumps({np.str_("b"): np.ones(2)}, 4)
    assert good.count(b"b\0\0\0") == 1
    bad = pickled(tmp_path / "a.npy", good.replace(b"b\0\0\0", b"b\0\0\x7f"))
    with pytest.raises(WeightsError, match="a key of a dict is not Unicode text"):
        open_weights(bad)


def test_keys_that_give_one_name_lose_no_array(tmp_path):
    with pytest.raises(WeightsError, match="two arrays would both be called 1"):
        open_weights(pickled(tmp_path / "a.npy", pickle.dumps({1: np.ones(2), "1": np.zeros(2)})))


def test_what_is_not_an_array_does_not_hide_what_is(tmp_path):
    value = {"w": np.ones(2), "n": 2**70, "when": np.array(["2020-01-01"], "M8[D]"), "log": np.zeros(1, [("a", "i4")])}
    weights = open_weights(pickled(tmp_path / "a.npy", pickle.dumps(value)))
    assert list(weights) == ["w"]
    assert list(weights.skipped) == ["n", "when", "log"]
    assert "an integer of 9 bytes, for which NumPy has no dtype" in weights.skipped["n"]
    with pytest.raises(WeightsError, match="is not an array of numbers"):
        weights["when"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_of_any_class_do_not_hide_the_arrays_beside_them(tmp_path, protocol):
    value = {
        "conv1": [np.ones((2, 3), "f4"), np.zeros(3, "f4")],
        "when": datetime.datetime(2020, 1, 1),
        "args": argparse.Namespace(lr=0.1, layers=[np.ones(9)]),
        "count": collections.Counter("aab"),
        "masked": np.ma.array(np.ones(2)),
        "classes": {"cat", "dog"},
        "frozen": frozenset({1}),
        "phase": 1 + 2j,
        "where": PurePosixPath("/a"),
        "kind": np.float32,
        "last": collections.defaultdict(np.ones, w=np.full(2, 7.0)),
    }
    weights = open_weights(pickled(tmp_path / "a.npy", pickle.dumps(value, protocol)))
    assert list(weights) == ["conv1/0", "conv1/1", "last/w"]
    assert [float(weights[name].sum()) for name in weights] == [6, 0, 14]
    assert list(weights.skipped) == ["when", "args", "count", "masked", "classes", "frozen", "phase", "where", "kind"]
    assert "when is refused: its pickle would call datetime.datetime" in weights.skipped["when"]


def test_broken_files_of_old_numpy_give_only_weights_errors(tmp_path, fuzz_cases):
    value = collections.OrderedDict([(("a", 0), RNG.normal(size=(4, 5))), (np.str_("b"), [np.float32(1), {"c": 1}])])
    good = OBJECTS + by_old_numpy(value)
    assert fuzz.check_all(tmp_path / "a.npy", fuzz.broken(good, fuzz_cases))["read"]
