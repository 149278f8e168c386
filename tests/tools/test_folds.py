"""tools/_folds.py: `tfxfer train --folds`, its runs, how it goes on, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tfxfer as tx
from tests.tools.test_predict import coloured, run
from tfxfer.statistics import intervals
from tfxfer.tools import evaluate, report, train

FLAGS = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=none",
         "--normalize=none", "--learning_rate=0.01", "--epochs=2", "--summaries=none"]  # fmt: skip


@pytest.fixture(scope="module")
def folded(tmp_path_factory) -> Path:
    """A folder with `pictures`, `runs` of 2 folds of them, and what was said as `said`."""
    top = tmp_path_factory.mktemp("folded")
    data = f"--data_dir={coloured(top / 'pictures', 10)}"
    with pytest.MonkeyPatch.context() as patch, (top / "said").open("w") as said:
        patch.setattr("sys.stdout", said)
        assert run(train, *FLAGS, data, "--folds=2", f"--logdir={top / 'runs'}") == 0
    return top


def flags(folded: Path, runs: Path, *more: str) -> list[str]:
    return [*FLAGS, f"--data_dir={folded / 'pictures'}", f"--logdir={runs}", *more]


def pictures_of(run: Path) -> list[str]:
    return list(tx.open_run(run).load_data().test.images.paths)


def test_each_fold_is_a_run_and_the_last_lines_have_mean_spread_and_interval(folded):
    lines = (folded / "said").read_text().splitlines()
    assert "2 folds of 30 examples; fold 1 is trained on 12, validated on 3 and tested on 15" in lines
    runs = [tx.open_run(folded / f"runs/fold-{number}") for number in (1, 2)]
    assert [(opened.settings["folds"], opened.settings["fold"]) for opened in runs] == [(2, 1), (2, 2)]
    accuracies = [opened.test.metrics["accuracy"] for opened in runs]
    for number, accuracy in enumerate(accuracies, 1):
        assert f"fold {number} of 2: test accuracy {accuracy:.4f}" in lines
    right = round(15 * sum(accuracies))
    assert lines[-2] == f"{right} of 30 right; {intervals.shown(right, 30)} of the accuracy (Wilson)"
    mean, spread = np.mean(accuracies), np.std(accuracies, ddof=1)
    assert lines[-1] == f"test accuracy {mean:.4f} +- {spread:.4f} (mean and standard deviation of 2 folds)"
    kept = json.loads((folded / "runs/folds.json").read_bytes())
    assert [row["accuracy"] for row in kept["folds"]] == pytest.approx(accuracies)
    assert len([line for line in lines if line.startswith("trained: ")]) == 1


def test_every_picture_is_tested_once(folded):
    pictures = sorted(str(path) for path in (folded / "pictures").rglob("*.png"))
    assert sorted(path for number in (1, 2) for path in pictures_of(folded / f"runs/fold-{number}")) == pictures


def test_evaluate_and_report_know_the_fold_of_a_run(folded, tmp_path, capsys):
    copy = shutil.copytree(folded / "runs", tmp_path / "runs")
    before = json.loads((copy / "fold-2/test.json").read_bytes())
    assert run(evaluate, copy / "fold-2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == before["accuracy"]
    assert run(report, copy / "fold-2") == 0
    page = (copy / "fold-2/report.html").read_text()
    assert "fold 2 of 2" in page
    assert f"{json.loads((copy / 'folds.json').read_bytes())['accuracy']:.4f}" in page
    capsys.readouterr()
    assert run(report, copy) == 1
    assert "holds runs and is not one itself; give one or more of them: fold-1, fold-2" in capsys.readouterr().err


def test_stopped_in_a_later_fold_the_same_command_ends_with_the_same_bits(folded, tmp_path, monkeypatch, capsys):
    runs, fit, calls = tmp_path / "runs", tx.fit, []

    def interrupted(*args, **options):
        calls.append(Path(options["logdir"]).name)
        if len(calls) < 2:
            return fit(*args, **options)
        fit(*args, **{**options, "epochs": 1})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tx, "fit", interrupted, raising=False)
        assert run(train, *flags(folded, runs, "--folds=2")) == 130
    assert calls == ["fold-1", "fold-2"]
    assert not (runs / "folds.json").exists()
    assert run(train, *flags(folded, runs, "--folds=2")) == 0
    assert (runs / "folds.json").read_bytes() == (folded / "runs/folds.json").read_bytes()
    assert capsys.readouterr().out.splitlines()[-1] == (folded / "said").read_text().splitlines()[-1]
    for number in (1, 2):
        mine, whole = (tx.open_run(each / f"fold-{number}").weights("last") for each in (runs, folded / "runs"))
        assert {name: mine[name].tobytes() for name in mine} == {name: whole[name].tobytes() for name in whole}


def test_other_settings_are_refused_and_overwrite_begins_anew_on_the_features_that_are_there(
    folded, tmp_path, capsys, monkeypatch
):
    copy = shutil.copytree(folded / "runs", tmp_path / "runs")
    assert run(train, *flags(folded, copy, "--folds=3")) == 1
    assert "--folds: was 2, now 3" in capsys.readouterr().err
    monkeypatch.setattr("tfxfer.store.extraction.fill", lambda *_: pytest.fail("features are computed again"))
    assert run(train, *flags(folded, copy, "--folds=3", "--overwrite", "--normalize=standard", "--epochs=1")) == 0
    names = {path.name for path in copy.iterdir()}
    assert names == {"fold-1", "fold-2", "fold-3", "folds.json", "store", "folds.json.old-1", "fold-1.old-1",
                     "fold-2.old-1"}  # fmt: skip


def test_pictures_of_a_test_folder_stay_out(tmp_path, capsys):
    coloured(tmp_path / "data/train", 10)
    coloured(tmp_path / "data/test", 2)
    arguments = [*FLAGS, f"--data_dir={tmp_path / 'data'}", f"--logdir={tmp_path / 'runs'}", "--dry_run"]
    assert run(train, *arguments, "--folds=3") == 0
    said = capsys.readouterr().out
    assert "3 folds of 30 examples; the 6 test examples that are given stay out; fold 1 is trained on 1" in said
    assert not (tmp_path / "runs").exists()


def test_what_does_not_fit_is_refused(folded, tmp_path, capsys, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").touch()
    for arguments, status, message in (
        (["--folds=1"], 2, "folds"),
        (["--folds=11"], 1, "--folds=11: give 2 to 10, for the classes with fewer examples: blue sky (10), grass (10)"),
        (["--folds=3", "--split=digest"], 2, "--split: not used with --folds=3; leave one of the two out"),
        (["--folds=3", "--picture=a.png"], 2, "--picture: not used with --folds=3; leave one of the two out"),
        (["--folds=3", "--checkpoint=best"], 2, "--checkpoint"),
        (["--folds=3", f"--logdir={folded / 'runs/fold-1'}"], 1, "fold-1 is a run of its own, and the runs of folds"),
        (["--folds=3", f"--logdir={tmp_path / 'other'}"], 1, "other has no folds, but thesis.txt; give another --logd"),
    ):
        assert run(train, *flags(folded, tmp_path / "runs", *arguments)) == status, arguments
        assert message in capsys.readouterr().err, arguments
    cluster = {"cluster": {"chief": ["localhost:1"], "ps": ["localhost:2"]}, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert run(train, *flags(folded, tmp_path / "runs", "--folds=3")) == 1
    assert "--folds goes with one process; leave it out, or unset TF_CONFIG" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
