"""Variables in parts: they begin, restore, train and are saved as the whole would be."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfxfer as tx
from tests.train.test_fit import two_classes
from tfxfer.errors import FrozenError, RestoreError, SelectionError
from tfxfer.graph import layers, partitioned
from tfxfer.graph.partitioned import fetch, is_part, name_of, shape_of, splitting, wholes
from tfxfer.graph.variables import model_variables
from tfxfer.models import autoencoder, heads
from tfxfer.runs.settings import read_settings

NAMES = [f"{layer}/{what}" for layer in ("conv1", "conv2", "fc1", "logits") for what in ("kernel", "bias")]


def split(parts: int, least_bytes: int = 256):
    """Return the context in which kernels are split."""
    if parts == 1:
        return contextlib.nullcontext()
    return tf.variable_scope(tf.get_variable_scope(), custom_getter=splitting(parts, least_bytes))


class Network:
    """A small classifier whose kernels lie in so many parts."""

    def __init__(self, parts: int, stages=None, **options):
        self.graph = tf.Graph()
        with self.graph.as_default(), split(parts):
            tf.set_random_seed(7)
            images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
            labels = tf.placeholder(tf.int64, [None], name="labels")
            logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=[6], classes=2)
            chosen = {"stages": stages()} if stages else {"train": tx.select("fc.*", "logits/.*")}
            self.step = tx.train_step(images, labels, logits, **{"learning_rate": 0.01} | chosen | options)

    @property
    def parts(self) -> list[str]:
        return [v.op.name for v in model_variables(self.graph) if is_part(v)]

    def values(self, *plans) -> dict[str, np.ndarray]:
        """Return what the variables hold after a session has begun."""
        with self.graph.as_default(), tx.session(*plans) as sess:
            return fetch(sess, wholes(model_variables()))

    def plan(self, path, *patterns):
        with self.graph.as_default():
            return tx.plan(tx.select(*(patterns or [".*"])), tx.open_weights(path))

    def fit(self, logdir, **options):
        with self.graph.as_default(), tx.session() as sess:
            return tx.fit(sess, self.step, two_classes(), **{"epochs": 2, "batch_size": 8, "logdir": logdir} | options)


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def drawn() -> dict[str, np.ndarray]:
    """Return an array for each variable of the network."""
    generator = np.random.default_rng(3)
    with Network(1).graph.as_default():
        shapes = {name_of(v): v.shape.as_list() for v in model_variables()}
    return {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def test_only_large_kernels_are_split():
    with tf.Graph().as_default(), split(3, least_bytes=100):
        x = layers.dense(tf.zeros([1, 20]), 5, "large")  # 400 bytes
        x = layers.dense(x, 4, "small")  # 80
        layers.batch_norm(layers.dense(x, 200, "wide"), "norm")  # 3,200, and 800 a vector
        found = {name: [v.shape.as_list() for v in parts] for name, parts in wholes(tf.global_variables()).items()}
    assert found == {
        "large/kernel": [[7, 5], [7, 5], [6, 5]],
        "large/bias": [[5]],
        "small/kernel": [[5, 4]],
        "small/bias": [[4]],
        "wide/kernel": [[2, 200], [1, 200], [1, 200]],
        "wide/bias": [[200]],
        **{f"norm/{name}": [[200]] for name in ("gamma", "beta", "moving_mean", "moving_variance")},
    }


@pytest.mark.parametrize(
    ("sides", "parts", "least", "wanted"),
    [([64, 2], 4, 128, 4), ([64, 2], 4, 129, 3), ([64, 2], 4, 257, 1), ([64, 2], 1, 1, 1), ([2, 64], 8, 1, 2)],
)
def test_no_part_is_smaller_than_the_least(sides, parts, least, wanted):
    with tf.Graph().as_default(), tf.variable_scope("", custom_getter=splitting(parts, least)):
        tf.get_variable("kernel", sides)
        found = tf.global_variables()
    assert len(found) == wanted
    assert wanted == 1 or min(v.shape.num_elements() * 4 for v in found) >= least


def test_what_somebody_splits_otherwise_or_cannot_be_split_is_left_alone():
    with tf.Graph().as_default(), tf.variable_scope("", custom_getter=splitting(2, 1)):
        tf.get_variable("theirs", [9, 2], partitioner=tf.fixed_size_partitioner(3))
        tf.get_variable("constant", initializer=np.zeros([9, 2], np.float32))
        tf.get_variable("slot", [9, 2], trainable=False)
        tf.get_variable("scalar", [])
        assert {n: len(p) for n, p in wholes(tf.global_variables()).items()} == {
            "theirs": 3, "constant": 1, "slot": 1, "scalar": 1}  # fmt: skip


def test_a_part_is_known_by_the_name_and_shape_of_the_whole():
    network = Network(3)
    assert len(network.parts) >= 6
    with network.graph.as_default():
        assert list(wholes(tx.select(".*"))) == NAMES
        kernel = tx.select("fc1/kernel")
        assert [v.op.name for v in kernel] == [f"fc1/kernel/part_{k}" for k in range(3)]
        assert {name_of(v) for v in kernel} == {"fc1/kernel"}
        assert [shape_of(v).as_list() for v in kernel] == [[128, 6]] * 3
        with pytest.raises(SelectionError, match="part_0"):
            tx.select("fc1/kernel/part_0")


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_a_split_network_begins_with_the_values_of_the_whole(parts):
    same(Network(parts).values(), Network(1).values())


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_take_their_share_of_a_file(tmp_path, parts):
    np.savez(tmp_path / "weights.npz", **drawn())
    network = Network(parts)
    plan = network.plan(tmp_path / "weights.npz")
    assert {p.by for p in plan.chosen()} == {"feed"}
    assert [p.variable for p in plan.chosen()] == NAMES
    same(network.values(plan), drawn())
    whole = Network(1).plan(tmp_path / "weights.npz")
    assert plan.to_json() == whole.to_json()
    assert plan.report() == whole.report()


@pytest.mark.parametrize(
    ("saved", "restored"), [(1, 2), (2, 3), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((2, 1), (3, 3)))]
)
def test_a_checkpoint_goes_from_any_number_of_parts_to_any_other(tmp_path, saved, restored):
    np.savez(tmp_path / "weights.npz", **drawn())
    source, target = Network(saved), Network(restored)
    with source.graph.as_default(), tx.session(source.plan(tmp_path / "weights.npz")) as sess:
        source.step.saver.save(sess, str(tmp_path / "model.ckpt"))
    same({name: tx.open_weights(tmp_path / "model.ckpt")[name] for name in NAMES}, drawn())

    plan = target.plan(tmp_path / "model.ckpt")
    assert {p.by for p in plan.chosen()} == {"Saver"}
    same(target.values(plan), drawn())
    target = Network(restored)
    fed = target.values(target.plan(tmp_path / "weights.npz", "conv.*"))
    assert (fed["conv1/kernel"] == drawn()["conv1/kernel"]).all()
    assert (fed["fc1/kernel"] == Network(1).values()["fc1/kernel"]).all(), "the rest is initialised"


def test_a_plan_can_save_its_variables_as_wholes(tmp_path):
    np.savez(tmp_path / "weights.npz", **drawn())
    source, network = Network(3), Network(2)
    with source.graph.as_default(), tx.session(source.plan(tmp_path / "weights.npz")) as sess:
        source.step.saver.save(sess, str(tmp_path / "model.ckpt"))
    plan = network.plan(tmp_path / "model.ckpt", "fc1/.*")
    with network.graph.as_default(), tx.session(plan) as sess:
        plan.saver.save(sess, str(tmp_path / "part.ckpt"))
    same(dict(tx.open_weights(tmp_path / "part.ckpt")), {name: drawn()[name] for name in ("fc1/bias", "fc1/kernel")})


def test_a_refusal_speaks_of_wholes(tmp_path):
    np.savez(tmp_path / "weights.npz", **{"fc1/kernel": np.zeros([9, 6], np.float32)})
    with pytest.raises(RestoreError) as error:
        Network(2).plan(tmp_path / "weights.npz", "fc1/.*", "logits/kernel")
    assert "cannot restore 3 of 3 variables" in str(error.value)
    assert "fc1/kernel     variable is float32 (128, 6), file has float32 (9, 6)" in str(error.value)
    assert "part_" not in str(error.value)


def in_stages() -> list[tx.Stage]:
    return [tx.Stage(0, tx.select("fc.*", "logits/.*")), tx.Stage(1, tx.select("conv2/.*"), 0.1)]


def test_a_split_network_trains_to_the_bits_of_the_whole(tmp_path):
    for parts in (1, 3):
        network = Network(parts, in_stages, l2=1e-3, multipliers={"logits/kernel": 0.5}, summaries=["histograms"])
        network.fit(tmp_path / str(parts))
    whole, split_ = (tx.open_weights(tmp_path / name / "model.ckpt-14") for name in "13")
    assert sorted(split_) == sorted(whole), "slots and counters too are saved under the names of wholes"
    assert any(name.endswith("fc1/kernel/Adam") for name in whole)
    same({name: split_[name] for name in sorted(whole)}, {name: whole[name] for name in sorted(whole)})
    assert (tmp_path / "1/frozen.json").read_text() == (tmp_path / "3/frozen.json").read_text()
    # The graph of a split network is another one, and is not compared where a run goes on.
    first, second = (read_settings(tmp_path / name).by_name() for name in "13")
    assert {**first, "graph": None, "update": None} == second


def test_tensorboard_is_shown_wholes(tmp_path):
    tags = {}
    for parts in (1, 3):
        every = ["histograms", "norms", "images", "text", "graph"]
        Network(parts, in_stages, summaries=every).fit(
            tmp_path / str(parts), summaries=tx.SummaryOptions(summary_steps=1)
        )
        events = EventAccumulator(str(tmp_path / str(parts) / "train"), {"images": 0, "histograms": 0})
        tags[parts] = {kind: found for kind, found in events.Reload().Tags().items() if kind != "graph"}
    assert tags[3] == tags[1]
    assert "fc1/kernel" in tags[3]["histograms"]
    assert "filters/conv1/kernel" in tags[3]["images"]
    assert "gradient_norm/fc1" in tags[3]["scalars"]


def test_a_frozen_part_that_moves_is_found(tmp_path):
    network = Network(2)
    (stage,) = network.step.stages
    with network.graph.as_default():
        part = tx.select("conv2/kernel")[1]
        both = tf.group(stage.apply, part.assign_add(tf.ones_like(part)))
    network.step = dataclasses.replace(network.step, stages=(dataclasses.replace(stage, apply=both),))
    with pytest.raises(FrozenError, match=r"1 of 4 frozen variables have changed.*\n  conv2/kernel: was"):
        network.fit(tmp_path / "run")


@pytest.mark.parametrize(
    ("first", "then"), [(3, 2), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((3, 1), (1, 2)))]
)
def test_a_run_goes_on_in_any_number_of_parts(tmp_path, first, then):
    Network(1).fit(tmp_path / "all", epochs=4)
    Network(first).fit(tmp_path / "run", epochs=2)
    fitted = Network(then).fit(tmp_path / "run", epochs=4)
    assert fitted.last.endswith("model.ckpt-28")
    whole, found = (tx.open_weights(tmp_path / name / "model.ckpt-28") for name in ("all", "run"))
    same({name: found[name] for name in sorted(whole)}, {name: whole[name] for name in sorted(whole)})


def test_frozen_layers_of_a_split_network_are_computed_once_as_those_of_the_whole(tmp_path):
    found = []
    for parts in (1, 3):
        network = Network(parts)
        with network.graph.as_default(), tx.session() as sess:
            data = tx.precompute(sess, network.step, two_classes(), store=tmp_path / str(parts))
        (rows,) = data.train.features.values()
        found.append(rows[np.arange(len(rows))])
    np.testing.assert_array_equal(*found)


# What is fetched together.


@pytest.mark.parametrize("sizes", [[], [5], [5, 5, 5], [100], [60, 60, 60], [0, 0, 100, 0], [40] * 7])
def test_groups_hold_all_in_order_and_end_where_enough_is_together(sizes, monkeypatch):
    monkeypatch.setattr(partitioned, "READ_TOGETHER", 100)
    named = {f"v{number}": size for number, size in enumerate(sizes)}
    divided = list(partitioned.groups(named))
    assert [name for group in divided for name in group] == list(named)
    for group in divided:
        assert sum(named[name] for name in group[:-1]) < 100
    assert all(sum(named[name] for name in group) >= 100 for group in divided[:-1])


def test_many_small_variables_are_fetched_in_one_run(monkeypatch):
    with tf.Graph().as_default(), tf.Session() as sess:
        variables = [tf.get_variable(f"v{number}", [number + 1]) for number in range(40)]
        sess.run(tf.global_variables_initializer())
        runs = []
        run = sess.run
        monkeypatch.setattr(sess, "run", lambda fetches: runs.append(len(fetches)) or run(fetches))
        values = dict(partitioned.fetch_in_groups(sess, partitioned.wholes(variables)))
        assert runs == [40]
        assert all(np.array_equal(values[variable.op.name], run(variable)) for variable in variables)
