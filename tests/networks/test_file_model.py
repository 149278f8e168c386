"""Networks in files as the tools take them: trained, stopped and gone on with, evaluated, predicted with, exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.networks.made import write_frozen, write_trained
from tests.tools.test_predict import coloured, run
from tfxfer.tools import compare_outputs, evaluate, export_model, extract, predict, train

M = "--model={made}/model.ckpt"
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


@pytest.mark.slow
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


# --- a frozen graph ---


@pytest.fixture(scope="module")
def frozen(made):
    """The same network with its variables as constants and a softmax, `frozen.pb`."""
    write_frozen(str(made / "frozen.pb"), str(made / "frozen.ckpt"))
    return made


def test_a_frozen_graph_is_trained_further_and_its_run_needs_no_file(frozen, tmp_path, capsys):
    flags = [*WAY, *FEW, "--epochs=2", f"--data_dir={frozen}/pictures", f"--logdir={tmp_path}/run"]
    shutil.copy(frozen / "frozen.pb", tmp_path / "mine.pb")
    assert run(train, f"--model={tmp_path}/mine.pb", *flags, "--train=conv2/.*", "--train=logits/.*") == 0
    (tmp_path / "mine.pb").unlink()
    before, after = tx.open_weights(str(frozen / "frozen.pb")), tx.open_run(tmp_path / "run").weights("last")
    np.testing.assert_array_equal(before["conv1/kernel"], after["conv1/kernel"])
    changed = [name for name in before if name in after and not np.array_equal(before[name], after[name])]
    assert changed
    assert all(name.startswith("conv2/") for name in changed)
    capsys.readouterr()
    assert run(evaluate, tmp_path / "run") == 0
    assert run(predict, frozen / "pictures/rose/0.png", f"--run={tmp_path}/run") == 0
    assert run(export_model, tmp_path / "run", tmp_path / "out") == 0


def test_a_networks_own_classes_are_predicted_and_exported(frozen, tmp_path, capsys):
    way = [f"--model={frozen}/frozen.pb", *WAY[1:]]
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    picture = frozen / "pictures/rose/0.png"
    assert run(predict, picture, *way, f"--class_names={tmp_path}/names.txt", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in said["predictions"][0]["top"]} == {"cat", "dog"}
    assert run(export_model, tmp_path / "out", *way) == 0
    capsys.readouterr()
    assert run(predict, picture, f"--run={tmp_path}/out", "--json") == 0
    served = json.loads(capsys.readouterr().out)
    a, b = ([row["probability"] for row in each["predictions"][0]["top"]] for each in (said, served))
    np.testing.assert_allclose(a, b, rtol=1e-4)
    assert run(predict, picture, *way, "--endpoint=logits") == 1
    assert "logits (None, 2) is a MatMul, and not probabilities of classes" in capsys.readouterr().err


def test_two_files_of_weights_are_compared_by_the_network_in_a_file(made, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", **tx.open_weights(str(made / "model.ckpt")))
    pair = [f"{made}/model.ckpt", tmp_path / "other.npz"]
    assert run(compare_outputs, *pair, f"--model={made}/model.ckpt", *WAY) == 0
    assert "equal to the last bit" in capsys.readouterr().out
    weights = dict(tx.open_weights(str(made / "model.ckpt")))
    weights["conv2/kernel"] = weights["conv2/kernel"] * 2
    np.savez(tmp_path / "changed.npz", **weights)
    assert run(compare_outputs, pair[0], tmp_path / "changed.npz", f"--model={made}/model.ckpt", *WAY) == 3
    assert "they part at Conv2D_1" in capsys.readouterr().out
    assert run(compare_outputs, *pair, *WAY) == 2
    assert "--feed and --input_spec: give --model too, a network in a file" in capsys.readouterr().err


def test_a_network_of_bytes_that_uses_our_names_needs_no_input_spec(made, tmp_path, capsys):
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.identity(tf.placeholder(tf.uint8, [None, None, None, 3], "bytes"), "images")
        kernel = tf.get_variable("conv/kernel", [3, 3, 3, 4])
        conv = tf.nn.conv2d(tf.cast(x, tf.float32) / 255, kernel, 1, "SAME")
        tf.identity(tf.nn.relu(conv, name="relu"), "out")
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, str(tmp_path / "bytes"))
    flags = [f"--model={tmp_path}/bytes.meta", "--endpoint=relu:0:mean", f"--data_dir={made}/pictures", *FEW]
    assert run(train, *flags, "--dry_run") == 1
    assert "bytes:0 takes images of any size; give --image_size" in capsys.readouterr().err
    assert run(train, *flags, "--image_size=8", "--epochs=1", f"--logdir={tmp_path}/run") == 0
    spec = tx.open_run(tmp_path / "run").input_spec
    assert (spec.model, spec.size, spec.channels, spec.mean, spec.scale) == ("bytes", (8, 8), "RGB", (0,) * 3, (1,) * 3)
    assert run(train, *flags, "--image_size=8", "--input_spec=tf", "--dry_run") == 1
    assert "says itself what it expects" in capsys.readouterr().err
    assert run(evaluate, tmp_path / "run") == 0


def test_a_grey_network_is_trained_on_digits_by_its_parts(tmp_path, capsys):
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 28, 28, 1], "x")
        tf.matmul(tf.reshape(x, [-1, 784]), tf.get_variable("logits/kernel", [784, 10]), name="logits_of_it")
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, str(tmp_path / "grey"))
    flags = [f"--model={tmp_path}/grey", "--epochs=1", "--hidden=none", f"--logdir={tmp_path}/run"]
    assert run(train, *flags, "--input_spec=tf") == 1
    assert "--input_spec=tf is for RGB, and x:0 takes grey" in capsys.readouterr().err
    assert run(train, *flags, "--scale=0.0039") == 0
    before, after = tx.open_weights(str(tmp_path / "grey")), tx.open_run(tmp_path / "run").weights("last")
    np.testing.assert_array_equal(before["logits/kernel"], after["logits/kernel"])
    assert set(after) >= {"head/logits/kernel", "head/logits/bias"}
    capsys.readouterr()
    assert run(evaluate, tmp_path / "run") == 0


# --- what is refused ---


@pytest.fixture
def lone(made, tmp_path):
    """A `.meta` without its checkpoint."""
    shutil.copy(made / "model.ckpt.meta", tmp_path / "lone.meta")
    return tmp_path / "lone.meta"


def refused(capsys, made, *flags):
    status = run(train, "--dry_run", f"--data_dir={made}/pictures", *flags)
    assert status in (1, 2)
    return capsys.readouterr().err


def test_a_metagraph_without_its_checkpoint_is_trained_from_scratch_alone(made, lone, tmp_path, capsys):
    said = refused(capsys, made, f"--model={lone}", *WAY)
    assert "lone.meta has no weights in it or beside it" in said
    assert "--weights" in said
    assert "--restore=none" in said
    assert run(train, f"--model={lone}", *WAY, f"--weights={made}/model.ckpt", f"--data_dir={made}/pictures",
               "--dry_run") == 0  # fmt: skip
    assert run(train, f"--model={lone}", *WAY, "--restore=none", f"--data_dir={made}/pictures", *FEW, "--epochs=1",
               f"--logdir={tmp_path}/run") == 0  # fmt: skip
    assert run(predict, made / "pictures/rose/0.png", f"--model={lone}", "--endpoint=logits", *WAY[1:]) == 1
    assert (
        "lone.meta has no weights in it or beside it; give the file that has them (--weights)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model={made}/model.ckpt.mata", *WAY], r"neither a file nor the name of a network.*model\.ckpt\.meta"),
        (["--model=sqeezenet1_1", "--restore=none"], r"did you mean squeezenet1_1"),
        ([M, "--endpoint=pol", *WAY[1:]], "pool"),
        ([M, "--input=bacth", *WAY], "batch"),
        ([M, *WAY, "--feed=is_trainin=False"], "is_training"),
        ([M, *WAY[:2], "--feed=keep_prob=low", WAY[3]], "keep_prob:0 is float32.*cannot be 'low'"),
        ([M, *WAY[:2], WAY[3]], "also needs keep_prob:0 .*; give each a value .*, as --feed=keep_prob=VALUE, or"),
        ([M, *WAY[:3]], r"--input_spec=caffe, tf, torch or none, or --mean, --scale and --bgr"),
        ([M, *WAY[:3], "--bgr"], "--bgr: only the order of the channels"),
        ([M, *WAY[:3], "--input_spec=trf"], r"'trf' is not a mode of Keras's \(did you mean tf"),
        ([M, *WAY[:3], "--input_spec=no.json"], "no.json is not there"),
        ([M, *WAY, "--mean=1"], "--mean: not used with --input_spec=tf; leave one of the two"),
        ([M, *WAY[:3], "--mean=1,2"], "mean +must have 3 numbers"),
        ([M, *WAY, "--image_size=32"], r"takes \(4, 16, 16, 3\), and cannot take .*32x32"),
        ([M, *WAY, "--source=vgg16_keras", "--weights=x"], "--source: a form of the weights of"),
        (["--model=squeezenet1_1", "--restore=none", "--input=x", "--feed=a=1", "--moving_averages"],
         "--input and --feed and --moving_averages: not used with --model=squeezenet1_1; leave one of the two out"),
        (["--model=squeezenet1_1", "--restore=none", "--input_spec=tf", "--bgr"], "--input_spec and --bgr: not used"),
        ([*WAY, "--model={made}/frozen.pb", "--moving_averages"], "--moving_averages: .*has no variable NAME/Exponent"),
        (["--input=x", "--restore=none"], "--input: give another --model too, a network in a file"),
        ([M, *WAY[:1], "--feed=is_training", *WAY[2:]], "write NAME=VALUE, as in is_training=F"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(flags, said, frozen, made, capsys):
    message = refused(capsys, made, *(flag.format(made=made) for flag in flags))
    assert re.search(said, message), message
    assert "Traceback" not in message


def test_flags_do_not_contradict_the_input_spec_beside_the_weights(made, tmp_path, capsys):
    for file in made.glob("model.ckpt*"):
        shutil.copy(file, tmp_path)
    prefix = tmp_path / "model.ckpt"
    tx.InputSpec.of_keras("tf", (16, 16), model="mine", class_names=["a"]).save(prefix)
    way = [f"--model={prefix}", *WAY[:3]]
    assert "says itself what it expects, 16x16" in refused(capsys, made, *way, "--input_spec=torch")
    for agreed in ([], ["--input_spec=tf"], [f"--input_spec={prefix}.input_spec.json"]):
        assert run(train, *way, *agreed, f"--data_dir={made}/pictures", "--dry_run") == 0
    numbers = f"{1 / 127.5!r}"
    assert run(train, *way, "--mean=127.5", f"--scale={numbers}", f"--data_dir={made}/pictures", "--dry_run") == 0


def test_a_network_of_keras_by_its_name_is_told_its_size_and_names_its_classes(real_data, tmp_path, capsys):
    weights = real_data("weights/mobilenet_7_5_224_tf.h5")
    way = ["--model=MobileNet", f"--weights={weights}"]
    shutil.copy(real_data("imagenet/samples/n03717622_manhole_cover.JPEG"), tmp_path)
    assert run(predict, tmp_path, *way, "--image_size=160", "--input_spec=tf", "--top=1") == 0
    assert "manhole cover" in capsys.readouterr().out
    assert run(predict, tmp_path, *way, "--image_size=20") == 1
    assert "give another --image_size" in capsys.readouterr().err
    assert run(predict, tmp_path, *way, "--input_spec=caffe") == 1
    assert "and not 224x224 by 'crop', BGR" in capsys.readouterr().err
