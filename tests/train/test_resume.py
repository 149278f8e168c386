"""A run goes on in the network, with the optimizer, on the examples and from the weights that it began with; or not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.errors import RunError
from tfxfer.graph import layers
from tfxfer.runs.settings import read_settings

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
LABELS = np.arange(60) % 3


def data(images: np.ndarray = IMAGES, labels: np.ndarray = LABELS) -> Data:
    splits = [Split(images[a : a + 20], labels[a : a + 20]) for a in (0, 20, 40)]
    return Data(*splits, ("a", "b", "c"))


class Net:
    """A dense layer behind a frozen one, by the library's or by plain variables, trained by `fit`."""

    def __init__(
        self, *, ref=False, hidden=5, names=("base", "head"), activation=tf.nn.relu, square=False, keep=None,
        local=False, dtype=tf.float32, weights=None, **options,
    ):  # fmt: skip
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(1)
            images = tf.placeholder(tf.uint8, [None, 4, 4, 1])
            labels = tf.placeholder(tf.int64, [None])
            x = tf.reshape(tf.cast(images, tf.float32) / 255, [-1, 16])
            with tf.variable_scope("", use_resource=not ref):
                base = tf.get_variable(names[0], [16, hidden], dtype, layers.glorot_uniform)
                head = tf.get_variable(names[1], [hidden, 3], initializer=tf.zeros_initializer())
            x = activation(tf.matmul(x, tf.cast(base, tf.float32)))
            if {"train_feeds", "eval_feeds"} & set(options):
                x = x * tf.placeholder_with_default(1.0, [], "scale")
            if keep:
                x = keep(x)
            if local:
                count = tf.get_local_variable("count", [], initializer=tf.zeros_initializer())
                with tf.control_dependencies([count.assign_add(1.0).op]):
                    x = x * (1 + 0.01 * count.read_value())
            logits = tf.matmul(x, head)
            loss = tf.reduce_sum(tf.square(logits - tf.one_hot(labels, 3)), 1) if square else "softmax"
            self.plans = [tx.plan([base], weights)] if weights is not None else []
            self.step = tx.train_step(images, labels, logits, train=[head], loss=loss, summaries=(), **options)

    def fit(self, logdir, examples=None, **options):
        with self.graph.as_default(), tx.session(*self.plans) as self.sess:
            defaults = {"epochs": 2, "batch_size": 10, "logdir": logdir}
            fitted = tx.fit(self.sess, self.step, examples or data(), **(defaults | options))
            self.values = self.sess.run(tf.trainable_variables())
            return fitted


