"""Update ops: which stages run them, and the order of a step."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data
from tfxfer.errors import FrozenError, GraphError
from tfxfer.graph import traversal, writes

RNG = np.random.default_rng(0)
IMAGES = (RNG.normal(size=(24, 5)) * 3 + 1).astype(np.float32)
LABELS = np.arange(24) % 3
DATA = Data((IMAGES, LABELS), (IMAGES[:9], LABELS[:9]), (IMAGES[9:], LABELS[9:]), ("a", "b", "c"))
MOMENTUM = 0.75


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        yield graph


def normalised(x, name, *, resource, kind="moments", parameters=True):
    """Batch normalisation by plain ops, in training mode; its updates go into UPDATE_OPS."""
    channels = int(x.shape[-1])
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        make = lambda what, value, trainable: tf.get_variable(  # noqa: E731
            what, [channels], initializer=tf.constant_initializer(value), trainable=trainable, use_resource=resource
        )
        gamma, beta = (make("gamma", 1.0, True), make("beta", 0.0, True)) if parameters else (None, None)
        moving = [make("moving_mean", 0.0, False), make("moving_variance", 1.0, False)]
        if kind == "fused":
            y, mean, variance = tf.nn.fused_batch_norm(x[:, None, None, :], gamma, beta, epsilon=1e-3)
            y = y[:, 0, 0, :]
        else:
            mean, variance = tf.nn.moments(x, [0])
            y = tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)
        for statistic, value in zip(moving, (mean, variance), strict=True):
            update = tf.assign_sub(statistic, (statistic - value) * (1 - MOMENTUM))
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
        return y


def network(*, resource=True, kind="moments", parameters=True, **options):
    images, labels = tf.placeholder(tf.float32, [None, 5], "images"), tf.placeholder(tf.int64, [None], "labels")
    first = tf.matmul(images, tf.get_variable("first/kernel", [5, 4], use_resource=resource))
    x = tf.nn.relu(normalised(first, "norm", resource=resource, kind=kind, parameters=parameters))
    logits = tf.matmul(x, tf.get_variable("logits/kernel", [4, 3], use_resource=resource))
    options = {"optimizer": "sgd", "summaries": ()} | options
    return tx.train_step(images, labels, logits, **options), first


def names_of(variables):
    return {variable.op.name for variable in variables}


STATISTICS = {"norm/moving_mean", "norm/moving_variance"}


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("kind", ["moments", "fused"])
def test_the_statistics_of_a_trained_normalisation_follow_the_batch(resource, kind, tmp_path):
    step, first = network(resource=resource, kind=kind, train=".*", learning_rate=0.0)
    assert names_of(step.stages[0].written) == STATISTICS | names_of(step.trained)
    with tx.session() as sess:
        tx.fit(sess, step, DATA, epochs=1, batch_size=24, logdir=tmp_path / "run")
        values = sess.run(first, {step.images: IMAGES})
        mean, variance = sess.run(tx.select("norm/moving.*", among=tf.global_variables()))
    correction = 24 / 23 if kind == "fused" else 1.0
    np.testing.assert_allclose(mean, (1 - MOMENTUM) * values.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(variance, MOMENTUM + (1 - MOMENTUM) * values.var(axis=0) * correction, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "parameters", "train", "runs"),
    [
        (kind, parameters, train, runs)
        for kind, parameters in (("moments", True), ("fused", True), ("moments", False))
        for train, runs in (
            [("logits/kernel", not parameters), ("first/kernel", not parameters)]
            + ([("norm/gamma", True), ("norm/beta", True)] if parameters else [])
        )
    ],
)
def test_updates_run_where_the_normalisation_or_lacking_parameters_its_neighbour_is_trained(
    kind, parameters, train, runs
):
    step, _ = network(kind=kind, parameters=parameters, train=train)
    assert names_of(step.stages[0].written) == {train} | (STATISTICS if runs else set())
    with tx.session() as sess:
        before = sess.run(tf.global_variables())
        sess.run(step.stages[0].apply, {step.images: IMAGES, step.labels: LABELS})
        after = sess.run(tf.global_variables())
    moved = {
        variable.op.name
        for variable, a, b in zip(tf.global_variables(), before, after, strict=True)
        if a.tobytes() != b.tobytes()
    }
    assert moved == names_of(step.stages[0].written) | {"global_step"}


def test_updates_of_a_later_stage_run_from_that_stage_on():
    stages = [tx.Stage(0, "logits/.*"), tx.Stage(2, ["norm/.*", "first/.*"])]
    step, _ = network(stages=stages)
    assert [names_of(stage.written) >= STATISTICS for stage in step.stages] == [False, True]


def test_a_frozen_normalisation_that_uses_the_batch_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "tfxfer"):
        network(train="logits/kernel")
    (record,) = caplog.records
    assert "norm/moving_mean, norm/moving_variance: their layers are frozen" in record.getMessage()
    assert "normalises by the batch, in evaluation too" in record.getMessage()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("chosen_by", ["cond", "where"])
@pytest.mark.parametrize("phase", [True, False])
def test_a_frozen_normalisation_with_a_switch_is_warned_of_only_where_training_turns_it_on(
    version, chosen_by, phase, caplog
):
    was = tf.control_flow_v2_enabled()
    (tf.enable_control_flow_v2 if version == 2 else tf.disable_control_flow_v2)()
    try:
        images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
        training = tf.placeholder(tf.bool, [], "is_training")
        moving = tf.get_variable("moving", [5], initializer=tf.zeros_initializer(), trainable=False)
        mean = tf.reduce_mean(images, 0)
        if chosen_by == "cond":
            used = tf.cond(training, lambda: mean, lambda: tf.identity(moving))
        else:
            used = tf.where(training, mean, moving)
        change = tf.where(training, (moving - mean) * 0.1, tf.zeros_like(mean))
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.assign_sub(moving, change))
        beta = tf.get_variable("beta", [5], initializer=tf.zeros_initializer())
        logits = tf.matmul(images - used + beta, tf.get_variable("kernel", [5, 3]))
        feeds = {"train_feeds": {training: phase}, "eval_feeds": {training: False}}
        with caplog.at_level(logging.WARNING, "tfxfer"):
            tx.train_step(images, labels, logits, train="kernel", summaries=(), **feeds)
    finally:
        (tf.enable_control_flow_v2 if was else tf.disable_control_flow_v2)()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == phase
    assert all("with is_training fed True" in text and "in evaluation too" not in text for text in told)


@pytest.mark.parametrize("resource", [True, False])
def test_an_expression_trains_the_trainable_variables_and_no_moving_statistics_that_have_a_gradient(resource):
    images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
    moving = tf.get_variable("norm/moving", [5], trainable=False, use_resource=resource)
    beta = tf.get_variable("norm/beta", [5], use_resource=resource)
    logits = tf.matmul(images - moving + beta, tf.get_variable("kernel", [5, 3], use_resource=resource))
    options = {"optimizer": "sgd", "summaries": ()}
    step = tx.train_step(images, labels, logits, train=".*", **options)
    assert names_of(step.trained) == {"norm/beta", "kernel"}
    with pytest.raises(GraphError, match=r"has a step of training on MatMul:0 already.* give .* tf\.identity"):
        tx.train_step(images, labels, logits, train=["kernel", "norm/moving"], **options)
    step = tx.train_step(images, labels, tf.identity(logits), train=["kernel", "norm/moving"], **options)
    assert names_of(step.trained) == {"norm/moving", "kernel"}


@pytest.mark.parametrize("updates", [[], "mean"])
def test_explicit_updates_are_exactly_those_that_are_run(updates):
    images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
    x = normalised(images, "norm", resource=True)
    mean = tf.get_collection(tf.GraphKeys.UPDATE_OPS)[0]
    logits = tf.matmul(x, tf.get_variable("kernel", [5, 3]))
    chosen = [mean] if updates == "mean" else []
    step = tx.train_step(images, labels, logits, train=".*", updates=chosen, summaries=())
    assert names_of(step.stages[0].written) & STATISTICS == ({"norm/moving_mean"} if chosen else set())


def test_a_counter_is_run_and_an_average_of_weights_follows_those_that_are_trained():
    images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
    kernels = [tf.get_variable(name, [5, 3]) for name in ("one", "two")]
    for kernel in kernels:
        average = tf.get_variable(f"{kernel.op.name}_average", [5, 3], trainable=False)
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, average.assign(0.9 * average + 0.1 * kernel))
    counter = tf.get_variable("counter", [], tf.int32, tf.zeros_initializer(), trainable=False)
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, counter.assign_add(1))
    logits = tf.matmul(images, kernels[0]) + tf.matmul(images, kernels[1])
    step = tx.train_step(images, labels, logits, train="one", summaries=())
    assert names_of(step.stages[0].written) == {"one", "one_average", "counter"}
    with tx.session() as sess:
        for _ in range(3):
            sess.run(step.stages[0].apply, {images: IMAGES, labels: LABELS})
        assert sess.run(counter) == 3


def two_layers(*, resource, trainable=True):
    images, labels = tf.placeholder(tf.float32, [None, 5], "images"), tf.placeholder(tf.int64, [None], "labels")
    base = tf.get_variable("base", [5, 4], use_resource=resource, trainable=trainable)
    head = tf.get_variable("head", [4, 3], use_resource=resource)
    return images, labels, tf.matmul(tf.nn.relu(tf.matmul(images, base)), head), (base, head)


def bounded(weights):
    return weights.assign(tf.clip_by_value(weights, -0.001, 0.001))


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_a_bound_on_weights_holds_for_those_that_are_trained_alone(resource, trainable, grouped, tmp_path, caplog):
    images, labels, logits, (base, head) = two_layers(resource=resource, trainable=trainable)
    with tf.control_dependencies([logits]):  # What it waits for does not make it follow the batch.
        bounds = [bounded(base), bounded(head)]
    for update in [tf.group(*bounds)] if grouped else bounds:
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    with caplog.at_level(logging.WARNING, "tfxfer"):
        step = tx.train_step(images, labels, logits, train="head", summaries=())
    assert names_of(step.stages[0].written) == {"head"}
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == ["base"]
    run = {
        variable.name for some in writes.written(traversal.needed([step.stages[0].apply])).values() for variable in some
    }
    assert "head" in run
    assert "base" not in run
    with tx.session() as sess:
        before = sess.run(base)
        assert tx.fit(sess, step, DATA, epochs=1, batch_size=8, logdir=tmp_path / "run").frozen == 1
        np.testing.assert_array_equal(before, sess.run(base))


def test_an_op_that_bounds_several_weights_runs_once_all_of_them_are_trained():
    images, labels, logits, (base, head) = two_layers(resource=True)

    @tf.function(autograph=False)
    def bound():
        bounded(base)
        bounded(head)
        return tf.constant(0.0)

    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, bound())
    stages = [tx.Stage(0, "head"), tx.Stage(1, "base")]
    step = tx.train_step(images, labels, logits, stages=stages, summaries=())
    runs = [
        any(len(some) == 2 for some in writes.written(traversal.needed([stage.apply])).values())
        for stage in step.stages
    ]
    assert runs == [False, True]


def decayed_in_function(images, weights):
    @tf.function(autograph=False)
    def decay(x):
        weights.assign(weights * 0.5)
        return tf.matmul(x, weights)

    return decay(images)


def decayed_in_branch(images, weights):
    decays = tf.placeholder_with_default(True, [])
    return tf.matmul(images, tf.cond(decays, lambda: tf.identity(weights.assign(weights * 0.5)), lambda: weights + 0.0))


@pytest.mark.parametrize("local", [False, True])
def test_a_weight_of_the_loss_that_grows_from_step_to_step_is_a_counter(local):
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
    if local:
        growing = tf.get_local_variable("growing", [2], initializer=tf.zeros_initializer())
    else:
        growing = tf.get_variable("growing", [], initializer=tf.zeros_initializer(), trainable=False)
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, growing.assign(tf.minimum(growing + 0.25, 1.0)))
    logits = tx.graph.layers.dense(images, 2, "logits", activation=None)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    step = tx.train_step(images, labels, logits, train="logits/.*", loss=entropy * growing)
    with tx.session() as sess:
        for _ in range(3):
            sess.run(step.stages[0].apply, {images: np.ones((2, 4)), labels: [0, 1]})
        assert np.all(sess.run(growing) == 0.75)


@pytest.mark.parametrize("decayed", [decayed_in_function, decayed_in_branch])
def test_frozen_weights_that_the_network_itself_may_write_are_proved_and_not_taken_for_a_counter(decayed, tmp_path):
    images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
    base = tf.get_variable("base", [5, 4], use_resource=True)
    logits = tf.matmul(decayed(images, base), tf.get_variable("head", [4, 3]))
    step = tx.train_step(images, labels, logits, train="head", summaries=())
    with tx.session() as sess, pytest.raises(FrozenError, match="  base: was"):
        tx.fit(sess, step, DATA, epochs=1, batch_size=8, logdir=tmp_path / "run")


def test_frozen_weights_that_the_network_writes_whenever_it_runs_are_refused():
    images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
    base = tf.get_variable("base", [5, 4], use_resource=True)
    with tf.control_dependencies([base.assign(base * 0.5)]):
        logits = tf.matmul(tf.matmul(images, base.read_value()), tf.get_variable("head", [4, 3]))
    with pytest.raises(GraphError, match="writes base"):
        tx.train_step(images, labels, logits, train="head", summaries=())


def test_a_generator_of_random_numbers_that_the_network_draws_from_goes_on_in_every_stage():
    images, labels, logits, _ = two_layers(resource=True)
    noise = tf.random.Generator.from_seed(1).normal([3])
    step = tx.train_step(images, labels, logits + noise, train="head", summaries=())
    assert len(step.generators) == 1


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("training", "train"), [(True, ["kernel", "beta"]), (False, ["kernel"]), (True, ["kernel"])])
def test_a_conditional_update_within_the_network_writes_only_where_it_is_taken(version, training, train, tmp_path):
    """As many graphs have it: moments in one branch of tf.cond, with control dependencies on their moving averages."""
    was = tf.control_flow_v2_enabled()
    (tf.enable_control_flow_v2 if version == 2 else tf.disable_control_flow_v2)()
    try:
        images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
        phase = tf.placeholder(tf.bool, [], "phase")
        moving = tf.get_variable("moving", [5], initializer=tf.zeros_initializer(), trainable=False)

        def by_batch():
            mean = tf.reduce_mean(images, 0)
            with tf.control_dependencies([moving.assign(mean)]):
                return tf.identity(mean)

        mean = tf.cond(phase, by_batch, lambda: tf.identity(moving))
        beta = tf.get_variable("beta", [5], initializer=tf.zeros_initializer())
        logits = tf.matmul(images - mean + beta, tf.get_variable("kernel", [5, 3]))
        feeds = {"train_feeds": {phase: training}, "eval_feeds": {phase: False}}
        step = tx.train_step(images, labels, logits, train=train, summaries=(), **feeds)
        with tx.session() as sess:
            if training and "beta" not in train:  # Frozen, and written all the same.
                with pytest.raises(FrozenError, match=r"(?s)after the first step of this start:\n  moving: was"):
                    tx.fit(sess, step, DATA, epochs=2, batch_size=8, logdir=tmp_path / "run")
                return
            tx.fit(sess, step, DATA, epochs=1, batch_size=24, logdir=tmp_path / "run")
            expected = IMAGES.mean(axis=0) if training else np.zeros(5)
            np.testing.assert_allclose(sess.run(moving), expected, rtol=1e-5)
    finally:
        (tf.enable_control_flow_v2 if was else tf.disable_control_flow_v2)()


@pytest.mark.parametrize("resource", [True, False])
def test_a_network_that_writes_whenever_it_is_run_is_refused_and_the_cure_cures(resource):
    for updates in (None, "given"):
        with tf.Graph().as_default():
            images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
            moving = tf.get_variable("moving", [5], trainable=False, use_resource=resource)
            update = tf.assign(moving, tf.reduce_mean(images, 0), name="follow")
            waits = [update] if updates is None else []
            with tf.control_dependencies(waits):
                logits = tf.matmul(images, tf.get_variable("kernel", [5, 3]))
            if updates is None:
                with pytest.raises(GraphError, match=r"(?s)follow \(\w+\) writes moving.*outside of tf.control_dep"):
                    tx.train_step(images, labels, logits, train="kernel")
            else:
                step = tx.train_step(images, labels, logits, train="kernel", updates=[update])
                assert names_of(step.stages[0].written) == {"kernel", "moving"}


@pytest.mark.parametrize("kind", ["moments", "fused"])
def test_what_a_trained_layer_writes_under_control_dependencies_counts_as_written_and_is_warned_of(kind, caplog):
    for train in (["gamma", "kernel"], ["kernel"]):
        with tf.Graph().as_default(), caplog.at_level(logging.WARNING, "tfxfer"):
            images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
            gamma, moving = (tf.get_variable(name, [5]) for name in ("gamma", "moving"))
            if kind == "fused":
                x, mean, _ = tf.nn.fused_batch_norm(images[:, None, None, :], gamma, tf.zeros([5]))
                x = x[:, 0, 0, :]
            else:
                mean = tf.reduce_mean(images, 0)
                x = (images - mean) * gamma
            with tf.control_dependencies([moving.assign_sub(0.1 * (moving - mean))]):
                logits = tf.matmul(x, tf.get_variable("kernel", [5, 3]))
            if "gamma" in train:
                step = tx.train_step(images, labels, logits, train=train, summaries=())
                assert names_of(step.stages[0].written) == {"gamma", "kernel", "moving"}
                assert "moving: written whenever the network is run" in caplog.text
            else:
                with pytest.raises(GraphError, match="writes moving"):
                    tx.train_step(images, labels, logits, train=train, summaries=())


# --- order ---


@pytest.mark.parametrize("resource", [True, False])
def test_nothing_is_written_before_all_gradients_and_metrics_of_a_step_are_there(resource):
    with tf.variable_scope("shared", reuse=tf.AUTO_REUSE):
        images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])

        def tower():
            x = tf.matmul(images, tf.get_variable("first", [5, 4], use_resource=resource))
            x = normalised(x, "norm", resource=resource)
            return tf.matmul(x, tf.get_variable("second", [4, 3], use_resource=resource))

        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=tower())
        outputs = tower()
    plan = [tx.Stage(0, "shared/second"), tx.Stage(1, ["shared/first", "shared/norm/[gb].*"])]
    step = tx.train_step(
        images, labels, outputs, loss=loss, stages=plan,
        multipliers={"shared/first": 0.5}, summaries=(),
    )  # fmt: skip
    for stage in step.stages:
        ops = traversal.needed([stage.apply])
        writing = writes.written(ops)
        assert {v.name for some in writing.values() for v in some} >= names_of(stage.written) | {"global_step"}
        reads = {tensor.op for tensor in step.metrics.values()}
        last = [op for op in ops if op.name.startswith("SOLVER/") and op.type == "Identity" and "gradient" in op.name]
        assert len(last) == len(stage.variables)
        for op, variables in writing.items():
            before = set(traversal.needed([op]))
            assert reads <= before, op.name
            if variables & {variable.op for variable in stage.variables}:
                assert all(set(gate.control_inputs) <= before for gate in last), op.name


def test_two_updates_of_one_statistic_come_one_after_the_other():
    images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
    towers = [normalised(images * scale, "norm", resource=True) for scale in (1.0, 2.0)]
    logits = tf.matmul(towers[0] + towers[1], tf.get_variable("kernel", [5, 3]))
    step = tx.train_step(images, labels, logits, train=".*", summaries=())
    writing = writes.written(traversal.needed([step.stages[0].apply]))
    for name in STATISTICS:
        one, two = (op for op, some in writing.items() if name in {variable.name for variable in some})
        assert one in traversal.needed([two]) or two in traversal.needed([one])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_reference_variables_give_the_bits_of_resource_variables(optimizer):
    results = []
    for resource in (True, False, False):
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            images, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int64, [None])
            x = images
            for number, (inputs, units) in enumerate([(5, 200), (200, 200), (200, 200), (200, 3)]):
                start = tf.glorot_uniform_initializer(seed=number)
                x = tf.matmul(
                    x, tf.get_variable(f"w{number}", [inputs, units], initializer=start, use_resource=resource)
                )
                x = tf.nn.relu(x) if units > 3 else x
            step = tx.train_step(images, labels, x, train="w.*", optimizer=optimizer, learning_rate=0.05, summaries=())
            with tx.session(intra_op_threads=1, inter_op_threads=4) as sess:
                for _ in range(15):
                    sess.run([step.stages[0].apply, *step.metrics.values()], {images: IMAGES, labels: LABELS})
                results.append(b"".join(value.tobytes() for value in sess.run(step.trained)))
    assert results[0] == results[1] == results[2]
