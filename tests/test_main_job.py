"""The main job as a user runs it: pretrain, train, stop, go on, evaluate; and what is said when it cannot be done."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tfxfer as tx
from tfxfer.runs.settings import read_settings
from tfxfer.tools import _flags, evaluate, inspect_weights, pretrain, report, train

TFXFER = [sys.executable, "-m", "tfxfer.tools._main"]


def run(tool, *args: object) -> int:
    """Run a tool in this process, as `tfxfer NAME ARGS` does, and return its exit status."""
    return _flags.run(tool.main, [f"tfxfer {tool.__name__.rpartition('.')[2]}", *map(str, args)])


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory) -> Path:
    """A checkpoint of the convolutions of an autoencoder that was trained for an epoch."""
    out = tmp_path_factory.mktemp("pretrained") / "convolutions"
    assert run(pretrain, out, "--epochs=1") == 0
    return out


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_pretrain_keeps_the_convolutions_alone(convolutions):
    weights = tx.open_weights(convolutions)
    assert {name: weights.shape(name) for name in weights} == {
        "conv1/bias": (16,),
        "conv1/kernel": (5, 5, 1, 16),
        "conv2/bias": (32,),
        "conv2/kernel": (5, 5, 16, 32),
    }
    files = [file for file in convolutions.parent.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 100_000


def test_pretrain_does_not_replace_what_it_did_not_write(convolutions, capsys):
    assert run(pretrain, convolutions, "--epochs=1", f"--logdir={convolutions}-other") == 1
    assert re.search(r"RunError: .*convolutions.* exists, .*did not write it; .*--overwrite", capsys.readouterr().err)
    assert run(pretrain, convolutions, "--epochs=1") == 0
    assert last_line(capsys.readouterr().out).startswith("test loss 0.")


def test_a_pretraining_that_goes_on_replaces_only_what_it_saved_itself(convolutions, tmp_path, capsys):
    flags = [f"--logdir={tmp_path / 'run'}", "--train_examples=50"]
    assert run(pretrain, tmp_path / "own", "--epochs=1", *flags) == 0
    mine = {suffix: Path(f"{convolutions}{suffix}").read_bytes() for suffix in (".index", ".data-00000-of-00001")}
    for suffix, data in mine.items():
        (tmp_path / f"mine{suffix}").write_bytes(data)
    assert run(pretrain, tmp_path / "mine", "--epochs=1", *flags) == 1
    assert re.search(r"RunError: .*mine.* exists, .*run did not write it; .*--overwrite", capsys.readouterr().err)
    assert all((tmp_path / f"mine{suffix}").read_bytes() == data for suffix, data in mine.items())
    before = (tmp_path / "own.index").read_bytes()
    assert run(pretrain, tmp_path / "own", "--epochs=2", *flags) == 0
    assert (tmp_path / "own.index").read_bytes() != before
    assert not list(tmp_path.glob("own.old*"))
    assert run(pretrain, tmp_path / "mine", "--epochs=1", *flags, "--overwrite") == 0
    assert f"moved {tmp_path / 'mine.index'} to {tmp_path / 'mine.old-1.index'}" in capsys.readouterr().out
    assert all((tmp_path / f"mine.old-1{suffix}").read_bytes() == data for suffix, data in mine.items())


def test_train_restores_freezes_and_ends_with_the_test_accuracy_that_evaluate_finds_too(convolutions, tmp_path, capsys):
    logdir = tmp_path / "run"
    assert run(train, f"--weights={convolutions}", f"--logdir={logdir}", "--epochs=3", "--dropout=0.5") == 0
    out = capsys.readouterr().out
    assert "conv1/kernel   (5, 5, 1, 16)   float32  restored     conv1/kernel (by Saver)" in out
    assert "trained: fc1/kernel, fc1/bias, logits/kernel, logits/bias" in out
    assert f"tfxfer board {logdir}" in out
    assert re.fullmatch(r"test accuracy 0\.[89]\d\d\d", last_line(out))
    source, ended = tx.open_weights(convolutions), tx.open_weights(logdir)
    assert all(ended[name].tobytes() == source[name].tobytes() for name in source)
    assert run(evaluate, logdir) == 0
    assert last_line(capsys.readouterr().out) == last_line(out)
    assert run(evaluate, logdir, "--json", "--checkpoint=last") == 0
    result = json.loads(capsys.readouterr().out)
    assert np.trace(result["confusion"]) == round(result["accuracy"] * 360)
    assert run(train, f"--weights={convolutions}", f"--logdir={logdir}", "--epochs=3", "--dropout=0.5") == 0
    assert last_line(capsys.readouterr().out) == last_line(out)
    assert run(report, logdir) == 0
    assert "trained on 1,257, validated on 180, tested on 360 examples" in (logdir / "report.html").read_text()


def test_every_flag_of_training_arrives(convolutions, tmp_path, capsys):
    flags = ["--epochs=2", "--hidden=20,10", "--optimizer=momentum", "--schedule=cosine", "--clip_norm=1",
             "--lr_multipliers=fc1/.*=0.5", "--train_examples=100", "--patience=9", "--seed=3", "--loss=softmax",
             "--intra_op_threads=1", "--keep=1", "--save_steps=3", "--train=fc.*,logits/.{4,6}"]  # fmt: skip
    logdir = tmp_path / "run"
    assert run(train, f"--weights={convolutions}", f"--logdir={logdir}", *flags) == 0
    stored = read_settings(logdir).by_name()
    assert (stored["hidden"], stored["lr_multipliers"], stored["train_examples"]) == ([20, 10], {"fc1/.*": 0.5}, 100)
    assert [v for v in tx.open_weights(logdir) if v.startswith("fc2")] == [
        "fc2/bias", "fc2/bias/Momentum", "fc2/kernel", "fc2/kernel/Momentum"]  # fmt: skip


def test_dry_run_prints_the_plan_and_writes_nothing(convolutions, tmp_path, capsys):
    assert run(train, f"--weights={convolutions}", f"--logdir={tmp_path / 'run'}", "--dry_run") == 0
    assert "restore plan: 4 of 8 variables" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_dry_run_of_a_plan_with_errors_prints_the_whole_plan_and_fails(convolutions, capsys):
    assert run(train, f"--weights={convolutions}", "--restore=conv.*,fc1/.*", "--dry_run") == 1
    said = capsys.readouterr()
    assert re.search(r"fc1/kernel +\(1568, 200\) +float32 +missing", said.out)
    assert "RestoreError: cannot restore 2 of 6 variables" in said.err


def test_restore_none_trains_on_random_convolutions(tmp_path, capsys):
    assert run(train, "--restore=none", f"--logdir={tmp_path / 'run'}", "--epochs=1") == 0
    assert "nothing is restored" in capsys.readouterr().out


def broken_copy(convolutions: Path, folder: Path, suffix: str, change) -> Path:
    """Copy a checkpoint and change the bytes of one of its files; None deletes the file."""
    folder.mkdir()
    for file in convolutions.parent.glob("convolutions.*"):
        if file.is_file():
            shutil.copy(file, folder)
    path = next(folder.glob(f"*{suffix}"))
    changed = change(path.read_bytes())
    path.unlink() if changed is None else path.write_bytes(changed)
    return folder / "convolutions"


@pytest.mark.parametrize(("flags", "error"), [
    (["--restore=convolution.*"], r"SelectionError: .*\n  'convolution\.\*' +nearest: conv\d/"),
    (["--restore=("], r"'\(' is not a regular expression"),
    (["--train=fc9/.*"], r"SelectionError: .*nearest: fc1/"),
    (["--restore=conv.*,fc1/.*"], r"cannot restore 2 of 6 variables.*\n  fc1/kernel +not in the file.*\n  fc1/bias"),
    (["--rename=conv1/kernel=conv1/weights"], r"conv1/kernel +not in the file.*\n.*--rename="),
    (["--rename=nothing=something"], r"the rename rule 'nothing' matches none"),
    (["--lr_multipliers=conv1/.*=0.1"], r"SelectionError: .*'conv1/\.\*'"),
    (["--dataset=mnist"], r"DataError: .*--data_dir"),
    (["--dataset=mnist", "--data_dir=nowhere"], r"DataError: .*nowhere"),
    (["--train_examples=5"], r"DataError: cannot take 5 training examples of 1,257 in 10 classes"),
    (["--loss=sigmoid"], r"sigmoid.*two classes"),
])  # fmt: skip
def test_what_cannot_be_done_is_said_at_once_with_status_1_and_no_traceback(
    convolutions, tmp_path, capsys, flags, error
):
    status = run(train, f"--weights={convolutions}", f"--logdir={tmp_path / 'run'}", *flags)
    said = capsys.readouterr().err
    assert (status, bool(re.search(error, said, re.DOTALL))) == (2 if "regular" in error else 1, True), said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("suffix", "change", "error"), [
    (".data-00000-of-00001", lambda data: data[:-5], "convolutions"),
    (".data-00000-of-00001", lambda data: None, r"data-00000-of-00001"),
    (".data-00000-of-00001", lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:], r"conv|checksum"),
    (".index", lambda data: data[:-9], "index"),
    (".index", lambda data: b"", "index"),
    (".index", lambda data: data[:9] + bytes([data[9] ^ 255]) + data[10:], "index"),
])  # fmt: skip
def test_a_broken_checkpoint_is_refused_by_name(convolutions, tmp_path, capsys, suffix, change, error):
    weights = broken_copy(convolutions, tmp_path / "broken", suffix, change)
    status = run(train, f"--weights={weights}", f"--logdir={tmp_path / 'run'}", "--epochs=1")
    said = capsys.readouterr().err
    assert status == 1
    assert re.search(rf"WeightsError: .*({error})", said, re.DOTALL), said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("tool", "args", "error"), [
    (evaluate, ["nowhere"], "nowhere is not there; give a run directory"),
    (inspect_weights, ["nowhere"], "nowhere"),
    (inspect_weights, ["{convolutions}", "--select=fc.*"], "nearest: conv"),
])  # fmt: skip
def test_the_other_tools_refuse_clearly_too(convolutions, capsys, tool, args, error):
    assert run(tool, *(arg.format(convolutions=convolutions) for arg in args)) == 1
    assert re.search(error, capsys.readouterr().err)


def test_evaluate_refuses_a_run_without_a_classifier(convolutions, capsys):
    assert run(evaluate, f"{convolutions}.run") == 1
    assert "was trained by a loss of its own" in capsys.readouterr().err


def test_inspect_weights_lists_names_shapes_and_parameters(convolutions, capsys):
    assert run(inspect_weights, convolutions, "--select=conv1/.*") == 0
    out = capsys.readouterr().out
    assert re.search(r"conv1/kernel +\(5, 5, 1, 16\) +float32 +400", out)
    assert "2 of 4 tensors" in out
    assert "416 parameters, 1,664 bytes" in out
    assert run(inspect_weights, convolutions, "--json") == 0
    tensors = json.loads(capsys.readouterr().out)["tensors"]
    [bias] = [tensor for tensor in tensors if tensor["name"] == "conv2/bias"]
    assert (bias["shape"], bias["dtype"], bias["parameters"]) == ([32], "float32", 32)


def start_and_stop(logdir: Path, convolutions: Path, number: int) -> int:
    """Start a training, send it a signal once it has begun, and return its exit status."""
    command = [*TFXFER, "train", f"--weights={convolutions}", f"--logdir={logdir}", "--epochs=400"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log = logdir / "train.log"
    deadline = time.monotonic() + 120
    while not (log.exists() and "validation" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert "saved at step" in output, output
    assert "Traceback" not in output
    return process.returncode


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_from_outside_saves_and_ends_with_the_usual_status(convolutions, tmp_path, number, status):
    assert start_and_stop(tmp_path / "run", convolutions, number) == status
    latest = tx.open_weights(tmp_path / "run")
    step = int(latest.checkpoint.rpartition("-")[2])
    assert latest["global_step"] == step
    assert f"saved at step {step}" in (tmp_path / "run/train.log").read_text()


def test_the_main_job_does_without_tf_keras_and_tf_slim_and_tensorflow_starts_without_a_word(convolutions, tmp_path):
    code = ("import sys; sys.modules.update(tf_keras=None, tf_slim=None); from tfxfer.tools import _main;"
            "sys.exit(_main.main(['tfxfer', 'train', *sys.argv[1:]]))")  # fmt: skip
    flags = [f"--weights={convolutions}", f"--logdir={tmp_path / 'run'}", "--epochs=1"]
    env = {name: value for name, value in os.environ.items() if name not in ("TF_CPP_MIN_LOG_LEVEL", "GRPC_VERBOSITY")}
    done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert last_line(done.stdout).startswith("test accuracy 0.")


def test_the_shipped_checkpoint_gives_what_its_readme_says(tmp_path, capsys):
    root = Path(__file__).resolve().parent.parent
    assert run(train, f"--weights={root / 'checkpoints/digits_autoencoder'}", f"--logdir={tmp_path / 'run'}") == 0
    accuracy = float(last_line(capsys.readouterr().out).split()[-1])
    stated = float(re.search(r"test accuracy (0\.\d+)", (root / "checkpoints/README.md").read_text())[1])
    assert accuracy >= 0.97
    assert accuracy == pytest.approx(stated, abs=0.006)


def test_a_truncated_idx_file_is_refused_by_name(real_data, tmp_path, capsys):
    for file in real_data("mnist").iterdir():
        os.symlink(file, tmp_path / file.name)
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    os.symlink(real_data("mnist_truncated") / "train-images-idx3-ubyte.gz", tmp_path / "train-images-idx3-ubyte.gz")
    assert (
        run(train, "--restore=none", "--dataset=mnist", f"--data_dir={tmp_path}", f"--logdir={tmp_path / 'run'}") == 1
    )
    assert re.search(
        r"DataError: (?s:.*)train-images-idx3-ubyte\.gz: the gzip stream ends early", capsys.readouterr().err
    )


def test_pretrain_and_train_run_on_idx_files(tmp_path, capsys):
    """MNIST's file format, with the digits of scikit-learn inside."""
    digits = tx.data.digits()
    folder = tmp_path / "idx"
    folder.mkdir()
    images = np.concatenate([digits.train.images] * 2)
    labels = np.concatenate([digits.train.labels] * 2)
    for stem, x, y in (("train", images, labels), ("t10k", digits.test.images, digits.test.labels)):
        header = b"\0\0\x08\x03" + np.array([len(x), 28, 28], ">i4").tobytes()
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + x.tobytes()))
        header = b"\0\0\x08\x01" + np.array([len(y)], ">i4").tobytes()
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(header + y.astype(np.uint8).tobytes())
    examples = tx.data.mnist(folder, validation=200)
    assert len(examples.train) == 2 * 1257 - 200
    np.testing.assert_array_equal(examples.test.images, digits.test.images)


