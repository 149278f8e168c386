"""The scripts of examples/coming_from, on files as people have them, and the pages that show them."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import inspect
import re
import shlex
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import flags
from PIL import Image

import tfxfer as tx
from tests.models.torch_networks import random_arrays
from tests.networks.made_by_keras import application, save_weights_as_keras_2
from tests.torch_files import Saved
from tfxfer.models.registry import MODELS
from tfxfer.models.sources import named

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {path.stem: path for path in sorted((ROOT / "examples/coming_from").glob("*.py"))}
PAGES = sorted((ROOT / "docs/coming_from").glob("*.md"))
COLOURS = {"grass": (40, 200, 30), "rose": (230, 30, 40), "sky": (30, 60, 220)}
GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"{__name__}.GENERATOR", np.random.default_rng(0))  # whichever tests ran before


def run(name: str, *words: str) -> None:
    """Run a script in this process, as `python examples/coming_from/NAME.py WORDS` does."""
    before = set(flags.FLAGS)
    spec = importlib.util.spec_from_file_location(name, SCRIPTS[name])
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        assert flags.FLAGS([name, *words]) == [name]
        module.main([name])
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)


def accuracy(capsys) -> float:
    """Return the number behind the last `accuracy` that was printed."""
    return float(re.findall(r"accuracy (\d\.\d+)", capsys.readouterr().out)[-1])


def pictures(top: str, each: int = 20, names: tuple[str, ...] = tuple(COLOURS)) -> None:
    """Write pictures of 32x32, a folder and a colour for each class."""
    for name in names:
        Path(top, name).mkdir(parents=True)
        for number in range(each):
            pixels = np.clip(GENERATOR.normal(COLOURS[name], 25, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(Path(top, name, f"{number}.png"))


def drawn(*shape: int) -> np.ndarray:
    """Draw a kernel by which no layer swells or fades."""
    return GENERATOR.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)


def save_checkpoint(prefix: str, arrays: dict[str, np.ndarray]) -> str:
    """Write variables with Adam's slots and a global_step, by TensorFlow alone."""
    with tf.Graph().as_default():
        variables = [tf.get_variable(name, initializer=array, use_resource=False) for name, array in arrays.items()]
        step = tf.train.create_global_step()
        tf.train.AdamOptimizer().apply_gradients([(tf.zeros_like(each), each) for each in variables], step)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            return tf.train.Saver().save(sess, prefix)


def assert_holds(prefix: str | None, arrays: dict[str, np.ndarray]) -> None:
    """Check by TensorFlow's own reader that a checkpoint has these very bits."""
    reader = tf.train.load_checkpoint(prefix)
    for name, array in arrays.items():
        np.testing.assert_array_equal(reader.get_tensor(name), array, err_msg=name)


# --- plain TensorFlow 1 ---


def autoencoder() -> dict[str, np.ndarray]:
    return {
        "conv2d/kernel": drawn(3, 3, 1, 8),
        "conv2d/bias": drawn(8),
        "conv2d_1/kernel": drawn(3, 3, 8, 4),
        "conv2d_1/bias": drawn(4),
        "conv2d_transpose/kernel": drawn(3, 3, 8, 4),
    }


@pytest.mark.parametrize("which", ["made here", "real"])
def test_the_encoder_of_a_tensorflow_1_checkpoint_is_taken_and_stays_as_it_is(which, real_data, capsys):
    if which == "real":
        prefix = str(real_data("checkpoints/autoencoder_tf1_13") / "autoencoder.ckpt")
    else:
        prefix = save_checkpoint("autoencoder.ckpt", autoencoder())
    run("tensorflow1", f"--checkpoint={prefix}", "--epochs=6")
    assert accuracy(capsys) >= 0.5
    reader = tf.train.load_checkpoint(prefix)
    encoder = [f"{layer}/{part}" for layer in ("conv2d", "conv2d_1") for part in ("kernel", "bias")]
    assert_holds("runs/tensorflow1/classifier", {name: reader.get_tensor(name) for name in encoder})


