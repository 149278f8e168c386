"""Sessions: each variable is restored or initialised exactly once, the graph is finalized, options arrive."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError, NotOpenError, WeightsError
from tfxfer.graph import layers
from tfxfer.weights import Tensor, Weights


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def by_hand(**arrays):
    return Weights(
        "hand", "made by hand", {name: Tensor(a.shape, a.dtype, lambda a=a: a) for name, a in arrays.items()}
    )


def saved(path, **arrays):
    """Write a checkpoint of float32 arrays and return its prefix."""
    with tf.Graph().as_default():
        table = {name: tf.Variable(np.float32(array), name=name) for name, array in arrays.items()}
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            return tf.train.Saver(table).save(sess, str(path), write_meta_graph=False)


# Initializers.


@pytest.mark.parametrize("use_resource", [True, False])
@pytest.mark.parametrize("kind", ["checkpoint", "by hand"])
def test_an_initializer_never_wipes_a_restored_variable(tmp_path, use_resource, kind):
    tf.get_variable("w", [3], initializer=tf.ones_initializer(), use_resource=use_resource)
    tf.get_variable("new", [2], initializer=tf.ones_initializer(), use_resource=use_resource)
    array = np.float32([5, 6, 7])
    weights = by_hand(w=array) if kind == "by hand" else tx.open_weights(saved(tmp_path / "model", w=array))
    with tx.session(tx.plan(tx.select("w"), weights)) as sess:
        w, new = sess.run(tf.global_variables())
    assert w.tolist() == [5, 6, 7]
    assert new.tolist() == [1, 1]


def test_an_initializer_of_a_restored_variable_does_not_even_run():
    fails = tf.debugging.check_numerics(tf.constant([np.nan, 1.0]), "the initializer ran")
    tf.get_variable("w", initializer=fails)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the initializer ran"), tx.session():
        pass
    tf.get_default_graph()._unsafe_unfinalize()
    with tx.session(tx.plan(tx.select("w"), by_hand(w=np.float32([1, 2])))) as sess:
        assert sess.run(tf.global_variables()[0]).tolist() == [1, 2]


def test_an_initializer_that_reads_a_restored_variable_sees_what_was_restored(tmp_path):
    w = tf.get_variable("w", [2], initializer=tf.zeros_initializer())
    copies = [
        tf.get_variable("of_variable", initializer=w * 10),
        tf.Variable(lambda: w.read_value() * 100, name="of_read"),
    ]
    with tx.session(tx.plan(tx.select("w"), tx.open_weights(saved(tmp_path / "model", w=[1, 2])))) as sess:
        assert [value.tolist() for value in sess.run(copies)] == [[10, 20], [100, 200]]


def test_local_variables_and_tables_are_initialised():
    local = tf.get_variable("local", initializer=np.float32(3), collections=[tf.GraphKeys.LOCAL_VARIABLES])
    pairs = tf.lookup.KeyValueTensorInitializer(["cat", "dog"], np.int64([4, 7]))
    table = tf.lookup.StaticHashTable(pairs, default_value=-1)
    found = table.lookup(tf.constant(["dog", "cow", "cat"]))
    with tx.session() as sess:
        assert sess.run(local) == 3
        assert sess.run(found).tolist() == [7, -1, 4]


def test_a_local_variable_that_was_restored_is_not_wiped_either():
    local = tf.get_variable("local", initializer=np.float32(3), collections=[tf.GraphKeys.LOCAL_VARIABLES])
    chosen = tx.select("local", among=tf.local_variables())
    with tx.session(tx.plan(chosen, by_hand(local=np.array(8, np.float32)))) as sess:
        assert sess.run(local) == 8


def test_a_session_without_plans_initialises_everything():
    layers.dense(tf.zeros([1, 2]), 3, "fc")
    with tx.session() as sess:
        kernel, bias = sess.run(tf.global_variables())
        assert sess.plans == ()
    assert kernel.any()
    assert not bias.any()


# The graph.


def test_the_graph_is_finalized_before_the_first_run(graph):
    layers.dense(tf.zeros([1, 2]), 3, "fc")
    with tx.session() as sess:
        assert sess.graph is graph
        assert graph.finalized
        with pytest.raises(RuntimeError, match="Graph is finalized and cannot be modified"):
            tf.zeros([1])


def test_the_session_adds_no_op_and_a_graph_can_have_another_one_afterwards(graph):
    layers.dense(tf.zeros([1, 2]), 3, "fc")
    plan = tx.plan(tx.select("fc/bias"), by_hand(**{"fc/bias": np.float32([1, 2, 3])}))
    before = len(graph.get_operations())
    values = []
    for _ in range(2):
        with tx.session(plan) as sess:
            values.append(sess.run(tf.global_variables()))
            sess.run(tf.global_variables()[1].initializer)
    assert len(graph.get_operations()) == before
    assert all(np.array_equal(first, second) for first, second in zip(*values, strict=True))


def test_the_session_is_the_default_one_and_closed_at_the_end():
    y = layers.dense(tf.ones([1, 2]), 3, "fc")
    with tx.session() as sess:
        assert tf.get_default_session() is sess
        assert y.eval().shape == (1, 3)
    with pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
        sess.run(y)


# Options.


def test_options_arrive_in_the_sessions_configuration():
    with tx.session(
        intra_op_threads=1, inter_op_threads=2, per_process_gpu_memory_fraction=0.4, allow_growth=True
    ) as sess:
        config = sess._config
    assert config.intra_op_parallelism_threads == 1
    assert config.inter_op_parallelism_threads == 2
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.4
    assert config.gpu_options.allow_growth is True


def test_nothing_is_set_unless_told_but_constant_folding_which_is_off():
    with tx.session() as sess:
        config = sess._config
    rewrites = config.graph_options.rewrite_options
    assert rewrites.constant_folding == type(rewrites).OFF
    rewrites.Clear()
    assert config == tf.ConfigProto(
        graph_options=tf.GraphOptions(rewrite_options={}), gpu_options={"allow_growth": False}
    )


def test_frozen_layers_behind_a_fed_tensor_are_not_run():
    # With constant folding on, the gradient's shape keeps a control edge onto what is fed, and so runs its producer.
    ran = []
    images = tf.placeholder(tf.float32, [None, 4, 4, 1])
    frozen = tf.py_func(lambda x: ran.append(len(x)) or x, [images], tf.float32)
    frozen.set_shape([None, 4, 4, 1])
    logits = layers.dense(layers.flatten(layers.conv2d(tf.nn.relu(frozen, name="features"), 3, 3, "conv")), 2, "logits")
    labels = tf.placeholder(tf.int64, [None])
    step = tx.train_step(images, labels, logits, train=tx.select(".*"))
    features = tf.get_default_graph().get_tensor_by_name("features:0")
    with tx.session() as sess:
        sess.run(step.stages[0].apply, {features: np.ones([5, 4, 4, 1]), labels: np.zeros(5, np.int64)})
        assert ran == []
        sess.run(step.stages[0].apply, {images: np.ones([6, 4, 4, 1]), labels: np.zeros(6, np.int64)})
        assert ran == [6]


# Files that change or break between plan and session.


def damage(how, prefix):
    shard, index = (prefix.with_name(prefix.name + suffix) for suffix in (".data-00000-of-00001", ".index"))
    data = shard.read_bytes()
    if how == "flipped":
        # Values lie in the order of their names: bias has 16 bytes, then comes kernel.
        shard.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    elif how == "truncated":
        shard.write_bytes(data[:100])
    elif how == "shard gone":
        shard.unlink()
    elif how == "index gone":
        index.unlink()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("flipped", r"model\.data-00000-of-00001: fc/kernel fails its checksum: the file is damaged"),
        ("truncated", r"model is incomplete or corrupt:\n  model\.data-.* has 100 bytes and should have"),
        ("shard gone", r"model is incomplete or corrupt:\n  model\.data-00000-of-00001 is missing; 2 of 2 entries"),
        ("index gone", r"model\.index is missing"),
    ],
)
def test_a_checkpoint_that_breaks_before_the_session_names_file_and_fault(tmp_path, how, told):
    layers.dense(tf.zeros([1, 50]), 4, "fc")
    prefix = saved(tmp_path / "model", **{"fc/kernel": np.ones([50, 4]), "fc/bias": np.ones(4)})
    plan = tx.plan(tx.select(".*"), tx.open_weights(prefix))
    damage(how, tmp_path / "model")
    with pytest.raises(WeightsError, match=told), tx.session(plan):
        pass


def test_a_flipped_byte_in_what_nobody_chose_does_no_harm(tmp_path):
    layers.dense(tf.zeros([1, 50]), 4, "fc")
    prefix = saved(tmp_path / "model", **{"fc/kernel": np.ones([50, 4]), "fc/bias": np.ones(4)})
    plan = tx.plan(tx.select("fc/bias"), tx.open_weights(prefix))
    damage("flipped", tmp_path / "model")
    with tx.session(plan) as sess:
        assert sess.run(tf.global_variables()[1]).tolist() == [1, 1, 1, 1]


def test_a_checkpoint_that_was_replaced_by_another_is_not_restored(tmp_path):
    tf.get_variable("w", [4])
    prefix = saved(tmp_path / "model", w=np.ones(4))
    plan = tx.plan(tx.select("w"), tx.open_weights(prefix))
    for arrays in ({"other": np.ones(4)}, {"w": np.ones(5)}):
        saved(tmp_path / "model", **arrays)
        with (
            pytest.raises(
                WeightsError, match=r"model has changed since the plan was made, in w; call open_weights and"
            ),
            tx.session(plan),
        ):
            pass


def test_an_error_while_an_array_is_read_comes_through():
    tf.get_variable("w", [2])

    def fail():
        raise WeightsError("w fails its checksum")

    weights = Weights("hand", "made by hand", {"w": Tensor((2,), np.dtype(np.float32), fail)})
    with pytest.raises(WeightsError, match="w fails its checksum"), tx.session(tx.plan(tx.select("w"), weights)):
        pass


# Scripts as users write them.

MAIN_JOB = """
import os, sys, warnings
{before}
import tensorflow.compat.v1 as tf
{after}
import tfxfer as tx
from tfxfer.models import autoencoder, heads