@pytest.fixture(scope="module")
def mnist(real_data, tmp_path_factory) -> list[str]:
    """The flags of recipe 5, MNIST: the examples, and convolutions pretrained on them."""
    flags = ["--dataset=mnist", f"--data_dir={real_data('mnist')}"]
    out = tmp_path_factory.mktemp("mnist") / "convolutions"
    assert run(pretrain, out, *flags, "--epochs=5", "--batch_size=64") == 0
    return [*flags, f"--weights={out}"]


@pytest.mark.slow
def test_mnist_reaches_its_accuracy_with_frozen_convolutions(mnist, tmp_path, capsys):
    flags = ["--epochs=20", "--batch_size=64", "--dropout=0.5", f"--logdir={tmp_path / 'run'}"]
    assert run(train, *mnist, *flags) == 0
    assert float(last_line(capsys.readouterr().out).split()[-1]) >= 0.985


@pytest.mark.slow
def test_restored_convolutions_beat_random_ones_where_labels_are_few(mnist, tmp_path, capsys):
    margins = []
    for seed in range(5):
        accuracy = {}
        for restore in ("conv.*", "none"):
            flags = [f"--restore={restore}", "--train_examples=500", "--epochs=30", f"--seed={seed}"]
            assert run(train, *mnist, *flags, f"--logdir={tmp_path / f'{seed}-{restore[:4]}'}") == 0
            accuracy[restore] = float(last_line(capsys.readouterr().out).split()[-1])
        margins.append(accuracy["conv.*"] - accuracy["none"])
    assert min(margins) > 0
    assert np.mean(margins) == pytest.approx(0.035, abs=0.012)