def stated(page: str, pattern: str) -> float:
    return float(re.search(pattern, (ROOT / "docs/coming_from" / f"{page}.md").read_text())[1])


@pytest.mark.slow
def test_digits_by_a_real_encoder_are_as_accurate_as_the_page_says(real_data, capsys):
    checkpoint = real_data("checkpoints/autoencoder_tf1_13") / "autoencoder.ckpt"
    run("tensorflow1", f"--checkpoint={checkpoint}", f"--data_dir={real_data('mnist')}", "--epochs=3")
    assert accuracy(capsys) == pytest.approx(stated("tensorflow1", r"accuracy\s+of (0\.\d+)"), abs=0.02)


# --- slim ---


def test_a_slim_checkpoint_is_fine_tuned_in_two_stages(capsys):
    arrays, channels = {}, 3
    widths = {"1_1": 64, "2_1": 128, "3_1": 256, "3_2": 256, "4_1": 512, "4_2": 512, "5_1": 512, "5_2": 512}
    for layer, width in widths.items():
        scope = f"vgg_a/conv{layer[0]}/conv{layer}"
        arrays |= {f"{scope}/weights": drawn(3, 3, channels, width), f"{scope}/biases": np.zeros(width, np.float32)}
        channels = width
    arrays["vgg_a/conv1/conv1_1/weights"] /= 64  # which takes pixels of some hundreds
    with tf.Graph().as_default(), tf.Session() as sess:
        variables = [tf.get_variable(name, initializer=array) for name, array in arrays.items()]
        step = tf.train.create_global_step()
        sess.run(tf.global_variables_initializer())
        tf.train.Saver([*variables, step]).save(sess, "vgg_a.ckpt", write_meta_graph=False)
    pictures("photos", each=10)
    run("slim", "--checkpoint_path=vgg_a.ckpt", "--dataset_dir=photos", "--endpoint=pool5", "--image_size=32",
        "--epochs=4", "--unfreeze=3", "--batch_size=6", "--learning_rate=0.01")  # fmt: skip
    output = capsys.readouterr().out
    assert "it holds 16 of the 22 variables of vgg11" in output
    assert float(re.findall(r"accuracy (\d\.\d+)", output)[-1]) >= 0.6
    ours = {
        re.sub("vgg_a/conv./", "", name).replace("weights", "kernel").replace("biases", "bias"): array
        for name, array in arrays.items()
    }
    last = tf.train.latest_checkpoint("runs/slim")
    assert_holds(last, {name: array for name, array in ours.items() if "conv5" not in name})
    assert not np.array_equal(tf.train.load_checkpoint(last).get_tensor("conv5_2/kernel"), ours["conv5_2/kernel"])


# --- retrain.py and TensorFlow Hub ---


def inception(kernel: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    """Build a small network with the names at the end of retrain.py's Inception."""
    variable = tf.get_variable("conv/conv2d_params", initializer=kernel)
    x = tf.nn.relu(tf.nn.conv2d(x, variable, [1, 2, 2, 1], "SAME"))
    pool = tf.nn.avg_pool2d(x, [1, 16, 16, 1], [1, 1, 1, 1], "VALID", name="pool_3")
    return tf.reshape(pool, [-1, kernel.shape[-1]], name="pool_3/_reshape")


def write_graph(kernel: np.ndarray) -> list[str]:
    """Write a frozen graph that takes one JPEG, and return the flags for it."""
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        picture = tf.image.decode_jpeg(tf.placeholder(tf.string, [], "DecodeJpeg/contents"), 3, name="DecodeJpeg")
        resized = tf.image.resize_bilinear(tf.expand_dims(tf.cast(picture, tf.float32), 0), [32, 32])
        inception(kernel, tf.multiply(resized - 128.0, 1 / 128, name="Mul"))
        sess.run(tf.global_variables_initializer())
        frozen = tf.graph_util.convert_variables_to_constants(sess, graph.as_graph_def(), ["pool_3/_reshape"])
    Path("graph.pb").write_bytes(frozen.SerializeToString())
    return ["--graph=graph.pb", "--saved_model_dir=served"]


def write_module(kernel: np.ndarray) -> list[str]:
    """Write a module as TensorFlow Hub had them for TensorFlow 1, and return the flags for it."""
    builder = tf.saved_model.Builder("module")
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [None, 32, 32, 3], "hub_input/images")
        signature = tf.saved_model.predict_signature_def({"images": images}, {"default": inception(kernel, images)})
        sess.run(tf.global_variables_initializer())
        builder.add_meta_graph_and_variables(sess, [], signature_def_map={"image_feature_vector": signature})
    builder.save()
    Path("module/tfhub_module.pb").write_bytes(b"\x08\x03")
    return ["--graph=module", "--input=", "--bottleneck=", "--mean=0", f"--scale={1 / 255}"]


