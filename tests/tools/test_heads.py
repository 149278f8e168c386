"""What a new head is by default: on pictures and a frozen network alone, and never in the place of what is given."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import tfxfer as tx
from tests.tools.test_predict import coloured, run
from tfxfer.runs.settings import read_settings
from tfxfer.tools import _heads, evaluate, predict, train

MODEL = ["--model=squeezenet1_1", "--image_size=32", "--endpoint=fire3:mean"]
RESTORED = ["--model=squeezenet1_1", "--weights=squeezenet.npz", "--data_dir=."]


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """The flags of a training on coloured pictures and a network that is restored: from a run with random weights."""
    top = tmp_path_factory.mktemp("heads")
    first = [*MODEL, "--restore=none", f"--data_dir={coloured(top / 'pictures')}", "--summaries=none"]
    assert run(train, *first, "--hidden=none", "--epochs=1", f"--logdir={top / 'random'}") == 0
    return [*MODEL, f"--weights={top / 'random' / 'best'}", *first[4:], f"--store={top / 'store'}"]


def implied(*flags):
    values = train.define_flags()
    values(["train", "--dataset=folder", *flags])
    _heads.imply(values)
    names = ("normalize", "hidden", "dropout", "learning_rate", "schedule", "monitor")
    return {name: values[name].value for name in names}


def test_what_is_given_goes_before_what_is_usual(capsys):
    linear = {"normalize": "l2", "hidden": [], "dropout": 0.0, "learning_rate": 3e-2, "schedule": "cosine"}
    linear["monitor"] = "loss"
    assert implied(*RESTORED) == implied(*RESTORED, "--hidden=none") == linear
    assert re.search(
        r"^--normalize=l2 --hidden=none .* --epochs=60 --monitor=loss, as none is given$", capsys.readouterr().out, re.M
    )
    hidden = {**linear, "hidden": [256], "dropout": 0.5, "learning_rate": 3e-3}
    assert implied(*RESTORED, "--dropout=0.5") == implied(*RESTORED, "--hidden=256") == hidden
    given = implied(*RESTORED, "--hidden=64,32", "--dropout=0.1", "--schedule=constant")
    assert given == {**hidden, "hidden": [64, 32], "dropout": 0.1, "schedule": "constant"}
    assert implied(*RESTORED, "--normalize=l2", "--learning_rate=0.1") == {**linear, "learning_rate": 0.1}
    assert implied(*RESTORED, "--normalize=sqrt", "--monitor=accuracy") == {
        **linear,
        "normalize": "sqrt",
        "monitor": "accuracy",
    }
    assert implied(*RESTORED, "--normalize=standard") == {**hidden, "normalize": "standard", "learning_rate": 1e-3}


@pytest.mark.parametrize("more", [
    ["--normalize=none"],
    ["--restore=none"],
    ["--optimizer=adam"],
    ["--learning_rate=0.001"],
    ["--train=fire9/.*,logits/.*"],
    ["--unfreeze=5:fire9/.*=0.1"],
    ["--endpoint=pool10"],
    ["--dataset=digits"],
])  # fmt: skip
def test_all_else_keeps_its_defaults(more, capsys):
    untouched = {"normalize": "none", "hidden": [200], "dropout": 0.0, "learning_rate": 1e-3, "schedule": "constant"}
    untouched["monitor"] = "accuracy"
    assert implied(*RESTORED, *more) == untouched
    assert not capsys.readouterr().out


def test_a_run_is_evaluated_and_asked_and_goes_on_as_it_was_begun(flags, tmp_path, capsys):
    training = [*flags, "--endpoint=fire2:mean,fire3:mean", "--normalize=standard", f"--logdir={tmp_path / 'run'}"]
    assert run(train, *training, "--epochs=3") == 0
    said = capsys.readouterr().out
    assert "normalize/" not in re.search(r"trained: (.*)", said)[1]
    accuracy = re.search(r"^test accuracy (\S+)$", said, re.MULTILINE)[1]
    assert run(evaluate, tmp_path / "run") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"test accuracy {accuracy}"
    assert run(predict, flags[4].partition("=")[2], f"--run={tmp_path / 'run'}", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 60
    before = tx.open_weights(tmp_path / "run")["normalize/scale"]
    assert run(train, *[flag for flag in training if "normalize" not in flag], "--epochs=4") == 0
    after = tx.open_weights(tmp_path / "run")
    assert (before.shape, before.tobytes()) == ((256,), after["normalize/scale"].tobytes())
    assert tx.open_run(tmp_path / "run").export(tmp_path / "served").apart < 1e-4


def test_a_run_from_before_there_was_a_choice_goes_on_without(flags, tmp_path, capsys):
    training = [*flags, f"--logdir={tmp_path / 'run'}"]
    assert run(train, *training, "--normalize=none", "--epochs=1") == 0
    path = tmp_path / "run" / "settings.json"
    settings = json.loads(path.read_text())
    assert settings["settings"].pop("normalize") is None
    path.write_text(json.dumps(settings))
    capsys.readouterr()
    assert run(train, *training, "--epochs=2") == 0
    assert "as none is given" not in capsys.readouterr().out
    assert read_settings(tmp_path / "run").fit["epochs"] == 2
    assert "normalize/mean" not in tx.open_weights(tmp_path / "run")
    assert tx.open_run(tmp_path / "run").evaluate().accuracy >= 0
    assert run(train, *training, "--normalize=l2", "--epochs=3") == 1
    assert re.search(r"normalize.*was not set, now \"l2\"", capsys.readouterr().err)
    assert np.isfinite(tx.open_weights(tmp_path / "run")["fc1/kernel"]).all()
