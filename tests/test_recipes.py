"""The commands of docs/recipes.md, as they stand there, on the real data; and the whole way on pictures made here."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import tfxfer as tx
from tests.networks.made import write_frozen
from tests.tools.test_predict import COLOURS, coloured, run
from tfxfer.runs.settings import read_settings
from tfxfer.tools import _main, convert_weights, evaluate, extract, predict, train

RECIPES = (Path(__file__).resolve().parent.parent / "docs" / "recipes.md").read_text()
# What the names in the commands are, in the real data.
PLACES = {
    "squeezenet1_0.npz": "weights/squeezenet1_0.npz",
    "vgg16_blocks1-3.npz": "weights/vgg16_blocks1-3.npz",
    "vgg16_convolutions.npz": "weights/vgg16_convolutions.npz",
    "mobilenet_7_5_224_tf.h5": "weights/mobilenet_7_5_224_tf.h5",
    "flowers": "flowers",
    "cats_dogs": "cats_dogs/train",
    "photographs": "imagenet/pictures",
    "imagenet_class_index.json": "imagenet/imagenet_class_index.json",
    "MNIST_data": "mnist",
}


def commands(recipe: str) -> list[list[str]]:
    """Return the words of each command under a heading."""
    [section] = re.findall(rf"^## {recipe}.*?\n(.*?)(?=^## |\Z)", RECIPES, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"(?:^ {4}.*\n)+", section, re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def of_tool(recipe: str, tool: str) -> list[list[str]]:
    return [words[words.index("tfxfer") :] for words in commands(recipe) if tool in words]


@pytest.fixture(scope="module")
def kitchen(real_data, tmp_path_factory) -> Path:
    """A folder in which everything has the name that it has in the commands."""
    folder = tmp_path_factory.mktemp("kitchen")
    for name, place in PLACES.items():
        (folder / name).symlink_to(real_data(place))
    return folder


@pytest.fixture(autouse=True)
def there(request, monkeypatch):
    if "kitchen" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("kitchen"))


def accuracy(capsys, words: list[str], *more: str) -> float:
    """Run a training and return the test accuracy that it ends with."""
    assert _main.main([*words, *more]) == 0
    return float(re.search(r"^test accuracy (\S+)$", capsys.readouterr().out, re.MULTILINE)[1])


def stated(pattern: str) -> float:
    return float(re.search(pattern, RECIPES)[1])


def listings() -> None:
    """Do what recipe 2 does before it trains."""
    for words in of_tool("2", "make_listing"):
        assert _main.main([*words, "--overwrite"]) == 0
    folder = Path("listings")
    (folder / "all.txt").write_text((folder / "train.txt").read_text() + (folder / "val.txt").read_text())


# --- on the real data ---


@pytest.mark.slow
def test_flowers_are_told_apart_and_predicted(kitchen, capsys):
    [training, *_] = of_tool("1", "train")
    assert accuracy(capsys, training, "--overwrite") >= 0.7
    [prediction] = of_tool("1", "predict")
    assert _main.main([*prediction, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 8
    assert Path("flowers.png").stat().st_size > 100_000


def test_the_classes_of_photographs_are_printed(kitchen, capsys):
    [prediction, *_] = of_tool("4", "predict")
    assert _main.main(prediction) == 0
    out = capsys.readouterr().out
    assert re.search(r"tfjs_dog\.jpg +Labrador retriever +0\.9", out)
    assert len(out.splitlines()) == 1 + 8 * 5


@pytest.mark.slow
def test_mobilenet_names_the_classes_of_photographs_too(kitchen, capsys):
    prediction = next(words for words in of_tool("4", "predict") if "--model=MobileNet" in words)
    assert _main.main(prediction) == 0
    assert re.search(r"tfjs_dog\.jpg +Labrador retriever +0\.[5-9]", capsys.readouterr().out)


def test_vgg16_takes_two_classes_restores_its_convolutions_and_trains_three_layers(kitchen, capsys):
    listings()
    [training] = of_tool("3", "train")
    words = training[: training.index(">")]
    assert _main.main([*words, "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "restore plan: 26 of 32 variables from vgg16_convolutions.npz" in said
    assert "trained: fc6/kernel, fc6/bias, fc7/kernel, fc7/bias, fc8/kernel, fc8/bias" in said


@pytest.mark.slow
def test_ten_splits_of_flowers_have_the_mean_that_is_stated(kitchen, capsys):
    [training, *_] = of_tool("1", "train")
    found = [accuracy(capsys, training, f"--seed={seed}", "--overwrite") for seed in range(10)]
    assert np.mean(found) >= 0.77
    assert np.mean(found) == pytest.approx(stated(r"`9` \| (0\.\d+)"), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["150", "227"])
def test_ten_splits_of_cats_and_dogs_have_the_mean_that_is_stated(kitchen, capsys, size):
    listings()
    [training, *_] = of_tool("2", "train")
    more = [f"--image_size={size}", "--overwrite"]
    found = [accuracy(capsys, training, f"--seed={seed}", *more) for seed in range(10)]
    assert np.mean(found) >= 0.94
    assert np.mean(found) == pytest.approx(stated(rf"\| {size}x{size}.*? \| (0\.\d+)"), abs=0.02)


def with_endpoint(recipe: str, endpoint: str) -> list[str]:
    """Return the first training of a recipe that puts a head on an endpoint."""
    return next(words for words in of_tool(recipe, "train") if f"--endpoint={endpoint}" in words)


@pytest.mark.slow
def test_flowers_by_vgg16_have_the_mean_that_is_stated(kitchen, capsys):
    training = with_endpoint("1", "pool5:mean")
    accuracies = [accuracy(capsys, training, f"--seed={seed}", "--overwrite") for seed in range(5)]
    assert np.mean(accuracies) == pytest.approx(stated(r"`pool5:mean` \| (0\.\d+)"), abs=0.02)


@pytest.mark.slow
def test_bottleneck_features_of_vgg16_have_the_mean_that_is_stated(kitchen, capsys):
    listings()
    training = with_endpoint("2", "pool5")
    accuracies = [accuracy(capsys, training, f"--seed={seed}", "--overwrite") for seed in range(5)]
    assert np.mean(accuracies) == pytest.approx(stated(r"`pool5` of 150x150 \| (0\.\d+)"), abs=0.02)


def test_cats_and_dogs_leave_curves_and_a_head_as_h5(kitchen, capsys):
    listings()
    [training, *_] = of_tool("2", "train")
    assert accuracy(capsys, training, "--epochs=3", "--overwrite") >= 0.85
    assert Path("curves.png").stat().st_size > 10_000
    [conversion] = of_tool("2", "convert_weights")
    assert _main.main([*conversion, "--overwrite"]) == 0
    head = tx.open_weights("head.h5")
    assert {name: head.shape(name) for name in head} == {
        "fc1/kernel": (512, 256),
        "fc1/bias": (256,),
        "logits/kernel": (256, 1),
        "logits/bias": (1,),
    }


@pytest.mark.slow
def test_restored_convolutions_of_vgg16_beat_random_ones(kitchen, capsys):
    restored, random = (words for words in of_tool("1", "train") if "--endpoint=pool3:mean" in words)
    margins = [
        accuracy(capsys, restored, f"--seed={seed}", "--overwrite")
        - accuracy(capsys, random, f"--seed={seed}", "--overwrite")
        for seed in range(5)
    ]
    assert np.mean(margins) == pytest.approx(stated(r"that is (0\.\d+) \+-"), abs=0.04)


# --- on pictures made here ---


@pytest.fixture
def pictures(tmp_path) -> Path:
    return coloured(tmp_path / "pictures")


def test_train_evaluate_predict_and_extract_end_to_end(pictures, tmp_path, capsys):
    flags = ["--model=squeezenet1_1", "--restore=none", "--image_size=64", "--dataset=folder", f"--data_dir={pictures}",
             f"--store={tmp_path / 'store'}"]  # fmt: skip
    run_of = tmp_path / "run"
    training = [*flags, "--endpoint=fire3:mean", "--hidden=16", "--unfreeze=2:fire3/.*=0.1", "--learning_rate=0.01",
                "--batch_size=12", f"--logdir={run_of}"]  # fmt: skip
    assert run(train, *training, "--epochs=3") == 0
    assert "set aside" not in capsys.readouterr().out
    assert run(train, *training, "--epochs=5") == 0  # goes on, with more unfrozen than at first
    said = capsys.readouterr().out
    found = float(re.search(r"test accuracy (\S+)", said)[1])
    assert found >= 0.8
    assert "epoch 3/" not in said
    assert read_settings(run_of).fit["epochs"] == 5
    assert run(evaluate, run_of, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["accuracy"], result["class_names"]) == (pytest.approx(found, abs=1e-4), list(COLOURS))
    assert run(predict, pictures, f"--run={run_of}", "--json") == 0
    predicted = json.loads(capsys.readouterr().out)["predictions"]
    right = [Path(one["path"]).parent.name == one["top"][0]["name"] for one in predicted]
    assert (len(right), np.mean(right) >= 0.8) == (60, True)
    given = [f"--weights={run_of / 'best'}", "--model=squeezenet1_1", "--endpoint=fire3:mean", "--dataset=folder"]
    assert run(extract, tmp_path / "codes", *given, f"--data_dir={pictures}") == 0
    assert np.load(tmp_path / "codes/codes.npy").shape == (60, 128)


def test_the_models_own_classifier_is_made_for_the_classes_at_hand(pictures, tmp_path, capsys):
    flags = ["--model=squeezenet1_1", "--restore=none", "--image_size=64", "--dataset=folder", f"--data_dir={pictures}",
             "--endpoint=pool10", "--dropout=0.5", f"--store={tmp_path / 'store'}", "--epochs=2"]  # fmt: skip
    assert run(train, *flags, f"--logdir={tmp_path / 'run'}") == 0
    assert "trained: conv10/kernel, conv10/bias" in capsys.readouterr().out
    assert tx.open_weights(tmp_path / "run").shape("conv10/kernel") == (1, 1, 512, 3)
    assert run(evaluate, tmp_path / "run") == 0
    capsys.readouterr()
    [first, *_] = sorted(pictures.rglob("*.png"))
    # As a run, and as weights of a model with a classifier of its own, whose names are beside them; in two files.
    assert run(convert_weights, tmp_path / "run/best", tmp_path / "run.npz", "--drop_slots") == 0
    weights = [tmp_path / "run" / "best", tmp_path / "run.npz"]
    given = [[f"--run={tmp_path / 'run'}"], *(["--model=squeezenet1_1", f"--weights={path}"] for path in weights)]
    capsys.readouterr()
    said = []
    for each in given:
        assert run(predict, first, *each, "--json") == 0
        said.append(json.loads(capsys.readouterr().out)["predictions"][0]["top"])
    assert [row["name"] for row in said[0]] == [row["name"] for row in said[1]]
    assert said[1] == said[2]
    assert {row["name"] for row in said[0]} == set(COLOURS)


def test_a_frozen_graph_is_trained_on_by_the_commands_of_its_recipe(tmp_path, monkeypatch, capsys):
    coloured(tmp_path / "flowers")
    (tmp_path / "photographs").symlink_to(tmp_path / "flowers/rose")
    monkeypatch.chdir(tmp_path)
    write_frozen("frozen.pb")
    [training, *others] = [words for words in commands("6") if words[0] == "tfxfer"]
    assert _main.main(training) == 0
    Path("frozen.pb").unlink()
    for words in others:
        assert _main.main(words) == 0
    assert re.search(r"test accuracy [01]\.", capsys.readouterr().out)


@pytest.mark.parametrize(("more", "error"), [
    (["--endpoint=pool5"], None),
    (["--endpoint=fc6"], r"GraphError: squeezenet1_1 has no endpoint 'fc6'.*; it has input, conv1"),
    (["--endpoint=fire2:max"], "has no endpoint 'max'; it has mean"),
    (["--endpoint=input"], None),
    (["--data_dir=nowhere"], r"DataError: \S*/nowhere is not there"),
    (["--weights={digits}", "--restore=.*"], "is none of the .* sources that are known"),
    (["--unfreeze=1:conv9/.*=0.1"], r"SelectionError: .*conv9"),
    (["--train=conv1/.*,fire2/.*", "--endpoint=fire2:mean", "--store={tmp}/store"], "nothing is frozen"),
])  # fmt: skip
def test_training_on_pictures_refuses_what_cannot_be_done(pictures, tmp_path, capsys, more, error):
    places = {"tmp": tmp_path, "digits": Path(__file__).resolve().parent.parent / "checkpoints/digits_autoencoder"}
    flags = ["--model=squeezenet1_1", "--restore=none", "--image_size=64", "--dataset=folder", f"--data_dir={pictures}",
             "--hidden=none", "--epochs=1"]  # fmt: skip
    status = run(train, *flags, *(each.format(**places) for each in more), f"--logdir={tmp_path / 'run'}")
    said = capsys.readouterr().err
    assert status == (1 if error else 0), said
    assert re.search(error or "", said, re.DOTALL), said
    assert "Traceback" not in said
    assert not error or not os.path.exists(tmp_path / "run")
