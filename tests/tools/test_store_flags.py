"""What tools/_store.py and --augment make of a training; what they make of an extraction is in test_extract.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.tools.test_predict import coloured, run
from tfxfer import processor
from tfxfer.runs.settings import read_settings
from tfxfer.store import compute, precision
from tfxfer.tools import evaluate, export_model, predict, train

SMALL = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=none",
         "--dataset=folder", "--learning_rate=0.01", "--epochs=3"]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return coloured(tmp_path_factory.mktemp("coloured") / "pictures", 10)


@pytest.fixture
def written(monkeypatch) -> list[int]:
    """How many examples were computed, batch by batch."""
    counts: list[int] = []
    fill = compute.fill
    monkeypatch.setattr("tfxfer.store.extraction.fill", lambda *args: counts.extend(map(len, args[3])) or fill(*args))
    return counts


def accuracy(text: str) -> str:
    return re.findall(r"accuracy (\S+)", text)[-1]


def test_training_sees_crops_with_a_store_as_without_and_the_rest_as_it_is(pictures, tmp_path, capsys, written):
    given = [*SMALL, f"--data_dir={pictures}", "--augment=2"]
    store = f"--store={tmp_path / 'store'}"
    assert run(train, *given, "--store=none", f"--logdir={tmp_path / 'images'}") == 0
    assert run(train, *given, store, f"--logdir={tmp_path / 'features'}") == 0
    assert sum(written) == 24 * 2 + 3 + 3
    states = []
    for name in ("images", "features"):
        stored = read_settings(tmp_path / name).by_name()
        assert (stored["augment"], stored["store_dtype"], stored["save_steps"]) == (2, "float32", 2)  # 48 of 32
        assert not {"workers", "store"} & set(stored)
        (state,) = (tmp_path / name).glob("model.ckpt-6.state.json")
        states.append(json.loads(state.read_text())["history"])
    assert states[0] == states[1]
    said = accuracy(capsys.readouterr().out)
    assert run(evaluate, tmp_path / "features") == 0
    assert accuracy(capsys.readouterr().out) == said
    # A whole picture is not a crop of it: what evaluate measures is as it was found.
    assert run(evaluate, tmp_path / "features", "--split=train", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["examples"] == 24


def test_a_training_goes_on_with_more_workers_but_not_with_other_rows(pictures, tmp_path, capsys, written):
    given = [*SMALL, f"--data_dir={pictures}", f"--store={tmp_path / 'store'}", f"--logdir={tmp_path / 'run'}"]
    assert run(train, *given, "--store_dtype=float16") == 0
    assert run(train, *given, "--store_dtype=float16", "--workers=2") == 0
    assert sum(written) == 30
    capsys.readouterr()
    assert run(train, *given) == 1
    assert re.search(r"store_dtype: was .?float16.?, now .?float32", capsys.readouterr().err)


@pytest.mark.parametrize(("more", "status", "error"), [
    (["--workers=2"], 2, "--workers: give --store too, the directory that is filled"),
    (["--store_dtype=float16", "--workers=1"], 2, "--store_dtype and --workers: give --store too"),
    (["--augment=2"], 1, "--augment=2 takes crops of pictures in files, and --dataset=digits has none"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path, capsys, more, status, error):
    assert run(train, "--restore=none", *more, f"--logdir={tmp_path / 'run'}") == status
    assert error in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_bfloat16_goes_on_and_is_looked_at_in_it(pictures, tmp_path, capsys, monkeypatch, caplog):
    monkeypatch.setattr(processor, "features", lambda: {"amx_bf16"})
    given = [*SMALL, f"--data_dir={pictures}", f"--logdir={tmp_path / 'run'}"]
    assert run(train, *given, "--precision=bfloat16") == 0
    said = accuracy(capsys.readouterr().out)
    training = read_settings(tmp_path / "run").training
    assert (training["precision"], len(training["computed_once"])) == ("bfloat16", 1)
    assert "precision" not in read_settings(tmp_path / "run").settings
    assert run(evaluate, tmp_path / "run") == 0
    assert accuracy(capsys.readouterr().out) == said
    # It goes on as it was, where nobody says otherwise.
    monkeypatch.setattr(precision, "measure", lambda *args: pytest.fail("it was measured"))
    assert run(train, *given, "--epochs=4", "--precision=auto") == 0
    assert run(train, *given, "--epochs=4", "--precision=float32") == 1
    assert '--precision: was "bfloat16", now not set' in capsys.readouterr().err
    # On another processor.
    monkeypatch.setattr(processor, "features", lambda: {"avx2"})
    picture = next(pictures.rglob("*.png"))
    for tool, arguments in (
        (evaluate, [tmp_path / "run"]),
        (predict, [picture, f"--run={tmp_path / 'run'}"]),
        (export_model, [tmp_path / "run", tmp_path / "served"]),
    ):
        caplog.clear()
        assert run(tool, *arguments) == 0
        assert "here they compute in plain float32, " in caplog.text
        assert "on 3 validation examples, probabilities differed by" in caplog.text
    caplog.clear()
    assert run(predict, picture, f"--run={tmp_path / 'run'}", "--precision=float32") == 0
    assert caplog.text == ""
    capsys.readouterr()
    assert run(predict, picture, f"--run={tmp_path / 'run'}", "--precision=bfloat16") == 1
    assert "--precision=bfloat16: this processor has none of amx_bf16" in capsys.readouterr().err
    assert run(predict, picture, f"--run={tmp_path / 'served'}", "--precision=float32") == 2
    assert "is an export, which computes in float32; leave it out" in capsys.readouterr().err


def test_a_folded_run_goes_on_and_is_looked_at_so_on_any_processor(pictures, tmp_path, capsys, monkeypatch, caplog):
    monkeypatch.setattr(processor, "features", lambda: {"avx2"})
    given = [*SMALL[1:], "--model=resnet18", "--endpoint=stem:mean", f"--data_dir={pictures}"]
    given.append(f"--logdir={tmp_path / 'run'}")
    assert run(train, *given, "--precision=folded") == 0
    said = accuracy(capsys.readouterr().out)
    assert read_settings(tmp_path / "run").training["precision"] == "folded"
    assert run(evaluate, tmp_path / "run") == 0
    assert accuracy(capsys.readouterr().out) == said
    assert run(train, *given, "--epochs=4", "--precision=auto") == 0
    assert run(predict, next(pictures.rglob("*.png")), f"--run={tmp_path / 'run'}", "--precision=folded") == 0
    assert "plain float32" not in caplog.text
    assert run(train, *given, "--epochs=5", "--precision=float32") == 1
    assert '--precision: was "folded", now not set' in capsys.readouterr().err
    assert run(export_model, tmp_path / "run", tmp_path / "served") == 0
    assert (
        "in float32 with batch normalisation and padding folded; here they compute in plain float32, as everything"
        in caplog.text
    )


def test_bfloat16_without_a_store_is_refused_and_auto_does_without(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: {"amx_bf16"})
    given = [*SMALL, f"--data_dir={pictures}", f"--logdir={tmp_path / 'run'}", "--epochs=1"]
    assert run(train, *given, "--precision=bfloat16", "--store=none") == 2
    assert "--precision: not used with --store=none; leave one of the two out" in capsys.readouterr().err
    large = [each.replace("conv1:mean", "conv1") for each in given]  # more than a picture has: not stored by default
    assert run(train, *large, "--precision=bfloat16") == 1
    assert "--precision=bfloat16: nothing is stored here" in capsys.readouterr().err
    assert run(train, *large, "--precision=folded") == 1
    assert "--precision=folded: nothing is stored here" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert run(train, *large, "--precision=auto") == 0
    assert "precision" not in read_settings(tmp_path / "run").training
    assert run(train, *large, f"--logdir={tmp_path / 'b'}", "--precision=bfloat16", f"--store={tmp_path / 's'}") == 0
    assert read_settings(tmp_path / "b").training["precision"] == "bfloat16"
