"""What wrong files are called, and that the command which their refusal names makes weights of them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import shlex
import shutil
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


def tar(content: bytes, name: str = "weights.npz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        info = tarfile.TarInfo(name)
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
    "pickle": (lambda: pickle.dumps({"a": {1}}), "it is a bare pickle .* which can run any code when it is loaded"),
    "old pickle": (lambda: pickle.dumps({"a": Path("x")}, 2), "it is a bare pickle"),
    "torch": (torch_archive, "is a PyTorch archive that holds no arrays that tfxfer reads"),
    "old torch": (lambda: tar(b"x", "sys_info"), r"it is a file of PyTorch before 0\.1\.10, a tar archive; convert it"),
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


@pytest.mark.parametrize("big", [False, True])
def test_the_command_for_matlab_4_takes_its_arrays_out(tmp_path, big):
    import scipy.io

    kernel = np.random.default_rng(0).random((3, 2))
    scipy.io.savemat(tmp_path / "net.mat", {"fc1": kernel, "words": "text"}, format="4")
    if big:  # the header of a variable by hand: order and dtype, rows, columns, not complex, the length of its name
        header = np.array([1000, 3, 2, 0, 4], ">i4").tobytes()
        (tmp_path / "net.mat").write_bytes(header + b"fc1\0" + kernel.T.astype(">f8").tobytes())
    with pytest.raises(WeightsError, match="it is a MATLAB 4 file, without cells and structs; convert it by SciPy"):
        open_weights(tmp_path / "net.mat")
    found = converted(tmp_path / "net.mat")
    assert {name: array.tolist() for name, array in found.items()} == {"fc1": kernel.tolist()}


@pytest.mark.parametrize("protocol", [0, 1])
@pytest.mark.parametrize("whole", [dict, list])
def test_pickles_of_the_oldest_protocols_are_named_and_the_command_makes_an_archive(tmp_path, protocol, whole):
    arrays = {"0": np.ones((2, 3), "f4"), "1": np.arange(3)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(arrays if whole is dict else [*arrays.values()], protocol))
    assert {name: array.tolist() for name, array in converted(tmp_path / "w.pkl").items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


def test_the_command_for_a_pickle_reads_what_python_2_wrote(tmp_path):
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    dtype = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    values = rb"S'\x00\x00\x80\xbf'" + b"\n"  # -1.0, as text in which bytes stand
    (tmp_path / "w.pkl").write_bytes(b"(dp1\nS'b'\n" + made + b"(I1\n(I1\nt" + dtype + b"I00\n" + values + b"tbs.")
    assert {name: array.tolist() for name, array in converted(tmp_path / "w.pkl").items()} == {"b": [-1.0]}


def test_the_command_for_a_bare_pickle_of_arrays_makes_an_archive(tmp_path):
    # One of a class that the reader does not know, which is an array for numpy.
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"fc/kernel": np.ma.ones((2, 3)), "name": "net"}))
    assert {name: array.shape for name, array in converted(tmp_path / "w.pkl").items()} == {"fc/kernel": (2, 3)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.params", b"\x12\x01" + bytes(14) + b"\x02", "a .params file of MXNet; take its arrays out by NumPy"),
        ("a.weights", b"\0\0\0\0\2\0\0\0\0\0\0\0" + bytes(8), "a .weights file of Darknet"),
        ("a.pdiparams", bytes(16) + b"\x06\0\0\0\x08\x05\x10\x03\x10\x04", "a .pdiparams file of PaddlePaddle"),
        ("a.pdparams", pickle.dumps({"StructuredToParameterName@@": {}}, 2), "a PaddlePaddle .pdparams file"),
        ("a.mlmodel", b"\x08\x04\x12\x30\x0a\x20\x0a\x05image\x1a\x02", "a Core ML model"),
        ("a.mlmodel", b"\x08\x01\x12\x04\x0a\x02\x0a\0\xa2\x1f\x02\x0a\0", "a Core ML model"),
        ("a.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "is cut short or corrupt"),
        ("a.npz", b"\x04\x22\x4d\x18\x64", "compressed with LZ4; unpack it first: unlz4 -c < "),
        ("a.npz", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML page"),
        ("a.pb", b"\x08\x01\x12\x80\x02\x0a\x20\x12\x10", "a SavedModel's graph"),
        ("a.pbtxt", b'node {\n  name: "x"\n}', r"a GraphDef as text \(\.pbtxt\)"),
        ("input_0.pb", b"\x08\x02\x10\x01\x42\x01x\x4a\x08" + bytes(8), r"one tensor of ONNX.*open the \.onnx model"),
        ("a.mlmodel", b"\x08\x07\x12\x04\x0a\x02\x0a\0\xb2\x1f\x02\x0a\0", r"give the folder that ends in \.mlpackage"),
        (
            "model.safetensors.index.json",
            b'{"metadata": {"total_size": 8},\n "weight_map": {"a": "model-1-of-2.safetensors", "b": ""}}',
            r"open each of them, such as model-1-of-2\.safetensors",
        ),
        ("a.onnx.data", bytes(64), r"the values of a model of ONNX; open a\.onnx"),
        ("group1-shard1of1.bin", bytes(range(64)), r"a part of a model of TensorFlow\.js.*which is not there"),
    ],
)
def test_foreign_formats_are_named_whatever_they_are_called(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        open_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("program", "suffix"), [("gzip", ".gz"), ("bzip2", ".bz2"), ("xz", ".xz"), ("zstd", ".zst"), ("lz4", ".lz4")]
)
@pytest.mark.parametrize("name", ["it's vgg.npz", "vgg"])
@pytest.mark.parametrize("has_suffix", [False, True])
def test_the_command_that_unpacks_a_file_makes_one_that_opens(tmp_path, program, suffix, name, has_suffix):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    np.savez(tmp_path / "plain.npz", w=np.arange(3))
    packed = tmp_path / (name + suffix * has_suffix)
    whole = (tmp_path / "plain.npz").read_bytes()
    packed.write_bytes(subprocess.run([program, "-c"], input=whole, capture_output=True, check=True).stdout)
    before = packed.read_bytes()
    with pytest.raises(WeightsError) as caught:
        open_weights(packed)
    command = str(caught.value).partition("unpack it first: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    [made] = set(tmp_path.iterdir()) - {packed, tmp_path / "plain.npz"}
    assert open_weights(made)["w"].tolist() == [0, 1, 2]
    assert packed.read_bytes() == before


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.x"])
def test_a_compressed_tar_archive_is_unpacked_by_tar(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(tar(b"x")))
    assert identify.known(tmp_path / name) == f"compressed with gzip; unpack it first: tar xf {tmp_path / name}"


def test_a_file_beside_a_saved_model_leads_to_it(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x04\x0a\x02\x22\0")
    for name in ("fingerprint.pb", "keras_metadata.pb", "tfhub_module.pb"):
        (tmp_path / name).write_bytes(b"\x08\x03")
        with pytest.raises(WeightsError, match=f"a file beside a SavedModel, without its weights; open {tmp_path}"):
            open_weights(tmp_path / name)


# --- formats of other programs ---


SYMBOL = (
    b'{\n  "nodes": [\n    {\n      "op": "null", \n      "name": "data"}], "arg_nodes": [0], "heads": [[0, 0, 0]]}'
)
OPENVINO = b'<?xml version="1.0"?>\n<net name="net" version="11">\n<layers>'
FLAX = b"\x81\xa6params\x81\xa6kernel\xc7\x1c\x01\x93\x92\x02\x03\xa7float32\xc4\x18" + bytes(24)
SOLVER = b"\x08\x03\x12\x08a_3.cafe\x1a\x0a\x3a\x02\x0a\0\x2a\x04abcd\x20\x01"
CAFFE2 = b"\x0a\x04init\x12\x1a\x12\x07conv1_w\x22\x0fGivenTensorFill"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.engine", b"ftrt" + bytes(20), r"an engine of TensorRT \(\.engine, \.plan\).*look for the ONNX model"),
        ("a.engine", b"\x09\0\0\0" + b'{"a": 1 }' + b"ftrt" + bytes(20), "an engine of TensorRT"),
        ("a.ort", b"\x20\0\0\0ORTM", "a model in the format of ONNX Runtime"),
        (
            "a.gguf",
            b"GGUF\3\0\0\0",
            "a GGUF file; take its arrays out, quantised ones as floats, by gguf:\n  python -c ",
        ),
        ("a.bin", b"tjgg\3\0\0\0", "a GGML file"),
        ("a.t7", b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\x0d\0\0\0nn.Sequential", r"a \.t7 file of Torch 7"),
        ("a.model", "BCN".encode("utf-16-le") + bytes(2), "a model of CNTK"),
        (
            "a.model",
            b"\x08\x01\x12\x20\x0a\x13primitive_functions\x12",
            "a model of CNTK; take its parameters out by CNTK",
        ),
        ("a.msgpack", FLAX, "a msgpack file of Flax; convert it by Flax"),
        ("a.solverstate", SOLVER, r"a \.solverstate of Caffe, .* open a_3\.cafe instead"),
        ("init_net.pb", CAFFE2, "a net of Caffe2"),
        ("a.prototxt", b'name: "net"\nlayer {\n  name: "data"\n  type: "Input"\n}', r"a \.prototxt of Caffe"),
        (
            "vgg-symbol.json",
            SYMBOL,
            r"the graph without the weights; open the \.params file .* such as vgg-0000\.params",
        ),
        ("a.xml", OPENVINO, "an OpenVINO model; take its weights out by OpenVINO"),
        ("a.param", b"7767517\n75 83\nInput data 0 1 data", "the graph of a network of ncnn"),
        (
            "a.pdiparams",
            bytes(16) + b"\x06\0\0\0\x08\x05\x10\x03",
            r"the \.pdmodel that belongs to it is not beside it",
        ),
    ],
)
def test_formats_of_other_programs_are_named_with_a_way_out(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"(?s){message}"):
        open_weights(tmp_path / name)
    if "\n  python -c " in str(identify.known(tmp_path / name)):
        compiled(command_of(tmp_path / name))


@pytest.mark.parametrize(
    ("sibling", "content", "message"),
    [
        ("a.param", b"7767517\n75 83\n", r"the values of a network of ncnn, whose shapes are in a\.param"),
        ("a.xml", OPENVINO, "the values of an OpenVINO model; take them out by OpenVINO"),
    ],
)
def test_values_in_a_row_are_told_by_the_file_beside_them(tmp_path, sibling, content, message):
    (tmp_path / "a.bin").write_bytes(np.linspace(1, 2, 50).astype("f4").tobytes())
    assert "of no kind that tfxfer knows" in identify.describe(tmp_path / "a.bin")
    (tmp_path / sibling).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        open_weights(tmp_path / "a.bin")


@pytest.mark.parametrize(
    ("inside", "content", "message"),
    [
        ("Manifest.json", b'{"itemInfoEntries": {}}', "it is a Core ML package; take its weights out by coremltools"),
        ("_METADATA", b"{}", "it is a checkpoint of Orbax"),
        (".zgroup", b"{}", "it is a Zarr folder"),
        ("zarr.json", b"{}", "it is a Zarr folder"),
    ],
)
def test_folders_of_other_programs_are_named_with_a_way_out(tmp_path, inside, content, message):
    (tmp_path / "a.folder").mkdir()
    (tmp_path / "a.folder" / inside).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        open_weights(tmp_path / "a.folder")
    compiled(command_of(tmp_path / "a.folder"))


def compiled(command: str) -> None:
    """See that a command is a line for the shell, and what it runs a program."""
    python, option, code = shlex.split(command)
    assert (python, option) == ("python", "-c")
    compile(code, "command", "exec")
    assert "IN" not in re.findall(r"\w+", code)


def test_a_paddle_model_is_converted_with_the_graph_beside_it(tmp_path):
    (tmp_path / "net.pdiparams").write_bytes(bytes(16) + b"\x06\0\0\0\x08\x05\x10\x03")
    (tmp_path / "net.pdmodel").write_bytes(b"\x0a")
    command = command_of(tmp_path / "net.pdiparams")
    compiled(command)
    assert f'load_inference_model("{tmp_path}/net", e)' in command


def mxnet_array(array: np.ndarray, form: int) -> bytes:
    """Write an array as MXNet did in its four forms: 0 the oldest, without a magic number."""
    codes = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"]
    wide, shape = ("<u8" if form else "<u4"), np.array(array.shape)
    magic = (0xF993FAC7 + form).to_bytes(4, "little") if form else b""
    begin = magic + (bytes(4) if form > 1 else b"") + array.ndim.to_bytes(4, "little") + shape.astype(wide).tobytes()
    return begin + bytes([1, 0, 0, 0, 0, 0, 0, 0, codes.index(array.dtype.name), 0, 0, 0]) + array.tobytes()


@pytest.mark.parametrize("form", range(4))
def test_the_command_for_mxnet_takes_arrays_of_each_of_its_forms_out(tmp_path, form):
    arrays = {"arg:fc_weight": np.arange(6, dtype="f4").reshape(2, 3), "aux:bn_mean": np.ones(3, "f8")}
    content = b"\x12\x01".ljust(16, b"\0") + len(arrays).to_bytes(8, "little")
    content += b"".join(mxnet_array(array, form) for array in arrays.values()) + len(arrays).to_bytes(8, "little")
    content += b"".join(len(name).to_bytes(8, "little") + name.encode() for name in arrays)
    (tmp_path / "net-0000.params").write_bytes(content)
    found = converted(tmp_path / "net-0000.params")
    assert list(found) == ["fc_weight", "bn_mean"]
    assert np.array_equal(found["fc_weight"], arrays["arg:fc_weight"])
    assert np.array_equal(found["bn_mean"], arrays["aux:bn_mean"])


def test_the_command_for_scikit_learn_takes_its_arrays_out(tmp_path):
    import joblib
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit([[0.0, 1], [1, 0], [2, 5]], [0, 1, 1])
    joblib.dump({"head": model}, tmp_path / "a.pkl", compress=3)
    found = converted(tmp_path / "a.pkl")
    assert np.array_equal(found["head/coef_"], model.coef_)
    assert np.array_equal(found["head/intercept_"], model.intercept_)
    command = command_of(tmp_path / "a.pkl")
    joblib.dump(model, tmp_path / "a.pkl")
    assert command_of(tmp_path / "a.pkl") == command
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(model))
    assert command_of(tmp_path / "a.pkl") == command


def test_hdf5_without_weights_is_named_with_a_way_out(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    with pytest.raises(WeightsError, match=r"an HDF5 file without arrays, .* save them .* by model\.save_weights"):
        open_weights(tmp_path / "model.h5")