@pytest.fixture(scope="module", params=[False, True], ids=["resource", "ref"])
def begun(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun") / "run"
    Net(ref=request.param).fit(folder, epochs=1)
    return request.param, folder


@pytest.mark.parametrize(("options", "told"), [
    ({"hidden": 7}, r"head: the checkpoint has float32 \[5, 3\], the graph float32 \[7, 3\]\n  head/Adam: .*\n  base"),
    ({"names": ("bass", "head")}, r"bass, float32 \[16, 5\], is not in the checkpoint\n  base, .*is not in the graph"),
    ({"dtype": tf.float64}, r"base: the checkpoint has float32 \[16, 5\], the graph float64 \[16, 5\]"),
    ({"activation": tf.nn.tanh}, "graph: the graph computes something else"),
    ({"square": True}, '`loss`: was "softmax", now'),
    ({"learning_rate": 0.1}, r"`learning_rate`: was 0\.001, now 0\.1"),
    ({"learning_rate": lambda step: tf.train.cosine_decay(1.0, step, 9)}, r"`learning_rate`: was 0\.001, now {"),
    ({"clip_norm": 1.0}, r"`clip_norm`: was not set, now 1\.0"),
    ({"multipliers": {"head": 0.5}}, r'`multipliers`: was not set, now {"head": 0\.5}'),
    ({"optimizer": tf.train.GradientDescentOptimizer}, r"`optimizer`: was .*AdamOptimizer.*GradientDescentOptimizer"),
    ({"optimizer": lambda learning_rate: tf.train.AdamOptimizer(learning_rate, 0.5)}, r'`optimizer`: .*"beta1": 0\.5'),
    ({"l2": 0.5}, r"`l2`: was not set, now 0\.5"),
    ({"train_feeds": {"scale": 2.0}}, r'`train_feeds`: was not set, now {"scale": 2\.0}'),
    ({"eval_feeds": {"scale:0": 2.0}}, r'`eval_feeds`: was not set, now {"scale": 2\.0}'),
])  # fmt: skip
def test_another_network_or_step_is_refused_by_name_and_the_session_is_left_as_it_was(begun, options, told):
    ref, folder = begun
    net = Net(ref=ref, **options)
    with net.graph.as_default(), tx.session() as sess:
        before = sess.run(tf.global_variables())
        with pytest.raises(RunError, match=rf"(?s){told}.*`overwrite=True`"):
            tx.fit(sess, net.step, data(), epochs=2, batch_size=10, logdir=folder)
        assert all(np.array_equal(*pair) for pair in zip(before, sess.run(tf.global_variables()), strict=True))


@pytest.mark.parametrize(("other", "told"), [
    (data(images=IMAGES[::-1].copy()), "training_data: there are other training images or labels"),
    (data(labels=(LABELS + 1) % 3), "training_data: there are other training images or labels"),
    (dataclasses.replace(data(), validation=data(labels=LABELS[::-1]).validation), "validation_data: there are other"),
])  # fmt: skip
def test_other_examples_as_many_are_refused(begun, other, told):
    ref, folder = begun
    with pytest.raises(RunError, match=told):
        Net(ref=ref).fit(folder, other)


def test_what_changes_no_bit_of_a_step_may_change_and_is_noted(tmp_path):
    Net().fit(tmp_path / "run", settings={"weights": "a"})
    free = {
        "validation_steps": 1,
        "patience": 30,
        "checkpoints": tx.CheckpointOptions(save_steps=1, keep=2, keep_best=2),
        "summaries": tx.SummaryOptions(summary_steps=7),
    }
    changed = Net()
    changed.fit(tmp_path / "run", epochs=4, **free, settings={"weights": "./a"}, may_change=["weights"])
    whole = Net()
    whole.fit(tmp_path / "whole", epochs=4)
    assert all(np.array_equal(*pair) for pair in zip(changed.values, whole.values, strict=True))
    log = (tmp_path / "run/train.log").read_text()
    assert "goes on with another setting: `keep`: was 5, now 2" in log
    assert 'goes on with another setting: `weights`: was "a", now "./a"' in log
    assert read_settings(tmp_path / "run").fit["keep"] == 2


def change_training(run, keep) -> None:
    """Leave out some of what `fit` worked out from the settings of a run."""
    value = json.loads((run / "settings.json").read_text())
    value["training"] = {name: setting for name, setting in value["training"].items() if keep(name)}
    (run / "settings.json").write_text(json.dumps(value))


def test_a_run_of_before_without_these_settings_goes_on_with_a_note(tmp_path):
    Net().fit(tmp_path / "run")
    known = ("stages", "l2", "class_weights", "training_examples", "validation_examples")
    change_training(tmp_path / "run", lambda name: name in known)
    assert Net().fit(tmp_path / "run", epochs=3).epochs == 3
    assert "optimizer: cannot be compared with what the run began with" in (tmp_path / "run/train.log").read_text()
    with pytest.raises(RunError, match="`optimizer`: was"):  # from now on it is known
        Net(optimizer=tf.train.GradientDescentOptimizer).fit(tmp_path / "run", epochs=4)


def test_settings_of_the_callers_hide_none_of_fits_own(tmp_path):
    own = {"epochs": "many", "batch_size": "x", "seed": [1], "loss": "mine"}
    Net().fit(tmp_path / "run", settings=own)
    settings = read_settings(tmp_path / "run")
    assert (settings.fit["epochs"], settings.fit["batch_size"], settings.fit["seed"]) == (2, 10, 0)
    assert settings.settings == own
    shown = settings.by_name()
    assert (shown["epochs"], shown["settings.epochs"], shown["settings.batch_size"]) == (2, "many", "x")
    assert Net().fit(tmp_path / "run", epochs=3, settings=own).epochs == 3
    with pytest.raises(RunError, match="`batch_size`: was 10, now 12"):
        Net().fit(tmp_path / "run", epochs=3, batch_size=12, settings=own)
    with pytest.raises(RunError, match=r'`settings\["batch_size"\]`: was "x", now "y"'):
        Net().fit(tmp_path / "run", epochs=3, settings={**own, "batch_size": "y"})
    with pytest.raises(RunError, match='`loss`: was "softmax", now'):  # which the flag of the same name does not tell
        Net(square=True).fit(tmp_path / "run", epochs=3, settings=own)


def test_weights_elsewhere_with_the_same_values_may_be_restored_and_others_not(tmp_path):
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        np.savez(tmp_path / f"{name}.npz", base=np.full((16, 5), value, np.float32))
    first, same, other = (Net(weights=tx.open_weights(tmp_path / f"{name}.npz")) for name in "abc")
    first.fit(tmp_path / "run")
    assert same.fit(tmp_path / "run", epochs=3).epochs == 3
    with pytest.raises(RunError, match="restored: the weights that are restored have other values"):
        other.fit(tmp_path / "run", epochs=4)
    assert Net().fit(tmp_path / "run", epochs=4).epochs == 4  # the checkpoint has all


def test_the_plan_of_a_run_says_where_its_weights_lie_whatever_directory_it_is_read_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("w.npz", base=np.ones((16, 5), np.float32))
    Net(weights=tx.open_weights("w.npz")).fit(tmp_path / "run")
    rows = json.loads((tmp_path / "run/plan.json").read_bytes())
    assert [row["weights"] for row in rows] == [str(tmp_path / "w.npz")]


def test_a_schedule_that_ends_with_the_run_may_follow_it_when_it_becomes_longer(tmp_path):
    def net(epochs):
        return Net(learning_rate=lambda step: tf.train.cosine_decay(0.1, step, 2 * epochs))

    net(2).fit(tmp_path / "run", epochs=2)
    assert net(4).fit(tmp_path / "run", epochs=4).epochs == 4
    with pytest.raises(RunError, match="`learning_rate`: was"):
        net(3).fit(tmp_path / "run", epochs=4)


def test_patience_that_grows_lets_a_stopped_run_go_on(tmp_path):
    assert Net(learning_rate=0.0).fit(tmp_path / "run", epochs=9, patience=2).steps == 6
    assert Net(learning_rate=0.0).fit(tmp_path / "run", epochs=9, patience=4).steps == 10


def test_a_checkpoint_of_before_without_local_variables_is_taken(tmp_path):
    Net().fit(tmp_path / "run")
    change_training(tmp_path / "run", lambda name: name not in ("graph", "update"))
    assert Net(local=True).fit(tmp_path / "run", epochs=3).epochs == 3
    assert "count" in tx.open_weights(tmp_path / "run")
