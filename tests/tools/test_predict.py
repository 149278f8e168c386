"""tools/predict.py: a run or weights, pictures or folders, and what is said when it cannot be done."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from tfxfer.tools import _flags, predict, train

COLOURS = {"blue sky": (30, 60, 220), "grass": (40, 200, 30), "rose": (230, 30, 40)}
# The table of the photographs in the README of the real data.
PHOTOGRAPHS = {
    "MMdnn_elephant.jpg": "tusker",
    "creative_commons_elephant.jpg": "African elephant",
    "tensorflow-vgg_tiger.jpeg": "tiger",
    "tensorflow-vgg_puzzle.jpeg": "jigsaw puzzle",
    "convnets-keras_dog.jpg": "Pembroke",
    "tfjs_dog.jpg": "Labrador retriever",
    "keras-squeezenet_cat.jpeg": "tiger cat",
    "tfjs-examples_cat.jpg": "Persian cat",
}


def run(tool, *args: object) -> int:
    """Run a tool in this process, as `tfxfer NAME ARGS` does, and return its exit status."""
    return _flags.run(tool.main, [f"tfxfer {tool.__name__.rpartition('.')[2]}", *map(str, args)])


def coloured(top: Path, each: int = 20) -> Path:
    """Make a folder of pictures, a colour and a bit of noise a class."""
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (top / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.clip(generator.normal(colour, 25, (24, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(top / name / f"{number}.png")
    return top


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `pictures`, and `run`, a classifier of them on a network with random weights."""
    top = tmp_path_factory.mktemp("trained")
    flags = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=none",
             "--dataset=folder", f"--data_dir={coloured(top / 'pictures')}", "--learning_rate=0.01"]  # fmt: skip
    assert run(train, *flags, f"--logdir={top / 'run'}") == 0
    return top


