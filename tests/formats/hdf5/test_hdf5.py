"""The reader of HDF5 files, against h5py."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path

import h5py
import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz
from tfxfer.errors import WeightsError
from tfxfer.formats import hdf5, reading
from tfxfer.formats.hdf5 import file as structures
from tfxfer.formats.tensors import Tensor
from tfxfer.weights import open_weights

RNG = np.random.default_rng(0)
VERSIONS = ("earliest", "v108", "latest")


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    expected = expected.astype(expected.dtype.newbyteorder("="))
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def root(path: Path) -> hdf5.Object:
    return hdf5.root(reading.map_file(path), str(path))


def tensors(path: Path) -> dict[str, Tensor]:
    return {dataset.path: dataset.tensor for dataset in root(path).datasets()}


def datasets(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of numbers in a file, by h5py."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def check(path: Path) -> None:
    """Compare all arrays and attributes of text with what h5py reads."""
    ours, theirs = tensors(path), datasets(path)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.shape == theirs[name].shape
        assert same(tensor.read(), np.asarray(theirs[name])), name

    def compare(name: str, item: h5py.Group | h5py.Dataset) -> None:
        for key, value in item.attrs.items():
            values = [value] if isinstance(value, str | bytes | np.bytes_) else list(np.atleast_1d(value))
            texts = [text.decode() if isinstance(text, bytes) else text for text in values]
            if all(isinstance(text, str) for text in texts):
                assert root(path)[name].texts(key) == texts
            else:
                assert root(path)[name].texts(key) is None
            assert root(path)[name].has(key)

    with h5py.File(path) as file:
        file.visititems(compare)
        compare("", file)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ordered", [False, True])
def test_hdf5_reader_agrees_with_h5py_on_groups_of_any_size(tmp_path, version, ordered):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=version, track_order=ordered) as file:
        for count in (1, 8, 9, 70, 700):
            for i in range(count):
                file[f"g{count}/a_rather_long_name_of_a_layer_{i}"] = np.float32(i)
        file["deep/er/and/deeper/x"] = np.arange(3)
        file.create_group("nothing")
    check(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_hdf5_reader_agrees_with_h5py_on_attributes(tmp_path, version):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=version) as file:
        file.attrs["fixed"] = np.bytes_("abc")
        file.attrs["list"] = [b"conv1", b"a much longer name"]
        file.attrs["text"] = "variable é"
        file.attrs["texts"] = ["a", "", "c" * 5000]
        file.attrs["number"] = 5
        file.attrs["space"] = np.array(b"pad", h5py.string_dtype("ascii", 10))
        group = file.create_group("many")
        for i in range(40):
            group.attrs[f"a{i}"] = f"text {i}"
        file["x"] = 1.0
        file["x"].attrs["dtype"] = "float64"
    check(path)


@given(
    array=arrays.arrays(
        st.sampled_from(
            [f"{order}{kind}{size}" for order in "<>" for kind in "iu" for size in (1, 2, 4, 8)]
            + [f"{order}f{size}" for order in "<>" for size in (2, 4, 8)]
            + ["?"]
        ),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    ),
    version=st.sampled_from(VERSIONS),
)
def test_hdf5_reader_returns_any_array_that_h5py_wrote(tmp_path_factory, array, version):
    path = tmp_path_factory.mktemp("given") / "a.h5"
    with h5py.File(path, "w", libver=version) as file:
        file["group/x"] = array
    check(path)


@given(
    shape=arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=12),
    data=st.data(),
    compression=st.sampled_from([None, "gzip"]),
    shuffle=st.booleans(),
)
def test_hdf5_reader_returns_any_array_in_chunks(tmp_path_factory, shape, data, compression, shuffle):
    path = tmp_path_factory.mktemp("given") / "a.h5"
    chunks = tuple(data.draw(st.integers(1, side)) for side in shape)
    array = RNG.integers(-9, 9, size=shape).astype(data.draw(st.sampled_from(["<f4", ">i2", "<f8", "|i1"])))
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=array, chunks=chunks, compression=compression, shuffle=shuffle)
    check(path)


def test_elements_that_were_never_written_have_the_fill_value(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("never", shape=(4, 4), dtype=">i4", fillvalue=-3)
        sparse = file.create_dataset("sparse", shape=(100, 100), chunks=(10, 10), dtype="f4", fillvalue=7)
        sparse[33:44, 5] = 1
        file.create_dataset("zero", shape=(3,), dtype="f8")
        file.create_dataset("compact", data=np.arange(4), dcpl=compact())
        file.create_dataset("growing", data=np.arange(5000), chunks=(5,), maxshape=(None,))
    check(path)


def compact() -> object:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    return plist


def test_hdf5_files_with_a_block_of_a_user_before_them_are_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["x"] = np.arange(7)
    check(path)
    assert same(open_weights(path)["x"], np.arange(7))


def test_an_array_is_read_once_and_read_only(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.ones((512, 1024)), np.ones((512, 1024))
    tracemalloc.start()
    array = open_weights(path)["b"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not array.flags.writeable
    assert peak < (512 * 1024 * 8) + (1 << 20)


def test_bfloat16_is_read_as_keras_marks_it(tmp_path):
    values = np.array([1, 2.5, -3], ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("marked", data=values.view("V2"))
        file["marked"].attrs["dtype"] = "bfloat16"
        file.create_dataset("not", data=values.view("V2"))
    weights = open_weights(tmp_path / "a.h5")
    assert same(weights["marked"], values)
    with pytest.raises(WeightsError, match="not holds opaque bytes, which tfxfer does not read"):
        weights["not"]


def test_what_is_no_array_of_numbers_is_listed_and_cannot_be_read(tmp_path):
    path = tmp_path / "a.h5"
    noise = RNG.normal(size=(40, 40))
    with h5py.File(path, "w") as file:
        file["w"] = np.arange(3)
        file["text"] = ["a", "b"]
        file["fixed"] = np.array([b"a", b"b"])
        file["pairs"] = np.zeros(3, [("a", "i4"), ("b", "f4")])
        file["pointer"] = file["w"].ref
        file["rows"] = np.zeros(2, "(3,)f4")
        file["complex"] = np.zeros(2, complex)
        file.create_dataset("lzf", data=noise, compression="lzf")
        file.create_dataset("checked", data=noise, fletcher32=True)
        file.create_dataset("elsewhere", (4,), "f4", external=[(str(tmp_path / "other"), 0, 16)])
        layout = h5py.VirtualLayout((3,), "i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3,))
        file.create_virtual_dataset("virtual", layout)
    weights = open_weights(path)
    assert same(weights["w"], np.arange(3))
    for name, message in (
        ("text", "text holds text or lists of variable length, which tfxfer does not read"),
        ("fixed", "fixed holds text, which tfxfer does not read"),
        ("pairs", "pairs holds compounds, which"),
        ("pointer", "pointer holds references, which"),
        ("complex", "complex holds compounds, which"),
        ("lzf", r"lzf went through HDF5 filters \[32000\]; only gzip \(1\) and shuffle \(2\) are read"),
        ("checked", r"checked went through HDF5 filters \[3\]; only gzip"),
        ("elsewhere", "elsewhere is refused: its values lie in another file"),
        ("virtual", r"virtual is stored in a way \(version \d, class 3\) that tfxfer does not read; write it anew"),
    ):
        assert name not in weights
        assert name in weights.skipped
        with pytest.raises(WeightsError, match=message):
            weights[name]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("link", "message"),
    [
        (
            h5py.ExternalLink("/etc/passwd", "/x"),
            "evil is a link to another file; only what the file itself holds is read",
        ),
        (h5py.SoftLink("/elsewhere"), "evil is a soft link to another place; only what the file itself holds is read"),
    ],
)
def test_links_that_lead_away_are_listed_and_not_followed(tmp_path, version, link, message):
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["w"] = np.ones(3)
        file["group/evil"] = link
        for index in range(20):  # so many that the newer format keeps them in a heap
            file[f"group/w{index}"] = np.ones(2)
    weights = open_weights(tmp_path / "a.h5")
    assert set(weights) == {"w", *(f"group/w{index}" for index in range(20))}
    assert list(weights.skipped) == ["group/evil"]
    with pytest.raises(WeightsError, match=f"a.h5: group/{message}"):
        weights["group/evil"]


def test_a_file_of_links_alone_holds_no_arrays(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["model_weights"] = h5py.SoftLink("/elsewhere")
    with pytest.raises(WeightsError, match=r"holds no arrays:\n.*model_weights is a soft link to another place"):
        open_weights(tmp_path / "a.h5")


def test_groups_that_hold_themselves_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b/w"] = np.ones(3)
        file["a/b/c"] = file["a"]
    with pytest.raises(WeightsError, match="groups hold one another, or are nested more than 32 deep, at a/b/c"):
        open_weights(tmp_path / "a.h5")


@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_groups_with_paths_without_end_are_refused_in_little_time_and_memory(tmp_path, monkeypatch, names):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["0/w"] = np.ones(3)
        for level in range(30):
            for name in names:
                file[f"{level + 1}/{name}"] = file[f"{level}"]
    assert fuzz.little_time(tmp_path / "a.h5") == "refused"
    # Memory is looked at over some of the steps, since that slows them down twenty times.
    monkeypatch.setattr(structures, "MAX_STEPS", structures.MAX_STEPS // 20)
    assert fuzz.little_memory(tmp_path / "a.h5", fuzz.ROOM // 20) == "refused"


def test_a_file_that_is_cut_short_is_named_as_such(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w"] = np.ones(3)
    raw = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(raw[:-5])
    with pytest.raises(WeightsError, match=r"is cut short: it has [\d,]+ of [\d,]+ bytes; copy it again"):
        open_weights(tmp_path / "a.h5")
    with pytest.raises(WeightsError, match="is no HDF5 file: it does not begin with HDF5's signature"):
        hdf5.root(np.frombuffer(b"nothing of that kind", np.uint8), "x")
    with pytest.raises(WeightsError, match="HDF5 superblocks of version 7 and addresses that do not have 8 bytes"):
        hdf5.root(np.frombuffer(raw[:8] + b"\7" + raw[9:], np.uint8), "x")


def chunked(path: Path, chunk: bytes, **options) -> Path:
    """Write an array of 4 KiB in one chunk whose compressed bytes are made up."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("w", (1024,), "f4", chunks=(1024,), compression="gzip", **options)
        dataset.id.write_direct_chunk((0,), chunk)
    return path


