"""The reader of V2 checkpoints, against TensorFlow's own writer and reader."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz, tables
from tfxfer.errors import WeightsError
from tfxfer.weights import bundle, open_weights

HEADER = (b"", tables.field(1, 1) + tables.field(3, tables.field(1, 1)))
RNG = np.random.default_rng(0)
DTYPES = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128", "bool"]


def save(prefix: Path, named: dict[str, np.ndarray], slices: list[tuple[str, str, np.ndarray]] = ()) -> Path:
    """Write a checkpoint by TensorFlow; `slices` are (name, "whole shape and slice", values)."""
    rows = [(name, "", array) for name, array in named.items()] + list(slices)
    with tf.Graph().as_default(), tf.Session() as sess:
        tensors = [tf.placeholder(tf.string if a.dtype == object else a.dtype, a.shape) for _, _, a in rows]
        op = tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=[r[0] for r in rows],
            shape_and_slices=[r[1] for r in rows],
            tensors=tensors,
        )
        sess.run(op, dict(zip(tensors, (r[2] for r in rows), strict=True)))
    return prefix


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def write(directory: Path, entries: list[tuple[bytes, bytes]], data: bytes = b"") -> Path:
    """Write a checkpoint by hand."""
    (directory / "m.index").write_bytes(tables.table(tables.block(entries)))
    (directory / "m.data-00000-of-00001").write_bytes(data)
    return directory / "m"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A checkpoint of every dtype, of strings, empty arrays, scalars and partitioned variables, and its arrays."""
    named = {f"all/{dtype}": (RNG.normal(size=(3, 5)) * 9).astype(dtype) for dtype in DTYPES}
    named["all/bfloat16"] = RNG.normal(size=(7, 2)).astype(ml_dtypes.bfloat16)
    named["empty"], named["scalar"] = np.zeros((0, 4), np.float32), np.array(3.5, np.float32)
    named["text"] = np.array([[b"", b"ab"], [b"c" * 300, "é".encode() * 90]], object)
    named["title"] = np.array(b"a scalar", object)
    named["no text"] = np.zeros((0,), object)
    whole = RNG.normal(size=(300, 7, 10)).astype(np.float32)
    grid = RNG.integers(0, 99, size=(4, 200)).astype(np.int64)
    slices = [("rows", f"300 7 10 {i},100:-:-", whole[i : i + 100]) for i in (0, 100, 200)]
    slices += [("gr\0i\xffd", f"4 200 {i},2:{j},100", grid[i : i + 2, j : j + 100]) for i in (0, 2) for j in (100, 0)]
    prefix = save(tmp_path_factory.mktemp("mixed") / "model.ckpt-7", named, slices)
    return prefix, named | {"rows": whole, "gr\0i\xffd": grid}


def test_bundle_reader_reads_what_tensorflow_wrote(mixed):
    prefix, expected = mixed
    tensors = bundle.read(prefix)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert (tensor.shape, tensor.dtype) == (expected[name].shape, expected[name].dtype)
        if tensor.dtype == object:
            assert tensor.read().tolist() == expected[name].tolist()
        else:
            assert same(tensor.read(), expected[name]), name


def test_bundle_reader_lists_partitioned_variables_once_with_the_whole_shape(mixed):
    weights = open_weights(mixed[0])
    assert [name for name in weights if "rows" in name] == ["rows"]
    assert weights.shape("rows") == (300, 7, 10)


def test_bundle_reader_agrees_with_tensorflows_reader_on_real_checkpoints(real_data):
    indices = sorted(real_data("checkpoints").rglob("*.index"))
    assert len(indices) >= 4
    for index in indices:
        prefix = bundle.find_prefix(index)
        reader = tf.train.load_checkpoint(str(prefix))
        tensors = bundle.read(prefix)
        assert tensors.keys() == reader.get_variable_to_shape_map().keys()
        for name, tensor in tensors.items():
            assert list(tensor.shape) == reader.get_variable_to_shape_map()[name]
            assert same(tensor.read(), np.asarray(reader.get_tensor(name))), name


