"""The scripts of examples/, run as users run them: on small files made here; with --slow whole, on the real data."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import flags
from PIL import Image

import tfxfer as tx
from tests.test_code_blocks import vgg16_weights
from tests.tools.test_predict import COLOURS, coloured
from tfxfer.tools import _main

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
PAGE = ROOT / "docs" / "examples.md"
MEASURED = re.compile(r"[01]\.\d+ \+- 0\.\d+")


def run(capsys, script: str, *arguments: str) -> str:
    """Run a script in this process, where its flags stay its own, and return what it prints."""
    before = set(flags.FLAGS)
    spec = importlib.util.spec_from_file_location(f"example_{script}", EXAMPLES / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        flags.FLAGS([script, *arguments])
        capsys.readouterr()
        module.main([script])
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    return capsys.readouterr().out


def accuracy(output: str) -> float:
    return float(re.search(r"^(?:test|validation) accuracy (\S+)$", output, re.MULTILINE)[1])


def head(script: str) -> str:
    return ast.get_docstring(ast.parse((EXAMPLES / f"{script}.py").read_text("utf-8")))


def commands(script: str) -> list[str]:
    """Return the lines of a head that are commands."""
    return [line.strip() for line in head(script).splitlines() if line.startswith("    ")]


def arguments(script: str) -> list[str]:
    """Return the flags of the first command that runs the script."""
    command = next(line for line in commands(script) if f"python examples/{script}.py" in line)
    return [word for word in command.split() if word.startswith("--")]


def section(script: str) -> str:
    """Return what the page says of a script."""
    sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    [text] = [text for text in sections if f'--8<-- "examples/{script}.py"' in text]
    return text


# --- what they look like ---


def test_each_script_has_less_than_80_lines():
    lengths = {script: (EXAMPLES / f"{script}.py").read_text("utf-8").count("\n") for script in SCRIPTS}
    assert {script: length for script, length in lengths.items() if length >= 80} == {}
    assert len(lengths) == 6


@pytest.mark.parametrize("script", SCRIPTS)
def test_its_head_gives_the_command_what_it_needs_and_what_was_measured(script):
    source = (EXAMPLES / f"{script}.py").read_text("utf-8")
    used = {word.partition("=")[0] for word in arguments(script)}
    assert used
    assert used <= {f"--{name}" for name in re.findall(r"DEFINE_\w+\(\"(\w+)\"", source)}
    assert "It needs" in " ".join(head(script).split())
    assert MEASURED.search(head(script))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_page_has_the_script_whole_with_its_commands_and_its_numbers(script):
    shown = section(script)
    [block] = re.findall(r"^```bash\n(.*?)^```", shown, re.DOTALL | re.MULTILINE)
    assert block.splitlines() == commands(script)
    assert set(MEASURED.findall(shown)) == set(MEASURED.findall(head(script)))


def test_every_flag_says_what_it_is():
    helps = [
        node.args[2].value
        for script in SCRIPTS
        for node in ast.walk(ast.parse((EXAMPLES / f"{script}.py").read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("flags.DEFINE_")
    ]
    assert len(helps) >= 30
    assert all(text.endswith(".") for text in helps)


# --- on files made here ---


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def random_vgg16(tmp_path_factory) -> Path:
    """A folder with convolutions of VGG16 drawn at random, whose input spec asks for pictures of 32x32."""
    folder = tmp_path_factory.mktemp("vgg16")
    vgg16_weights(folder)
    spec = tx.InputSpec("vgg16", "drawn at random", (32, 32), "RGB", mean=(124, 117, 104), scale=(1, 1, 1))
    spec.save(folder / "vgg16_weights.npz")
    return folder


@pytest.fixture
def vgg16(random_vgg16, place) -> None:
    """The same under the name that it has in the commands."""
    for path in random_vgg16.iterdir():
        (place / path.name).symlink_to(path)


def cats_and_dogs(folder: Path, each: int = 10) -> None:
    """Write pictures whose names begin with their class, brown cats and grey dogs."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, colour in (("cat", (150, 90, 30)), ("dog", (60, 60, 90))):
        for number in range(each):
            pixels = np.clip(generator.normal(colour, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.{number}.jpg")


def test_flowers_are_told_apart_by_stored_codes_and_a_picture_is_named(place, vgg16, capsys):
    coloured(place / "flower_photos", each=10)
    Path("rose.jpg").symlink_to("flower_photos/rose/3.png")
    said = run(capsys, "flowers_vgg16", *arguments("flowers_vgg16"))
    assert accuracy(said) >= 2 / 3
    rows = dict(re.findall(r"^(.+?) +(\d\.\d+)$", said.partition("\n")[2], re.MULTILINE))
    assert set(rows) == set(COLOURS)
    assert sum(map(float, rows.values())) == pytest.approx(1, abs=2e-3)
    assert tx.open_run("runs/flowers_vgg16").history[-1]["epoch"] == 20
    [table] = Path("store").glob("*/about.json")
    before = sorted(table.parent.iterdir())
    run(capsys, "flowers_vgg16", "--logdir=again", "--seed=1", "--epochs=1")
    assert sorted(table.parent.iterdir()) == before


def test_bottleneck_features_are_written_once_and_read_again(place, vgg16, capsys):
    cats_and_dogs(place / "cats_dogs/train")
    said = run(capsys, "bottleneck_cats_dogs", *arguments("bottleneck_cats_dogs"), "--epochs=5")
    assert 0 <= accuracy(said) <= 1
    features = np.load("bottleneck_features.npy")
    assert (features.shape, features.dtype) == ((20, 4, 4, 512), np.float32)
    with Image.open("curves.png") as curves:
        assert curves.size[0] > 600
    assert run(capsys, "bottleneck_cats_dogs", "--weights=gone.npz", "--epochs=5", "--logdir=again") == said


def write_legacy_keras(path: Path) -> dict[str, np.ndarray]:
    """Write the layers of the autoencoder, drawn at random, as Keras 0.x has them."""
    import h5py

    shapes = {0: (8, 1, 4, 4), 2: (8, 8, 4, 4), 5: (16, 8, 4, 4), 7: (16, 16, 4, 4), 9: (16, 16, 4, 4), 12: (64, 200)}
    generator, kernels = np.random.default_rng(0), {}
    with h5py.File(path, "w") as file:
        file.attrs["nb_layers"] = 13
        for layer in range(13):
            group = file.create_group(f"layer_{layer}")
            group.attrs["nb_params"] = 2 if layer in shapes else 0
            if layer in shapes:
                fan = np.prod(shapes[layer][1:]) if layer < 12 else 64
                kernel = generator.normal(0, np.sqrt(2 / fan), shapes[layer]).astype(np.float32)
                group["param_0"] = kernels[f"layer_{layer}"] = kernel
                group["param_1"] = np.zeros(shapes[layer][0] if layer < 12 else 200, np.float32)
    return kernels


def test_a_legacy_file_of_keras_is_restored_layer_by_layer_and_the_head_is_saved(place, capsys):
    kernels = write_legacy_keras(place / "keras0_autoencoder.h5")
    said = run(capsys, "legacy_keras_h5", "--epochs=5")
    assert "restore plan: 12 of 16 variables from keras0_autoencoder.h5" in said
    assert accuracy(said) >= 0.6
    head_of_run = tx.open_weights("head.h5")
    assert {name: head_of_run.shape(name) for name in head_of_run} == {
        "fc1/kernel": (200, 256), "fc1/bias": (256,), "logits/kernel": (256, 10), "logits/bias": (10,),
    }  # fmt: skip
    kernel = tx.open_weights("runs/legacy_keras")["conv3/kernel"]
    np.testing.assert_array_equal(kernel[1, 2, 5, 7], kernels["layer_5"][7, 5, 3 - 1, 3 - 2])


def test_the_loop_of_ones_own_keeps_the_convolutions_and_saves_each_epoch(place, capsys):
    weights = ROOT / "checkpoints" / "digits_autoencoder"
    said = run(capsys, "mnist_from_autoencoder", f"--weights={weights}", "--epochs=10", "--logdir=run")
    assert "restore plan: 4 of 8 variables" in said
    assert "convolutions unchanged: True" in said
    assert accuracy(said) >= 0.9
    assert len(list(Path("run").glob("model.ckpt-*.index"))) == 10
    source, ended = tx.open_weights(weights), tx.open_weights("run/model.ckpt-10")
    assert all(np.array_equal(ended[name], source[name]) for name in source)
    [events] = Path("run").glob("events.*")
    tags = {value.tag for event in tf.train.summary_iterator(str(events)) for value in event.summary.value}
    assert {"loss", "input/image/0"} <= tags


@pytest.mark.slow
def test_cats_and_dogs_are_trained_under_nohup_resumed_and_told_apart(place, vgg16, capsys):
    cats_and_dogs(place / "cats_dogs/train")
    Path("photo.jpg").symlink_to("cats_dogs/train/dog.3.jpg")
    listing, training, _, telling = commands("cats_dogs_vgg16")
    assert _main.main(listing.split()) == 0
    log = shell(training.replace(" > ", " --epochs=1 --batch_size=9 > "), "vgg16.log")
    assert "computed once, up to" in log
    assert 0 <= accuracy(log) <= 1
    said = run(capsys, "cats_dogs_vgg16", *arguments("cats_dogs_vgg16"), "--epochs=2", "--batch_size=9")
    assert 0 <= accuracy(said) <= 1
    history = tx.open_run("runs/cats_dogs_vgg16").history
    assert [row["epoch"] for row in history if row["split"] == "train"] == [1, 2]
    told = run(capsys, "cats_dogs_vgg16", *(word for word in telling.split() if word.startswith("--")))
    assert sorted(ast.literal_eval(told.strip())) == ["cat", "dog"]


def shell(command: str, log: str) -> str:
    """Run a command that goes to the background and writes a log, wait for its end, and return the log."""
    Path("examples").symlink_to(EXAMPLES)
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", f"{command} wait $!"], stdin=subprocess.DEVNULL, timeout=600, env=environment)
    text = Path(log).read_text("utf-8")
    assert done.returncode == 0, text[-3000:]
    return text


def test_a_graph_of_ones_own_is_restored_and_trained_on_what_its_frozen_layers_give(place, capsys):
    coloured(place / "flower_photos", each=10)
    spec = importlib.util.spec_from_file_location("own", EXAMPLES / "your_own_graph.py")
    before = set(flags.FLAGS)
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    with tf.Graph().as_default(), tf.Session() as sess:
        own.mobilenet(tf.placeholder(tf.uint8, [None, 224, 224, 3]), tf.placeholder(tf.bool, []))
        sess.run(tf.global_variables_initializer())
        weights = tf.train.Saver().save(sess, "mobilenet.ckpt")
    said = run(capsys, "your_own_graph", f"--weights={weights}", "--epochs=3")
    assert 0 <= accuracy(said) <= 1
    [about] = Path("store").glob("*/about.json")
    assert "Mean" in about.read_text()


# --- whole, on the real data ---


PLACES = {
    "flower_photos": "flowers",
    "rose.jpg": "flowers/roses/10090824183_d02c613f10_m.jpg",
    "cats_dogs": "cats_dogs",
    "photo.jpg": "cats_dogs/train/dog.7.jpg",
    "vgg16_weights.npz": "weights/vgg16_convolutions.npz",
    "mobilenet_7_5_224_tf.h5": "weights/mobilenet_7_5_224_tf.h5",
    "keras0_autoencoder.h5": "keras/keras0_autoencoder.h5",
    "MNIST_data": "mnist",
}


@pytest.fixture
def kitchen(real_data, place, tmp_path_factory) -> None:
    """Real files under the names that they have in the commands, and one store for all tests."""
    for name, path in PLACES.items():
        Path(name).symlink_to(real_data(path))
    store = tmp_path_factory.getbasetemp() / "store_of_examples"
    store.mkdir(exist_ok=True)
    Path("store").symlink_to(store)


def measured(capsys, script: str, seeds: int = 5) -> float:
    """Return the mean accuracy of a script over seeds, each in a run directory of its own."""
    logdirs = [[] if script == "your_own_graph" else [f"--logdir=runs/{script}/{seed}"] for seed in range(seeds)]
    each = [
        accuracy(run(capsys, script, *arguments(script), f"--seed={seed}", *logdir))
        for seed, logdir in enumerate(logdirs)
    ]
    return float(np.mean(each))


def stated(script: str) -> float:
    """Return the mean that the head of a script states."""
    return float(MEASURED.search(head(script))[0].partition(" ")[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "least"), [("flowers_vgg16", 0.8), ("bottleneck_cats_dogs", 0.95), ("your_own_graph", 0.8)]
)
def test_five_splits_of_real_pictures_have_the_accuracy_that_is_stated(kitchen, capsys, script, least):
    mean = measured(capsys, script)
    assert mean >= least
    assert mean == pytest.approx(stated(script), abs=0.02)


@pytest.mark.slow
def test_new_layers_of_vgg16_tell_real_cats_and_dogs_apart(kitchen, capsys):
    listing, *_, telling = commands("cats_dogs_vgg16")
    assert _main.main(listing.split()) == 0
    assert accuracy(run(capsys, "cats_dogs_vgg16", *arguments("cats_dogs_vgg16"))) >= 0.95
    told = run(capsys, "cats_dogs_vgg16", *(word for word in telling.split() if word.startswith("--")))
    assert ast.literal_eval(told.strip()) == ["dog", "cat"]


@pytest.mark.slow
def test_real_digits_have_the_accuracy_that_is_stated(kitchen, capsys):
    assert _main.main(commands("mnist_from_autoencoder")[0].split()) == 0
    for script in ("mnist_from_autoencoder", "legacy_keras_h5"):
        assert measured(capsys, script, seeds=2) == pytest.approx(stated(script), abs=0.008)