def test_a_chunk_is_never_unpacked_beyond_its_size(tmp_path):
    tensor = tensors(chunked(tmp_path / "a.h5", zlib.compress(bytes(50 << 20), 9)))["w"]
    tracemalloc.start()
    with pytest.raises(WeightsError, match="w is corrupt: a chunk has 4,097 bytes, not 4,096"):
        tensor.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (512 * 1024 * 8) + (1 << 20)


def test_an_array_in_chunks_may_be_read_any_number_of_times(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxfer.formats.hdf5.file.MAX_STEPS", 300)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", data=np.arange(60), chunks=(2,))
    weights = open_weights(tmp_path / "a.h5")
    assert all(weights["w"].tolist() == list(range(60)) for _ in range(20))


def test_chunks_that_do_not_unpack_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="w is corrupt: a chunk does not unpack"):
        tensors(chunked(tmp_path / "a.h5", b"no stream"))["w"].read()
    with pytest.raises(WeightsError, match="w is corrupt: a chunk has 5 bytes, not 4,096"):
        tensors(chunked(tmp_path / "a.h5", zlib.compress(b"short")))["w"].read()


def test_chunks_far_larger_than_their_array_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", (3,), "f4", chunks=(1 << 28,), maxshape=(None,))
    with pytest.raises(WeightsError, match=r"its chunks of 1,073,741,824 bytes are far larger than the array"):
        open_weights(tmp_path / "a.h5")


