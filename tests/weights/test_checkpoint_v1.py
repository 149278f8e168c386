"""The reader of V1 checkpoints, against TensorFlow's own writer and reader."""

from __future__ import annotations

from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz, tables
from tfxfer.errors import WeightsError
from tfxfer.weights import checkpoint_v1, find_checkpoint, open_weights, slices

RNG = np.random.default_rng(0)
DTYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "int64",
    "complex64",
    "complex128",
    "bool",
]


def save(path: Path, rows: list[tuple[str, str, np.ndarray]]) -> Path:
    """Write a checkpoint by TensorFlow; rows are (name, "whole shape and slice" or "", values)."""
    with tf.Graph().as_default(), tf.Session() as sess:
        tensors = [tf.placeholder(tf.string if a.dtype == object else a.dtype, a.shape) for _, _, a in rows]
        op = tf.raw_ops.SaveSlices(
            filename=str(path), tensor_names=[r[0] for r in rows], shapes_and_slices=[r[1] for r in rows], data=tensors
        )
        sess.run(op, dict(zip(tensors, (r[2] for r in rows), strict=True)))
    return path


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype == object:
        return array.dtype == object and array.tolist() == expected.tolist()
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


@given(
    st.dictionaries(
        st.text("abc/é", min_size=1, max_size=6),
        arrays.arrays(st.sampled_from(DTYPES), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
        min_size=1,
        max_size=4,
    )
)
def test_v1_reader_returns_any_arrays_that_tensorflow_saved(tmp_path_factory, named):
    path = save(tmp_path_factory.mktemp("given") / "m", [(name, "", array) for name, array in named.items()])
    tensors = checkpoint_v1.read(path)
    assert list(tensors) == sorted(named)
    for name, tensor in tensors.items():
        assert (tensor.shape, tensor.dtype) == (named[name].shape, named[name].dtype)
        assert same(tensor.read(), named[name]), (named[name], tensor.read())


def test_v1_reader_reads_strings_large_arrays_zeros_and_slices(tmp_path):
    whole = RNG.normal(size=(300, 7, 10)).astype(np.float32)
    rows = [
        ("large", "", RNG.normal(size=300_000).astype(np.float32)),
        ("integers", "", RNG.integers(-(1 << 62), 1 << 62, size=100_000)),
        ("zeros", "", np.zeros(200_000, np.float32)),
        ("text", "", np.array([[b"", b"ab"], [b"c" * 300, b"\xff"]], object)),
        *(("rows", f"300 7 10 {i},100:-:-", whole[i : i + 100]) for i in (200, 0, 100)),
    ]
    weights = open_weights(save(tmp_path / "m", rows))
    assert weights.kind == "TensorFlow checkpoint V1"
    assert weights.checkpoint == str(tmp_path / "m")
    for name, _, array in rows[:4]:
        assert same(weights[name], array)
    assert same(weights["rows"], whole)


def test_v1_reader_agrees_with_tensorflows_reader_on_a_real_checkpoint(real_data):
    prefix = real_data("checkpoints/v1_har/model.ckpt")
    reader, weights = tf.train.load_checkpoint(str(prefix)), open_weights(prefix)
    assert len(weights) == 38
    assert weights.keys() == reader.get_variable_to_shape_map().keys()
    assert all(same(weights[name], np.asarray(reader.get_tensor(name))) for name in weights)
    assert open_weights(prefix.parent).keys() == weights.keys()


def test_v1_reader_puts_shards_together_and_a_saver_restores_from_the_prefix(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        values = [RNG.normal(size=(3, 4)) for _ in range(2)]
        variables = [tf.Variable(value, name=f"v{i}", use_resource=False) for i, value in enumerate(values)]
        sess.run(tf.global_variables_initializer())
        tf.train.Saver(variables, write_version=1, sharded=True).save(sess, str(tmp_path / "m"), write_meta_graph=False)
        weights = open_weights(tmp_path)
        assert weights.checkpoint == f"{tmp_path / 'm'}-?????-of-00001"
        assert all(same(weights[f"v{i}"], value) for i, value in enumerate(values))
        tf.train.Saver(variables).restore(sess, weights.checkpoint)


def meta(name: bytes, sizes: tuple[int, ...], dtype: int, *extents: bytes) -> bytes:
    """Encode a SavedSliceMeta."""
    whole = tables.field(1, name) + tables.field(2, tables.shape(*sizes)) + tables.field(3, dtype)
    return tables.field(1, whole + b"".join(tables.field(4, extent) for extent in extents))


def by_hand(path: Path, variables: bytes, *values: tuple[bytes, bytes]) -> Path:
    path.write_bytes(tables.table(tables.block([(b"", tables.field(1, variables)), *values])))
    return path


def value(packed: bytes, number: int = 5) -> bytes:
    """Encode the values of a slice."""
    return tables.field(2, tables.field(3, tables.field(number, packed)))


FULL = tables.field(1, b"")


def test_a_checkpoint_written_by_hand_is_read(tmp_path):
    key = slices.key(b"v", ((0, slices.FULL),))
    by_hand(tmp_path / "m", meta(b"v", (2,), 1, FULL), (key, value(np.array([1, 2], "f4").tobytes())))
    assert open_weights(tmp_path / "m")["v"].tolist() == [1, 2]
    by_hand(tmp_path / "m", meta(b"v", (2,), 1, FULL), (key, value(np.array([1, 2], "f4").tobytes(), 4)))
    assert open_weights(tmp_path / "m")["v"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (meta(b"v", (2,), 99, FULL), "v: its dtype has number 99 in TensorFlow, which tfxfer does not read"),
        (meta(b"v", (-2,), 1, FULL), r"v: the shape \(-2,\) is negative"),
        (
            meta(b"v", (1 << 40,), 1, FULL),
            r"v: its shape \(1099511627776,\) has more elements than [\d,]+ bytes can hold",
        ),
        (meta(b"v", (2, 2), 1, FULL), r"v: a slice lies outside of its shape \(2, 2\)"),
        (meta(b"v", (2,), 1, FULL) + meta(b"v", (3,), 1, FULL), "its shards give v different shapes or dtypes"),
        (meta(b"\xff", (2,), 1, FULL), r"b'\\xff' is not UTF-8"),
    ],
)
def test_lists_of_variables_that_cannot_be_are_refused(tmp_path, variables, message):
    with pytest.raises(WeightsError, match=message):
        open_weights(by_hand(tmp_path / "m", variables))


def test_values_that_do_not_fit_are_refused_when_they_are_read(tmp_path):
    key = slices.key(b"v", ((0, slices.FULL),))
    half = tables.field(1, tables.field(1, 0) + tables.field(2, 1))
    for variables, values, message in (
        (meta(b"v", (2,), 1, FULL), [], "m: v: its values are missing from the file"),
        (meta(b"v", (2,), 1, FULL), [(key, value(bytes(12)))], r"m: v: the file holds 3 values for the shape \(2,\)"),
        (
            meta(b"v", (2,), 9, FULL),
            [(key, value(b"\1\2\3", 10))],
            r"m: v: the file holds 3 values for the shape \(2,\)",
        ),
        (
            meta(b"v", (2,), 9, FULL),
            [(key, value(b"\1\xff", 10))],
            "m: v is corrupt: a number in it ends too early",
        ),
        (meta(b"v", (2,), 7, FULL), [(key, value(b"a", 8))], r"m: v: the file holds 1 values for the shape \(2,\)"),
        (
            meta(b"v", (2,), 1, half),
            [],
            "m: v: its slices overlap or leave gaps; are all shards of the checkpoint there",
        ),
        (meta(b"v", (2,), 1, FULL, FULL), [], "m: v: its slices overlap or leave gaps"),
    ):
        weights = open_weights(by_hand(tmp_path / "m", variables, *values))
        with pytest.raises(WeightsError, match=message):
            weights["v"]


def test_the_index_of_a_v2_checkpoint_under_another_name_is_named(tmp_path):
    (tmp_path / "renamed").write_bytes(tables.table(tables.block([(b"", tables.field(1, 1))])))
    with pytest.raises(WeightsError, match=r"renamed lists no variables: it is the index of a checkpoint of format V2"):
        open_weights(tmp_path / "renamed")


def test_broken_v1_checkpoints_give_only_weights_errors(tmp_path, fuzz_cases):
    rows = [(dtype, "", (RNG.normal(size=(3, 2)) * 9).astype(dtype)) for dtype in DTYPES]
    whole = RNG.normal(size=(4, 3))
    rows += [
        ("text", "", np.array([b"a", b"bc"], object)),
        *(("rows", f"4 3 {i},2:-", whole[i : i + 2]) for i in (0, 2)),
    ]
    good = save(tmp_path / "good", rows).read_bytes()
    assert fuzz.check_all(tmp_path / "m", fuzz.broken(good, fuzz_cases))["refused"] > 50


def test_broken_entries_under_right_checksums_give_only_weights_errors(tmp_path, fuzz_cases):
    from tfxfer.formats import leveldb, reading

    whole = RNG.normal(size=(4, 3))
    rows = [("a", "", RNG.normal(size=(3, 2))), ("text", "", np.array([b"a", b"bc"], object)), ("i", "", np.arange(5))]
    rows += [("rows", f"4 3 {i},2:-", whole[i : i + 2]) for i in (0, 2)]
    content = leveldb.Table(reading.map_file(save(tmp_path / "good", rows)), "").items()
    good = tables.block([(key, bytes(value)) for key, value in content])
    path = tmp_path / "m"
    count = fuzz.check_all(
        path, fuzz.broken(good, fuzz_cases, begin=len(good)), lambda block: path.write_bytes(tables.table(block))
    )
    assert count["refused"] > 50
    assert find_checkpoint.v1_parts(path) == [path]


def test_far_too_many_variables_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxfer.weights.slices.MAX_SLICES", 500)
    by_hand(tmp_path / "m", b"".join(meta(b"%d" % i, (1,), 1) for i in range(501)))
    with pytest.raises(WeightsError, match="m is corrupt or hostile: it announces more than 500 slices"):
        open_weights(tmp_path / "m")


@pytest.mark.slow
def test_variables_without_end_are_refused_in_little_time_and_memory(tmp_path):
    by_hand(tmp_path / "m", b"".join(meta(b"%d" % i, (1,), 1) for i in range(60_000)))
    fuzz.check_bomb(tmp_path / "m")
