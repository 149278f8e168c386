"""tools/export_model.py: what is exported answers as `tfxfer predict` does; what is said when it cannot be done."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfxfer as tx
from tests import made_runs
from tests.data.test_pictures import encoded, exif, photo
from tests.graph.test_decoding import deep_png
from tests.tools.test_predict import COLOURS, PHOTOGRAPHS, coloured, run
from tfxfer.serving.saved_model import ask, loaded
from tfxfer.tools import export_model, predict, train

ROOT = Path(__file__).resolve().parents[2]
NETWORK = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=7",
           "--dropout=0.5"]  # fmt: skip
CLOSING = re.compile(
    r"(?P<out>\S+): SavedModel of (?P<size>\S+) MB, signatures serving_default \(images uint8 \[n, (?P<images>[\d, ]+)"
    r"\]\) and image_bytes \(string \[n\]\), (?P<classes>[\d,]+) classes; on (?P<compared>\d+) pictures, probabilities "
    r"differ from those of (?P<source>\S+) by (?P<apart>\S+) at most\n"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `pictures`, `run`, a classifier of them with a hidden layer and dropout, and `out`, its export."""
    top = tmp_path_factory.mktemp("trained")
    flags = [*NETWORK, "--dataset=folder", f"--data_dir={coloured(top / 'pictures')}", "--learning_rate=0.01"]
    assert run(train, *flags, "--epochs=5", f"--logdir={top / 'run'}") == 0
    assert run(export_model, top / "run", top / "out") == 0
    return top


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Files of many kinds and sizes, whose names do not tell what they are."""
    top = tmp_path_factory.mktemp("pictures")
    files = [
        encoded(photo(61, 84), "JPEG", exif=exif(6)),
        encoded(photo(84, 61, 1), "JPEG", progressive=True),
        encoded(Image.fromarray(photo(50, 50, 2)).convert("L"), "JPEG"),
        encoded(Image.fromarray(photo(90, 33, 3)).convert("CMYK"), "JPEG"),
        encoded(Image.fromarray(photo(33, 90, 4)).convert("RGBA"), "PNG"),
        deep_png(3),
        encoded(Image.fromarray(photo(20, 20, 5)).quantize(40), "GIF"),
        encoded(photo(31, 45, 6), "BMP"),
    ]
    for number, data in enumerate(files):
        (top / f"{number}.jpg").write_bytes(data)
    return sorted(top.iterdir())


def predicted(capsys, *arguments: object, top: int = 3) -> dict[str, list[tuple[str, float]]]:
    """Return what `tfxfer predict` says of each picture, by its path."""
    capsys.readouterr()
    assert run(predict, *arguments, "--json", f"--top={top}") == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    return {row["path"]: [(one["name"], one["probability"]) for one in row["top"]] for row in rows}


def served(out: Path, paths: list[str], top: int = 3) -> dict[str, list[tuple[str, float]]]:
    """Return what an export says of each picture's bytes, one after the other, as a server is asked."""
    found = {}
    with loaded(out) as (sess, model):
        for path in paths:
            answer = ask(sess, model, np.array([Path(path).read_bytes()], object))
            names = [name.decode() for name in answer["top_k_names"][0]]
            found[path] = list(zip(names, answer["top_k_probabilities"][0].tolist(), strict=True))[:top]
    return found


def agree(a: dict[str, list[tuple[str, float]]], b: dict[str, list[tuple[str, float]]], apart: float) -> None:
    assert a.keys() == b.keys()
    for path in a:
        assert [name for name, _ in a[path]] == [name for name, _ in b[path]], path
        np.testing.assert_allclose([p for _, p in a[path]], [p for _, p in b[path]], atol=apart, rtol=0)


# --- the same as predict ---


def test_the_export_of_a_run_answers_the_bytes_of_pictures_as_predict_does(trained, pictures, capsys):
    paths = [*map(str, pictures), *(str(trained / f"pictures/{name}/0.png") for name in COLOURS)]
    expected = predicted(capsys, *paths, f"--run={trained / 'run'}")
    assert {len(top) for top in expected.values()} == {3}
    agree(served(trained / "out", paths), expected, 1e-5)
    assert [expected[path][0][0] for path in paths[-3:]] == list(COLOURS)


@pytest.mark.slow
def test_the_export_of_flowers_answers_real_pictures_as_predict_does(real_data, tmp_path, capsys):
    # A few of each class: enough that training gives a head of its own.
    for folder in sorted(real_data("flowers").iterdir()):
        (tmp_path / "flowers" / folder.name).mkdir(parents=True)
        for picture in sorted(folder.iterdir())[:10]:
            (tmp_path / "flowers" / folder.name / picture.name).symlink_to(picture)
    flags = ["--model=squeezenet1_0", f"--weights={real_data('weights/squeezenet1_0.npz')}", "--hidden=64",
             "--dataset=folder", f"--data_dir={tmp_path / 'flowers'}", f"--store={tmp_path / 'store'}"]  # fmt: skip
    assert run(train, *flags, "--epochs=5", f"--logdir={tmp_path / 'run'}") == 0
    assert run(export_model, tmp_path / "run", tmp_path / "out") == 0
    paths = [str(path) for path in sorted((tmp_path / "flowers").rglob("*.jpg"))[::3]]
    paths += [str(path) for path in sorted(real_data("imagenet/pictures").iterdir())]
    agree(served(tmp_path / "out", paths), predicted(capsys, *paths, f"--run={tmp_path / 'run'}"), 1e-5)


