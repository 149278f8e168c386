"""Run directories that are whole and such that are not, from a run that was trained here in two stages."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.weights.test_bundle import save
from tfxfer.data import Data
from tfxfer.graph import layers
from tfxfer.tools import _flags, train, verify_weights
from tfxfer.weight_tools.verify_run import is_run, verify_run

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "checkpoints/digits_autoencoder"


def run(*args: object) -> int:
    return _flags.run(verify_weights.main, ["tfxfer verify_weights", *map(str, args)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run whose conv1 is frozen throughout, and conv2 in its first epoch only."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(DIGITS.parent, folder / "checkpoints")
    args = ["train", f"--weights={folder / 'checkpoints/digits_autoencoder'}", f"--logdir={folder / 'run'}",
            "--epochs=2", "--unfreeze=1:conv2/.*=0.5", "--hidden=none"]  # fmt: skip
    assert _flags.run(train.main, args) == 0
    return folder


@pytest.fixture
def path(trained, tmp_path) -> Path:
    """A copy of that run, to be meddled with; its source is still the first one."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path / "run"


def rewrite(prefix: Path, **changes: np.ndarray) -> None:
    """Write a checkpoint anew, with right checksums, and with other values."""
    weights = tx.open_weights(prefix)
    arrays = {name: np.array(weights[name]) for name in weights}
    save(prefix, {**arrays, **{name.replace("__", "/"): value for name, value in changes.items()}})


def steps(path: Path) -> list[int]:
    return sorted(int(file.stem.rpartition("-")[2]) for file in path.glob("model.ckpt-*.index"))


def test_a_run_is_told_from_a_checkpoint(trained):
    assert is_run(str(trained / "run"))
    assert not is_run(str(trained / "run/best"))
    assert not is_run("nowhere")


def test_a_run_as_it_was_left_is_sound(path, capsys):
    found = verify_run(str(path))
    assert found.sound, found.to_json()
    assert (found.frozen, found.from_source, found.notes) == (4, 4, [])
    assert len(found.checkpoints) == len(steps(path)) + len(steps(path / "best")) == 3
    assert run(path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"sound  {path}/model.ckpt-")
    assert lines[-2:] == [
        "frozen: 4 variables compared with the start of the run, 4 of them with the file that they come from: "
        "no difference",
        f"sound: {path}, 3 checkpoints",
    ]


def test_what_was_unfrozen_has_moved_and_is_no_fault_from_then_on(path):
    moved = [tx.open_weights(path / f"model.ckpt-{step}")["conv2/bias"] for step in steps(path)]
    assert not np.array_equal(*moved)
    assert verify_run(str(path)).sound


def test_a_frozen_variable_that_moved_is_found_in_each_checkpoint(path, capsys):
    early, late = steps(path)
    for step in (early, late):
        rewrite(path / f"model.ckpt-{step}", conv1__bias=np.ones(16, np.float32), conv2__bias=np.ones(32, np.float32))
    faults = {Path(one.path).name: set(one.faults) for one in verify_run(str(path)).checkpoints[:2]}
    assert faults == {f"model.ckpt-{early}": {"conv1/bias", "conv2/bias"}, f"model.ckpt-{late}": {"conv1/bias"}}
    assert run(path) == 1
    out = capsys.readouterr().out
    assert re.search(r"^  conv1/bias: its digest is \w{12}, in .*/run/frozen\.json it is \w{12}$", out, re.MULTILINE)
    assert out.splitlines()[-1] == f"bad: {path}: {path}/model.ckpt-{early}, {path}/model.ckpt-{late}"
    assert "no difference" not in out


def test_a_damaged_checkpoint_is_named_and_the_others_are_checked(path):
    data = path / f"model.ckpt-{steps(path)[0]}.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-5])
    bad, *rest = verify_run(str(path)).checkpoints
    assert bad.faults
    assert not any(one.faults for one in rest)


def test_a_source_that_is_another_by_now_is_found(trained, path, tmp_path):
    plan = json.loads((path / "plan.json").read_text())
    other = shutil.copytree(trained / "checkpoints", tmp_path / "other") / "digits_autoencoder"
    rewrite(other, conv2__bias=np.ones(32, np.float32))
    plan[0]["weights"] = str(other)
    (path / "plan.json").write_text(json.dumps(plan))
    found = verify_run(str(path))
    assert found.faults == [f"conv2/bias: is frozen, and is not what conv2/bias in {other} is"]
    assert found.from_source == 3


def test_a_source_in_another_layout_has_the_same_values(trained, path, tmp_path):
    weights = tx.open_weights(trained / "checkpoints/digits_autoencoder")
    turned = {name: np.array(weights[name].T) for name in weights}
    np.savez(tmp_path / "turned.npz", **turned)
    plan = json.loads((path / "plan.json").read_text())
    plan[0]["weights"] = str(tmp_path / "turned.npz")
    (path / "plan.json").write_text(json.dumps(plan))
    assert verify_run(str(path)).sound
    turned["conv1/kernel"][0, 0, 0, 0] += 1
    np.savez(tmp_path / "turned.npz", **turned)
    [fault] = verify_run(str(path)).faults
    assert fault.startswith("conv1/kernel: is frozen, and is not what")