def test_a_run_knows_all_that_is_needed(trained, capsys):
    pictures = [trained / f"pictures/{name}/0.png" for name in COLOURS]
    assert run(predict, *pictures, f"--run={trained / 'run'}", "--top=2", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == "squeezenet1_1"
    assert [one["path"] for one in said["predictions"]] == list(map(str, pictures))
    assert [one["top"][0]["name"] for one in said["predictions"]] == list(COLOURS)
    assert [one["top"][0]["class"] for one in said["predictions"]] == [0, 1, 2]
    first, second = (row["probability"] for row in said["predictions"][0]["top"])
    assert first + second == pytest.approx(1, abs=0.5)
    assert first > second


def test_a_photograph_is_not_drawn_over(trained, tmp_path, capsys):
    photograph = tmp_path / "rose.png"
    shutil.copy(trained / "pictures/rose/0.png", photograph)
    before = photograph.read_bytes()
    assert run(predict, photograph, f"--run={trained / 'run'}", f"--picture={photograph}") == 1
    said = capsys.readouterr()
    assert (said.out, photograph.read_bytes()) == ("", before)
    assert "rose.png exists and is not a picture that tfxfer drew; take another name, or move it away" in said.err
    for _ in range(2):
        assert run(predict, photograph, f"--run={trained / 'run'}", f"--picture={tmp_path / 'out.png'}") == 0


def test_the_table_names_every_picture_in_full_and_all_classes(trained, capsys):
    folder = trained / "pictures" / "rose"
    assert run(predict, folder, f"--run={trained / 'run'}", "--checkpoint=last") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 20 * 3
    assert re.fullmatch(rf"{re.escape(str(folder / '0.png'))} +rose +[01]\.\d{{4}} *", lines[1])
    assert {line.split()[0] for line in lines[2:4]} == {"blue", "grass"}


def test_bad_pictures_are_listed_and_the_others_predicted(trained, tmp_path, capsys):
    shutil.copy(trained / "pictures/rose/1.png", tmp_path / "good.png")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    arguments = [tmp_path, tmp_path / "absent.jpg", f"--run={trained / 'run'}"]
    assert run(predict, *arguments) == 0
    said = capsys.readouterr().out
    assert re.search(r"good\.png +rose", said)
    assert re.findall(r"set aside: \S*/(\w+)\.jpg \w+", said) == ["empty", "text", "absent"]
    assert run(predict, *arguments, "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["set_aside"]) == {
        str(tmp_path / f"{name}.jpg") for name in ("empty", "text", "absent")
    }
    (tmp_path / "good.png").unlink()
    assert run(predict, *arguments) == 1
    assert re.search(r"DataError: none of the pictures can be read:\n  .*empty\.jpg", capsys.readouterr().err)


def test_the_picture_has_a_row_for_each_photograph(trained, tmp_path):
    flags = [f"--run={trained / 'run'}", f"--picture={tmp_path / 'out.png'}"]
    assert run(predict, trained / "pictures/rose/0.png", trained / "pictures/grass/0.png", *flags) == 0
    assert imread(tmp_path / "out.png").shape == (480, 800, 4)


def test_names_may_come_from_a_file(trained, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("Himmel\nGras\nRose\n")
    flags = [f"--run={trained / 'run'}", f"--class_names={tmp_path / 'names.txt'}", "--json"]
    assert run(predict, trained / "pictures/grass/3.png", *flags) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["top"][0]["name"] == "Gras"


def test_a_run_whose_classes_are_told_apart_by_one_logit(tmp_path, capsys):
    pictures = coloured(tmp_path / "pictures")
    shutil.rmtree(pictures / "grass")
    flags = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=none",
             "--dataset=folder", f"--data_dir={pictures}", "--learning_rate=0.01", "--loss=sigmoid"]  # fmt: skip
    assert run(train, *flags, f"--logdir={tmp_path / 'run'}") == 0
    capsys.readouterr()
    assert (
        run(predict, pictures / "rose/0.png", pictures / "blue sky/0.png", f"--run={tmp_path / 'run'}", "--json") == 0
    )
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [one["top"][0]["name"] for one in found] == ["rose", "blue sky"]
    assert sum(row["probability"] for row in found[0]["top"]) == pytest.approx(1)


@pytest.mark.parametrize(("arguments", "status", "error"), [
    (["{pictures}", "--run={run}", "--weights=x.npz"], 2, "give --run, or --model and --weights"),
    (["{pictures}", "--run={run}", "--model=vgg16"], 2, "give --run, or --model and --weights"),
    ([], 2, "too few"),
    (["{pictures}", "--run={run}", "--top=0"], 2, "top"),
    (["{pictures}", "--run=nowhere"], 1, "RunError: nowhere is not there; give a run directory"),
    (["{pictures}", "--run={bare}"], 1, "RunError: .*bare has no best checkpoint; training writes one after the first"),
    (["{pictures}", "--run={bare}", "--checkpoint=last"], 1, "has no last checkpoint"),
    (["{pictures}", "--run={run}", "--class_names={two}"], 1, "two.txt has 2 names of classes, and the model has 3"),
    (["{pictures}", "--run={run}", "--class_names=nowhere"], 1, "nowhere cannot be read"),
    (["{pictures}", "--run={run}", "--picture=nowhere/x.png"], 1, "nowhere/x.png: its folder does not exist"),
    (["{bare}", "--run={run}"], 1, "DataError: .*bare has no pictures"),
    (["{pictures}", "--model=vgg16", "--weights={run}"], 1, r"is of squeezenet1_1, by the input spec beside it"),
    (["{pictures}", "--model=squeezenet1_1", "--weights={run}"], 1, "RestoreError: cannot restore"),
    (["{pictures}", "--model=autoencoder", "--weights={run}"], 1, "autoencoder has no classifier of its own"),
])  # fmt: skip
def test_what_cannot_be_done_is_said_without_a_traceback(trained, tmp_path, capsys, arguments, status, error):
    (tmp_path / "bare").mkdir()
    shutil.copy(trained / "run/settings.json", tmp_path / "bare")
    (tmp_path / "two.txt").write_text("a\nb\n")
    places = {"run": trained / "run", "pictures": trained / "pictures/rose/0.png", "bare": tmp_path / "bare",
              "two": tmp_path / "two.txt"}  # fmt: skip
    assert run(predict, *(argument.format(**places) for argument in arguments)) == status
    said = capsys.readouterr().err
    assert re.search(error, said), said
    assert "Traceback" not in said


def test_the_classifier_of_the_digits_takes_no_pictures(trained, tmp_path, capsys):
    root = Path(__file__).resolve().parents[2]
    flags = [f"--weights={root / 'checkpoints/digits_autoencoder'}", "--train_examples=10", "--epochs=1"]
    assert run(train, *flags, f"--logdir={tmp_path / 'run'}") == 0
    assert run(predict, trained / "pictures/rose/0.png", f"--run={tmp_path / 'run'}") == 1
    assert re.search("takes grey images of 28x28, and not RGB pictures", capsys.readouterr().err)


@pytest.mark.parametrize("names", ["imagenet_class_index.json", "synset_words.txt"])
def test_eight_photographs_are_what_they_are(real_data, names, capsys):
    flags = ["--model=squeezenet1_0", f"--weights={real_data('weights/squeezenet1_0.npz')}", "--json",
             f"--class_names={real_data('imagenet') / names}"]  # fmt: skip
    assert run(predict, real_data("imagenet/pictures"), *flags) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert {Path(one["path"]).name: one["top"][0]["name"] for one in found} == PHOTOGRAPHS
    assert all(len(one["top"]) == 5 for one in found)


def test_what_predicts_loads_neither_keras_nor_what_keras_loads(trained):
    code = """
import sys
from tfxfer.tools import _main
status = _main.main(sys.argv)
loaded = {name.split(".")[0] for name in sys.modules}
print(status, {"tensorflow", "keras", "sklearn", "matplotlib", "scipy", "h5py"} & loaded)
import tensorflow as tf
import keras
print(tf.keras.layers.Dense is keras.layers.Dense, tf.optimizers.Adam is keras.optimizers.Adam)
"""
    arguments = ["predict", str(trained / "pictures/rose/0.png"), f"--run={trained / 'run'}"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert (done.stdout.splitlines()[-2:], done.stderr) == (["0 {'tensorflow'}", "True True"], "")