@pytest.mark.slow
def test_a_models_own_classifier_is_exported_with_its_weights(real_data, tmp_path, capsys):
    flags = ["--model=squeezenet1_0", f"--weights={real_data('weights/squeezenet1_0.npz')}",
             f"--class_names={real_data('imagenet/synset_words.txt')}"]  # fmt: skip
    assert run(export_model, tmp_path / "out", *flags, f"--frozen_graph={tmp_path / 'frozen.pb'}") == 0
    closing = CLOSING.fullmatch(capsys.readouterr().out)
    assert (closing["images"], closing["classes"], closing["compared"]) == ("227, 227, 3", "1,000", "7")
    paths = [str(real_data("imagenet/pictures") / name) for name in PHOTOGRAPHS]
    expected = predicted(capsys, *paths, *flags)
    agree(served(tmp_path / "out", paths), expected, 1e-5)
    agree(served(tmp_path / "frozen.pb", paths), expected, 1e-5)
    assert [expected[path][0][0] for path in paths] == list(PHOTOGRAPHS.values())


def test_the_export_is_a_file_of_weights_with_its_input_spec_too(trained, pictures, capsys):
    again = tx.open_weights(trained / "out")
    assert set(again) == {"conv1/kernel", "conv1/bias", "fc1/kernel", "fc1/bias", "logits/kernel", "logits/bias"}
    best = tx.open_weights(trained / "run/best")
    assert all(np.array_equal(again[name], best[name]) for name in again)


# --- what it says ---


def test_the_last_line_says_what_there_is(trained, tmp_path, capsys):
    assert run(export_model, trained / "run", tmp_path / "out", "--checkpoint=last", "--top_k=2") == 0
    closing = CLOSING.fullmatch(capsys.readouterr().out)
    assert closing["out"] == str(tmp_path / "out")
    assert (closing["images"], closing["classes"]) == ("32, 32, 3", "3")
    assert closing["compared"] == "15"  # four and three at random, eight of the run's
    assert re.fullmatch(r".*run/model.ckpt-\d+", closing["source"])
    assert float(closing["apart"]) < 1e-5
    inside = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert float(closing["size"]) == pytest.approx(inside / 1e6, abs=0.06)
    assert (tmp_path / "out/assets/labels.txt").read_text().splitlines() == list(COLOURS)
    with loaded(tmp_path / "out") as (_, model):
        assert model.outputs["top_k_names"].shape.as_list() == [None, 2]


def test_where_the_pictures_of_the_run_are_gone_random_ones_are_enough(trained, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "run")
    made_runs.change_settings(tmp_path / "run", data_dir=str(tmp_path / "gone"))
    assert run(export_model, tmp_path / "run", tmp_path / "out") == 0
    assert CLOSING.fullmatch(capsys.readouterr().out)["compared"] == "7"


def test_a_run_over_digits_takes_grey_pixels(tmp_path, capsys):
    flags = [f"--weights={ROOT / 'checkpoints/digits_autoencoder'}", "--train_examples=50", "--epochs=1"]
    assert run(train, *flags, f"--logdir={tmp_path / 'run'}") == 0
    capsys.readouterr()
    assert run(export_model, tmp_path / "run", tmp_path / "out") == 0
    closing = CLOSING.fullmatch(capsys.readouterr().out)
    assert (closing["images"], closing["classes"], closing["compared"]) == ("28, 28, 1", "10", "15")
    test = tx.data.digits().test
    with loaded(tmp_path / "out") as (sess, model):
        of_pixels = ask(sess, model, test.images[:9])
        files = [encoded(image[..., 0]) for image in test.images[:9]]
        of_files = ask(sess, model, np.array(files, object))
    np.testing.assert_allclose(of_files["probabilities"], of_pixels["probabilities"], atol=1e-6)
    assert of_pixels["class_names"][0].tolist() == [str(number).encode() for number in range(10)]


def test_one_logit_becomes_two_probabilities(tmp_path, capsys):
    folder = coloured(tmp_path / "pictures")
    shutil.rmtree(folder / "grass")
    flags = [*NETWORK, "--hidden=none", "--dataset=folder", f"--data_dir={folder}", "--loss=sigmoid"]
    assert run(train, *flags, "--learning_rate=0.01", "--epochs=3", f"--logdir={tmp_path / 'run'}") == 0
    assert run(export_model, tmp_path / "run", tmp_path / "out") == 0
    paths = [str(folder / f"{name}/1.png") for name in ("rose", "blue sky")]
    agree(served(tmp_path / "out", paths, 2), predicted(capsys, *paths, f"--run={tmp_path / 'run'}", top=2), 1e-5)


