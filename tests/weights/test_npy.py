"""The reader of .npy files and its walk over pickles, against numpy; numpy unpickles here, in the tests, alone."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import pickle
import time
import tracemalloc
from pathlib import Path, PurePosixPath

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz
from tfxfer.errors import WeightsError
from tfxfer.formats import pickle_parser
from tfxfer.weights import npy, open_weights

RNG = np.random.default_rng(0)
OBJECTS = b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(69) + b"\n"
NUMBERS = st.one_of(st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False))
ARRAYS = arrays.arrays(
    arrays.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufcSU"),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def native(value: object) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="))


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


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "wrap", [lambda evil: evil, lambda evil: {"w": evil}, lambda evil: np.array({"w": [evil]}, object)]
)
def test_a_hostile_pickle_runs_nothing(tmp_path, wrap, protocol):
    mark = tmp_path / "ran"
    path = pickled(tmp_path / "a.npy", wrap(Hostile(mark)), protocol)
    with pytest.raises(WeightsError, match=r"is refused: (its pickle would call|opcode)"):
        open_weights(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"is refused: opcode b'S'"),
        (b"cos\nsystem\n(U\x04truetR.", r"is refused: its pickle would call os\.system; tfxfer reads arrays"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"would call os\.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", r"would call builtins\.eval"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", r"would call numpy\.ndarray\.__class__"),
        (b"\x80\x02cnumpy\nload\n.", r"would call numpy\.load"),
        (b"(ios\nsystem\n.", r"opcode b'\(' |opcode b'i' of its pickle"),
        (b"(cos\nsystem\no.", r"opcode b'o'"),
        (b"\x80\x02Pabc\n.", r"opcode b'P'"),
        (b"\x80\x02\x82\x01.", r"opcode b'\\x82'"),
        (b"\x80\x04]\x81.", r"a value is missing"),
        (b"\x80\x04])\x81.", r"an object that is neither an array nor a dict"),
        (b"\x80\x04\x8f.", r"is a set"),
        (b"\x80\x02cnumpy\nndarray\n)R.", r"a call that numpy's arrays do not need"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R}b.", r"a state is missing"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R)b.", r"a state that belongs to no array"),
        (b"\x80\x02]]}s.", r"a dict, or the value of a key, is missing"),
        (b"\x80\x02}]a.", r"a list is missing"),
        (b"\x80\x02}]]s.", r"a short string is missing"),
        (b"\x80\x02)a.", r"a value is missing"),
        (b"\x80\x02t.", r"a mark is missing"),
        (b"\x80\x02(a.", r"a value is missing"),
        (b"\x80\x02h\x07.", r"value 7 of its memo is missing"),
        (b"\x80\x02\x8a\x09123456789.", r"an integer of 9 bytes"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", r"an integer of 2,147,483,647 bytes"),
        (b"\x80\x02T\xff\xff\xff\x7f.", r"is cut short or corrupt: 2,147,483,647 bytes are missing"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", r"18,446,744,073,709,551,615 bytes are missing"),
        (b"\x80\x02cnumpy", r"the text at byte \d+ does not end"),
        (b"\x80\x02}X\x01\x00\x00\x00\xff]s.", r"a string is not in its encoding"),
        (b"", r"1 bytes are missing at byte 80"),
        (b"\x80\x02]", r"1 bytes are missing"),
    ],
)
def test_pickles_that_are_wrong_are_refused(tmp_path, code, message):
    with pytest.raises(WeightsError, match=message):
        open_weights(pickled(tmp_path / "a.npy", code))


def test_pickles_of_other_things_are_refused(tmp_path):
    for content in ({1, 2}, 1j, bytearray(b"x") and slice(3), Path("x"), np.array([(1, 2)], [("a", int), ("b", int)])):
        with pytest.raises(WeightsError, match=r"is refused|is corrupt|is a set|is no array of numbers"):
            open_weights(pickled(tmp_path / "a.npy", {"w": content}))


def bombs() -> dict[str, bytes]:
    """Return small or repetitive pickles that are large when built, or never end."""
    nested: list[object] = []
    for _ in range(20):
        nested = [nested] * 10
    itself: list[object] = []
    itself.append(itself)
    array = np.empty((), object)
    array[()] = [array]
    return {
        "a list of lists of lists": pickle.dumps(nested),
        "a list that holds itself": pickle.dumps(itself),
        "an array that holds itself": pickle.dumps(array),
        "brackets": b"\x80\x04" + b"]" * 1_000_000 + b".",
        "dicts": b"\x80\x04(" + b"}" * 1_000_000 + b"t.",
        "marks": b"\x80\x04" + b"(" * 1_000_000 + b".",
        "tuples": b"\x80\x04)" + b"\x85" * 1_000_000 + b".",
        "a long memo": b"\x80\x04]" + b"\x94" * 1_000_000 + b".",
    }


@pytest.mark.parametrize("kind", bombs())
def test_pickles_without_end_are_refused_in_little_time_and_memory(tmp_path, kind):
    path = pickled(tmp_path / "a.npy", bombs()[kind])
    start = time.process_time()
    with pytest.raises(WeightsError, match=r"is hostile: its (pickle takes more than|dicts and lists hold more than)"):
        open_weights(path)
    assert time.process_time() - start < fuzz.SECONDS


@pytest.mark.parametrize("kind", ["brackets", "dicts", "a long memo"])
def test_pickles_without_end_take_little_memory(tmp_path, kind):
    path = pickled(tmp_path / "a.npy", bombs()[kind])
    tracemalloc.start()
    with pytest.raises(WeightsError, match="is hostile"):
        open_weights(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < fuzz.ROOM


def test_two_arrays_of_one_name_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="two arrays would both be called a/b"):
        open_weights(pickled(tmp_path / "a.npy", {"a": {"b": 1}, "a/b": 2}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K\x03\x85", b"K\x04\x85", r"float32 \(4,\) takes 16 bytes, the file holds 12"),
        (b"K\x03\x85", b"J\xfd\xff\xff\xff\x85", r"the shape \(-3,\) is negative"),
        (b"K\x03\x85", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", r"is too large for any array"),
        (b"K\x03\x85", b"N\x85", r"is no array of numbers, booleans or strings"),
        (b"K\x03\x85", b"K\x03", r"is no array of numbers, booleans or strings"),
        (b"\x8c\x02f4", b"\x8c\x02f3", r"is no array of numbers, booleans or strings"),
        (b"\x8c\x02f4", b"\x8c\x02M8", r"is no array of numbers, booleans or strings"),
        (b"\x8c\x02f4", b"\x8c\x02O8", r"is no array of numbers, booleans or strings"),
    ],
)
def test_arrays_that_cannot_be_are_refused(tmp_path, old, new, message):
    good = pickle.dumps({"w": np.zeros(3, "f4")}, 4)
    assert good.count(old) == 1
    with pytest.raises(WeightsError, match=message):
        open_weights(pickled(tmp_path / "a.npy", good.replace(old, new)))


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
    with pytest.raises(WeightsError, match=r"is no \.npy file: it does not begin with"):
        npy.read(tmp_path / "a.npy")


def test_a_file_without_arrays_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"is a NumPy \.npy file that holds no arrays"):
        open_weights(pickled(tmp_path / "a.npy", "only text"))


def test_every_opcode_of_the_machine_is_one_of_pickles_own():
    import pickletools

    known = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}
    names = {known[code] for code in pickle_parser._OPCODES}
    unsafe = {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"}
    assert names.isdisjoint(unsafe)
    assert {"REDUCE", "BUILD", "GLOBAL", "STACK_GLOBAL"} < names


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


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_ordered_dicts_and_dicts_with_defaults_are_dicts(tmp_path, protocol):
    w = np.arange(3.0)
    inner = collections.defaultdict(dict, {"b": {"w": w}})
    value = collections.OrderedDict([("z", w), ("a", [w, inner]), ("l", collections.defaultdict(list, {"x": [w]}))])
    (tmp_path / "a.npy").write_bytes(OBJECTS + pickle.dumps(np.array(value, object), protocol))
    weights = open_weights(tmp_path / "a.npy")
    assert list(weights) == ["z", "a/0", "a/1/b/w", "l/x/0"]
    assert all(same(weights[name], w) for name in weights)


def test_an_ordered_dict_of_python_2_is_read(tmp_path):
    # There the pairs are an argument of the call.
    code = b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bK\x02ee\x85R."
    assert pickle.loads(code) == {"a": 1, "b": 2}  # noqa: S301
    assert {n: int(v) for n, v in open_weights(pickled_by_hand(tmp_path, code)).items()} == {"a": 1, "b": 2}


def pickled_by_hand(tmp_path: Path, code: bytes) -> Path:
    (tmp_path / "a.npy").write_bytes(OBJECTS + code)
    return tmp_path / "a.npy"


@pytest.mark.parametrize(
    ("key", "name"),
    [(("conv", 0), "conv/0"), (0.5, "0.5"), (np.str_("a"), "a"), (None, "None"), (np.int64(3), "3"), (True, "True")],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_keys_that_are_no_text_become_names(tmp_path, key, name, protocol):
    weights = open_weights(pickled_by_hand(tmp_path, pickle.dumps(np.array({key: np.ones(2)}, object), protocol)))
    assert {name: value.tolist() for name, value in weights.items()} == {name: [1, 1]}


def test_keys_that_give_one_name_lose_no_array(tmp_path):
    with pytest.raises(WeightsError, match="two arrays would both be called 1"):
        open_weights(pickled_by_hand(tmp_path, pickle.dumps({1: np.ones(2), "1": np.zeros(2)})))


def test_what_is_not_an_array_does_not_hide_what_is(tmp_path):
    value = {"w": np.ones(2), "n": 2**70, "when": np.array(["2020-01-01"], "M8[D]"), "log": np.zeros(1, [("a", "i4")])}
    weights = open_weights(pickled_by_hand(tmp_path, pickle.dumps(value)))
    assert list(weights) == ["w"]
    assert list(weights.skipped) == ["n", "when", "log"]
    assert "an integer of 9 bytes, for which NumPy has no dtype" in weights.skipped["n"]
    with pytest.raises(WeightsError, match="no array of numbers"):
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
    weights = open_weights(pickled_by_hand(tmp_path, pickle.dumps(value, protocol)))
    assert list(weights) == ["conv1/0", "conv1/1", "last/w"]
    assert [float(weights[name].sum()) for name in weights] == [6, 0, 14]
    assert list(weights.skipped) == ["when", "args", "count", "masked", "classes", "frozen", "phase", "where", "kind"]
    assert "when is refused: its pickle would call datetime.datetime" in weights.skipped["when"]


@pytest.mark.parametrize("call", ["os\nsystem", "builtins\neval", "_codecs\ndecode", "collections\nCounter"])
def test_no_other_function_is_called(tmp_path, call):
    with pytest.raises(WeightsError, match="is refused: its pickle would call"):
        open_weights(pickled_by_hand(tmp_path, b"\x80\x02c" + call.encode() + b"\nX\x01\0\0\0x\x85R."))


def test_broken_files_of_old_numpy_give_only_weights_errors(tmp_path, fuzz_cases):
    value = collections.OrderedDict([(("a", 0), RNG.normal(size=(4, 5))), (np.str_("b"), [np.float32(1), {"c": 1}])])
    good = OBJECTS + by_old_numpy(value)
    assert fuzz.check_all(tmp_path / "a.npy", fuzz.broken(good, fuzz_cases))["read"]
