"""`tfxfer graft_weights` as a user runs it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tfxfer.tools import _flags, graft_weights
from tfxfer.weights import open_weights, streams, writers

LAYERS = [f"{layer}/{kind}" for layer in ("conv1", "fc") for kind in ("bias", "kernel")]


def run(*args: object) -> int:
    return _flags.run(graft_weights.main, ["tfxfer graft_weights", *map(str, args)])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Weights of three trainings, of different formats, one of them under a name with `=`."""
    (tmp_path / "lr=0.1").mkdir()
    for value, name in enumerate(["a.npz", "b.h5", "lr=0.1/model-7"]):
        arrays = {layer: streams.held(np.full(3, value, np.float32)) for layer in LAYERS}
        writers.write(tmp_path / name, arrays)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def first(path: str) -> dict[str, float]:
    return {name: float(array[0]) for name, array in open_weights(path).items()}


def test_a_set_is_made_of_three_files(folder, capsys):
    assert run("--base=a.npz", "--take=fc/.*=b.h5", "--take=conv.*=lr=0.1/model-7", "out.safetensors") == 0
    assert first("out.safetensors") == {"conv1/bias": 2, "conv1/kernel": 2, "fc/bias": 1, "fc/kernel": 1}
    assert capsys.readouterr().out == "out.safetensors: safetensors file, 4 tensors, 12 parameters, 48 bytes\n"


def test_a_folder_with_an_equals_sign_is_found(folder):
    assert run("--base=a.npz", "--take=fc/.*=lr=0.1", "out") == 0
    assert first("out")["fc/kernel"] == 2


def test_where_everything_comes_from_is_shown_before_anything_is_written(folder, capsys):
    before = sorted(os.listdir())
    assert run("--base=a.npz", "--take=fc/.*=b.h5", "out.ckpt", "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["name", "shape", "dtype", "from"],
        ["conv1/bias", "(3,)", "float32", "a.npz"],
        ["conv1/kernel", "(3,)", "float32", "a.npz"],
        ["fc/bias", "(3,)", "float32", "b.h5"],
        ["fc/kernel", "(3,)", "float32", "b.h5"],
    ]
    assert lines[-1] == "out.ckpt would be: TensorFlow checkpoint V2, 4 tensors, 12 parameters, 48 bytes"
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--base=a.npz", "out"], 2, "UsageError: nothing is taken: give --take='REGEX=FILE', once or more"),
        (
            ["--base=a.npz", "--take=x", "out"],
            2,
            "UsageError: flag --take=x: write REGEX=FILE, as in 'conv.*=runs/a/best",
        ),
        (
            ["--base=a.npz", "--take=(x=b.h5", "out"],
            2,
            "UsageError: flag --take=(x=b.h5: '(x' is not a regular expression",
        ),
        (["--base=a.npz", "--take=fc/.*=b.h5"], 2, "UsageError: 0 arguments are too few, 1 are needed; see --help"),
        (
            ["--base=a.npz", "--take=fc/.*=b.h5", "a.npz", "--overwrite"],
            1,
            "WeightsError: a.npz is where a.npz is read",
        ),
        (
            ["--base=a.npz", "--take=fc/.*=b.h5", "b.h5", "--overwrite"],
            1,
            "WeightsError: b.h5 is where b.h5 is read from",
        ),
        (["--base=a.npz", "--take=fc/.*=c.h5", "out"], 1, "WeightsError: c.h5 is neither a file nor a checkpoint"),
        (
            ["--base=a.npz", "--take=fc6.*=b.h5", "out"],
            1,
            "SelectionError: nothing is taken from b.h5: 1 of the patterns",
        ),
        (
            ["--base=a.npz", "--take=.*/kernel=b.h5", "out"],
            1,
            "WeightsError: the graft leaves 2 holes:\n  conv1: conv1/",
        ),
        (
            ["--take=fc/kernel=b.h5", "out"],
            1,
            "WeightsError: the graft leaves a hole:\n  fc/bias: the rest of fc comes",
        ),
    ],
)
def test_mistakes_are_answered_and_nothing_is_written(folder, capsys, args, status, message):
    before = sorted(os.listdir())
    assert run(*args) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message)
    assert sorted(os.listdir()) == before


def test_layers_are_mixed_where_that_is_asked_for(folder):
    assert run("--base=a.npz", "--take=.*/kernel=b.h5", "out.npz", "--mix_layers") == 0
    assert first("out.npz") == {"conv1/bias": 0, "conv1/kernel": 1, "fc/bias": 0, "fc/kernel": 1}


def test_real_convolutions_go_under_a_real_head(real_data, tmp_path, capsys):
    vgg = real_data("weights/vgg16_blocks1-3.npz")
    tensors = {name: open_weights(vgg).tensor(name) for name in open_weights(vgg) if name.startswith("conv3")}
    other = {name: streams.held(tensor.read() + 1) for name, tensor in tensors.items()}
    writers.write(tmp_path / "other.ckpt", other)
    assert run(f"--base={vgg}", f"--take=conv3.*={tmp_path / 'other.ckpt'}", tmp_path / "out.npz") == 0
    found, expected = open_weights(tmp_path / "out.npz"), open_weights(vgg)
    assert list(found) == list(expected)
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name] + name.startswith("conv3"))