@pytest.mark.parametrize("write", [write_graph, write_module])
def test_a_frozen_graph_and_a_hub_module_get_a_new_last_layer(write, capsys):
    kernel = drawn(3, 3, 3, 16)
    words = write(kernel)
    pictures("photos")
    run("retrain_and_hub", *words, "--image_dir=photos", "--image_size=32", "--learning_rate=0.5", "--epochs=20",
        "--train_batch_size=12")  # fmt: skip
    assert accuracy(capsys) >= 0.8
    assert_holds(tf.train.latest_checkpoint("runs/retrain"), {"conv/conv2d_params": kernel})
    if write is write_graph:
        served = tf.compat.v2.saved_model.load("served").signatures["serving_default"]
        assert served.structured_input_signature[1]


# --- Keras ---


def top_model(shape: tuple[int, ...]) -> keras.Model:
    """Build the blog's head in Keras, with the names that the file has, and load the file by name."""
    layers = [
        keras.Input(shape),
        keras.layers.Flatten(),
        keras.layers.Dense(256, activation="relu", name="fc1"),
        keras.layers.Dense(1, activation="sigmoid", name="logits"),
    ]
    model = keras.Sequential(layers)
    model.load_weights("bottleneck_fc_model.h5", by_name=True)
    return model


def test_bottleneck_features_of_the_blog_train_a_head_that_keras_loads(capsys):
    for name, half in (("train", 40), ("validation", 10)):
        x = GENERATOR.random((2 * half, 2, 2, 8), np.float32)
        x[:half, ..., 0] += 5  # the first half are cats
        np.save(f"bottleneck_features_{name}.npy", x)
    run("keras_bottleneck", "--epochs=10")
    ours = accuracy(capsys)
    assert ours >= 0.9
    said = top_model((2, 2, 8)).predict_on_batch(x).ravel() > 0.5
    assert np.mean(said == np.repeat([False, True], 10)) == pytest.approx(ours)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning", "ignore::UserWarning")
def test_features_of_a_keras_h5_are_those_of_keras():
    keras.utils.clear_session()
    model = application("MobileNet", 32, classes=7)
    save_weights_as_keras_2(model, "mobilenet.h5")
    for split, each in (("train", 20), ("validation", 5)):
        pictures(f"data/{split}", each, ("grass", "rose"))
    run("keras_bottleneck", "--weights=mobilenet.h5", "--image_size=32", "--epochs=1", "--class_names=grass,rose")
    files = sorted(Path("data/validation").rglob("*.png"))
    images = np.stack([np.asarray(Image.open(file), np.float32) for file in files])
    body = keras.Model(model.inputs, model.get_layer("conv_pw_13_relu").output)
    expected = np.asarray(body(keras.applications.mobilenet.preprocess_input(images)))
    codes = np.load("bottleneck_features_validation.npy")
    np.testing.assert_allclose(codes, expected, rtol=1e-3, atol=1e-4)
    labels = np.load("bottleneck_features_validation_labels.npy")
    assert labels.tolist() == [["grass", "rose"].index(file.parent.name) for file in files]
    with h5py.File("bottleneck_fc_model.h5") as file:
        assert set(file.attrs["layer_names"]) == {b"fc1", b"logits"}


