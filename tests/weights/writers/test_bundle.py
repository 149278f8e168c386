"""Checkpoints that are written, against TensorFlow's own readers and its own writer."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.weights import open_weights, streams, writers
from tfxfer.weights.writers import bundle

RNG = np.random.default_rng(0)
DTYPES = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128", "bool"]


def write(prefix: Path, named: dict[str, np.ndarray]) -> Path:
    writers.write(prefix, {name: streams.held(array) for name, array in named.items()})
    return prefix


def save(prefix: Path, named: dict[str, np.ndarray]) -> Path:
    """Write a checkpoint by TensorFlow."""
    with tf.Graph().as_default(), tf.Session() as sess:
        tensors = [tf.placeholder(tf.string if a.dtype == object else a.dtype, a.shape) for a in named.values()]
        empty = [""] * len(named)
        op = tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=list(named), shape_and_slices=empty, tensors=tensors)
        sess.run(op, dict(zip(tensors, named.values(), strict=True)))
    return prefix


@pytest.fixture(scope="module")
def mixed() -> dict[str, np.ndarray]:
    named = {f"all/{dtype}": (RNG.normal(size=(3, 5)) * 9).astype(dtype) for dtype in DTYPES}
    named["all/bfloat16"] = RNG.normal(size=(7, 2)).astype(ml_dtypes.bfloat16)
    named["empty"], named["scalar"] = np.zeros((0, 4), np.float32), np.array(3.5, np.float32)
    named["text"] = np.array([[b"", b"ab"], [b"c" * 300, "é".encode() * 90]], object)
    named["title"], named["no text"] = np.array(b"a scalar", object), np.zeros((0,), object)
    named["é/turned"] = RNG.normal(size=(40, 30)).astype(np.float32).T
    named["long"] = RNG.normal(size=300_000)
    return named


def test_load_checkpoint_reads_what_is_written(tmp_path, mixed):
    reader = tf.train.load_checkpoint(str(write(tmp_path / "m", mixed)))
    assert reader.get_variable_to_shape_map() == {name: list(array.shape) for name, array in mixed.items()}
    for name, array in mixed.items():
        found = np.asarray(reader.get_tensor(name))
        if array.dtype == object:
            assert found.tolist() == array.tolist()
        else:
            assert (found.dtype, found.tobytes()) == (array.dtype, array.tobytes()), name


def test_entries_are_those_that_tensorflow_writes(tmp_path, mixed):
    # But for the offsets: TensorFlow packs what here is aligned.
    ours, theirs = (writer(tmp_path / writer.__name__, mixed) for writer in (write, save))
    entries = [bundle_entries(prefix) for prefix in (ours, theirs)]
    assert entries[0] == entries[1]


def bundle_entries(prefix: Path) -> dict[bytes, tuple]:
    from tfxfer.weights import bundle as reader

    found = reader._open(prefix, f"{prefix}.index")
    return {key: (e.dtype, e.shape, e.shard, e.size, e.crc, e.slices) for key, e in found.entries.items()}


def test_saver_restores_what_is_written(tmp_path):
    named = {"conv1/kernel": RNG.normal(size=(3, 3, 1, 4)).astype("f4"), "conv1/bias": np.ones(4, np.float32)}
    named["global_step"] = np.array(1 << 40, np.int64)
    prefix = write(tmp_path / "model.ckpt-7", named)
    assert tf.train.checkpoint_exists(str(prefix))
    with tf.Graph().as_default(), tf.Session() as sess:
        variables = [tf.get_variable(name, array.shape, array.dtype) for name, array in named.items()]
        tf.train.Saver().restore(sess, str(prefix))
        for variable, array in zip(variables, named.values(), strict=True):
            np.testing.assert_array_equal(sess.run(variable), array)


def test_checkpoints_of_tensorflow_2_read_it_by_name(tmp_path):
    prefix = write(tmp_path / "m", {"a": np.arange(3.0), "b/é": np.ones((2, 2), np.int32)})
    assert tf.train.list_variables(str(prefix)) == [("a", [3]), ("b/é", [2, 2])]
    np.testing.assert_array_equal(tf.train.load_variable(str(prefix), "a"), np.arange(3.0))


@pytest.mark.parametrize("count", [1, 16, 17, 5000])
def test_an_index_of_many_blocks_is_found_key_by_key(tmp_path, count):
    # Names that share beginnings, in an order that bytes and letters see differently.
    names = [f"{'scope/' * (i % 5)}ä{i}/kernel{'z' * (i % 40)}" for i in range(count)]
    prefix = write(tmp_path / "m", {name: np.array(i, np.int32) for i, name in enumerate(names)})
    weights, reader = open_weights(prefix), tf.train.load_checkpoint(str(prefix))
    assert set(weights) == set(names) == set(reader.get_variable_to_shape_map())
    for i in range(0, count, max(1, count // 50)):
        assert weights[names[i]] == i == reader.get_tensor(names[i])


def test_saving_what_tensorflow_wrote_again_gives_the_same_values(tmp_path, real_data):
    for index in sorted(real_data("checkpoints").rglob("*.index")):
        weights = open_weights(index)
        writers.write(tmp_path / index.stem, {name: weights.tensor(name) for name in weights})
        reader = tf.train.load_checkpoint(str(tmp_path / index.stem))
        assert reader.get_variable_to_shape_map().keys() == weights.keys()
        for name, array in weights.items():
            np.testing.assert_array_equal(reader.get_tensor(name), array)


def test_the_index_is_put_in_place_last():
    assert [path.suffix for path in bundle.parts(Path("m"))][-1] == ".index"
