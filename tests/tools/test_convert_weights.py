"""`tfxfer convert_weights` as a user runs it: formats, names, the head of a run, signals, time, and real files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.input_spec import InputSpec
from tfxfer.tools import _flags, convert_weights
from tfxfer.weight_tools.convert_weights import plan
from tfxfer.weights import open_weights, writers

# Keras 3 calls np.array on its variables as NumPy 1 allowed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COMMAND = str(Path(sys.executable).with_name("tfxfer"))
KINDS = ("bias", "kernel")
INPUT_SPEC = InputSpec("autoencoder", "here", (28, 28), "grey", (0.0,), (1.0,))
RNG = np.random.default_rng(0)


def run(*args: object) -> int:
    return _flags.run(convert_weights.main, ["tfxfer convert_weights", *map(str, args)])


@pytest.fixture
def npz(tmp_path) -> Path:
    named = {f"conv{i}_{kind}": RNG.normal(size=(3, i)).astype("f4") for i in (1, 2) for kind in "Wb"}
    np.savez(tmp_path / "in.npz", **named)
    return tmp_path / "in.npz"


@pytest.fixture
def best(tmp_path) -> Path:
    """The folder of a run with its best checkpoint: a head behind convolutions, with slots and an input spec."""
    folder = tmp_path / "run" / "best"
    folder.mkdir(parents=True)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.ones([1, 4, 4, 1])
        kernel = tf.get_variable("conv1/kernel", [4, 4, 1, 6])
        x = tf.reshape(tf.nn.conv2d(x, kernel, 1, "VALID"), [1, 6])
        for name, units in (("fc1", 5), ("logits", 3)):
            kernel = tf.get_variable(f"{name}/kernel", [x.shape[1], units])
            x = x @ kernel + tf.get_variable(f"{name}/bias", [units])
        tf.train.AdamOptimizer().minimize(tf.reduce_sum(x), tf.train.create_global_step())
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, str(folder / "model.ckpt"), global_step=800)
    INPUT_SPEC.save(folder / "model.ckpt-800")
    return folder


def test_the_head_of_a_run_goes_to_keras_alone(best, tmp_path, capsys):
    out = tmp_path / "head.h5"
    assert run(best, out, "--select=fc.*", "logits.*", "--drop_slots") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"note: 8 optimizer slots of {best} left out",
        "note: model.ckpt-800.input_spec.json stays behind: 1 of its variables are left out, as conv1/kernel",
        f"{out}: Keras HDF5 file, 4 tensors, 53 parameters, 212 bytes",
    ]
    head = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    head.load_weights(out)
    weights = open_weights(best)
    names = ("fc1/kernel", "fc1/bias", "logits/kernel", "logits/bias")
    for name, array in zip(names, head.get_weights(), strict=True):
        np.testing.assert_array_equal(array, weights[name])


def test_a_whole_run_goes_with_its_input_spec(best, tmp_path, capsys):
    assert run(best, tmp_path / "all.npz", "--drop_slots") == 0
    assert capsys.readouterr().out.endswith(
        "5 tensors, 149 parameters, 596 bytes, with its input spec all.npz.input_spec.json\n"
    )
    assert InputSpec.load(tmp_path / "all.npz") == INPUT_SPEC


def test_names_are_shown_before_anything_is_written(npz, tmp_path, capsys):
    rules = ["--rename=_W$=/kernel", "--rename=_b$=/bias", "--layout=conv1/.*=transpose", "--dtype=float16"]
    assert run(npz, tmp_path / "out.ckpt", *rules, "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["in", "IN", "in", "OUT", "shape", "dtype", "role"],
        ["conv1_b", "conv1/bias", "(3,", "1)", "->", "(1,", "3)", "float32", "->", "float16", "bias"],
    ]
    assert (
        lines[-1] == f"{tmp_path / 'out.ckpt'} would be: TensorFlow checkpoint V2, 4 tensors, 18 parameters, 36 bytes"
    )
    assert os.listdir(tmp_path) == ["in.npz"]


def test_a_dry_run_shows_the_order_in_which_keras_takes_layers(npz, tmp_path, capsys):
    run(npz, tmp_path / "out.h5", "--select=conv2.*,.*", "--rename=_W$=/kernel", "--rename=_b$=/bias", "--dry_run")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:5]] == ["conv2/kernel", "conv2/bias", "conv1/kernel", "conv1/bias"]


def test_the_order_of_two_patterns_is_that_of_the_layers_though_it_be_that_of_names(tmp_path, capsys):
    named = {f"s{i}/{kind}": np.full((2, 2)[: 1 + (kind == "kernel")], i, "f4") for i in (8, 16) for kind in KINDS}
    np.savez(tmp_path / "in.npz", **dict(sorted(named.items())))
    out, wish = tmp_path / "out.h5", ("--select=s16/.*", "--select=s8/.*")
    assert run(tmp_path / "in.npz", out, *wish) == run(tmp_path / "in.npz", out, *wish, "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[2:6]] == ["s16/kernel", "s16/bias", "s8/kernel", "s8/bias"]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(2)])
    model.load_weights(out)
    assert [array.flat[0] for array in model.get_weights()] == [16, 16, 8, 8]


def test_keras_files_come_with_what_keras_will_stumble_over(best, npz, tmp_path, capsys):
    assert run(npz, tmp_path / "a.h5") == 0
    assert "note: Keras takes 4 names without a scope, as conv1_W, for layers of their own: see --rename" in (
        capsys.readouterr().out.splitlines()
    )
    assert run(best, tmp_path / "b.h5") == 0
    assert "note: Keras takes 13 slots and steps, as global_step, for layers: see --drop_slots" in (
        capsys.readouterr().out.splitlines()
    )


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (
            ["in.npz", "in.npz", "--overwrite"],
            1,
            "WeightsError: in.npz is where in.npz is read from; nothing is changed in",
        ),
        (["in.npz", "there.h5"], 1, "WeightsError: there.h5 exists; take another name, or --overwrite, which moves"),
        (["in.npz", "out.tar"], 1, "WeightsError: out.tar: the name tells no known format; OUT ends in one of .ckpt"),
        (
            ["in.npz", "out.pb"],
            1,
            "WeightsError: out.pb: tfxfer does not write a frozen graph, which holds the network",
        ),
        (["in.npz", "."], 1, "WeightsError: .: the name tells no known format"),
        (
            ["in.npz", "folder"],
            1,
            "WeightsError: folder is a folder; give the name of a file in it, as folder/model.ckpt",
        ),
        (["nothing", "out.npz"], 1, "WeightsError: nothing is neither a file nor a checkpoint"),
        (["in.npz", "out.npz", "--rename=(x=y"], 2, "UsageError: flag --rename=(x=y: '(x' is not a regular expression"),
        (
            ["in.npz", "out.npz", "--rename=x"],
            2,
            "UsageError: flag --rename=x: 'x' is not a rule; write REGEX=REPLACEMENT",
        ),
        (["in.npz", "out.npz", "--rename=fc=x"], 1, "SelectionError: the rename rule 'fc' matches none of the 4 names"),
        (
            ["in.npz", "out.npz", "--rename=\\d="],
            1,
            "SelectionError: the rename rules make one name of several:\n  conv1_W",
        ),
        (["in.npz", "out.npz", "--layout=.*=x"], 1, "WeightsError: 'x' is not a layout; the layouts are theano_conv"),
        (
            ["in.npz", "out.npz", "--dtype=bfloat16"],
            1,
            "WeightsError: a NumPy .npz archive cannot hold 4 of 4 tensors:",
        ),
        (["in.npz", "out.npz", "--dtype=int8"], 2, "UsageError: flag --dtype=int8: value should be one of <float16|"),
        (["in.npz", "out.npz", "conv.*"], 2, "UsageError: unexpected argument: conv.*; see --help"),
        (["in.npz", "out.npz", "more", "--select=conv1.*"], 1, "SelectionError: 1 of the patterns match none of the 4"),
        (["in.npz"], 2, "UsageError: 1 arguments are too few, 2 are needed; see --help"),
        (
            ["in.npz", "there.h5/out.npz"],
            1,
            "WeightsError: there.h5/out.npz was not written: File exists: there.h5. Nothing has",
        ),
    ],
)
def test_mistakes_are_answered_in_a_line_and_change_nothing(npz, tmp_path, monkeypatch, capsys, args, status, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.h5").write_text("mine")
    (tmp_path / "folder").mkdir()
    before = npz.read_bytes()
    assert run(*args) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message)
    assert sorted(os.listdir(tmp_path)) == ["folder", "in.npz", "there.h5"]
    assert (npz.read_bytes(), (tmp_path / "there.h5").read_text()) == (before, "mine")


def test_overwriting_says_where_the_old_file_went(npz, tmp_path, capsys):
    for _ in range(2):
        assert run(npz, tmp_path / "out.ckpt", "--overwrite") == 0
    out = str(tmp_path / "out.ckpt")
    moved = [f"moved {out}{part} to {out}.old-1{part}" for part in (".data-00000-of-00001", ".index")]
    assert capsys.readouterr().out.splitlines()[1:3] == moved


# --- as a process ---

SLOW = """
import sys, time
from tfxfer.weights import streams
raw = streams.raw
def slowly(tensor):
    for piece in raw(tensor):
        time.sleep(0.3)
        yield piece