@pytest.mark.slow
def test_cats_and_dogs_by_a_real_mobilenet_are_as_accurate_as_the_page_says(real_data, capsys):
    for kind in ("cat", "dog"):
        for number in range(300):
            to = Path("data", "train" if number < 240 else "validation", f"{kind}s")
            to.mkdir(parents=True, exist_ok=True)
            (to / f"{number}.jpg").symlink_to(real_data(f"cats_dogs/train/{kind}.{number}.jpg"))
    run("keras_bottleneck", f"--weights={real_data('weights/mobilenet_7_5_224_tf.h5')}")
    assert accuracy(capsys) == pytest.approx(stated("keras", r"accuracy\s+of (0\.\d+)"), abs=0.03)


# --- tensorpack ---


def test_a_tensorpack_dump_is_restored_with_its_moving_averages(capsys):
    dump, ours, channels = {}, {}, 1
    for layer in ("conv0", "conv1", "conv2", "conv3"):
        for theirs, name, array in (
            ("W", "kernel", drawn(3, 3, channels, 32)),
            ("bn/gamma", "bn/gamma", GENERATOR.uniform(0.5, 1.5, 32)),
            ("bn/beta", "bn/beta", GENERATOR.normal(0, 0.1, 32)),
            ("bn/mean/EMA", "bn/moving_mean", GENERATOR.normal(0, 0.1, 32)),
            ("bn/variance/EMA", "bn/moving_variance", GENERATOR.uniform(0.5, 1.5, 32)),
        ):
            dump[f"{layer}/{theirs}:0"] = ours[f"{layer}/{name}"] = array.astype(np.float32)
        channels = 32
    dump |= {"fc0/W:0": drawn(288, 512), "fc0/b:0": drawn(512)}
    np.savez_compressed("mnist-convnet.npz", **dump)
    run("tensorpack", "--load=mnist-convnet.npz", "--max_epoch=3")
    output = capsys.readouterr().out
    assert float(re.search(r"test error (\S+)", output)[1]) <= 0.3
    assert "restore plan: 20 of 24 variables" in output
    assert_holds(tf.train.latest_checkpoint("train_log/mnist-convnet"), ours)


# --- PyTorch ---


# Of torchvision's networks, by our names, a convolution that stays and one that is trained: theirs and its norm's.
RESNET = {"stem": ("conv1", "bn1"), "block4_2/conv2": ("layer4.1.conv2", "layer4.1.bn2")}
VGG = {"conv1_1": ("features.0", "features.1"), "conv5_2": ("features.25", "features.26")}


@pytest.mark.parametrize(
    ("model", "endpoint", "layers"),
    [("vgg11_bn", "pool5", VGG), pytest.param("resnet18", "pool", RESNET, marks=pytest.mark.slow)],
)
def test_a_file_of_torchvision_is_fine_tuned_and_what_is_frozen_does_not_move(model, endpoint, layers, capsys):
    source = named(MODELS[model].sources, f"{model}_torchvision")
    without_large = [rule for rule in source.renames if not re.match(r"classifier\\.[03]", rule[0])]
    arrays = random_arrays(dataclasses.replace(source, renames=without_large), classes=2)
    saved = Saved()
    saved.archive(Path("network.pth"), {name: saved.tensor(array) for name, array in arrays.items()})
    for split, each in (("train", 12), ("val", 4)):
        pictures(f"data/{split}", each)
    still, trained = layers
    run("pytorch", "--weights=network.pth", "--data_dir=data", "--image_size=32", "--epochs=2", "--unfreeze_epoch=1",
        f"--endpoint={endpoint}", f"--unfreeze={trained}.*", "--batch_size=12")  # fmt: skip
    assert "variables are frozen and unchanged" in capsys.readouterr().out
    before = {}
    for ours, (convolution, norm) in layers.items():
        before[f"{ours}/kernel"] = arrays[f"{convolution}.weight"].transpose(2, 3, 1, 0)
        before[f"{ours}_bn/moving_mean"] = arrays[f"{norm}.running_mean"]
    last = tf.train.latest_checkpoint("runs/pytorch")
    assert_holds(last, {name: array for name, array in before.items() if name.startswith(still)})
    reader = tf.train.load_checkpoint(last)
    for name in (f"{trained}/kernel", f"{trained}_bn/moving_mean"):
        assert not np.array_equal(reader.get_tensor(name), before[name])


