"""What wrong files are called, and that the command which their refusal names makes weights of them."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests import tables
from tests.weights.test_readers import graph, meta_graph
from tfxfer.errors import WeightsError
from tfxfer.weights import identify, open_weights

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 553432081\n"


def tar(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        info = tarfile.TarInfo("weights.npz")
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def torch_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("model/data.pkl", b"\x80\x02}.")
        file.writestr("model/data/0", bytes(4))
    return stream.getvalue()


def archive(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return stream.getvalue()


def record() -> bytes:
    length = (3).to_bytes(8, "little")
    return length + tables.masked(length).to_bytes(4, "little") + b"abc" + tables.masked(b"abc").to_bytes(4, "little")


WRONG = {
    "web page": (lambda: PAGE, r"a\.npz holds no weights: it is a web page \(HTML\): the address gave a page"),
    "web page after blanks": (lambda: b"\n\n  <!-- x --> <HTML>", "a web page"),
    "web page after comments": (lambda: b"<!-- a - b --><!----> <!-- c\n--><html>", "a web page"),
    "web page after a byte order mark": (lambda: b"\xef\xbb\xbf<!DOCTYPE html>", "a web page"),
    "web page that leads on": (lambda: b'<meta http-equiv="refresh">', "a web page"),
    "comments without end": (lambda: b"<!---->" * 500, "a text file that begins with"),
    "a comment without end": (lambda: b"<!--" * 1000, "a text file that begins with"),
    "pointer": (
        lambda: POINTER,
        "it is a Git LFS pointer, which stands for a file that was not fetched; run `git lfs pull`",
    ),
    "gzip": (lambda: gzip.compress(b"x"), "it is compressed with gzip; unpack it first"),
    "tar": (lambda: tar(b"x"), "it is a tar archive; unpack it first"),
    "empty": (lambda: b"", "it is empty; copy or download it again"),
    "text": (lambda: b"\nHello there\n", "it is a text file that begins with 'Hello there'"),
    "text cut in a letter": (lambda: "é".encode() * 2048 + b"\xc3", "it is a text file"),
    "json": (lambda: b' {"a": 1}', "it is a JSON file that begins with"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n", "it is a PNG picture"),
    "jpeg": (lambda: b"\xff\xd8\xff\xe0", "it is a JPEG picture"),
    "pdf": (lambda: b"%PDF-1.4", "it is a PDF document"),
    "matlab": (lambda: b"MATLAB 5.0 MAT-file, Platform", "it is a MATLAB 5.0 file; convert it by SciPy"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3", "it is a TensorFlow Lite model, which cannot be trained"),
    "pickle": (lambda: pickle.dumps({"a": 1}), "it is a bare pickle .* which can run any code when it is loaded"),
    "old pickle": (lambda: pickle.dumps({"a": 1}, 2), "it is a bare pickle"),
    "torch": (torch_archive, "it is a PyTorch archive, which is a pickle and can run any code"),
    "zip": (lambda: archive("a.txt", "b.txt"), r"it is a zip archive of a\.txt, b\.txt"),
    "empty zip": (lambda: archive(), "it is a zip archive of nothing"),
    "records": (record, "it is a TFRecord file, such as TensorBoard's event files"),
    "meta graph": (meta_graph, r"it is a MetaGraphDef whose variables \(\w+\) have their values in a checkpoint"),
    "graph": (
        lambda: graph().as_graph_def().SerializeToString(),
        r"it is a GraphDef whose variables \(\w+\) have their values in a checkpoint: conv1/kernel; look for its files",
    ),
    "noise": (lambda: b"\x01\x02\xfe\xff" * 100, r"it is of no kind that tfxfer knows: it begins with b'\\x01\\x02"),
    "zeros": (lambda: bytes(5000), "it is of no kind that tfxfer knows"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_files_are_named_for_what_they_are(tmp_path, kind):
    content, message = WRONG[kind]
    for name in ("a.npz", "a.h5", "a"):
        (tmp_path / name).write_bytes(content())
        with pytest.raises(WeightsError, match=message.replace("a\\.npz", name)):
            open_weights(tmp_path / name)


def test_real_files_that_are_no_weights_are_named(real_data):
    events = next(Path(real_data("tfevents")).iterdir())
    with pytest.raises(WeightsError, match="a TFRecord file"):
        open_weights(events)
    with pytest.raises(WeightsError, match="compressed with gzip"):
        open_weights(real_data("mnist/t10k-images-idx3-ubyte.gz"))
    with pytest.raises(WeightsError, match="a text file that begins with"):
        open_weights(real_data("README.md"))
    assert identify.known(real_data("checkpoints/conv_autoencoder_tf1_5/model.ckpt.meta")).startswith("a MetaGraphDef")
    assert identify.known(real_data("checkpoints/autoencoder_tf1_13/autoencoder.ckpt.meta")).startswith(
        "a MetaGraphDef"
    )
    assert identify.known(real_data("checkpoints/v1_har/model.ckpt.meta")).startswith("a MetaGraphDef")


def command_of(path: Path) -> str:
    """Return the command that the refusal of a file ends with."""
    with pytest.raises(WeightsError) as caught:
        open_weights(path)
    return str(caught.value).split("\n  ", 1)[1]


def converted(path: Path, suffix: str = ".npz") -> dict[str, np.ndarray]:
    """Run the command that the refusal of a file names, and read what it writes."""
    path_of_python = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-c", command_of(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=path_of_python)
    assert run.returncode == 0, run.stderr
    return dict(open_weights(path.with_suffix(suffix)))


@pytest.mark.parametrize(
    "form", ["GraphDef", *(pytest.param(form, marks=pytest.mark.slow) for form in ("MetaGraphDef", "SavedModel"))]
)
def test_the_command_for_a_graph_as_text_makes_a_file_that_opens(tmp_path, form):
    with tf.Graph().as_default() as made:
        tf.nn.relu(tf.constant(np.ones((4, 3), "f4"), name="fc1/kernel"))
        if form == "GraphDef":
            tf.io.write_graph(made, str(tmp_path), "it's frozen.pbtxt", as_text=True)
        elif form == "MetaGraphDef":
            tf.train.export_meta_graph(str(tmp_path / "it's frozen.pbtxt"), as_text=True)
        else:
            builder = tf.saved_model.Builder(str(tmp_path / "model"))
            with tf.Session() as sess:
                builder.add_meta_graph_and_variables(sess, ["serve"])
            builder.save(as_text=True)
    path = tmp_path / ("model/saved_model.pbtxt" if form == "SavedModel" else "it's frozen.pbtxt")
    with pytest.raises(WeightsError, match=rf"it is a {form} as text \(\.pbtxt\); look for the checkpoint"):
        open_weights(path)
    assert {name: array.shape for name, array in converted(path, ".pb").items()} == {"fc1/kernel": (4, 3)}


def test_the_command_for_matlab_5_walks_through_cells_and_structs(tmp_path):
    import scipy.io

    kernel, bias = np.random.default_rng(0).random((3, 2, 1, 4)), np.zeros((1, 4))
    weights = np.empty((1, 2), object)
    weights[0, 0], weights[0, 1] = kernel, bias
    layers = np.empty((1, 2), object)
    layers[0, 0], layers[0, 1] = {"name": "conv1", "weights": weights}, {"name": "relu1", "leak": 0.5}
    mean = {"normalization": {"averageImage": [1.0, 2.0]}}
    scipy.io.savemat(tmp_path / "net.mat", {"layers": layers, "meta": mean, "w": np.eye(2)})
    found = converted(tmp_path / "net.mat")
    assert set(found) == {
        "layers/0/weights/0",
        "layers/0/weights/1",
        "layers/1/leak",
        "meta/normalization/averageImage",
        "w",
    }
    assert np.array_equal(found["layers/0/weights/0"], kernel)


def test_the_command_for_matlab_7_3_follows_references_and_turns_the_dimensions(tmp_path):
    kernel = np.random.default_rng(0).random((4, 1, 2, 3))  # (h, w, in, out) is (3, 2, 1, 4)
    with h5py.File(tmp_path / "net.mat", "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        layer = refs.create_group("a")
        cells = [refs.create_dataset("k", data=kernel).ref, refs.create_dataset("b", data=np.zeros((4, 1))).ref]
        layer.create_dataset("weights", data=np.array(cells, h5py.ref_dtype)[:, None])
        file.create_dataset("net/layers", data=np.array([layer.ref], h5py.ref_dtype)[:, None])
    with open(tmp_path / "net.mat", "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\0\2IM")
    found = converted(tmp_path / "net.mat")
    assert set(found) == {"net/layers/0/weights/0", "net/layers/0/weights/1"}
    assert np.array_equal(found["net/layers/0/weights/0"], kernel.T)


def test_the_command_for_tensorflow_js_joins_the_parts(tmp_path):
    kernel, bias = np.arange(6, dtype="f4").reshape(2, 3), np.arange(3, dtype="i4")
    data = kernel.tobytes() + bias.tobytes()
    parts = {"group1-shard1of2.bin": data[:10], "group1-shard2of2.bin": data[10:]}
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
    entries = [
        {"name": "fc/kernel", "shape": [2, 3], "dtype": "float32"},
        {"name": "fc/bias", "shape": [3], "dtype": "int32"},
    ]
    manifest = [{"paths": [*parts], "weights": entries}]
    (tmp_path / "model.json").write_text(json.dumps({"modelTopology": {}, "weightsManifest": manifest}))
    assert command_of(tmp_path / "group1-shard1of2.bin") == command_of(tmp_path / "model.json")
    found = converted(tmp_path / "model.json")
    assert np.array_equal(found["fc/kernel"], kernel)
    assert np.array_equal(found["fc/bias"], bias)


def test_the_command_for_a_bare_pickle_of_arrays_makes_an_archive(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"fc/kernel": np.ones((2, 3)), "name": "net"}))
    assert {name: array.shape for name, array in converted(tmp_path / "w.pkl").items()} == {"fc/kernel": (2, 3)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.onnx", b"\x08\x07\x12\x07pytorch\x1a\x051.9.0:\x80\x01", "an ONNX model; take its weights out by onnx"),
        ("a.onnx", b"\x08\x04:\x90\x01\x0a\x10", "an ONNX model"),
        ("a.caffemodel", b"\x0a\x13VGG_ILSVRC_16_layers"[:21] + b"\x12\xb4\x02\x0a\x04data", "a .caffemodel of Caffe"),
        ("a.caffemodel", b"\x0a\x0fsqueezenet_v1.1\xa2\x06\x20\x0a\x04data", "a .caffemodel of Caffe"),
        ("a.params", b"\x12\x01" + bytes(14) + b"\x02", "a .params file of MXNet; convert it by MXNet"),
        ("a.weights", b"\0\0\0\0\2\0\0\0\0\0\0\0" + bytes(8), "a .weights file of Darknet"),
        ("a.pdiparams", bytes(16) + b"\x06\0\0\0\x08\x05\x10\x03\x10\x04", "a .pdiparams file of PaddlePaddle"),
        ("a.pdparams", pickle.dumps({"StructuredToParameterName@@": {}}, 2), "a PaddlePaddle .pdparams file"),
        ("a.mlmodel", b"\x08\x04\x12\x30\x0a\x20\x0a\x05image\x1a\x02", "a Core ML model"),
        ("a.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "a file of PyTorch up to 1.5"),
        ("a.npz", b"\x04\x22\x4d\x18\x64", "compressed with LZ4; unpack it first: unlz4 "),
        ("a.npz", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML page"),
        ("a.pb", b"\x08\x01\x12\x80\x02\x0a\x20\x12\x10", "a SavedModel's graph"),
        ("a.pbtxt", b'node {\n  name: "x"\n}', r"a GraphDef as text \(\.pbtxt\)"),
        ("group1-shard1of1.bin", bytes(range(64)), r"a part of a model of TensorFlow\.js.*which is not there"),
    ],
)
def test_foreign_formats_are_named_whatever_they_are_called(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        open_weights(tmp_path / name)