def test_arrays_that_announce_too_much_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", (1 << 33,), "f4", chunks=(1 << 10,))
        file.create_dataset("v", (1 << 33,), "f4")
    with pytest.raises(
        WeightsError, match=r"announces 68,719,476,736 bytes of tensors, more than max_bytes=17,179,869,184"
    ):
        open_weights(tmp_path / "a.h5")


def test_files_of_too_many_structures_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxfer.formats.hdf5.file.MAX_STEPS", 300)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(100):
            file[f"{i}"] = np.float32(i)
    with pytest.raises(WeightsError, match="is corrupt: its structures run in a loop, or are far too many"):
        open_weights(tmp_path / "a.h5")
    monkeypatch.setattr("tfxfer.formats.hdf5.file.MAX_TEXT", 60)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w" * 61] = np.float32(1)
    with pytest.raises(WeightsError, match="is corrupt: its texts take more than 60 bytes"):
        open_weights(tmp_path / "a.h5")


def small(path: Path, version: str) -> bytes:
    """Return a file that has all structures and few bytes."""
    with h5py.File(path, "w", libver=version) as file:
        file.attrs["layer_names"] = ["conv1", "bn"]
        file["conv1/conv1/kernel:0"] = np.arange(4.0)
        file["conv1"].attrs["weight_names"] = [b"conv1/kernel:0"]
        file.create_dataset("bn/bn/gamma:0", data=np.arange(6), chunks=(4,), compression="gzip", shuffle=True)
        file["bn"].attrs["weight_names"] = [b"bn/gamma:0"]
        for i in range(10):
            file[f"many/x{i}"] = np.float32(i)
    return path.read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_broken_hdf5_files_give_only_weights_errors(tmp_path, version, fuzz_cases):
    good = small(tmp_path / "good.h5", version)
    assert fuzz.check_all(tmp_path / "a.h5", fuzz.broken(good, fuzz_cases, begin=len(good)))["refused"] > 50


