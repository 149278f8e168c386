"""The tool that compares two files: its exit status, flags and refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest

from tests.weights.test_bundle import save
from tfxfer.tools import _flags, diff_weights

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "checkpoints/digits_autoencoder"
RNG = np.random.default_rng(0)
FLOATS = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def run(*args: object) -> int:
    return _flags.run(diff_weights.main, ["tfxfer diff_weights", *map(str, args)])


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    """The same weights as a checkpoint and, under other names, as an archive."""
    kernel, bias = RNG.normal(size=(3, 3, 1, 2)).astype(np.float32), np.zeros(2, np.float32)
    np.savez(tmp_path / "a.npz", conv1_1_W=kernel, conv1_1_b=bias)
    return tmp_path / "a.npz", save(tmp_path / "b", {"conv1_1/kernel": kernel, "conv1_1/bias": bias})


RULES = (r"--rename=(conv\d_\d)_W=\1/kernel", "--rename=_b$=/bias")


def test_equal_is_status_0_and_different_is_3(two, capsys):
    assert run(*two, *RULES) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"A is {two[0]} (NumPy .npz archive, 2 tensors)"
    assert lines[-1] == "equal: all 2"
    assert run(*two) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "different: 2 only in A, 2 only in B; equal: 0"


def test_a_tolerance_makes_a_small_difference_equal(two, tmp_path, capsys):
    with np.load(two[0]) as archive:
        moved = {name: archive[name] + np.float32(1e-4) for name in archive}
    np.savez(tmp_path / "c.npz", **moved)
    assert run(two[0], tmp_path / "c.npz") == 3
    assert "  conv1_1_b  (2,)" in capsys.readouterr().out
    assert run(two[0], tmp_path / "c.npz", "--atol=1e-3") == 0


def test_a_selection_leaves_the_rest_out(two, capsys):
    assert run(*two, "--select=.*_W,.*/kernel", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (list(found["only_in_a"]), list(found["only_in_b"])) == (["conv1_1_W"], ["conv1_1/kernel"])


@pytest.mark.parametrize(("args", "status", "error"), [
    (["nowhere", DIGITS], 1, "nowhere is neither a file nor a checkpoint"),
    ([DIGITS, DIGITS, "--rename=x=y"], 1, "the rename rule 'x' matches none of the 4 names"),
    ([DIGITS, DIGITS, "--select=fc.*"], 1, "match none of the 4 variables"),
    ([DIGITS, DIGITS, "--rtol=-1"], 2, "--rtol"),
    ([DIGITS], 2, "1 arguments are too few, 2 are needed"),
])  # fmt: skip
def test_what_cannot_be_done_is_refused_in_a_line(args, status, error, capsys):
    assert run(*args) == status
    assert error in capsys.readouterr().err


def test_the_command_ends_with_the_status(two):
    code = "from tfxfer.tools._main import main; import sys; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "diff_weights", *two], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")


def test_real_files_equal_themselves_and_each_other_across_formats(real_data, tmp_path, capsys, monkeypatch):
    monkeypatch.undo()
    keras = [real_data("keras") / f"keras3_mnist.{end}" for end in ("keras", "weights.h5")]
    assert run(*keras) == 0
    assert run(real_data("keras/keras3_mnist.h5"), keras[0], "--select=dense.*") == 0
    copied = tmp_path / "copy.npz"
    shutil.copy(real_data("weights/squeezenet1_0.npz"), copied)
    assert run(real_data("weights/squeezenet1_0.npz"), copied) == 0
    capsys.readouterr()
