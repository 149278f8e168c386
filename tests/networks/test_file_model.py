"""Networks in files as the tools take them: trained, stopped and gone on with, evaluated, predicted with, exported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.networks.made import write_trained
from tests.tools.test_predict import COLOURS, coloured, run
from tfxfer.tools import evaluate, export_model, extract, predict, train

WAY = ["--endpoint=pool", "--feed=is_training=False", "--feed=keep_prob=1.0", "--input_spec=tf"]
FEW = ["--hidden=none", "--learning_rate=0.05", "--batch_size=16"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with `model.ckpt`, that plain TensorFlow wrote, and `pictures` of three colours."""
    top = tmp_path_factory.mktemp("made")
    coloured(top / "pictures")
    write_trained(str(top / "model.ckpt"))
    return top


@pytest.fixture(scope="module")
def trained(made):
    """The folder, with `run`, in which a head was trained on `pool` of the MetaGraph, and `store`."""
    assert run(train, f"--model={made}/model.ckpt.meta", *WAY, *FEW, "--epochs=4", f"--data_dir={made}/pictures",
               f"--store={made}/store", f"--logdir={made}/run") == 0  # fmt: skip
    return made


def same(a, b):
    """Whether two runs ended with the same bits."""
    first, second = (tx.open_run(path).weights("last") for path in (a, b))
    return list(first) == list(second) and all(np.array_equal(first[name], second[name]) for name in first)


def test_a_head_on_a_tensor_in_the_middle_is_trained_and_the_rest_stays(trained):
    opened = tx.open_run(trained / "run")
    assert opened.best["accuracy"] > 0.9
    before, after = tx.open_weights(str(trained / "model.ckpt")), opened.weights("last")
    for name in ("conv1/kernel", "bn1/gamma", "bn1/beta", "bn1/moving_mean", "bn1/moving_variance", "conv2/kernel"):
        np.testing.assert_array_equal(before[name], after[name])
    assert not [name for name in after if "Adam" in name and "logits" not in name]


def test_a_run_that_was_stopped_goes_on_bit_for_bit_also_where_the_file_has_moved(trained, tmp_path):
    for file in trained.glob("model.ckpt*"):
        shutil.copy(file, tmp_path)
    half = [*WAY, *FEW, f"--data_dir={trained}/pictures", f"--logdir={tmp_path}/run"]
    assert run(train, f"--model={trained}/model.ckpt.meta", *half, "--epochs=2") == 0
    assert run(train, f"--model={tmp_path}/model.ckpt", *half, "--epochs=4") == 0
    assert same(tmp_path / "run", trained / "run")


def test_a_run_goes_on_with_the_same_network_alone(trained, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "run")
    flags = [*FEW, "--epochs=5", f"--data_dir={trained}/pictures", f"--logdir={tmp_path}/run"]
    assert run(train, f"--model={trained}/model.ckpt.meta", "--endpoint=relu1:mean", *WAY[1:], *flags) == 1
    said = capsys.readouterr().err
    assert "`--endpoint`" in said or "--endpoint: was" in said
    write_trained(str(tmp_path / "model.ckpt"))
    assert run(train, f"--model={tmp_path}/model.ckpt", *WAY, "--moving_averages", *flags) == 1
    assert "--moving_averages" in capsys.readouterr().err


def test_in_a_fresh_process_without_the_file_a_run_is_evaluated_predicts_and_is_exported(trained, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    shutil.copytree(trained / "run", tmp_path / "run")
    code = (
        "import sys; from tfxfer.tools import _flags, evaluate, predict, export_model\n"
        "run, picture, out = sys.argv[1:]\n"
        "status = [_flags.run(evaluate.main, ['evaluate', run]),\n"
        "    _flags.run(predict.main, ['predict', picture, f'--run={run}', '--json']),\n"
        "    _flags.run(export_model.main, ['export_model', run, out]),\n"
        "    _flags.run(predict.main, ['predict', picture, f'--run={out}', '--json'])]\n"
        "sys.exit(max(status))"
    )
    hidden = trained / "hidden"
    hidden.mkdir()
    files = list(trained.glob("model.ckpt*"))
    try:
        for file in files:
            file.rename(hidden / file.name)
        command = [sys.executable, "-c", code, str(tmp_path / "run"), f"{trained}/pictures/rose/0.png"]
        done = subprocess.run([*command, f"{tmp_path}/out"], capture_output=True, text=True, check=False)
    finally:
        for file in files:
            (hidden / file.name).rename(file)
        hidden.rmdir()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    accuracy = tx.open_run(trained / "run").test.metrics["accuracy"]
    assert f"test accuracy {accuracy:.4f}" in lines
    by_run, by_export = (json.loads(line) for line in lines if line.startswith("{"))
    assert by_run["predictions"][0]["top"][0]["name"] == "rose"
    assert by_run["model"] == "model.ckpt"
    a, b = (each["predictions"][0]["top"][0]["probability"] for each in (by_run, by_export))
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_what_a_run_says_is_what_plain_tensorflow_says_of_the_file_and_the_head(trained):
    opened = tx.open_run(trained / "run")
    weights = opened.weights()
    pixels = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    with tf.Graph().as_default(), tf.Session() as sess:
        saver = tf.train.import_meta_graph(f"{trained}/model.ckpt.meta")
        saver.restore(sess, f"{trained}/model.ckpt")
        fed = {"batch:0": pixels / np.float32(127.5) - 1, "is_training:0": False, "keep_prob:0": 1.0}
        pool = sess.run("pool:0", fed)
        logits = pool @ weights["logits/kernel"] + weights["logits/bias"]
        expected = sess.run(tf.nn.softmax(logits))
    said = opened.predict(pixels, top_k=3)
    np.testing.assert_allclose(np.take_along_axis(expected, said.classes, 1), said.probabilities, rtol=1e-4)


def test_features_of_a_file_are_extracted(trained, capsys):
    codes = trained / "codes"
    assert run(extract, codes, f"--model={trained}/model.ckpt.meta", "--endpoint=relu2:mean", *WAY[1:],
               f"--data_dir={trained}/pictures") == 0  # fmt: skip
    assert "relu2:mean (60, 8), computed in float32" in capsys.readouterr().out
    table = np.load(codes / "codes.npy")
    first = (codes / "paths.txt").read_text().splitlines()[0]
    from tfxfer.data.pictures import Pictures

    pixels = Pictures([first], (16, 16))[:]
    with tf.Graph().as_default(), tf.Session() as sess:
        saver = tf.train.import_meta_graph(f"{trained}/model.ckpt.meta")
        saver.restore(sess, f"{trained}/model.ckpt")
        fed = {"batch:0": pixels / np.float32(127.5) - 1, "is_training:0": False, "keep_prob:0": 1.0}
        np.testing.assert_allclose(table[:1], sess.run("pool:0", fed), rtol=1e-4, atol=1e-6)