def test_bundle_reader_reads_several_shards(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        prefixes = [str(tmp_path / f"part{i}") for i in range(3)]
        values = [RNG.normal(size=(4, 4)) for _ in prefixes]
        parts = [
            tf.raw_ops.SaveV2(prefix=p, tensor_names=[f"v{i}"], shape_and_slices=[""], tensors=[tf.constant(values[i])])
            for i, p in enumerate(prefixes)
        ]
        sess.run(parts)
        sess.run(tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / "all")))
    assert len(list(tmp_path.glob("all.data-*-of-00003"))) == 3
    tensors = bundle.read(tmp_path / "all")
    assert all(same(tensors[f"v{i}"].read(), value) for i, value in enumerate(values))
    (tmp_path / "all.data-00001-of-00003").unlink()
    with pytest.raises(WeightsError, match=r"all\.data-00001-of-00003 is missing; 1 of 3 entries lie in it"):
        bundle.read(tmp_path / "all")


@given(
    st.dictionaries(
        st.text("abc/é\0_", min_size=1, max_size=6).filter(lambda name: not name.startswith("\0")),
        arrays.arrays(st.sampled_from(DTYPES), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
        min_size=1,
        max_size=4,
    )
)
def test_bundle_reader_returns_any_arrays_that_tensorflow_saved(tmp_path_factory, named):
    prefix = save(tmp_path_factory.mktemp("given") / "m", named)
    tensors = bundle.read(prefix)
    assert tensors.keys() == named.keys()
    assert all(same(tensor.read(), named[name]) for name, tensor in tensors.items())


def test_values_are_read_only_views_of_the_mapped_file(tmp_path):
    array = open_weights(save(tmp_path / "m", {"a": np.ones((2, 3)), "b": np.ones(5)}))["b"]
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_ten_thousand_variables_are_listed_without_tensorflow(tmp_path):
    names = [f"block_{i // 100}/conv_{i:05d}/kernel".encode() for i in range(10_000)]
    entries = [(name, tables.entry(1, (3, 0, 8, i), 0, 0, 0)) for i, name in enumerate(names)]
    prefix = write(tmp_path, sorted([HEADER, *entries]))
    code = (
        "import sys\nfrom tfxfer.weights import open_weights\n"
        "print(len(open_weights(sys.argv[1])), 'tensorflow' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code, prefix], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["10000", "False"]


def test_a_changed_byte_in_the_data_is_found_when_the_variable_is_read(tmp_path):
    prefix = save(tmp_path / "m", {"a": np.ones(9), "b": np.array([b"xyz"], object)})
    data = tmp_path / "m.data-00000-of-00001"
    raw = data.read_bytes()
    for place in range(len(raw)):
        data.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
        tensors = bundle.read(prefix)
        with pytest.raises(
            WeightsError,
            match=r"fails its checksum: the file is damaged, or belongs to another save|is corrupt: a number",
        ):
            [tensors[name].read() for name in "ab"]


def test_a_changed_byte_in_the_index_is_found_by_its_checksum(tmp_path):
    prefix = save(tmp_path / "m", {"a": np.ones(9)})
    index = tmp_path / "m.index"
    raw = index.read_bytes()
    index.write_bytes(raw[:9] + b"\xff" + raw[10:])
    with pytest.raises(WeightsError, match=r"m\.index is corrupt: the block at byte 0 fails its checksum"):
        bundle.read(prefix)


def test_all_that_does_not_fit_is_listed_at_once(tmp_path):
    entries = [
        HEADER,
        (b"a", tables.entry(1, (2, 3), 0, 20, 0)),
        (b"b", tables.entry(99, (2,), 0, 8, 0)),
        (b"c", tables.entry(1, (4,), 90, 16, 0)),
        (b"d", tables.entry(1, (-1, -4), 0, 16, 0)),
        (b"e", tables.entry(7, (1 << 40,), 0, 16, 0)),
        (b"f", tables.entry(1, (1,) * 70, 0, 4, 0)),
        (b"g", tables.entry(1, (1 << 33, 1 << 33), 0, 0, 0)),
        (b"h", tables.entry(1, (), 0, 4, 0, shard=5)),
    ]
    with pytest.raises(WeightsError) as caught:
        bundle.read(write(tmp_path, entries, bytes(100)))
    for line in (
        "m is incomplete or corrupt:",
        "m.data-00000-of-00001 has 100 bytes and should have 106 or more; 1 entries lie beyond its end, such as c",
        "a: the index says 20 bytes, but float32 (2, 3) takes 24",
        "d: the shape (-1, -4) is negative",
        "e: 16 bytes are too few for 1,099,511,627,776 strings",
        "f: a shape of more than 64 dimensions is none that numpy can hold",
        "g: the shape (8589934592, 8589934592) is too large for any array",
        "h: it lies in data file 5, of which there are 1",
        "copy its .index and all its .data files again, from one and the same save",
    ):
        assert line in str(caught.value)


def test_more_than_ten_faults_are_counted(tmp_path):
    entries = [HEADER] + [(b"v%02d" % i, tables.entry(1, (2,), 0, 9, 0)) for i in range(15)]
    with pytest.raises(WeightsError, match="and 5 more"):
        bundle.read(write(tmp_path, entries, bytes(100)))


def test_a_big_endian_checkpoint_is_refused(tmp_path):
    prefix = write(tmp_path, [(b"", tables.field(1, 1) + tables.field(2, 1))])
    with pytest.raises(WeightsError, match="written on a big-endian machine, which tfxfer does not read"):
        bundle.read(prefix)


@pytest.mark.parametrize("header", [b"", tables.field(1, 0), tables.field(1, 1 << 40)])
def test_an_index_without_a_sensible_header_is_refused(tmp_path, header):
    with pytest.raises(WeightsError, match="has no header, or one that announces"):
        bundle.read(write(tmp_path, [(b"", header)]))


def slice_proto(*extents: tuple[int, int]) -> bytes:
    return tables.field(7, b"".join(tables.field(1, tables.field(1, a) + tables.field(2, n)) for a, n in extents))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([(0, 2)], "the slices of v overlap or leave gaps"),
        ([(0, 3), (2, 2)], "the slices of v overlap or leave gaps"),
        ([(0, 2), (0, 2)], "the slices of v overlap or leave gaps"),
        ([(3, 2)], r"v: a slice \(start, length\) \(\(3, 2\),\) lies outside of its shape \(4,\)"),
        ([(-2, 2)], r"v: a slice \(start, length\) \(\(-2, 2\),\) lies outside of its shape \(4,\)"),
    ],
)
def test_slices_that_do_not_make_up_the_variable_are_refused(tmp_path, parts, message):
    from tfxfer.weights import slices

    whole = tables.entry(1, (4,), 0, 0, 0, slices=b"".join(slice_proto(part) for part in parts))
    pieces = {
        slices.key(b"v", (part,)): tables.entry(1, (part[1],), 0, 4 * part[1], tables.masked(bytes(4 * part[1])))
        for part in parts
    }
    prefix = write(tmp_path, [HEADER, *sorted(pieces.items()), (b"v", whole)], bytes(16))
    with pytest.raises(WeightsError, match=message):
        bundle.read(prefix)["v"].read()