def test_a_source_that_is_gone_is_noted(path):
    plan = json.loads((path / "plan.json").read_text())
    plan[0]["weights"] = "nowhere/x.npz"
    (path / "plan.json").write_text(json.dumps(plan))
    found = verify_run(str(path))
    assert (found.sound, found.from_source) == (True, 0)
    assert re.match("4 frozen variables are not compared with their source: .*/x.npz is neither a file", found.notes[0])


@pytest.mark.parametrize(("name", "text", "fault"), [
    ("frozen.json", "{", r"frozen\.json is damaged: it is not JSON"),
    ("frozen.json", "{}", r"frozen\.json is damaged: it does not hold digests by name"),
    ("frozen.json", None, r"has lost its frozen\.json"),
    ("settings.json", "[", r"settings\.json is damaged: it is not JSON"),
    ("plan.json", "[", r"plan\.json is damaged: it is not JSON"),
    ("plan.json", "5", r"plan\.json is damaged: it does not say of each variable from which name of which file"),
    ("plan.json", "null", r"plan\.json is damaged: it does not say"),
    ("plan.json", "{}", r"plan\.json is damaged: it does not say"),
    ("plan.json", "[null]", r"plan\.json is damaged: it does not say"),
    ("plan.json", '[{"weights": "x"}]', r"plan\.json is damaged: it does not say"),
    ("plan.json", '[{"weights": "x", "variables": [1]}]', r"plan\.json is damaged: it does not say"),
    ("plan.json", '[{"weights": "x", "variables": [{"status": "restored"}]}]', r"plan\.json is damaged: it does"),
    ("plan.json", '[{"weights": "x", "variables": [{"variable": [], "status": "missing"}]}]', "it does not say"),
    ("plan.json", '[{"weights": "x", "variables": [{"variable": "a", "status": "restored", "source": 1}]}]', "it does"),
])  # fmt: skip
def test_a_part_that_is_missing_or_damaged_is_a_fault_of_the_run(name, text, fault, path):
    (path / name).unlink()
    if text is not None:
        (path / name).write_text(text)
    assert any(re.search(fault, found) for found in verify_run(str(path)).faults)


@pytest.mark.parametrize("source", ["", "a\0b", "\ud800", "x" * 5000])
def test_a_source_that_cannot_be_a_path_is_noted(source, path):
    plan = json.loads((path / "plan.json").read_text())
    plan[0]["weights"] = source
    (path / "plan.json").write_text(json.dumps(plan))
    assert verify_run(str(path)).notes[0].startswith("4 frozen variables are not compared with their source: ")


def test_a_damaged_state_is_a_fault(path):
    (path / f"model.ckpt-{steps(path)[-1]}.state.json").write_text("{")
    assert any("state.json" in fault for fault in verify_run(str(path)).faults)


def test_a_run_without_a_checkpoint_is_not_sound(path):
    for index in path.rglob("*.index"):
        index.unlink()
    assert verify_run(str(path)).faults == [f"{path} holds no checkpoint"]


def test_where_no_later_stage_is_written_down_nothing_that_moved_is_excused(path):
    record = json.loads((path / "frozen.json").read_text())
    assert record["stages"] == [{"epoch": 1, "writes": ["conv2/kernel", "conv2/bias"]}]
    (path / "frozen.json").write_text(json.dumps({**record, "stages": []}))
    late = verify_run(str(path)).checkpoints[1]
    assert set(late.faults) == {"conv2/kernel", "conv2/bias"}


def test_moving_statistics_follow_a_gamma_that_a_later_stage_trains(tmp_path):
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int64, [None])
        logits = layers.dense(layers.batch_norm(layers.batch_norm(images, "one"), "two"), 2, "logits")
        stages = [tx.Stage(0, tx.select("logits/.*")), tx.Stage(1, tx.select("one/gamma"))]
        step = tx.train_step(images, labels, logits, stages=stages)
        x, y = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), np.arange(20) % 2
        with tx.session() as sess:
            tx.fit(sess, step, Data((x, y), (x, y), (x, y), ("a", "b")), epochs=2, logdir=tmp_path / "run")
    [stage] = json.loads((tmp_path / "run/frozen.json").read_text())["stages"]
    assert (stage["epoch"], sorted(stage["writes"])) == (1, ["one/gamma", "one/moving_mean", "one/moving_variance"])
    assert verify_run(str(tmp_path / "run")).sound
    rewrite(tmp_path / "run/model.ckpt-2", two__moving_mean=np.ones(3, np.float32))
    late = verify_run(str(tmp_path / "run")).checkpoints[1]
    assert set(late.faults) == {"two/moving_mean"}


def test_json_and_bad_usage(path, capsys):
    assert run(path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sound"], len(found["checkpoints"])) == (True, 3)
    assert run(path, "--digests=x") == 2
    assert "a run directory has digests of its own" in capsys.readouterr().err
