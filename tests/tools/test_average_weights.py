"""`tfxfer average_weights` as a user runs it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.tools import _flags, average_weights
from tfxfer.weights import open_weights


def run(*args: object) -> int:
    return _flags.run(average_weights.main, ["tfxfer average_weights", *map(str, args)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with checkpoints of steps 8 to 11 of a training with Adam."""
    folder = tmp_path_factory.mktemp("trained")
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.get_variable("fc/kernel", [3, 2])
        step = tf.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(x * x), tf.train.create_global_step())
        sess.run(tf.global_variables_initializer())
        saver = tf.train.Saver(max_to_keep=4)
        for number in range(1, 12):
            sess.run(step)
            saver.save(sess, str(folder / "model.ckpt"), global_step=number)
    return folder


def test_the_last_checkpoints_of_a_run_are_averaged_and_restored(trained, tmp_path, capsys):
    out = tmp_path / "averaged.ckpt"
    assert run(f"--dir={trained}", "--last=3", out) == 0
    kernels = [open_weights(trained / f"model.ckpt-{n}")["fc/kernel"].astype(np.float64) for n in (9, 10, 11)]
    expected = sum(kernel / 3 for kernel in kernels).astype(np.float32)
    assert capsys.readouterr().out.splitlines() == [
        f"note: not averaged but as in {trained / 'model.ckpt-11'}: global_step",
        "note: 4 optimizer slots left out",
        f"{out}: TensorFlow checkpoint V2, 2 tensors, 7 parameters, 32 bytes",
    ]
    with tf.Graph().as_default(), tf.Session() as sess:
        variables = [tf.get_variable("fc/kernel", [3, 2]), tf.train.create_global_step()]
        tf.train.Saver().restore(sess, str(out))
        kernel, step = sess.run(variables)
    np.testing.assert_array_equal(kernel, expected)
    assert step == 11


@pytest.mark.parametrize("flag", ["--dry_run", "--nodry_run"])
def test_names_are_shown_and_not_obeyed(flag, tmp_path, capsys):
    arrays = {"\x1b]0;owned\x07": np.ones(1), "a\x9b2Jb": np.array(3), "w\u00e9": np.ones(2)}
    np.savez(tmp_path / "a.npz", **arrays)
    assert run(tmp_path / "a.npz", tmp_path / "a.npz", tmp_path / "\x1b[2J.npz", flag) == 0
    said = capsys.readouterr().out
    assert all(letter == "\n" or letter.isprintable() for letter in said)
    assert r"a\x9b2Jb" in said
    assert r"\x1b[2J.npz" in said


def test_files_are_averaged_by_coefficients_in_their_order(trained, tmp_path):
    files = [trained / "model.ckpt-8", trained / "model.ckpt-11"]
    assert run(*files, tmp_path / "a.npz", "--coefficients=3,1") == 0
    first, last = (open_weights(path)["fc/kernel"].astype(np.float64) for path in files)
    found = open_weights(tmp_path / "a.npz")["fc/kernel"]
    np.testing.assert_array_equal(found, (0.75 * first + 0.25 * last).astype(np.float32))


def test_what_would_be_written_is_shown(trained, tmp_path, capsys):
    assert run(f"--dir={trained}", "--last=2", tmp_path / "a.h5", "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [["name", "shape", "dtype"], ["fc/kernel", "(3,", "2)", "float32"]]
    assert lines[-1] == f"{tmp_path / 'a.h5'} would be: Keras HDF5 file, 2 tensors, 7 parameters, 32 bytes"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["a.npz"], 2, "UsageError: give either two files or more and OUT, or --dir, --last and OUT; see --help"),
        (["DIR/model.ckpt-8", "DIR/model.ckpt-9", "a", "--last=2"], 2, "UsageError: give either two files or more"),
        (["--dir=DIR", "a"], 2, "UsageError: give either two files or more"),
        (["--dir=DIR", "--last=1", "a"], 2, "UsageError: flag --last=1: 1 is not"),
        (["DIR/model.ckpt-8", "a"], 1, "WeightsError: 1 file has no average; give two or more"),
        (
            ["--dir=DIR", "--last=5", "a"],
            1,
            "WeightsError: DIR holds 4 checkpoints, not 5: model.ckpt-10, model.ckpt-11",
        ),
        (
            ["--dir=DIR", "--last=2", "a", "--coefficients=1,x"],
            2,
            "UsageError: --coefficients=1,x: write numbers, as in 1",
        ),
        (
            ["--dir=DIR", "--last=2", "a", "--coefficients=1,2,3"],
            1,
            "WeightsError: the coefficients 1.0, 2.0, 3.0 do not",
        ),
        (
            ["DIR/model.ckpt-8", "other.npz", "a"],
            1,
            "WeightsError: 2 tensors are not the same in all 2 files:\n  fc/kernel: ",
        ),
        (["DIR/model.ckpt-8", "other.npz", "other.npz", "--overwrite"], 1, "WeightsError: 2 tensors are not the same"),
        (
            ["other.npz", "other.npz", "other.npz", "--overwrite"],
            1,
            "WeightsError: other.npz is where other.npz is read",
        ),
    ],
)
def test_mistakes_are_answered_and_nothing_is_written(trained, tmp_path, monkeypatch, capsys, args, status, message):
    monkeypatch.chdir(tmp_path)
    np.savez("other.npz", **{"fc/kernel": np.ones((3, 3), np.float32)})
    assert run(*(arg.replace("DIR", str(trained)) for arg in args)) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message.replace("DIR", str(trained)))
    assert os.listdir() == ["other.npz"]