def test_a_slice_that_is_missing_or_of_another_shape_is_named(tmp_path):
    from tfxfer.weights import slices

    whole = tables.entry(1, (4,), 0, 0, 0, slices=slice_proto((0, 4)))
    with pytest.raises(WeightsError, match=r"v: its slice \(start, length\) \(\(0, 4\),\) is missing"):
        bundle.read(write(tmp_path, [HEADER, (b"v", whole)]))
    other = (slices.key(b"v", ((0, 4),)), tables.entry(1, (3,), 0, 12, 0))
    with pytest.raises(WeightsError, match=r"v: its slice \(start, length\) \(\(0, 4\),\) has another shape or dtype"):
        bundle.read(write(tmp_path, [HEADER, other, (b"v", whole)], bytes(12)))


def test_a_data_file_that_is_a_pointer_is_named_as_one(tmp_path):
    prefix = save(tmp_path / "m", {"a": np.ones(900)})
    (tmp_path / "m.data-00000-of-00001").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7200\n"
    )
    with pytest.raises(
        WeightsError, match=r"m\.data-00000-of-00001 is a Git LFS pointer.*it has 66 bytes and should have 7,200"
    ):
        bundle.read(prefix)
    (tmp_path / "m.index").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7200\n")
    with pytest.raises(WeightsError, match=r"m\.index is not an index of a checkpoint: it is a Git LFS pointer"):
        bundle.read(prefix)


