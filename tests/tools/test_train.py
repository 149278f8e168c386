"""tools/train.py, and what tools/evaluate.py makes of its runs: class weights, top-k, test.json, curves, refusals."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.utils.class_weight import compute_class_weight

import tfxfer as tx
from tests.tools.test_predict import coloured, run
from tfxfer.runs.settings import read_settings
from tfxfer.statistics import intervals
from tfxfer.tools import _flags, _report, evaluate, pretrain, train

DIGITS = ["--restore=none", "--hidden=none", "--train_examples=300", "--epochs=2"]
SMALL = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=none"]


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `run`, a quick classifier of digits, what it said as `said`, and its `curves.png`."""
    top = tmp_path_factory.mktemp("trained")
    more = ["--class_weights=balanced", "--l2=1e-3", "--top_k=3", f"--picture={top / 'curves.png'}",
            "--schedule=cosine"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, (top / "said").open("w") as said:
        patch.setattr("sys.stdout", said)
        assert run(train, *DIGITS, *more, f"--logdir={top / 'run'}") == 0
    return top


def test_the_last_line_stays_the_accuracy_and_top_k_comes_before_it(trained):
    lines = (trained / "said").read_text().strip().splitlines()
    assert re.fullmatch(r"loss \d\.\d{4}  accuracy 0\.\d{4}  top-3 accuracy (0\.\d{4}|1\.0000)", lines[-3])
    accuracy, third = (float(value) for value in re.findall(r"accuracy (\S+)", lines[-3]))
    wrong = round((1 - accuracy) * 360)
    assert lines[-4] == f"{360 - wrong} of 360 right; {intervals.shown(360 - wrong, 360)} of the accuracy (Wilson)"
    assert lines[-2] == f"{wrong} of 360 test examples wrong: {trained / 'run/test.json'}, {trained / 'run/mistakes'}"
    assert lines[-1] == f"test accuracy {accuracy:.4f}"
    assert third > accuracy


def test_balanced_weights_are_scikit_learns_and_kept_as_numbers(trained):
    stored = read_settings(trained / "run").by_name()
    labels = tx.data.digits().few(300, seed=0).train.labels
    wanted = compute_class_weight("balanced", classes=np.arange(10), y=labels)
    assert stored["class_weights"] == pytest.approx(list(wanted), rel=1e-12)
    assert stored["l2"] == 1e-3
    assert not {"top_k", "picture"} & set(stored)
    assert f"class weights: 0: {wanted[0]:.4g}, 1: {wanted[1]:.4g}, " in (trained / "said").read_text()


def test_test_json_holds_what_was_printed(trained):
    stored = json.loads((trained / "run/test.json").read_text())
    assert last_line((trained / "said").read_text()) == f"test accuracy {stored['accuracy']:.4f}"
    assert set(stored["top_k"]) == {"1", "3"}
    assert re.fullmatch(r"best/model\.ckpt-\d+", stored["checkpoint"])
    assert (trained / "run" / f"{stored['checkpoint']}.index").exists()
    assert stored["mistakes"]
    assert all(imread(trained / "run" / one["picture"]).shape == (28, 28, 3) for one in stored["mistakes"])


def test_the_curves_have_a_panel_for_the_learning_rate_that_falls(trained):
    assert imread(trained / "curves.png").shape == (360, 1260, 4)


def test_evaluate_says_the_same_and_keeps_the_same(trained, tmp_path, capsys):
    before = (trained / "run/test.json").read_text()
    assert run(evaluate, trained / "run", "--top_k=3", f"--picture={tmp_path / 'again.png'}") == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-3:] == (trained / "said").read_text().splitlines()[-3:]
    assert (trained / "run/test.json").read_text() == before
    assert (tmp_path / "again.png").read_bytes() == (trained / "curves.png").read_bytes()