@pytest.mark.slow
def test_a_models_own_classifier_that_was_trained_anew_is_exported(tmp_path, capsys):
    folder = coloured(tmp_path / "pictures", 10)
    flags = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=pool10", "--dataset=folder"]
    assert run(train, *flags, f"--data_dir={folder}", "--epochs=1", f"--logdir={tmp_path / 'run'}") == 0
    assert run(export_model, tmp_path / "run", tmp_path / "out") == 0
    paths = [str(folder / f"{name}/1.png") for name in COLOURS]
    agree(served(tmp_path / "out", paths), predicted(capsys, *paths, f"--run={tmp_path / 'run'}"), 1e-5)


# --- as a user runs it ---


@pytest.mark.slow
def test_a_user_sees_one_line_and_others_tools_read_what_is_written(trained, pictures, tmp_path):
    command = [Path(sys.executable).with_name("tfxfer"), "export_model", trained / "run", "out"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert CLOSING.fullmatch(done.stdout)
    np.save(tmp_path / "bytes.npy", np.array([pictures[0].read_bytes()]))
    cli = [Path(sys.executable).with_name("saved_model_cli"), "run", "--dir=out", "--tag_set=serve",
           "--signature_def=image_bytes", "--inputs=image_bytes=bytes.npy", "--outdir=answers"]  # fmt: skip
    done = subprocess.run([str(word) for word in cli], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "answers/probabilities.npy").shape == (1, 3)
    path = str(pictures[0])
    [(name, probability), *_] = served(trained / "out", [path])[path]
    assert np.load(tmp_path / "answers/top_k_indices.npy")[0, 0] == list(COLOURS).index(name)
    assert np.load(tmp_path / "answers/top_k_probabilities.npy")[0, 0] == pytest.approx(probability, abs=1e-6)


# --- refusals ---


@pytest.mark.parametrize(("arguments", "status", "error"), [
    ([], 2, "too few"),
    (["{run}"], 2, "UsageError: give RUN and OUT; or OUT, --model and --weights"),
    (["{run}", "{out}", "--weights=x.npz"], 2, "give RUN and OUT; or OUT, --model and --weights"),
    (["{run}", "{out}", "--model=vgg16"], 2, "give RUN and OUT"),
    (["a", "b", "c"], 2, "unexpected argument: c"),
    (["{run}", "{out}", "--top_k=0"], 2, "top_k"),
    (["nowhere", "{out}"], 1, "RunError: nowhere is not there; give a run directory"),
    (["{bare}", "{out}"], 1, "RunError: .*bare has no best checkpoint; training writes one after the first validation"),
    (["{bare}", "{out}", "--checkpoint=last"], 1, "RunError: .*bare has no last checkpoint"),
    (["{run}", "{bare}"], 1, "DataError: .*bare is there already; give another name, or let --overwrite move it aside"),
    (["{run}", "{out}", "--frozen_graph={out}/x.pb"], 1, "DataError: .*is written as a whole"),
    (["{run}", "{out}", "--class_names={two}"], 1, "two.txt has 2 names of classes, and the model has 3"),
    (["{out}", "--weights=nowhere.npz"], 1, "WeightsError: nowhere.npz is neither a file nor a checkpoint"),
    (["{out}", "--weights={run}"], 1, "GraphError: --model=autoencoder has no classifier of its own"),
    (["{out}", "--weights={run}", "--model=squeezenet1_1"], 1, "RestoreError: cannot restore"),
])  # fmt: skip
def test_what_cannot_be_done_is_said_without_a_traceback(trained, tmp_path, capsys, arguments, status, error):
    (tmp_path / "bare").mkdir()
    shutil.copy(trained / "run/settings.json", tmp_path / "bare")
    (tmp_path / "two.txt").write_text("a\nb\n")
    places = {"run": trained / "run", "bare": tmp_path / "bare", "two": tmp_path / "two.txt", "out": tmp_path / "out"}
    assert run(export_model, *(argument.format(**places) for argument in arguments)) == status
    said = capsys.readouterr().err
    assert re.search(error, said), said
    assert "Traceback" not in said
    assert sorted(os.listdir(tmp_path)) == ["bare", "two.txt"]
    assert os.listdir(tmp_path / "bare") == ["settings.json"]


def test_what_is_there_is_moved_aside_if_asked(trained, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").write_text("kept")
    assert run(export_model, trained / "run", tmp_path / "out", "--overwrite") == 0
    first, *rest = capsys.readouterr().out.splitlines(keepends=True)
    assert first == f"moved {tmp_path / 'out'} to {tmp_path / 'out.old-1'}\n"
    assert CLOSING.fullmatch(*rest)
    assert (tmp_path / "out.old-1/precious").read_text() == "kept"
