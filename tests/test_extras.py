"""What is said where a package is missing that only some jobs need, and that the others go on without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfxfer as tx
from tfxfer import extras
from tfxfer.errors import MissingPackageError

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "checkpoints" / "digits_autoencoder"


def run_without(packages: list[str], *tools: list[object]) -> tuple[list[int], str, str]:
    """Run tools, one after the other, in a process that cannot import the packages; return the statuses and output."""
    commands = [[f"tfxfer {name}", *map(str, flags)] for name, *flags in tools]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({packages!r}))
import importlib, json
from tfxfer.tools import _flags
statuses = []
for command in {commands!r}:
    tool = importlib.import_module("tfxfer.tools." + command[0].split()[1])
    statuses.append(_flags.run(tool.main, command))
print(json.dumps(statuses))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout, done.stderr


def test_the_main_job_needs_no_extra(tmp_path):
    logdir = tmp_path / "run"
    statuses, out, err = run_without(
        ["matplotlib", "pooch", "h5py"],
        ["train", f"--weights={DIGITS}", f"--logdir={logdir}", "--epochs=2"],
        ["evaluate", f"{logdir}"],
        ["report", f"{logdir}"],
        ["convert_weights", DIGITS, tmp_path / "digits.npz"],
        ["fetch", "--list"],
    )
    assert statuses == [0, 0, 0, 0, 0]
    assert "test accuracy 0." in out
    assert json.loads((logdir / "test.json").read_text())["mistakes"][0]["picture"].endswith(".png")
    note = "confusion matrix and mistakes are not drawn: pictures are drawn by matplotlib, which is not installed"
    assert note in out + err


def test_each_tool_that_needs_an_extra_says_how_to_install_it_before_it_does_anything(tmp_path):
    codes = tmp_path / "codes.npy"
    tools = [
        ["fetch", "mnist", f"--dir={tmp_path / 'data'}"],
        ["convert_weights", DIGITS, tmp_path / "digits.h5"],
        ["train", f"--logdir={tmp_path / 'run'}", f"--picture={tmp_path / 'run.png'}"],
        ["train", f"--weights={DIGITS}", f"--logdir={tmp_path / 'run'}", "--summaries=confusion"],
        ["predict", "x.png", f"--run={tmp_path / 'run'}", f"--picture={tmp_path / 'x.png'}"],
        ["plot_features", codes, tmp_path / "codes.png"],
    ]
    statuses, _, err = run_without(["matplotlib", "pooch", "h5py"], *tools)
    assert statuses == [1] * len(tools)
    assert [line.partition(" which ")[2] for line in err.splitlines() if line.startswith("MissingPackageError: ")] == [
        f"is not installed: pip install 'tfxfer[{extra}]'"
        for extra in ("fetch", "keras", "plots", "plots", "plots", "plots")
    ]
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []


def test_a_missing_package_is_an_import_error_and_a_refusal(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert not extras.installed("h5py")
    with pytest.raises(
        MissingPackageError, match=r"h5py, which is not installed: pip install 'tfxfer\[keras\]'"
    ) as info:
        extras.load("h5py")
    assert isinstance(info.value, ImportError | tx.errors.TfxferError)


def test_a_package_that_is_there_but_broken_keeps_its_own_error(monkeypatch, tmp_path):
    (tmp_path / "pooch.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pooch", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        extras.load("pooch")


def test_setup_names_every_extra_and_requires_none_of_them():
    setup = (ROOT / "setup.py").read_text()
    required, _, optional = setup.partition("extras_require")
    for package, extra in (("matplotlib", "plots"), ("pooch", "fetch"), ("h5py", "keras")):
        assert f'"{extra}": ["{package}"]' in setup
        assert f'"{package}",' not in required.partition("install_requires")[2]
    assert '"all": ALL' in optional
    assert "*ALL" in optional