def test_evaluate_keeps_the_test_of_another_checkpoint_and_of_no_other_split(trained, tmp_path, capsys):
    copy = shutil.copytree(trained / "run", tmp_path / "run")
    assert run(evaluate, copy, "--checkpoint=last", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    kept = json.loads((copy / "test.json").read_text())
    assert re.fullmatch(r"model\.ckpt-\d+", kept["checkpoint"])
    assert (kept["accuracy"], set(kept["top_k"])) == (said["accuracy"], {"1", "5"})
    assert run(evaluate, copy, "--split=validation") == 0
    assert json.loads((copy / "test.json").read_text()) == kept


def test_a_run_that_cannot_be_written_to_is_evaluated_all_the_same(trained, tmp_path, capsys):
    copy = shutil.copytree(trained / "run", tmp_path / "run")
    shutil.rmtree(copy / "mistakes")
    (copy / "mistakes").touch()
    assert run(evaluate, copy, "--top_k=3") == 0
    said = capsys.readouterr()
    assert last_line(said.out) == last_line((trained / "said").read_text())
    assert re.fullmatch(r"not kept: cannot write test\.json and mistakes/ in .*\n", said.err)


def test_a_run_goes_on_under_the_same_l2_and_weights_only(trained, tmp_path, capsys):
    copy = shutil.copytree(trained / "run", tmp_path / "run")
    flags = [*DIGITS, "--schedule=cosine", f"--logdir={copy}"]
    assert run(train, *flags, "--l2=2e-3", "--class_weights=balanced") == 1
    assert "--l2: was 0.001, now 0.002" in capsys.readouterr().err
    assert run(train, *flags, "--l2=1e-3") == 1
    assert re.search(r"--class_weights: was \[.*\], now not set", capsys.readouterr().err)
    weights = ",".join(map(repr, read_settings(copy).training["class_weights"]))
    assert run(train, *flags, "--l2=1e-3", f"--class_weights={weights}", "--epochs=3") == 0
    assert "epoch 3/3" in (copy / "train.log").read_text()


def test_pretraining_takes_l2_and_no_class_weights(tmp_path, capsys):
    assert run(pretrain, tmp_path / "out", "--epochs=1", "--train_examples=50", "--class_weights=balanced") == 2
    assert "unknown flag --class_weights" in capsys.readouterr().err
    assert run(pretrain, tmp_path / "out", "--epochs=1", "--train_examples=50", "--l2=1e-3") == 0
    assert read_settings(tmp_path / "out.run").training["l2"] == 1e-3


@pytest.mark.parametrize(("flags", "status", "error"), [
    (["--class_weights=heavy"], 2, "write balanced, or a number for each class, as in 1,2.5,1"),
    (["--class_weights=1,2"], 1, "GraphError: --class_weights has 2 numbers, and there are 10 classes"),
    (["--class_weights=1,1,1,1,-1,1,1,1,1,1"], 1, "GraphError: --class_weights: -1.0 of class 4"),
    (["--class_weights=0,0,0,0,0,0,0,0,0,0"], 1, "GraphError: --class_weights are all 0"),
    (["--l2=-1"], 2, "l2"),
    (["--l2=nan"], 1, "GraphError: --l2=nan"),
    (["--l2=1", "--train=.*/bias"], 1, "GraphError: --l2=1.0 has nothing to act on"),
    (["--top_k=0"], 2, "top_k"),
    (["--picture=nowhere/x.png"], 1, "DataError: --picture=nowhere/x.png: its folder does not exist"),
    (["--epochs=0"], 2, "flag --epochs=0"),
    (["--batch_size=0"], 2, "flag --batch_size=0"),
    (["--endpoint=fc9"], 1, "GraphError: autoencoder has no endpoint 'fc9'.*; it has .*flatten"),
])  # fmt: skip
def test_what_cannot_be_done_is_said_at_once(tmp_path, capsys, flags, status, error):
    assert run(train, *DIGITS, *flags, f"--logdir={tmp_path / 'run'}") == status
    said = capsys.readouterr().err
    assert re.search(error, said), said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_one_step_an_epoch(tmp_path, capsys):
    assert run(train, *DIGITS, "--batch_size=1000", f"--logdir={tmp_path / 'run'}") == 0
    said = capsys.readouterr().out
    assert "2 epochs, 2 steps" in said
    assert last_line(said).startswith("test accuracy 0.")


# --- many classes ---


def result_of(classes: int, name: str = "class [{}]"):
    from tfxfer.evaluation.evaluate import Evaluation

    generator = np.random.default_rng(0)
    names = tuple(name.format(number) for number in range(classes))
    probabilities = generator.dirichlet(np.ones(classes), 3 * classes).astype(np.float32)
    return Evaluation({"loss": 1.0, "accuracy": 0.1}, probabilities, generator.integers(0, classes, 3 * classes), names)


@pytest.mark.parametrize("classes", [11, 15])
def test_a_matrix_too_wide_for_the_names_of_its_columns_has_their_numbers(classes, capsys):
    _report.show_evaluation(result_of(classes, "long {}"), "test")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == [str(number) for number in range(classes)]
    assert lines[3].split()[:3] == ["long", "0", "0"]
    assert all(line.isascii() and len(line) <= 80 for line in lines)


def test_a_matrix_too_wide_for_any_is_a_list_of_mistakes(capsys):
    _report.show_evaluation(result_of(20, "a name that is quite long {}"), "test")
    said = capsys.readouterr().out
    assert "the most frequent mistakes among 20 classes" in said
    assert "confusion matrix" not in said


def test_few_classes_are_shown_each_and_names_are_no_markup(capsys):
    _report.show_evaluation(result_of(3), "test")
    said = capsys.readouterr().out
    assert "confusion matrix: true class in rows, predicted in columns" in said
    assert len(re.findall(r"^ *class \[\d\] ", said, re.MULTILINE)) >= 6


def test_of_a_thousand_classes_the_worst_are_shown(capsys):
    _report.show_evaluation(result_of(1000), "test")
    said = capsys.readouterr().out
    assert "the most frequent mistakes among 1,000 classes" in said
    assert "the 20 of 1,000 classes with the lowest f1-score" in said
    assert len(said.splitlines()) < 40
    assert max(map(len, said.splitlines())) < 80


# --- pictures ---


def with_pictures(folder: Path, **counts: int) -> Path:
    """Make a folder of pictures with so many of each class."""
    made = coloured(folder.with_name("made"), each=max(counts.values()))
    for (name, count), source in zip(counts.items(), sorted(made.iterdir()), strict=False):
        (folder / name).mkdir(parents=True)
        for file in sorted(source.iterdir())[:count]:
            shutil.copy(file, folder / name)
    return folder


@pytest.mark.parametrize(("counts", "error"), [
    ({"rose": 12}, "DataError: .*a classifier needs two classes or more, and there is only one, rose .12 pictures"),
    ({"rose": 12, "tulip": 1}, r"1 of 2 classes have fewer pictures than there are splits, 3: tulip \(1\)"),
])  # fmt: skip
def test_classes_that_cannot_be_told_apart_are_refused(tmp_path, capsys, counts, error):
    pictures = with_pictures(tmp_path / "pictures", **counts)
    flags = [*SMALL, "--dataset=folder", f"--data_dir={pictures}", f"--logdir={tmp_path / 'run'}"]
    assert run(train, *flags) == 1
    assert re.search(error, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_labels_of_a_listing_that_are_not_numbers_are_named_by_their_lines(tmp_path, capsys):
    pictures = with_pictures(tmp_path / "pictures", rose=9, tulip=9)
    lines = [f"{path.relative_to(pictures)} {path.parent.name == 'rose':d}" for path in sorted(pictures.rglob("*.png"))]
    lines[3], lines[7] = lines[3][:-1] + "1.5", lines[7][:-1] + "rose"
    (tmp_path / "all.txt").write_text("\n".join(lines))
    flags = [*SMALL, "--dataset=listing", f"--listing={tmp_path / 'all.txt'}", f"--data_dir={pictures}"]
    assert run(train, *flags, f"--logdir={tmp_path / 'run'}") == 1
    said = capsys.readouterr().err
    assert re.search(r"all\.txt:4: the label '1\.5' is neither a name nor an integer", said), said
    assert re.search(r"all\.txt:8: the label 'rose' is a name, but 16 others are integers", said), said


def test_the_mistakes_of_pictures_name_their_files(tmp_path, capsys):
    pictures = with_pictures(tmp_path / "pictures", rose=30, tulip=10)
    flags = [*SMALL, "--dataset=folder", f"--data_dir={pictures}", "--epochs=1", "--learning_rate=1e-9",
             "--class_weights=1,3", f"--store={tmp_path / 'store'}", f"--logdir={tmp_path / 'run'}"]  # fmt: skip
    assert run(train, *flags) == 0
    stored = json.loads((tmp_path / "run/test.json").read_text())
    assert stored["mistakes"]
    for one in stored["mistakes"]:
        assert Path(one["path"]).parent == pictures / one["true"]
        assert os.path.exists(one["path"])
        assert imread(tmp_path / "run" / one["picture"]).shape == (32, 32, 3)
    assert "class weights: rose: 1, tulip: 3" in capsys.readouterr().out


def test_a_class_without_a_training_example_has_no_balance():
    from tfxfer.errors import DataError
    from tfxfer.tools import _training_flags

    values = train.define_flags()
    _flags.parse(values, ["train", "--class_weights=balanced"], "")
    with pytest.raises(DataError, match="--class_weights=balanced: no training example of b, d; give numbers"):
        _training_flags.class_weights(values, np.array([0, 2, 2]), ["a", "b", "c", "d"])
    assert "balanced|N,N,..." in _flags.help_text(values, "")