def test_broken_structures_of_groups_give_only_weights_errors(tmp_path, fuzz_cases):
    # Without the attributes of Keras every group is walked.
    for version in VERSIONS:
        small(tmp_path / "good.h5", version)
        with h5py.File(tmp_path / "good.h5", "a") as file:
            del file.attrs["layer_names"]
        good = (tmp_path / "good.h5").read_bytes()
        assert fuzz.check_all(tmp_path / "a.h5", fuzz.broken(good, fuzz_cases, begin=len(good)))["refused"] > 50


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_with_two_names_is_read_under_both(tmp_path, version):
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["a/b/x"] = np.arange(3)
        file["c"], file["d/e"] = file["a"], file["a/b/x"]
    weights = open_weights(tmp_path / "a.h5")
    assert sorted(weights) == ["a/b/x", "c/b/x", "d/e"]
    assert all(same(weights[name], np.arange(3)) for name in weights)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_that_holds_itself_is_refused(tmp_path, version):
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["a/x"] = np.arange(3)
        file["a/b/c"] = file["a"]
    with pytest.raises(WeightsError, match="groups hold one another"):
        open_weights(tmp_path / "a.h5")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dtype_with_a_name_of_its_own_is_followed(tmp_path, version):
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["kind"] = np.dtype(">f4")
        file.create_dataset("x", data=np.arange(3), dtype=file["kind"])
        file.create_dataset("chunked", data=np.arange(9), dtype=file["kind"], chunks=(4,), compression="gzip")
        file["y"] = np.arange(3)
    weights = open_weights(tmp_path / "a.h5")
    assert same(weights["x"], np.arange(3, dtype="f4"))
    assert same(weights["y"], np.arange(3))
    if version != "latest":  # chunks of the newest kind are not read
        assert same(weights["chunked"], np.arange(9, dtype="f4"))