def classifier(**options):
    images = tf.placeholder(tf.uint8, [None, 28, 28, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    features = autoencoder.encoder(images)["flatten"]
    return images, labels, heads.classifier(features, hidden=[50], classes=10, dropout=0.2)

with tf.Graph().as_default():
    images = tf.placeholder(tf.uint8, [None, 28, 28, 1], name="images")
    ends = autoencoder.autoencoder(images, mask=0.25)
    step = tx.train_step(images, None, ends["reconstruction"], loss=ends["loss"], train=tx.select(".*"))
    keep = tf.train.Saver(tx.select("conv.*"))
    with tx.session() as sess:
        keep.save(sess, "pretrained/convolutions")

data = tx.data.digits()
with tf.Graph().as_default():
    images, labels, logits = classifier()
    convs = tx.plan(tx.select("conv.*"), tx.open_weights("pretrained"))
    print(convs.report())
    step = tx.train_step(images, labels, logits, train=tx.select("fc.*", "logits/.*"), learning_rate=3e-3)
    with tx.session(convs) as sess:
        tx.fit(sess, step, data, epochs=1, logdir="run")
        accuracy = tx.evaluate(sess, step, data.test).accuracy
loaded = [name for name in ("tf_keras", "tf_slim") if sys.modules.get(name)]
print("loaded:", loaded, "accuracy above 0.8:", accuracy > 0.8)
"""


def run_script(tmp_path, before="", after=""):
    (tmp_path / "pretrained").mkdir()
    script = tmp_path / "job.py"
    script.write_text(MAIN_JOB.format(before=before, after=after))
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_main_job_runs_where_tf_keras_and_tf_slim_cannot_be_imported(tmp_path):
    out = run_script(tmp_path, before="sys.modules['tf_keras'] = sys.modules['tf_slim'] = None")
    assert "loaded: [] accuracy above 0.8: True" in out


def test_the_main_job_runs_under_disable_v2_behavior(tmp_path):
    out = run_script(tmp_path, after="tf.disable_v2_behavior()")
    assert re.search(r"^  conv2/kernel +\(5, 5, 16, 32\) +float32 +restored +conv2/kernel \(by Saver\)$", out, re.M)
    assert "accuracy above 0.8: True" in out


# A session that is not open.


def test_a_session_without_with_says_what_to_write():
    y = layers.dense(tf.ones([1, 2]), 3, "fc")
    sess = tx.session()
    for use in (lambda: sess.run(y), lambda: sess.graph, lambda: sess.close()):
        with pytest.raises(NotOpenError, match=r"is not open.*; write `with tx\.session\(\.\.\.\) as sess:`"):
            use()
    assert not hasattr(sess, "run")
    with sess as opened:
        assert opened.run(y).shape == (1, 3)


def test_a_session_wants_a_graph():
    # What the default graph is, and whether there is one, each thread has for itself.
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(tx.session().__enter__).exception()
    assert isinstance(error, GraphError)
    assert "TensorFlow executes eagerly here, and a session runs a graph; build the network" in str(error)