@pytest.mark.slow
def test_the_real_efficientnet_of_pytorch_tells_flowers_apart(real_data, capsys):
    weights, flowers = real_data("formats/efficientnet-lite0-57934424.pth"), real_data("flowers")
    run("pytorch", f"--weights={weights}", f"--data_dir={flowers}", "--unfreeze=head.*", "--epochs=10",
        "--learning_rate=0.01")  # fmt: skip
    assert accuracy(capsys) == pytest.approx(stated("pytorch", r"accuracy\s+of (0\.\d+)"), abs=0.05)


# --- the pages ---


def test_no_script_hides_a_module_from_the_others():
    # `python examples/coming_from/NAME.py` puts this folder first on the path.
    others = {"absl", "keras", "numpy", "tensorboard", "tensorflow", "tfxfer", "torch"}
    assert set(SCRIPTS).isdisjoint(sys.stdlib_module_names | others)


def test_the_scripts_are_short_enough_to_be_read():
    lines = {name: path.read_text().count("\n") for name, path in SCRIPTS.items()}
    assert max(lines.values()) < 80, lines


def test_every_script_stands_whole_on_one_page():
    included = [line for page in PAGES for line in re.findall(r'^--8<-- "(.*)"$', page.read_text(), re.MULTILINE)]
    assert sorted(included) == sorted(f"examples/coming_from/{path.name}" for path in SCRIPTS.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_is_a_fragment_with_its_reason_or_a_script_that_runs(page):
    text = page.read_text()
    blocks = re.findall(r"([^\n]*)\n```(\w+)\n(.*?)\n```\n", text, re.DOTALL)
    assert blocks
    for before, _, block in blocks:
        assert re.search(r"<!-- fragment: .+ -->$", before) or block.startswith('--8<-- "examples/'), block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_names_a_script_and_flags_that_exist(page):
    lines = page.read_text().replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("python examples/")]
    assert commands
    for _, script, *words in commands:
        defined = re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', (ROOT / script).read_text())
        assert {word.removeprefix("--").partition("=")[0] for word in words} <= set(defined)


def spans() -> list[tuple[str, str]]:
    """List what stands between backquotes, outside of blocks, with its page."""
    texts = {page.name: re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE) for page in PAGES}
    return [(name, span) for name, text in texts.items() for span in re.findall(r"`([^`\n]+)`", text)]


def of_tfxfer(node: ast.expr) -> object:
    """Return what a dotted name stands for, None where it is not one of tfxfer's."""
    parts = ast.unparse(node).split(".")
    if parts[0] not in ("tx", "layers") or not all(map(str.isidentifier, parts)):
        return None
    return functools.reduce(getattr, parts[1:], tx if parts[0] == "tx" else tx.graph.layers)


def test_every_function_and_option_of_tfxfer_that_a_page_names_exists():
    checked = 0
    for page, span in spans():
        code = span.removeprefix("with ").removesuffix(" as sess:").replace(", ...)", ")")
        if not re.search(r"\b(tx|layers)\.", code):
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute):
                of_tfxfer(node)
            if isinstance(node, ast.Call) and callable(function := of_tfxfer(node.func)):
                taken = inspect.signature(function).parameters
                others = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
                assert others or {keyword.arg for keyword in node.keywords} <= set(taken), f"{page}: {span}"
                checked += 1
    assert checked > 80


def test_every_tool_and_flag_that_a_page_names_exists():
    tools = {path.stem: path for path in (ROOT / "tools").glob("[a-z]*.py")}
    commands = [(page, span.split()) for page, span in spans() if span.startswith("tfxfer ")]
    assert {words[1] for _, words in commands} <= set(tools)
    for page, words in commands:
        known = set(importlib.import_module(f"tfxfer.tools.{words[1]}").define_flags())
        given = {word.removeprefix("--").partition("=")[0] for word in words[2:] if word.startswith("--")}
        assert given <= known, (page, words)
