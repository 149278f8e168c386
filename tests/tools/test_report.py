"""tools/report.py: the command that it says repeats a run, and what it prints."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import made_runs
from tfxfer import reports
from tfxfer.tools import _flags, pretrain, report, train

COMMAND = Path(sys.executable).with_name("tfxfer")
# Flags of every kind, each with what the shell or the flag itself might take for something else.
FLAGS = [
    "--model=squeezenet1_1",
    "--weights=my weights/$HOME.npz",
    r"--rename=(conv\d)_W=\1/kernel",
    "--rename=a b=c",
    "--restore=conv.{1,2}/.*",
    "--restore=fire2/.*",
    "--lr_multipliers=fc.*=0.5",
    "--lr_multipliers=logits/.*=2",
    "--unfreeze=3:fire9/.*=0.01",
    "--hidden=none",
    "--learning_rate=3e-4",
    "--dataset=folder",
    "--data_dir=it's here",
    "--patience=3",
    "--epochs=7",
]


def settings_of(tool, flags: list[str]) -> dict:
    """Return what a run stores of these flags."""
    from tfxfer.tools import _training_flags

    values = tool.define_flags()
    _flags.parse(values, ["tool", *flags], "")
    options = _training_flags.fitting(values)
    numbers = {name: options[name] for name in ("epochs", "batch_size", "seed", "patience")}
    numbers |= {**vars(options["checkpoints"]), "summary_steps": options["summaries"].summary_steps}
    return json.loads(json.dumps({**numbers, **options["settings"], "save_steps": 40, "validation_steps": 40}))


def words(run: Path) -> list[str]:
    return shlex.split(report.command(reports.read(run)).replace("\\\n", " "))


def test_the_command_of_a_training_sets_every_flag_as_it_was(tmp_path):
    wanted = settings_of(train, FLAGS)
    run = made_runs.make(tmp_path / "my run", **{**wanted, "stages": []})
    tfxfer, tool, *flags = words(run)
    assert (tfxfer, tool) == ("tfxfer", "train")
    assert flags[-1] == "--logdir=runs/my run-again"
    assert settings_of(train, flags) == wanted


def test_the_command_leaves_out_what_is_as_it_would_be_anyway(tmp_path):
    run = made_runs.make(tmp_path / "run", **settings_of(train, ["--weights=/weights/w"]))
    assert words(run) == ["tfxfer", "train", "--weights=/weights/w", "--logdir=runs/run-again"]


def test_the_command_of_a_pretraining_names_what_it_saves(tmp_path):
    wanted = settings_of(pretrain, ["--mask=0.75", "--save=conv1/.*", "--epochs=3"])
    made_runs.write(tmp_path / "run", "settings.json", wanted)
    tfxfer, tool, out, *flags = words(tmp_path / "run")
    assert (tfxfer, tool, out) == ("tfxfer", "pretrain", "runs/run-again")
    assert settings_of(pretrain, flags) | {"save_steps": 40, "validation_steps": 40} == wanted


def test_a_run_by_the_library_has_no_command(tmp_path):
    made_runs.write(tmp_path / "run", "settings.json", {"epochs": 3})
    assert report.command(reports.read(tmp_path / "run")) is None
    assert "made by a program of its own" in reports.report(tmp_path / "run").html


@pytest.mark.parametrize("value", [True, None, 3, "x", [[1]], {"a": 1}, [None], [[1, 2, 3]]])
@pytest.mark.parametrize("name", ["unfreeze", "rename", "hidden", "lr_multipliers", "epochs", "most_bad"])
def test_settings_of_another_kind_leave_a_command_all_the_same(tmp_path, name, value):
    run = made_runs.make(tmp_path / "run", **{name: value})
    assert report.command(reports.read(run)).startswith("tfxfer train")


def test_it_writes_the_page_and_says_where_and_how_good(tmp_path):
    made_runs.make(tmp_path / "run")
    done = subprocess.run([COMMAND, "report", "run"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"run/report.html: test accuracy 0\.\d{4}, \d+ of 60\n", done.stdout)
    assert (tmp_path / "run/report.html").read_text().startswith("<!DOCTYPE html>\n<html")


def test_out_may_be_elsewhere_and_what_is_missing_is_said(tmp_path, capsys):
    run = made_runs.make(tmp_path / "run")
    (run / "test.json").unlink()
    assert _flags.run(report.main, ["tfxfer report", str(run), f"--out={tmp_path / 'page.html'}"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("  It was not tested: `tfxfer evaluate` on the run adds")
    assert said.endswith(f"{tmp_path / 'page.html'}: validation accuracy 0.8250\n")
    assert not (run / "report.html").exists()
    assert _flags.run(report.main, ["tfxfer report", str(run), f"--out={tmp_path}/no/page.html"]) == 1
    assert "No such file or directory" in capsys.readouterr().err


def test_a_report_is_written_again_and_nothing_else_is_replaced(tmp_path, capsys):
    run = made_runs.make(tmp_path / "run")
    thesis = tmp_path / "thesis.html"
    thesis.write_text("<!DOCTYPE html>\n<html><body>mine</body></html>\n")
    for out in (thesis, run / "settings.json"):
        before = out.read_bytes()
        assert _flags.run(report.main, ["tfxfer report", str(run), f"--out={out}"]) == 1
        assert f"{out} exists and is not a report of tfxfer; take another name" in capsys.readouterr().err
        assert out.read_bytes() == before
    for flags in ([], [f"--out={tmp_path / 'page.html'}"]):
        for _ in ("written", "written again"):
            assert _flags.run(report.main, ["tfxfer report", str(run), *flags]) == 0


def test_a_foreign_directory_is_a_clear_error(tmp_path, capsys):
    assert _flags.run(report.main, ["tfxfer report", str(tmp_path)]) == 1
    assert "RunError: " in capsys.readouterr().err
    assert _flags.run(report.main, ["tfxfer report"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_page_of_a_real_run_has_every_part(tmp_path, capsys):
    flags = [f"--weights={made_runs.CHECKPOINT}", "--epochs=2", "--unfreeze=1:conv2/.*=0.1"]
    assert _flags.run(train.main, ["tfxfer train", *flags, f"--logdir={tmp_path / 'run'}"]) == 0
    found = re.search(r"^test accuracy (\S+)$", capsys.readouterr().out, re.MULTILINE)[1]
    assert _flags.run(report.main, ["tfxfer report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'run'}/report.html: test accuracy {found}, ")
    run = reports.read(tmp_path / "run")
    assert (run.faults, reports.Report(run).missing, len(run.history)) == ([], [], 4)
    assert run.test.mistakes
    assert all(mistake.picture for mistake in run.test.mistakes)
    text = (tmp_path / "run/report.html").read_text()
    for part in ("curves", "confusion", "classes", "mistakes", "filters", "plan", "frozen", "settings", "environment"):
        assert f'<section id="{part}"' in text
    assert "Frozen: they are the same, bit for bit" in text
    assert "trained from epoch 2" in text
    assert "learning rate, times 0.1, from epoch 2" in text
    assert sorted(words(tmp_path / "run")[2:]) == sorted([*flags, "--logdir=runs/run-again"])