streams.raw = slowly
from tfxfer.tools._main import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("out", ["out.ckpt", "out.h5"])
def test_a_signal_in_the_middle_leaves_no_part_of_a_file_and_the_old_one(npz, tmp_path, number, out):
    run(npz, tmp_path / out)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    command = [sys.executable, "-c", SLOW, "convert_weights", npz, tmp_path / out, "--overwrite"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.part")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(number)
    printed = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert printed == ("", "")
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_tensorflow_is_not_loaded_and_h5py_only_for_keras(npz, tmp_path):
    code = (
        "import sys; from tfxfer.tools._main import main; main(['tfxfer', *sys.argv[1:]])\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    for out, h5py in (("a.ckpt", False), ("a.safetensors", False), ("a.h5", True)):
        command = [sys.executable, "-c", code, "convert_weights", npz, tmp_path / out]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        loaded = set(done.stderr.split())
        assert loaded.isdisjoint({"tensorflow", "keras", "rich"})
        assert ("h5py" in loaded) == h5py


def test_it_is_a_tool_of_the_command(npz, tmp_path):
    command = [COMMAND, "convert_weights", npz, tmp_path / "out.ckpt", "--rename=_W$=/kernel"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert tf.train.list_variables(str(tmp_path / "out.ckpt"))[0] == ("conv1/kernel", [3, 1])


# --- real files ---

REAL = [
    "weights/squeezenet1_0.npz",
    "weights/squeezenet1_1_tf_notop.h5",
    "weights/vgg16_blocks1-3.npz",
    "weights/det1.npy",
    "weights/det2.npy",
    "checkpoints/conv_autoencoder_tf1_5",
    "checkpoints/autoencoder_tf1_13",
    "checkpoints/mnist_convnet/convolutional.ckpt",
    "checkpoints/v1_har/model.ckpt",
    "keras/keras0_autoencoder.h5",
    "keras/keras2_mnist_cnn.h5",
    "keras/keras3_mnist.h5",
    "keras/keras3_mnist.keras",
    "keras/keras3_mnist.weights.h5",
    "safetensors/mnist_dense.safetensors",
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_go_through_every_format_unchanged(real_data, tmp_path, name):
    source = real_data("checkpoints" if name.startswith("checkpoints") else name)
    source = source / name.removeprefix("checkpoints/") if name.startswith("checkpoints") else source
    expected, before = open_weights(source), source
    for step, out in enumerate(["a.ckpt", "b.npz", "c.safetensors", "d.h5", "e.pth", "f.ckpt"]):
        assert run(before, tmp_path / f"{step}{out}") == 0
        before = tmp_path / f"{step}{out}"
    found = open_weights(before)
    assert found.keys() == expected.keys()
    for key in expected:
        assert (found.dtype(key), found.shape(key)) == (expected.dtype(key), expected.shape(key))
        assert found[key].tobytes() == expected[key].tobytes()


def mnist_network() -> keras.Model:
    layers = [keras.Input((28, 28, 1))]
    for filters in (32, 64, 64):
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    layers[-1:] = [keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")]
    return keras.Sequential(layers)


def test_a_real_keras_network_converted_there_and_back_answers_as_it_did(real_data, tmp_path):
    source = real_data("keras/keras2_mnist_cnn.h5")
    assert run(source, tmp_path / "a.ckpt", "--drop_slots") == 0
    assert run(tmp_path / "a.ckpt", tmp_path / "b.h5") == 0
    one, two = mnist_network(), mnist_network()
    one.load_weights(source)
    two.load_weights(tmp_path / "b.h5")
    images = RNG.uniform(size=(4, 28, 28, 1))
    np.testing.assert_array_equal(one.predict(images, verbose=0), two.predict(images, verbose=0))


# --- speed ---


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.slow
def test_vgg16_is_converted_in_at_most_one_and_a_half_times_a_copy_and_its_checksum(tmp_path):
    source, copy, out = tmp_path / "vgg16.npz", tmp_path / "copy", tmp_path / "out"
    shapes = [(3, 3, i, o) for i, o in ((3, 64), (64, 128), (128, 256), (256, 512), (512, 512), (512, 512))]
    named = {f"w{i}": RNG.random(shape, np.float32) for i, shape in enumerate([*shapes, (25088, 4096), (4096, 5096)])}
    np.savez(source, **named)

    def copied() -> None:
        subprocess.run(["cp", source, copy], check=True)
        with copy.open("rb") as file:
            os.fsync(file.fileno())
            checksum = 0
            while piece := file.read(1 << 20):
                checksum = zlib.crc32(piece, checksum)

    def converted() -> None:
        writers.write(out, plan(open_weights(source)).tensors)

    ratios = []
    for _ in range(5):
        ratios.append(seconds(converted) / seconds(copied))
        for path in (copy, *tmp_path.glob("out.*")):
            path.unlink()
    assert sorted(ratios)[2] < 1.5, ratios


def test_a_quantized_model_is_converted_with_its_scales_or_dequantized(tmp_path):
    model = Path(__file__).parents[1] / "weights/golden/tflite/int8.tflite"
    assert run(model, tmp_path / "stored.npz") == 0
    assert run(model, tmp_path / "real.npz", "--dequantize") == 0
    stored, real = open_weights(tmp_path / "stored.npz"), open_weights(tmp_path / "real.npz")
    assert stored.keys() == open_weights(model).keys()
    assert stored.dtype("Conv2D") == np.int8
    scale = stored["Conv2D_scale"].reshape(4, 1, 1, 1)
    assert np.array_equal(real["Conv2D"], stored["Conv2D"] * scale)
    again = open_weights(tmp_path / "stored.npz", dequantize=True)
    assert all(np.array_equal(again[name], real[name]) for name in real)
    assert again.keys() == real.keys()


def test_slots_of_a_named_optimizer_are_called_so_and_weights_below_others_are_not(tmp_path, capsys):
    arrays = {name: np.ones((2, 2)) for name in ("v", "v/mine", "w", "w/mine", "w/proj")}
    np.savez(tmp_path / "in.npz", **arrays, global_step=np.array(3))
    assert run(tmp_path / "in.npz", tmp_path / "out.h5", "--dry_run") == 0
    said = capsys.readouterr().out
    assert re.findall(r"^(\S+) .*  optimizer slot$", said, re.MULTILINE) == ["v/mine", "w/mine"]
    assert "Keras takes 3 slots and steps" in said
