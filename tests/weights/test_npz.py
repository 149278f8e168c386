"""The reader of .npz archives and the zip format under it, against numpy and zipfile."""

from __future__ import annotations

import collections
import pickle
import re
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz
from tfxfer.errors import WeightsError
from tfxfer.weights import npz, open_weights

RNG = np.random.default_rng(0)
HEADER = b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }".ljust(69) + b"\n"


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def archive(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip archive of anything."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def test_npz_reader_agrees_with_numpy_on_real_archives(real_data):
    for name in ("weights/squeezenet1_0.npz", "weights/vgg16_blocks1-3.npz"):
        tensors = npz.read(real_data(name))
        with np.load(real_data(name)) as expected:
            assert list(tensors) == expected.files
            for key, tensor in tensors.items():
                assert (tensor.shape, tensor.dtype) == (expected[key].shape, expected[key].dtype)
                assert same(tensor.read(), expected[key])


@given(
    named=st.dictionaries(
        st.text("abc/é_", min_size=1, max_size=6).filter(lambda name: not name.startswith("/") and name != "file"),
        arrays.arrays(
            arrays.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufcSU"),
            arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        min_size=1,
        max_size=4,
    ),
    fortran=st.booleans(),
    compressed=st.booleans(),
)
def test_npz_reader_returns_any_arrays_that_numpy_saved(tmp_path_factory, named, fortran, compressed):
    path = tmp_path_factory.mktemp("given") / "a.npz"
    (np.savez_compressed if compressed else np.savez)(
        path, **{name: np.asfortranarray(array) if fortran and array.ndim else array for name, array in named.items()}
    )
    tensors = npz.read(path)
    assert list(tensors) == list(named)
    for name, tensor in tensors.items():
        native = named[name].astype(named[name].dtype.newbyteorder("="))
        assert tensor.dtype == native.dtype
        assert same(tensor.read(), native)


def test_stored_members_are_views_of_the_file_and_those_of_others_are_not_touched(tmp_path):
    named = {f"v{i}": RNG.normal(size=(64, 1024)) for i in range(40)}
    np.savez(tmp_path / "a.npz", **named)
    tracemalloc.start()
    weights = open_weights(tmp_path / "a.npz")
    array = weights["v7"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert same(array, named["v7"])
    assert not array.flags.writeable
    assert peak < 2 * array.nbytes


def test_all_arrays_are_read_about_as_fast_as_numpy_reads_them(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{f"v{i}": RNG.integers(0, 9, size=1 << 20) for i in range(8)})

    def by_numpy():
        with np.load(path) as file:
            return [file[name] for name in file.files]

    def by_us():
        weights = open_weights(path)
        return [weights[name] for name in weights]

    def seconds(action):
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    best = {action: min(seconds(action) for _ in range(5)) for action in (by_numpy, by_us)}
    assert best[by_us] < 1.5 * best[by_numpy]


def test_compressed_members_are_read_in_bounded_memory(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", zeros=np.zeros(1 << 20), noise=RNG.normal(size=1 << 18))
    weights = open_weights(tmp_path / "a.npz")
    tracemalloc.start()
    assert not weights["zeros"].any()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (8 << 20) + (8 << 20)


def test_what_is_in_a_pickled_member_is_listed_below_its_name(tmp_path):
    w, b = np.arange(6, dtype="f4").reshape(2, 3), np.arange(3, dtype=">f8")
    for save in (np.savez, np.savez_compressed):
        names = np.array(["a", None, w], object)
        save(tmp_path / "a.npz", w=w, names=names, net=np.array({"fc": [w, b], 2: {"b": b}}, object))
        weights = open_weights(tmp_path / "a.npz")
        assert list(weights) == ["w", "names/2", "net/fc/0", "net/fc/1", "net/2/b"]
        assert all(same(weights[name], w) for name in ("w", "names/2", "net/fc/0"))
        assert same(weights["net/2/b"], b.astype("f8"))


def test_a_changed_byte_is_found_when_the_array_is_read(tmp_path):
    path = tmp_path / "a.npz"
    for save in (np.savez, np.savez_compressed):
        save(path, w=np.arange(1000.0))
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 16
        path.write_bytes(raw)
        with pytest.raises(
            WeightsError, match=r"'w\.npy' (fails its checksum: the file is damaged|is corrupt|does not unpack)"
        ):
            npz.read(path)["w"].read()


def test_members_that_are_no_arrays_are_listed_with_their_reasons(tmp_path):
    structured, dates = np.zeros(2, [("epoch", "i4"), ("loss", "f4", (2,))]), np.array(["2020-01-01"], "M8[D]")
    np.savez(tmp_path / "a.npz", w=np.ones(3), log=structured, saved=dates, end=np.array(print, object))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as file:
        file.writestr("README.txt", "hello")
        file.writestr("folder/", b"")
    weights = open_weights(tmp_path / "a.npz")
    assert list(weights) == ["w"]
    assert same(weights["w"], np.ones(3))
    assert list(weights.skipped) == ["log", "saved", "end", "README.txt"]
    for name, why in (("README.txt", "not a .npy file"), ("log", "structured"), ("saved", "M8"), ("end", "would call")):
        assert why in weights.skipped[name]
        assert name not in weights
        with pytest.raises(WeightsError, match=re.escape(weights.skipped[name])):
            weights[name]
    with pytest.raises(WeightsError, match="it is a zip archive of README"):
        open_weights(archive(tmp_path / "b.npz", ("README.txt", b"hello")).rename(tmp_path / "c.npz"))


def test_raw_bytes_and_structures_of_many_fields_are_listed_with_their_reasons(tmp_path):
    many = np.zeros(1, [(f"a_field_of_the_log_{number}", "f4") for number in range(200)])
    np.savez(tmp_path / "a.npz", w=np.ones(3), raw=np.zeros(2, "V4"), half=np.ones(2, ml_dtypes.bfloat16), log=many)
    weights = open_weights(tmp_path / "a.npz")
    assert list(weights) == ["w"]
    for name, why in (("raw", "'|V4' is none of numbers"), ("half", "NumPy writes bfloat16 so"), ("log", "structured")):
        assert why in weights.skipped[name]


def test_a_member_without_npy_and_one_with_it_are_two_arrays(tmp_path):
    one, two = HEADER + np.full(4, 1, "f4").tobytes(), HEADER + np.full(4, 2, "f4").tobytes()
    weights = open_weights(archive(tmp_path / "a.npz", ("a.npy", one), ("a", two), ("b.npy", two)))
    assert {name: float(weights[name][0]) for name in weights} == {"a.npy": 1, "a": 2, "b": 2}


def test_a_header_that_does_not_fit_to_the_size_of_its_member_is_refused(tmp_path):
    path = archive(tmp_path / "a.npz", ("a.npy", HEADER + bytes(15)))
    with pytest.raises(WeightsError, match=r"float32 \(4,\) takes 16 bytes, 15 follow the header"):
        npz.read(path)


def test_terabytes_that_are_only_announced_are_refused(tmp_path):
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(85) + b"\n"
    path = archive(tmp_path / "a.npz", ("a.npy", b"\x93NUMPY\x01\x00\x56\x00" + text + bytes(16)))
    with pytest.raises(WeightsError, match=r"takes 8,000,000,000,000 bytes, 16 follow the header"):
        open_weights(path)


def test_broken_archives_give_only_weights_errors(tmp_path, fuzz_cases):
    named = {"conv1/weights": RNG.normal(size=(3, 3, 2, 4)).astype("f4"), "b": np.arange(9), "s": np.array(["x", "yz"])}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "good.npz", **named)
        good = (tmp_path / "good.npz").read_bytes()
        count = fuzz.check_all(tmp_path / "a.npz", fuzz.broken(good, fuzz_cases, begin=len(good)))
        assert count["refused"] > 50


def test_only_the_bytes_that_are_asked_for_are_read_from_a_large_archive(tmp_path):
    # 16 MiB, of which the process may not hold more than some of one 256 KiB array.
    path = tmp_path / "a.npz"
    zeros = np.zeros(1 << 16, np.float32)
    np.savez(path, **{f"v{i}": zeros for i in range(64)})
    code = (
        "import sys, resource\nfrom tfxfer.weights import open_weights\nweights = open_weights(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nweights['v3'].sum()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * zeros.nbytes // 1024


def test_a_list_of_arrays_is_read_as_tensorlayer_writes_it(tmp_path):
    params = np.empty(2, object)
    params[:] = [np.ones((3, 2), "f4"), np.zeros(2, "f4")]
    np.savez(tmp_path / "a.npz", params=params)
    weights = open_weights(tmp_path / "a.npz")
    assert {name: weights.shape(name) for name in weights} == {"params/0": (3, 2), "params/1": (2,)}


def test_a_changed_byte_of_a_pickled_member_is_found(tmp_path):
    np.savez(tmp_path / "a.npz", params=np.array({"w": np.full(50, 7.5)}, object))
    raw = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(raw.replace(np.full(50, 7.5).tobytes(), np.full(50, 8.5).tobytes()))
    with pytest.raises(WeightsError, match="fails its checksum"):
        open_weights(tmp_path / "a.npz")["params/w"]


def test_broken_archives_with_a_pickle_give_only_weights_errors(tmp_path, fuzz_cases):
    np.savez_compressed(tmp_path / "b.npz", w=np.ones(9), net={"a": [np.arange(30.0)]}, log=np.zeros(2, [("a", "i4")]))
    good = (tmp_path / "b.npz").read_bytes()
    assert fuzz.check_all(tmp_path / "a.npz", fuzz.broken(good, fuzz_cases, len(good)))["read"]


def test_broken_pickles_under_right_checksums_give_only_weights_errors(tmp_path, fuzz_cases):
    params = np.empty(3, object)
    params[:] = [RNG.normal(size=(3, 2)).astype("f4"), {"b": np.arange(5), "n": [np.float32(2)]}, np.array(["x"])]
    np.savez(tmp_path / "good.npz", w=np.ones(3), params=params)
    good = (tmp_path / "good.npz").read_bytes()
    pack = fuzz.repacked(good, "params.npy")
    with zipfile.ZipFile(tmp_path / "good.npz") as archive:
        member = archive.read("params.npy")
    path = tmp_path / "a.npz"
    broken = fuzz.broken(member, fuzz_cases, len(member))
    assert fuzz.check_all(path, broken, lambda content: path.write_bytes(pack(content)))["read"] > 50


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_lists_of_arrays_are_read_under_every_protocol_and_the_module_names_of_both_numpys(tmp_path, protocol, module):
    # NumPy 2 pickles its own module names; those of NumPy 1 are put in by the length that protocol 4 gives.
    params = np.empty(4, object)
    params[:] = [
        RNG.normal(size=(3, 2)).astype("f4"),
        np.arange(3, dtype=">i2"),
        np.float64(0.5),
        np.array(["é", "yz"]),
    ]
    code = pickle.dumps(params, protocol)
    assert b"numpy._core" in code
    if module == "numpy.core":
        code = re.sub(rb"\x8c(.)(numpy\._core[.\w]*)", _of_numpy_1, code)
        code = code.replace(b"numpy._core", b"numpy.core")
    header = HEADER.replace(b"'<f4'", b"'|O' ")
    weights = open_weights(archive(tmp_path / "a.npz", ("params.npy", header + code)))
    assert list(weights) == ["params/0", "params/1", "params/2", "params/3"]
    for index in range(4):
        expected = np.asarray(params[index])
        assert same(weights[f"params/{index}"], expected.astype(expected.dtype.newbyteorder("=")))


def _of_numpy_1(text: re.Match[bytes]) -> bytes:
    return b"\x8c" + bytes([text[1][0] - 1]) + text[2].replace(b"._core", b".core")


def test_dicts_of_dicts_of_arrays_are_read(tmp_path):
    w, b = RNG.normal(size=(3, 2)).astype("f4"), np.asfortranarray(RNG.normal(size=(2, 3)))
    net = collections.OrderedDict(conv=collections.defaultdict(list, weights=w, more={"b": b}), fc=[w, (b, [w])])
    np.savez(tmp_path / "a.npz", net=net, wrapped=np.array(w[0], object), scalar=np.array(np.float32(2), object))
    weights = open_weights(tmp_path / "a.npz")
    expected = {
        "net/conv/weights": w,
        "net/conv/more/b": b,
        "net/fc/0": w,
        "net/fc/1/0": b,
        "net/fc/1/1/0": w,
        "wrapped/0": w[0, 0],
        "wrapped/1": w[0, 1],
        "scalar": np.array(2.0),
    }
    assert list(weights) == list(expected)
    for name in list(expected)[:5]:
        assert same(weights[name], np.ascontiguousarray(expected[name]))
    assert [float(weights[name]) for name in list(expected)[5:]] == [float(v) for v in list(expected.values())[5:]]


def test_arrays_of_objects_of_several_dimensions_count_in_the_order_of_c(tmp_path):
    ragged = np.empty((2, 2), object)
    for index in np.ndindex(2, 2):
        ragged[index] = np.full(sum(index) + 1, 2 * index[0] + index[1], "f4")
    np.savez(
        tmp_path / "a.npz", ragged=ragged, turned=np.asfortranarray(ragged), none=np.empty(0, object), w=np.ones(1)
    )
    weights = open_weights(tmp_path / "a.npz")
    assert list(weights) == [*(f"ragged/{i}" for i in range(4)), *(f"turned/{i}" for i in range(4)), "w"]
    for name in ("ragged", "turned"):
        assert [weights[f"{name}/{i}"].tolist() for i in range(4)] == [a.tolist() for a in ragged.ravel()]


def test_structured_arrays_within_a_pickle_are_listed_with_their_reason(tmp_path):
    log = np.zeros(2, [("epoch", "i4"), ("loss", "f4", (2,))])
    np.savez(tmp_path / "a.npz", net={"w": np.ones(2), "log": log, "row": log[0]})
    weights = open_weights(tmp_path / "a.npz")
    assert (list(weights), list(weights.skipped)) == (["net/w"], ["net/log", "net/row"])
    assert "member 'net.npy': log is not an array of numbers" in weights.skipped["net/log"]
