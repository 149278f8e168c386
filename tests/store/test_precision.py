"""The frozen part in another precision: the choice, the session of its own, and rows that are never mixed."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer import processor
from tfxfer.callables import compiled
from tfxfer.data.splits import Data
from tfxfer.errors import DataError, GraphError
from tfxfer.store import extraction, fingerprint, precision
from tfxfer.store.compute import Network
from tfxfer.tf_private import session_config

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (48, 8, 8, 3)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 48)


@pytest.fixture(autouse=True)
def graph(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no test cuts the power
    monkeypatch.setattr(processor, "features", lambda: {"avx512_bf16"})
    monkeypatch.delenv(processor.SWITCH, raising=False)
    with tf.Graph().as_default() as graph:
        yield graph


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolved(images, kernel):
    """Convolve [n, 8, 8, 3] with a kernel [3, 3, 3, 16] and average over positions."""
    x = tf.nn.conv2d(tf.cast(images, tf.float32) / 255, kernel, 1, "SAME")
    return tf.reduce_mean(tf.nn.relu(x), [1, 2])


def normalised(images, kernel):
    """Convolve as above, with batch normalisation as `tf.nn` makes it."""
    x = tf.nn.conv2d(tf.cast(images, tf.float32) / 255, kernel, 1, "SAME")
    gamma, beta, mean = (tf.get_variable(name, initializer=normal([16], 3)) for name in ("gamma", "beta", "mean"))
    variance = tf.get_variable("variance", initializer=1 + normal([16], 4) ** 2)
    return tf.reduce_mean(tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)), [1, 2])


def resource():
    return tf.get_variable("kernel", initializer=normal([3, 3, 3, 16]), use_resource=True)


def reference():
    return tf.get_variable("kernel", initializer=normal([3, 3, 3, 16]), use_resource=False)


def partitioned():
    with tf.variable_scope("split", partitioner=tf.fixed_size_partitioner(2, axis=3)):
        return tf.get_variable("kernel", [3, 3, 3, 16], initializer=tf.initializers.random_normal(seed=1))


def twins():
    initial = tf.constant(normal([3, 3, 3, 16]))  # one array would be fed in the place of both
    first, second = (tf.get_variable(name, initializer=initial, use_resource=True) for name in ("first", "second"))
    return first - 0.5 * second


def imported():
    """A kernel of a MetaGraph, in no collection but its own."""
    with tf.Graph().as_default() as other:
        tf.get_variable("kernel", initializer=normal([3, 3, 3, 16]), use_resource=False)
        meta = tf.train.export_meta_graph(graph=other)
    tf.train.import_meta_graph(meta, import_scope="net")
    return tf.get_default_graph().get_tensor_by_name("net/kernel/read:0")


# --- the session ---


@pytest.mark.parametrize("make", [resource, reference, partitioned, twins, imported])
def test_it_has_the_values_that_the_variables_have_now_whatever_their_kind(make):
    images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
    kernel = tf.convert_to_tensor(make())
    tensor = convolved(images, kernel)
    variables = tf.global_variables()
    places = [tf.placeholder(tf.float32, variable.shape) for variable in variables]
    writes = [tf.assign(variable, place) for variable, place in zip(variables, places, strict=True)]
    with tx.session() as sess:
        for number, (write, place) in enumerate(zip(writes, places, strict=True)):
            sess.run(write, {place: normal(place.shape, number + 7)})
        before = sess.run(kernel)
        with precision.computing(Network(sess, images, [tensor]), "bfloat16") as low:
            assert low.sess is not sess
            assert low.sess.run(kernel.name).tobytes() == before.tobytes()
            ((fast,), (exact,)) = (each.make_callable(48)(IMAGES) for each in (low, Network(sess, images, [tensor])))
            np.testing.assert_allclose(fast, exact, atol=0.02 * np.abs(exact).max())
            assert np.dtype(fast.dtype) == np.float32
        assert sess.run(kernel).tobytes() == before.tobytes()


def test_only_what_the_tensors_read_is_brought_and_the_session_ends_with_the_block():
    images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
    tensor, unread = convolved(images, resource()), tf.get_variable("unread", [7], use_resource=True)
    value = unread.read_value()
    with tx.session() as sess:
        with precision.computing(Network(sess, images, [tensor]), "bfloat16") as low:
            assert [op.name for op in low.sess.graph.get_operations() if op.type == "VarHandleOp"] == ["kernel"]
            assert low.sess.graph is not sess.graph
            assert tf.get_default_graph() is sess.graph
            assert tf.get_default_session() is sess
        with pytest.raises(RuntimeError, match="closed"):
            low.sess.run(tensor.name)
        assert sess.run(value).shape == (7,)


def test_the_same_session_computes_in_float32():
    images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
    tensor = convolved(images, resource())
    with tx.session() as sess:
        network = Network(sess, images, [tensor])
        with precision.computing(network, "float32") as same:
            assert same is network


def test_a_variable_that_nothing_assigns_in_the_graph_is_brought_all_the_same():
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[3, 3, 3, 16], shared_name="bare", name="bare")
        kernel = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
        network = [images, [convolved(images, kernel)]]
        write = tf.raw_ops.AssignVariableOp(resource=handle, value=normal([3, 3, 3, 16]))
        with tf.Session(graph=graph) as sess:
            sess.run(write)
            with precision.computing(Network(sess, *network), "bfloat16") as low:
                assert low.sess.run(kernel.name).tobytes() == sess.run(kernel).tobytes()


def test_a_session_on_a_server_is_refused():
    server = tf.train.Server.create_local_server()
    images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
    tensor = convolved(images, resource())
    with (
        tf.Session(server.target) as sess,
        pytest.raises(GraphError, match=r"runs on the server grpc://.*`precision=folded` needs.*`precision=float32`"),
        precision.computing(Network(sess, images, [tensor]), "folded"),
    ):
        pass
    with tf.Session(server.target) as sess:
        chosen, why = precision.choose(Network(sess, images, [tensor]), lambda: pytest.fail("it was measured"), 4, 9)
        assert (chosen, why) == ("float32", "the session runs on a server")


# --- rows of a store ---


def extracted(store, how, *, workers=1, batch_size=4, build=convolved):
    """Extract what a convolution gives of all images; return the rows and in what they were computed."""
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
        tensor = build(images, resource())
        with tx.session() as sess:
            [[rows]] = tx.extract(
                sess, images, [tensor], [IMAGES], store, batch_size=batch_size, precision=how, workers=workers
            )
            return rows[np.arange(48)], rows.about["precision"]


def tables(store: Path) -> list[str]:
    return sorted(json.loads(path.read_text())["precision"] for path in store.glob("*/about.json"))


def test_rows_of_all_precisions_lie_apart_in_one_store(tmp_path):
    rows = {}
    for name in ("float32", "bfloat16", "folded"):
        rows[name], said = extracted(tmp_path, name, build=normalised)
        assert said == name
    assert tables(tmp_path) == ["bfloat16", "float32", "folded"]
    np.testing.assert_allclose(rows["bfloat16"], rows["float32"], atol=0.02 * np.abs(rows["float32"]).max())
    np.testing.assert_allclose(rows["folded"], rows["float32"], atol=1e-5 * np.abs(rows["float32"]).max())
    for name, values in rows.items():
        assert extracted(tmp_path, name, build=normalised)[0].tobytes() == values.tobytes()


def test_folded_rows_are_those_of_a_convolution_with_a_scaled_kernel_and_a_bias(tmp_path):
    """As another program folds: kernel * gamma / sqrt(variance + epsilon), and a bias, in float64."""
    rows, _ = extracted(tmp_path, "folded", build=normalised)
    gamma = beta = mean = normal([16], 3).astype(np.float64)
    scale = gamma / np.sqrt(1 + normal([16], 4).astype(np.float64) ** 2 + 1e-3)
    kernel = (normal([3, 3, 3, 16]) * scale).astype(np.float32)
    x = tf.nn.conv2d(tf.constant(IMAGES, tf.float32) / 255, kernel, 1, "SAME") + (beta - mean * scale).astype("f")
    with tf.Session() as sess:
        expected = sess.run(tf.reduce_mean(tf.nn.relu(x), [1, 2]))
    np.testing.assert_allclose(rows, expected, atol=1e-6 * np.abs(expected).max())


def test_addresses_of_folded_rows_are_others_than_those_of_tensorflows_rewrite_alone(tmp_path):
    images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
    tensor = convolved(images, resource())
    with tx.session() as sess:
        network = Network(sess, images, [tensor])
        config = precision.configuration(sess, "bfloat16")
        assert precision.rewrites(sess, "float32") == fingerprint.rewrites(session_config(sess))
        assert precision.rewrites(sess, "bfloat16") == f"{fingerprint.rewrites(config)}, {precision.FOLDED}"
        plain = fingerprint.rewrites(session_config(sess))
        assert precision.rewrites(sess, "folded") == f"{plain}, {precision.FOLDED}"
        with precision.computing(network, "folded") as folded:
            [alone], [named] = (
                extraction.open_tables(each, "uint8 (8, 8, 3)", tmp_path, batch_size=4, precision=how)
                for each, how in ((folded, ""), (network, "folded"))
            )
        assert alone.path == named.path
        with precision.computing(network, "bfloat16") as low:  # as workers of Beam open tables, and as `auto` does
            tables = [
                extraction.open_tables(each, "uint8 (8, 8, 3)", tmp_path, batch_size=4, precision=how)[0].path
                for each, how in ((low, ""), (network, "bfloat16"), (network, "float32"))
            ]
        assert tables[0] == tables[1] != tables[2]
    with tf.Session(graph=images.graph, config=config) as rewritten:
        assert precision.of_session(rewritten) == "bfloat16"
        assert precision.rewrites(rewritten, "bfloat16") == fingerprint.rewrites(config)


@pytest.mark.parametrize("flag", ["auto_mixed_precision_mkl", "auto_mixed_precision_onednn_bfloat16"])
def test_a_session_told_to_compute_in_bfloat16_is_known_and_another_one_folds(tmp_path, flag):
    config = tf.ConfigProto()
    setattr(config.graph_options.rewrite_options, flag, type(config.graph_options.rewrite_options).ON)
    images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
    tensor = normalised(images, resource())
    rows, plain = {}, {}
    for config_, found in ((config, rows), (None, plain)):
        with tf.Session(config=config_) as sess:
            sess.run(tf.global_variables_initializer())
            for how in ("float32", "folded"):
                store = tmp_path / f"{how}{config_ is None}"
                [[found[how]]] = tx.extract(sess, images, [tensor], [IMAGES], store, batch_size=4, precision=how)
    assert [each["float32"].about["precision"] for each in (rows, plain)] == ["bfloat16", "float32"]
    assert [each["folded"].about["precision"] for each in (rows, plain)] == ["folded", "folded"]
    assert rows["folded"].address == plain["folded"].address
    assert rows["folded"][np.arange(48)].tobytes() == plain["folded"][np.arange(48)].tobytes()


@pytest.mark.slow
def test_workers_give_the_same_bits(tmp_path):
    for how in ("bfloat16", "folded"):
        one, _ = extracted(tmp_path / f"one-{how}", how, build=normalised)
        two, _ = extracted(tmp_path / f"two-{how}", how, build=normalised, workers=2)
        assert one.tobytes() == two.tobytes()
        assert tables(tmp_path / f"two-{how}") == [how]


# --- the choice ---


def measured(monkeypatch, **factors):
    """Let these factors be measured, and no others be asked for."""

    def measure(network, images, batch_size, others):
        assert others == list(factors)
        return factors

    monkeypatch.setattr(precision, "measure", measure)


@pytest.mark.parametrize(("factor", "chosen"), [(1.5, "bfloat16"), (1.05, "float32"), (0.5, "float32")])
def test_auto_takes_what_is_faster_by_a_margin_and_says_the_factor_once(tmp_path, monkeypatch, caplog, factor, chosen):
    measured(monkeypatch, bfloat16=factor)
    assert extracted(tmp_path, "auto")[1] == chosen
    lines = [record.getMessage() for record in caplog.records if "auto" in record.getMessage()]
    said = f"`precision=auto`: frozen layers compute in {chosen}: bfloat16 is {factor:.2f} times as fast on the first"
    assert [line.startswith(said) for line in lines] == [True]


@pytest.mark.parametrize(("folded", "bfloat16", "chosen"), [
    (1.4, 2.5, "bfloat16"),
    (1.4, 1.5, "folded"),  # bfloat16 is less exact, and hardly faster
    (1.05, 1.12, "bfloat16"),
    (1.05, 1.05, "float32"),
])  # fmt: skip
def test_auto_takes_what_is_more_exact_where_the_rest_is_hardly_faster(
    tmp_path, monkeypatch, caplog, folded, bfloat16, chosen
):
    measured(monkeypatch, folded=folded, bfloat16=bfloat16)
    assert extracted(tmp_path, "auto", build=normalised)[1] == chosen
    said = f"folded is {folded:.2f} times as fast and bfloat16 is {bfloat16:.2f} times as fast on the first batches"
    assert said in caplog.text


def test_without_units_auto_folds_where_that_is_faster(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(processor, "features", lambda: {"avx2"})
    measured(monkeypatch, folded=1.3)
    rows, name = extracted(tmp_path, "auto", build=normalised)
    assert name == "folded"
    said = "compute in float32 with batch normalisation and padding folded: folded is 1.30 times as fast on the first"
    assert said in caplog.text
    again, name = extracted(tmp_path, "auto", build=normalised)
    assert (name, again.tobytes()) == ("folded", rows.tobytes())
    assert "the store has 48 examples in it" in caplog.text


@pytest.mark.parametrize("first", ["float32", "folded", "bfloat16"])
def test_auto_takes_what_the_store_has_and_measures_nothing(tmp_path, monkeypatch, first):
    rows, _ = extracted(tmp_path, first)
    monkeypatch.setattr(precision, "measure", lambda *args: pytest.fail("it was measured"))
    again, name = extracted(tmp_path, "auto")
    assert (name, again.tobytes(), tables(tmp_path)) == (first, rows.tobytes(), [first])


def test_auto_measures_folded_where_padding_alone_can_be_folded(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "features", set)
    measured(monkeypatch, folded=1.3)

    def padded(images, kernel):
        x = tf.pad(tf.cast(images, tf.float32) / 255, [[0, 0], [0, 1], [0, 1], [0, 0]])
        return tf.reduce_mean(tf.nn.conv2d(x, kernel, 2, "VALID"), [1, 2])

    assert extracted(tmp_path, "auto", build=padded)[1] == "folded"


def test_auto_does_not_measure_what_is_computed_sooner(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "measure", lambda *args: pytest.fail("it was measured"))
    assert extracted(tmp_path, "auto", batch_size=16)[1] == "float32"


def test_the_factor_is_measured_on_each_session():
    images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
    tensor = normalised(images, resource())
    with tx.session() as sess:
        factors = precision.measure(Network(sess, images, [tensor]), IMAGES, 48, ["folded", "bfloat16"])
    assert list(factors) == ["folded", "bfloat16"]
    assert all(0 < factor < np.inf for factor in factors.values())


def test_without_units_bfloat16_is_refused_and_auto_is_float32(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(processor, "features", lambda: {"avx2", "avx512f"})
    with pytest.raises(DataError, match=r"none of amx_bf16, avx512_bf16, and would be 0\.4 times"):
        extracted(tmp_path, "bfloat16")
    assert extracted(tmp_path, "auto")[1] == "float32"  # what the message says
    said = "has none of amx_bf16, avx512_bf16, and the network has no batch normalisation or padding to fold"
    assert said in caplog.text


# --- what is trained on it ---


def data(*, labels=LABELS):
    parts = [(IMAGES[rows], labels[rows]) for rows in (slice(0, 32), slice(32, 40), slice(40, 48))]
    return Data(*parts, class_names=("a", "b", "c"))


def trained_on(tmp_path, how, *, epochs=1, logdir="run", mix=None, few=0, build=convolved):
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.uint8, [None, 8, 8, 3], "images"), tf.placeholder(tf.int64, [None])
        logits = tx.graph.layers.dense(build(images, resource()), 3, "logits", activation=None)
        step = tx.train_step(images, labels, logits, train=["logits/.*"])
        with tx.session() as sess:
            store = tmp_path / "store"
            examples = tx.precompute(sess, step, data(), store=store, batch_size=4, precision=how)
            if mix:
                others = tx.precompute(sess, step, data(), store=store, batch_size=4, precision=mix)
                examples = Data(examples.train, others.validation, examples.test, class_names=("a", "b", "c"))
            if few:
                examples = dataclasses.replace(examples, train=examples.train.take(np.arange(few)))
            tx.fit(sess, step, examples, epochs=epochs, logdir=tmp_path / logdir, batch_size=8)
            rewrites = session_config(sess).graph_options.rewrite_options
            assert rewrites.auto_mixed_precision_onednn_bfloat16 == 0  # what is trained is in float32
    return tx.open_run(tmp_path / logdir)


def test_a_run_keeps_its_precision_and_goes_on_with_no_other(tmp_path):
    settings = trained_on(tmp_path, "bfloat16").settings
    assert settings["precision"] == "bfloat16"
    assert len(settings["computed_once"]) == 1
    with pytest.raises(tx.errors.RunError, match=r'`precision`: was "bfloat16", now not set'):
        trained_on(tmp_path, "float32", epochs=2)
    assert trained_on(tmp_path, "bfloat16", epochs=2).settings["epochs"] == 2
    assert "precision" not in trained_on(tmp_path, "float32", logdir="other").settings
    with pytest.raises(tx.errors.RunError, match=r'`precision`: was not set, now "bfloat16"'):
        trained_on(tmp_path, "bfloat16", epochs=2, logdir="other")


@pytest.mark.parametrize(("how", "mix"), [("bfloat16", "float32"), ("folded", "float32"), ("bfloat16", "folded")])
def test_features_of_two_precisions_are_not_mixed(tmp_path, how, mix):
    said = rf"several precisions.*train: {how}; validation: {mix}; test: {how}.*call precompute once"
    with pytest.raises(DataError, match=said):
        trained_on(tmp_path, how, mix=mix)


def test_some_of_the_examples_are_of_the_precision_of_all(tmp_path):
    run = trained_on(tmp_path, "bfloat16", few=20)
    assert run.settings["precision"] == "bfloat16"


def test_images_that_are_trained_on_beside_the_frozen_layers_are_computed_by_nothing(tmp_path):
    def build(images, kernel):
        side = tx.graph.layers.dense(tf.reshape(tf.cast(images, tf.float32), [-1, 192]), 3, "logits/side")
        return tf.concat([convolved(images, kernel), side], 1)

    run = trained_on(tmp_path, "bfloat16", build=build)
    assert len(run.settings["computed_once"]) == 1
    assert not run.settings["computed_once"][0].startswith("images")
    examples = data().test
    again = run.evaluate(examples)
    np.testing.assert_allclose(
        again.probabilities, run.evaluate(examples, precision="float32").probabilities, atol=0.05
    )


def test_what_is_computed_apart_can_be_asked_for_itself():
    images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
    codes = convolved(images, resource())
    twice = codes * 2
    with tx.session() as sess, precision.divided(sess, images, [codes], {}, "bfloat16"):
        for fetches in ([codes], [twice, codes], [codes, twice, codes]):
            got = compiled(sess, fetches, [images])(IMAGES)
            [plain] = compiled(sess, [codes], [images], whole=True)(IMAGES)
            for fetch, values in zip(fetches, got, strict=True):
                wanted = plain * 2 if fetch is twice else plain
                np.testing.assert_allclose(values, wanted, rtol=0.02, atol=0.02)
                assert not np.array_equal(values, wanted)


def test_a_folded_run_keeps_that_and_says_of_how_much_it_made(tmp_path):
    run = trained_on(tmp_path, "folded", build=normalised)
    assert run.settings["precision"] == "folded"
    change = json.loads((tmp_path / "run" / "precision.json").read_text())
    assert (change["examples"], change["first_class"]) == (8, 0.0)
    assert change["probabilities"] < 1e-5
    with pytest.raises(tx.errors.RunError, match=r'`precision`: was "folded", now "bfloat16"'):
        trained_on(tmp_path, "bfloat16", epochs=2, build=normalised)


def test_a_choice_takes_the_rows_that_most_examples_have():
    counts = {"float32": 3, "bfloat16": 5, "folded": 4}
    chosen = extraction.choose_precision(
        lambda precision: [precision], lambda opened: counts[opened[0]], lambda: pytest.fail("it was measured")
    )
    assert chosen == "bfloat16"