def test_broken_checkpoints_give_only_weights_errors(tmp_path, mixed, fuzz_cases):
    prefix = mixed[0]
    index, data = (tmp_path / f"m.{end}" for end in ("index", "data-00000-of-00001"))
    good_index = Path(f"{prefix}.index").read_bytes()
    good_data = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    data.write_bytes(good_data)
    assert fuzz.check_all(tmp_path / "m", fuzz.broken(good_index, fuzz_cases), index.write_bytes)["refused"] > 50
    index.write_bytes(good_index)
    assert fuzz.check_all(tmp_path / "m", fuzz.broken(good_data, fuzz_cases), data.write_bytes)["unreadable"] > 0


def test_broken_entries_under_right_checksums_give_only_weights_errors(tmp_path, mixed, fuzz_cases):
    from tfxfer.formats import leveldb, reading

    prefix = mixed[0]
    content = list(leveldb.Table(reading.map_file(f"{prefix}.index"), "").items())
    good = tables.block([(key, bytes(value)) for key, value in content])
    (tmp_path / "m.data-00000-of-00001").write_bytes(Path(f"{prefix}.data-00000-of-00001").read_bytes())
    index = tmp_path / "m.index"
    count = fuzz.check_all(
        tmp_path / "m", fuzz.broken(good, fuzz_cases), lambda block: index.write_bytes(tables.table(block))
    )
    assert count["refused"] > 50


def test_announcing_terabytes_is_refused_before_anything_is_allocated(tmp_path):
    start = time.perf_counter()
    entries = [HEADER, (b"v", tables.entry(1, (1 << 40,), 0, 1 << 42, 0))]
    with pytest.raises(WeightsError, match=r"has 0 bytes and should have 4,398,046,511,104 or more"):
        open_weights(write(tmp_path, entries))
    assert time.perf_counter() - start < 1


def many_keys(count: int) -> list[tuple[bytes, bytes]]:
    return [HEADER, *((i.to_bytes(4, "big"), b"") for i in range(1 << 24, (1 << 24) + count))]


def many_slices(count: int) -> list[tuple[bytes, bytes]]:
    whole = b"".join(slice_proto((0, 1)) for _ in range(count // 3 + 1))
    return [HEADER, *((b"%d" % i, tables.entry(1, (1,), 0, 0, 0, slices=whole)) for i in range(3))]


def test_an_index_of_far_too_many_keys_or_slices_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxfer.formats.leveldb.MAX_MEMORY", 100_000)
    monkeypatch.setattr("tfxfer.weights.slices.MAX_SLICES", 500)
    with pytest.raises(WeightsError, match=r"m\.index is corrupt or hostile: it holds more keys than any checkpoint"):
        open_weights(write(tmp_path, many_keys(300)))
    with pytest.raises(WeightsError, match=r"m\.index is corrupt or hostile: it announces more than 500 slices"):
        open_weights(write(tmp_path, many_slices(501)))


@pytest.mark.slow
@pytest.mark.parametrize("entries", [many_keys, many_slices])
def test_an_index_without_end_is_refused_in_little_time_and_memory(tmp_path, entries):
    write(tmp_path, entries(100_000 if entries is many_keys else 50_001))
    index = (tmp_path / "m.index").read_bytes()
    outcome = fuzz.check_all(tmp_path / "m", iter([index] * 2), (tmp_path / "m.index").write_bytes)
    assert outcome["refused"] == 2
