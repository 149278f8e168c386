"""Which reader a file goes to, and what wrong files are called: by their content, whatever their names are."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import fuzz
import h5py
import numpy as np
import pytest
import safetensors.numpy
import tables
import tensorflow.compat.v1 as tf

from tfxfer.errors import WeightsError
from tfxfer.weights import identify, open_weights

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 553432081\n"


def graph() -> tf.Graph:
    with tf.Graph().as_default() as made:
        tf.get_variable("conv1/kernel", [3, 2])
        tf.placeholder(tf.float32, name="images")
    return made


def meta_graph() -> bytes:
    with graph().as_default():
        return tf.train.export_meta_graph().SerializeToString()


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
    "meta graph": (
        meta_graph,
        r"it is a MetaGraphDef \(\.meta\): the graph without the values .* give the prefix of the checkpoint",
    ),
    "graph": (lambda: graph().as_graph_def().SerializeToString(), r"it is a GraphDef \(\.pb\): a graph whose weights"),
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
                with pytest.raises(WeightsError, match=r"x\.index is no index of a checkpoint"):
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
        WeightsError, match=r"there is no file and no checkpoint .*/vgg16\.np \(did you mean vgg16\.npz\?\)"
    ):
        open_weights(tmp_path / "vgg16.np")
    with pytest.raises(WeightsError, match=r"holds no checkpoint .*; it holds vgg16\.npz"):
        open_weights(tmp_path)


def test_files_that_may_not_be_read_are_told(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, w=np.ones(3))

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tfxfer.weights.files.MappedFile.of", refuse)
    with pytest.raises(WeightsError, match=r"a\.npz cannot be read: Permission denied"):
        open_weights(path)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="no file and no checkpoint"):
        open_weights(tmp_path / "pipe")


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
