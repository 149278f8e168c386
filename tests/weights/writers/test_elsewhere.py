"""Files that are left to other programs: the commands of the messages, followed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from tfxfer.errors import WeightsError
from tfxfer.tools import _main, export_model
from tfxfer.weights import open_weights, writers
from tfxfer.weights.writers import elsewhere

RNG = np.random.default_rng(0)
NAMES = [
    "a.onnx",
    "a.tflite",
    "a.pb",
    "model.json",
    "group1-shard1of2.bin",
    "a.caffemodel",
    "a.mat",
    "a.npy",
    "a.keras",
]


def commands(out: str) -> list[list[str]]:
    """Return the commands of the message, each as a list of words."""
    with pytest.raises(WeightsError) as error:
        writers.kind_of(Path(out))
    first, *lines = str(error.value).splitlines()
    assert first.startswith(f"{out}: tfxfer does not write a")
    return [shlex.split(line) for line in lines]


def follow(out: str, folder: Path, **environment: str) -> None:
    """Run the commands in a folder that has `IN`."""
    for program, *arguments in commands(out):
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, **environment}, capture_output=True)


@pytest.fixture
def named(tmp_path, monkeypatch) -> dict[str, np.ndarray]:
    named = {"conv1/0": RNG.normal(size=(4, 3, 2, 2)).astype("f4"), "conv1/1": np.arange(4.0)}
    np.savez(tmp_path / "in.npz", **named)
    (tmp_path / "in.npz").rename(tmp_path / "IN")
    return named


@pytest.mark.parametrize("alike", [False, True])
def test_a_file_of_matlab_is_made_by_scipy(tmp_path, named, alike):
    if alike:
        named = {name: np.full((2, 3), number) for number, name in enumerate(("a", "b"))}
    else:
        named |= {"_hidden": np.arange(6, dtype="f4").reshape(2, 3), "half": np.array([0.5, 2], "f2")}
        named |= {"é/" * 40: np.eye(3), "step": np.array(7), "empty": np.zeros((0, 2), "f4")}
    np.savez(tmp_path / "in.npz", **named)
    (tmp_path / "in.npz").rename(tmp_path / "IN")
    follow("it's a.mat", tmp_path)
    found = scipy.io.loadmat(tmp_path / "it's a.mat")
    names = [str(name[0]) for name in found["names"].ravel()]
    assert sorted(names) == sorted(named)
    for name, array in zip(names, found["weights"].ravel(), strict=True):
        np.testing.assert_array_equal(array.reshape(named[name].shape), named[name])
        two = named[name].reshape(-1, 1) if named[name].ndim < 2 else named[name]
        assert (array.shape, array.dtype) == (two.shape, np.dtype("f8") if two.dtype == "f2" else two.dtype)


def test_a_caffemodel_is_made_by_caffe(tmp_path, named):
    # A stand-in that saves what the net was filled with.
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "caffe.py").write_text(
        "import numpy as np, types\n"
        "TEST = 1\n"
        "class Net:\n"
        "    def __init__(self, prototxt, phase):\n"
        "        shapes = [(4, 3, 2, 2), (4,)]\n"
        "        self.params = {'conv1': [types.SimpleNamespace(data=np.zeros(s, 'f4')) for s in shapes]}\n"
        "    def save(self, path):\n"
        "        np.savez(open(path, 'wb'), *[blob.data for blob in self.params['conv1']])\n"
    )
    follow("a.caffemodel", tmp_path, PYTHONPATH=str(tmp_path / "stub"))
    with np.load(tmp_path / "a.caffemodel") as found:
        for key, array in zip(("arr_0", "arr_1"), named.values(), strict=True):
            np.testing.assert_array_equal(found[key], array.astype("f4"))


def test_what_tensorflowjs_takes_is_a_file_of_keras_2(tmp_path, named):
    (to_keras, to_tfjs) = commands("model.json")
    assert to_tfjs == ["tensorflowjs_converter", "--input_format=keras", "model.h5", "FOLDER"]
    _main.main(["tfxfer", *to_keras[1:2], str(tmp_path / "IN"), str(tmp_path / to_keras[3])])
    # keras_h5_conversion.py of tensorflowjs: it has weights alone, those of Keras 2, by layer.
    with h5py.File(tmp_path / "model.h5") as file:
        assert file.attrs["keras_version"].startswith("2.")
        assert file.attrs["layer_names"].tolist() == [b"conv1"]
        found = {name.decode(): file["conv1"][name][()] for name in file["conv1"].attrs["weight_names"]}
    for name, array in named.items():
        np.testing.assert_array_equal(found[f"{name}:0"], array)


@pytest.mark.parametrize(("out", "made"), [("a.npy", "a.npz"), ("a.keras", "a.h5")])
def test_another_file_of_the_same_library_holds_the_weights(tmp_path, named, out, made):
    follow(out, tmp_path)
    weights = open_weights(tmp_path / made)
    for name, array in named.items():
        np.testing.assert_array_equal(weights[name], array)


def test_the_options_of_export_model_are_those_that_it_has():
    assert commands("b/c.pb") == [["tfxfer", "export_model", "RUN", "served", "--frozen_graph=b/c.pb"]]
    assert "frozen_graph" in export_model.define_flags()


@pytest.mark.slow
def test_a_model_of_tensorflow_lite_is_made_of_an_export(tmp_path):
    import tensorflow as tf  # which the other tests need not load

    module = tf.Module()
    module.kernel = tf.Variable(np.ones((3, 2), "f4"))
    signature = tf.TensorSpec([None, 3], tf.uint8, "images")
    module.run = tf.function(lambda images: tf.cast(images, tf.float32) @ module.kernel, [signature])
    tf.saved_model.save(module, str(tmp_path / "served"), {"serving_default": module.run})
    _, (_, *arguments) = commands("a.tflite")
    subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "a.tflite").read_bytes()[4:8] == b"TFL3"


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_is_named_with_a_command(name):
    assert all(len(words) > 2 for words in commands(name))


@pytest.mark.parametrize("name", ["a.npz", "a.pth", "a", "a.tar", "a.bin", "model.ckpt-7"])
def test_of_any_other_nothing_is_said(name):
    assert elsewhere.way_out(Path(name)) == ""
