"""tools/tune.py: the table, JSON, TensorBoard, resuming, refusals, and the winner's command, which is run."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import tfxfer as tx
from tests.tools.test_predict import COLOURS, coloured, run
from tfxfer.runs.settings import read_settings
from tfxfer.tools import _main, train, tune

QUICK = ["--restore=none", "--model=squeezenet1_1", "--image_size=32", "--folds=2", "--epochs=2", "--hidden=none,4",
         "--dropout=0", "--learning_rate=0.003,0.03", "--l2=0", "--normalize=none"]  # fmt: skip


FEATURES = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


class Terminal(io.StringIO):
    """What says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return coloured(tmp_path_factory.mktemp("coloured") / "pictures", 10)


@pytest.fixture(scope="module")
def searched(pictures, tmp_path_factory) -> Path:
    """A folder with `runs`, a search over two endpoints, and what it said as `said`."""
    top = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch, (top / "said").open("w") as said:
        patch.setattr("sys.stdout", said)
        assert run(tune, top / "runs", *flags(pictures)) == 0
    return top


def flags(pictures: Path, *more: str) -> list[str]:
    return [*QUICK, f"--data_dir={pictures}", "--endpoints=conv1:mean,fire2:mean", *more]


def test_the_table_has_each_trial_and_floor_and_says_where_to_cut(searched):
    said = (searched / "said").read_text()
    rows = [line.split() for line in said.splitlines() if "trial-0" in line and "best:" not in line]
    kept = json.loads((searched / "runs/tune.json").read_bytes())["scores"]["2 epochs"]
    assert len(rows) == 8
    best = next(row for row in rows if row[0] == "*")
    number = best[1].removeprefix("trial-").lstrip("0") or "0"
    mean = np.mean([fold[number][1] for fold in kept.values()])
    assert f"{mean:.4f}" in best
    assert f"best: {best[1]}, accuracy {mean:.4f} +- " in said
    assert said.count("logistic regression") >= 2
    assert f"cut at {best[2]}: " in said


def test_killed_or_not_the_same_command_ends_with_the_same_table(searched, pictures, capsys):
    before = (searched / "runs/tune.json").read_bytes()
    assert run(tune, searched / "runs", *flags(pictures)) == 0
    assert capsys.readouterr().out == (searched / "said").read_text()
    assert (searched / "runs/tune.json").read_bytes() == before


def test_a_terminal_of_80_columns_shows_each_name_and_number_whole(searched, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    tuning = tx.tune(
        {"conv10/relu:mean": FEATURES, "fire9/concat:mean": FEATURES[:, ::-1]},
        np.arange(40) % 2,
        space=tx.SearchSpace(hidden=(256,), dropout=(0.5,), learning_rate=(0.00123, 0.0123), l2=(1e-4,)),
        folds=2,
        training=tx.HeadTraining(epochs=2),
        halving=2,
    )
    tune._show(tuning, "runs", 2)
    said = "".join(terminal.getvalue().split())
    for result in tuning.results[:5]:
        assert result.name in terminal.getvalue()
        assert f"{result.accuracy:.4f}" in said
        assert f"{result.spread:.4f}" in said
    assert "…" not in said


def test_a_trial_that_diverges_is_marked_and_the_others_go_on(searched, pictures, tmp_path, capsys):
    more = ["--endpoints=conv1:mean", "--hidden=4", "--learning_rate=1e30,0.003", f"--store={searched / 'runs/store'}"]
    assert run(tune, tmp_path / "runs", *flags(pictures, *more)) == 0
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if "trial-0" in line and "best:" not in line]
    assert [(row[0], row[-1]) for row in rows if "1e+30" in row] == [("trial-00", "diverged")]
    assert rows[0][:2] == ["*", "trial-01"]
    assert run(tune, tmp_path / "runs", *flags(pictures, *more, "--json")) == 0
    last = json.loads(capsys.readouterr().out)["results"][-1]
    assert (last["diverged"], last["loss"], last["within_one_standard_error"]) == (True, None, False)


def test_the_winners_command_trains_the_winner_on_pictures_that_the_search_has_not_seen(searched, pictures, capsys):
    assert run(tune, searched / "runs", *flags(pictures, "--json", "--train_best")) == 0
    said = json.loads(capsys.readouterr().out)
    winner = next(row for row in said["results"] if row["name"] == said["best"])
    assert said["command"] == shlex.split((searched / "said").read_text().splitlines()[-1])
    settings = read_settings(searched / "runs/best").by_name()
    assert settings["endpoint"] == winner["endpoint"]
    assert settings["hidden"] == ([winner["hidden"]] if winner["hidden"] else [])
    assert (settings["epochs"], settings["schedule"]) == (2, "cosine")
    assert json.loads((searched / "runs/best/test.json").read_bytes())["accuracy"] > 1 / len(COLOURS)
    # As it stands, it goes on with the run that it made, which has ended.
    assert _main.main(said["command"]) == 0
    assert "test accuracy" in capsys.readouterr().out


def test_the_command_has_only_flags_of_train_and_every_setting_of_the_winner(searched):
    command = shlex.split((searched / "said").read_text().splitlines()[-1])
    names = {word[2:].partition("=")[0] for word in command[2:]}
    assert names <= {*train.define_flags()} - {"folds"}
    assert names >= {"endpoint", "hidden", "dropout", "learning_rate", "epochs", "schedule", "seed", "store", "restore"}


def test_a_directory_of_other_settings_is_refused_in_flags(searched, pictures, capsys):
    assert run(tune, searched / "runs", *flags(pictures, "--epochs=3")) == 1
    said = capsys.readouterr().err
    assert "epochs: was 2, now 3" in said
    assert "--overwrite to move it aside and begin anew" in said


def test_what_cannot_be_searched_is_refused_in_flags(pictures, tmp_path, capsys):
    for flag, status, message in (
        ("--folds=30", 1, "--folds=30: give 2 to 9"),
        ("--folds=1", 2, "folds"),
        ("--hidden=", 1, "--hidden is empty"),
        ("--learning_rate=a", 2, "write values between commas, or a range LOW:HIGH"),
        ("--learning_rate=1:0.1", 1, "must go from above 0 to a larger number"),
        ("--factor=2", 2, "--factor: give --halving too"),
        ("--endpoints=fire99", 1, "squeezenet1_1 has no endpoint 'fire99'"),
        ("--endpoints=conv1,conv1", 1, "name each endpoint once"),
    ):
        assert run(tune, tmp_path / "runs", *flags(pictures, flag)) == status, flag
        assert message in capsys.readouterr().err, flag


@pytest.mark.slow
def test_on_flowers_forty_trials_find_a_head(real_data, tmp_path, capsys):
    weights = real_data("weights/squeezenet1_0.npz")
    more = ["--model=squeezenet1_0", f"--weights={weights}", f"--data_dir={real_data('flowers')}", "--json"]
    assert run(tune, tmp_path / "runs", *more) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["results"]) == 40
    assert said["results"][0]["accuracy"] > 0.79
