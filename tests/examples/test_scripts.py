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
from tests.test_readme import vgg16_weights
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


def command(script: str) -> str:
    """Return the first line of a head that runs the script."""
    return next(line for line in head(script).splitlines() if f"python examples/{script}.py" in line)


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
    used = set(re.findall(r"--(\w+)=", command(script)))
    assert used
    assert used <= set(re.findall(r"DEFINE_\w+\(\"(\w+)\"", source))
    assert "It needs" in " ".join(head(script).split())
    assert MEASURED.search(head(script))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_page_has_the_script_whole_with_its_command_and_its_numbers(script):
    shown = section(script)
    assert command(script).strip() in shown
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
def vgg16(tmp_path_factory) -> Path:
    """Convolutions of VGG16 drawn at random, whose input spec asks for pictures of 32x32."""
    folder = tmp_path_factory.mktemp("vgg16")
    vgg16_weights(folder)
    spec = tx.InputSpec("vgg16", "drawn at random", (32, 32), "RGB", mean=(124, 117, 104), scale=(1, 1, 1))
    spec.save(folder / "vgg16_weights.npz")
    return folder / "vgg16_weights.npz"


def cats_and_dogs(folder: Path, each: int = 20) -> None:
    """Write pictures whose names begin with their class, brown cats and grey dogs."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, colour in (("cat", (150, 90, 30)), ("dog", (60, 60, 90))):
        for number in range(each):
            pixels = np.clip(generator.normal(colour, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.{number}.jpg")


def test_flowers_are_told_apart_by_stored_codes_and_a_picture_is_named(place, vgg16, capsys):
    pictures = coloured(place / "flower_photos", each=10)
    said = run(capsys, "flowers_vgg16", f"--weights={vgg16}", f"--picture={pictures / 'rose/3.png'}")
    assert accuracy(said) >= 2 / 3
    rows = dict(re.findall(r"^(.+?) +(\d\.\d+)$", said.partition("\n")[2], re.MULTILINE))
    assert set(rows) == set(COLOURS)
    assert sum(map(float, rows.values())) == pytest.approx(1, abs=2e-3)
    [table] = Path("store").glob("*/about.json")
    assert tx.open_run("runs/flowers_vgg16").history[-1]["epoch"] == 20
    before = sorted(table.parent.iterdir())
    run(capsys, "flowers_vgg16", f"--weights={vgg16}", "--logdir=again", "--seed=1", "--epochs=1")
    assert sorted(table.parent.iterdir()) == before


def test_bottleneck_features_are_written_once_and_read_again(place, vgg16, capsys):
    cats_and_dogs(place / "cats_dogs/train")
    said = run(capsys, "bottleneck_cats_dogs", f"--weights={vgg16}", "--epochs=5")
    assert accuracy(said) >= 0.75
    features = np.load("bottleneck_features.npy")
    assert (features.shape, features.dtype) == ((40, 4, 4, 512), np.float32)
    assert Image.open("curves.png").size[0] > 600
    again = run(capsys, "bottleneck_cats_dogs", "--weights=gone.npz", "--epochs=5", "--logdir=again")
    assert again == said


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
    kernels = write_legacy_keras(place / "legacy.h5")
    said = run(capsys, "legacy_keras_h5", "--weights=legacy.h5", "--epochs=5")
    assert "restore plan: 12 of 16 variables from legacy.h5" in said
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
    assert {"loss", "images/image/0"} <= tags


def test_cats_and_dogs_are_trained_under_nohup_resumed_and_told_apart(place, vgg16, capsys):
    cats_and_dogs(place / "cats_dogs/train")
    assert _main.main(["tfxfer", "make_listing", "--labels=name", "cats_dogs/train", "listings"]) == 0
    arguments = [f"--weights={vgg16}", "--epochs=1", "--batch_size=17"]
    log = nohup("cats_dogs_vgg16", *arguments)
    assert "computed once, up to" in log
    assert accuracy(log) >= 0
    said = run(capsys, "cats_dogs_vgg16", *arguments, "--epochs=2")
    run_of = tx.open_run("runs/cats_dogs_vgg16")
    assert [row["epoch"] for row in run_of.history if row["split"] == "train"] == [1, 2]
    assert "validation accuracy" in said
    told = run(capsys, "cats_dogs_vgg16", *arguments, "--picture=cats_dogs/train/dog.3.jpg")
    assert sorted(ast.literal_eval(told.strip())) == ["cat", "dog"]


def nohup(script: str, *arguments: str) -> str:
    """Run a script in a process of its own, deaf to the end of the terminal, and return its log."""
    done = subprocess.run(
        ["nohup", sys.executable, str(EXAMPLES / f"{script}.py"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


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
        tf.train.Saver().save(sess, "mobilenet.ckpt")
    said = run(capsys, "your_own_graph", "--weights=mobilenet.ckpt", "--epochs=3")
    assert 0 <= accuracy(said) <= 1
    [about] = Path("store").glob("*/about.json")
    assert "Mean" in about.read_text()


# --- whole, on the real data ---


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """What frozen layers give, for all tests of this module."""
    return tmp_path_factory.mktemp("store")


def stated(script: str) -> float:
    """Return the mean that the head of a script states."""
    return float(MEASURED.search(head(script))[0].partition(" ")[0])


def five(capsys, script: str, *arguments: object, seeds: int = 5) -> list[float]:
    """Return the accuracies of a script for as many seeds, each in a run directory of its own."""
    return [
        accuracy(run(capsys, script, *map(str, arguments), f"--seed={seed}", f"--logdir=runs/{script}/{seed}"))
        for seed in range(seeds)
    ]


@pytest.mark.slow
def test_real_flowers_have_the_accuracy_that_is_stated(real_data, place, store, capsys):
    vgg16, picture = real_data("weights/vgg16_convolutions.npz"), real_data("flowers/roses")
    arguments = [f"--data_dir={real_data('flowers')}", f"--weights={vgg16}", f"--store={store}"]
    measured = five(capsys, "flowers_vgg16", *arguments)
    assert np.mean(measured) >= 0.82
    assert np.mean(measured) == pytest.approx(stated("flowers_vgg16"), abs=0.02)
    rose = sorted(picture.iterdir())[0]
    said = run(capsys, "flowers_vgg16", *arguments, f"--picture={rose}", "--logdir=runs/flowers_vgg16/0")
    assert len(re.findall(r"^\w+ +\d\.\d+$", said, re.MULTILINE)) == 5


@pytest.mark.slow
def test_real_cats_and_dogs_have_the_accuracy_that_is_stated_by_bottleneck_features(real_data, place, store, capsys):
    arguments = [f"--data_dir={real_data('cats_dogs/train')}", f"--store={store}"]
    arguments.append(f"--weights={real_data('weights/vgg16_convolutions.npz')}")
    measured = five(capsys, "bottleneck_cats_dogs", *arguments)
    assert np.mean(measured) >= 0.95
    assert np.mean(measured) == pytest.approx(stated("bottleneck_cats_dogs"), abs=0.02)


@pytest.mark.slow
def test_real_cats_and_dogs_have_the_accuracy_that_is_stated_by_new_layers_of_vgg16(real_data, place, store, capsys):
    pictures = real_data("cats_dogs/train")
    assert _main.main(["tfxfer", "make_listing", "--labels=name", str(pictures), "listings"]) == 0
    arguments = [f"--data_dir={pictures}", f"--weights={real_data('weights/vgg16_convolutions.npz')}"]
    arguments.append(f"--store={store}")
    [measured] = five(capsys, "cats_dogs_vgg16", *arguments, seeds=1)
    assert measured >= 0.95
    picture = f"--picture={pictures / 'dog.7.jpg'}"
    said = run(capsys, "cats_dogs_vgg16", *arguments, "--logdir=runs/cats_dogs_vgg16/0", picture)
    assert ast.literal_eval(said.strip()) == ["dog", "cat"]


@pytest.mark.slow
def test_the_encoder_of_a_real_legacy_file_has_the_accuracy_that_is_stated(real_data, place, store, capsys):
    arguments = [f"--weights={real_data('keras/keras0_autoencoder.h5')}", f"--data_dir={real_data('mnist')}"]
    measured = five(capsys, "legacy_keras_h5", *arguments, f"--store={store}", seeds=2)
    assert np.mean(measured) == pytest.approx(stated("legacy_keras_h5"), abs=0.004)


@pytest.mark.slow
def test_real_digits_have_the_accuracy_that_is_stated(real_data, place, capsys):
    mnist = real_data("mnist")
    commands = [line.split() for line in head("mnist_from_autoencoder").splitlines() if "tfxfer pretrain" in line]
    [words] = [[word.replace("MNIST_data", str(mnist)) for word in words] for words in commands]
    assert _main.main(words) == 0
    measured = five(capsys, "mnist_from_autoencoder", f"--data_dir={mnist}", seeds=2)
    assert np.mean(measured) == pytest.approx(stated("mnist_from_autoencoder"), abs=0.004)


@pytest.mark.slow
def test_real_flowers_have_the_accuracy_that_is_stated_by_a_graph_of_ones_own(real_data, place, store, capsys):
    arguments = [f"--data_dir={real_data('flowers')}", f"--weights={real_data('weights/mobilenet_7_5_224_tf.h5')}"]
    measured = [
        accuracy(run(capsys, "your_own_graph", *arguments, f"--store={store}", f"--seed={seed}")) for seed in range(5)
    ]
    assert np.mean(measured) == pytest.approx(stated("your_own_graph"), abs=0.02)
