"""Which reader a file goes to, and what wrong files are called: by their content, whatever their names are."""

from __future__ import annotations

import collections
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import tensorflow.compat.v1 as tf

from tests import fuzz, tables
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights


def graph() -> tf.Graph:
    with tf.Graph().as_default() as made:
        tf.get_variable("conv1/kernel", [3, 2])
        tf.placeholder(tf.float32, name="images")
    return made


def meta_graph() -> bytes:
    with graph().as_default():
        return tf.train.export_meta_graph().SerializeToString()


def test_the_content_decides_and_not_the_name(tmp_path):
    array = np.arange(3.0)
    np.savez(tmp_path / "a.npz", w=array)
    np.save(tmp_path / "b.npy", array)
    safetensors.numpy.save_file({"w": array}, tmp_path / "c.safetensors")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["w"] = array
    for path in sorted(tmp_path.iterdir()):
        expected = open_weights(path)
        for name in ("weights.bin", "model.ckpt.meta", "checkpoint", "x.index"):
            (tmp_path / "other").mkdir(exist_ok=True)
            other = tmp_path / "other" / name
            other.write_bytes(path.read_bytes())
            if name == "x.index":
                with pytest.raises(WeightsError, match=r"x\.index is not an index of a checkpoint"):
                    open_weights(other)
            else:
                assert open_weights(other).kind == expected.kind
            other.unlink()


def test_a_lone_part_of_a_checkpoint_is_named(tmp_path):
    (tmp_path / "model.meta").write_bytes(meta_graph())
    with pytest.raises(WeightsError, match=r"model\.meta holds no weights: it is a MetaGraphDef"):
        open_weights(tmp_path / "model.meta")
    (tmp_path / "model.data-00000-of-00001").write_bytes(bytes(16))
    with pytest.raises(WeightsError, match=r"model\.index is missing; only model\.data-00000-of-00001 is there"):
        open_weights(tmp_path / "model")


def test_parts_given_by_mistake_mean_the_checkpoint(tmp_path):
    with graph().as_default() as made, tf.Session() as sess:
        with made.as_default():
            saver = tf.train.Saver()
        sess.run(tf.global_variables_initializer())
        prefix = saver.save(sess, str(tmp_path / "model.ckpt"), global_step=3)
    for name in sorted(os.listdir(tmp_path)):
        weights = open_weights(tmp_path / name)
        assert weights.checkpoint == prefix
        assert weights.shape("conv1/kernel") == (3, 2)


def test_what_does_not_exist_is_told_with_what_does(tmp_path):
    (tmp_path / "vgg16.npz").write_bytes(b"")
    with pytest.raises(
        WeightsError, match=r"/vgg16\.np is neither a file nor a checkpoint \(did you mean vgg16\.npz\?\)"
    ):
        open_weights(tmp_path / "vgg16.np")
    with pytest.raises(WeightsError, match=r"holds no checkpoint .*; it holds vgg16\.npz"):
        open_weights(tmp_path)


def test_files_that_may_not_be_read_are_told(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, w=np.ones(3))

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tfxfer.formats.reading.MappedFile.of", refuse)
    with pytest.raises(WeightsError, match=r"a\.npz cannot be read: Permission denied"):
        open_weights(path)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="neither a file nor a checkpoint"):
        open_weights(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a:0", "/b", "/c:0"], ["a", "b", "c"]),
        (["a", "a:0"], ["a", "a:0"]),
        (["a", "a:0", "a:0:0"], ["a", "a:0", "a:0:0"]),
        (["a:0:0", "a:0", "a"], ["a:0:0", "a:0", "a"]),
        (["/a", "a:0", "//a"], ["/a", "a:0", "//a"]),
        (["b", "/a:0:0", "a:0", "/b:0"], ["b", "/a:0:0", "a", "/b:0"]),
    ],
)
def test_shortened_names_take_the_place_of_none(tmp_path, given, names):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for value, name in enumerate(given):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.array(value))
    weights = open_weights(tmp_path / "m.npz")
    assert list(weights) == names
    assert [int(weights[name]) for name in names] == [*range(len(given))]
    assert [weights.source(name) for name in names] == given


def test_noise_gives_only_weights_errors(tmp_path, fuzz_cases):
    rng = np.random.default_rng(0)
    magic = [
        b"",
        b"PK\3\4",
        b"PK\5\6",
        b"\x93NUMPY\1\0",
        b"\x89HDF\r\n\x1a\n\0",
        b"\x20\0\0\0\0\0\0\0{",
        b"\x0a",
        b"\x80\2",
    ]
    noise = (magic[i % len(magic)] + rng.bytes(rng.integers(3000)) for i in range(fuzz_cases))
    outcome = fuzz.check_all(tmp_path / "a", noise)
    assert outcome["refused"] == fuzz_cases
    tail = (rng.bytes(rng.integers(300)) + tables.MAGIC for _ in range(fuzz_cases))
    assert fuzz.check_all(tmp_path / "a", tail)["refused"] == fuzz_cases


# --- ways out ---


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bare_pickle_of_arrays_is_read_and_what_else_it_holds_is_not_run(tmp_path, protocol):
    array = np.arange(6.0).reshape(2, 3)
    table = collections.OrderedDict(fc={"kernel": array, "bias": array[0]}, where=Path("x"), epoch=3)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(table, protocol))
    weights = open_weights(tmp_path / "w.pkl")
    assert weights.kind == "pickle of arrays"
    assert list(weights) == ["fc/kernel", "fc/bias", "epoch"]
    assert np.array_equal(weights["fc/kernel"], array)
    assert "its pickle would call pathlib" in weights.skipped["where"]
