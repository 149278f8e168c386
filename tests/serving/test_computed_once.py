"""A run whose frozen part was computed in another precision: evaluated, asked and exported, on any processor."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer import processor
from tfxfer.data.splits import Data, Split
from tfxfer.errors import DataError, RunError
from tfxfer.serving import computed_once

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 60)
TEST = Split(IMAGES[40:], LABELS[40:])
KERNEL = RNG.normal(size=(3, 3, 3, 32)).astype(np.float32)
STATISTICS = RNG.uniform(0.5, 1.5, 32).astype(np.float32)


def features(images):
    kernel = tf.get_variable("kernel", initializer=KERNEL, use_resource=True)
    x = tf.nn.conv2d(tf.cast(images, tf.float32) / 255, kernel, 1, "SAME")
    scale, offset = (tf.get_variable(name, initializer=STATISTICS, use_resource=True) for name in ("scale", "offset"))
    x, _, _ = tf.nn.fused_batch_norm(x, scale, offset, STATISTICS, STATISTICS, is_training=False)
    return tf.reduce_mean(tf.nn.relu(x), [1, 2], name="features")


def build(images):
    logits = tx.graph.layers.dense(features(images), 3, "logits", activation=None)
    return {"logits": logits, "prob": tf.nn.softmax(logits)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("trained"), "bfloat16")


def train(folder, precision):
    """Return a run, and the probabilities of the test examples from the features in a precision and in float32."""
    parts = [(IMAGES[rows], LABELS[rows]) for rows in (slice(0, 30), slice(30, 40), slice(40, 60))]
    with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default():
        patch.setattr(processor, "features", lambda: {"avx512_bf16"})
        images, labels = tf.placeholder(tf.uint8, [None, 8, 8, 3], "images"), tf.placeholder(tf.int64, [None])
        logits = build(images)["logits"]
        step = tx.train_step(images, labels, logits, train=["logits/.*"], learning_rate=0.05)
        with tx.session() as sess:
            exact = Data(*parts, class_names=("a", "b", "c"))
            data = tx.precompute(sess, step, exact, store=folder / "store", precision=precision)
            tx.fit(sess, step, data, epochs=3, logdir=folder / "run", batch_size=8)
            step.saver.restore(sess, tx.open_run(folder / "run").checkpoint)
            said = [tx.evaluate(sess, step, split.test).probabilities for split in (data, exact)]
    return folder / "run", *said


@pytest.fixture(params=[True, False], ids=["units", "no units"])
def units(request, monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: {"avx512_bf16"} if request.param else {"avx2"})
    return request.param


@pytest.fixture(params=[True, False], ids=["rows", "no rows"])
def rows(request, monkeypatch):
    """Say whether the store has the rows of the examples."""
    if not request.param:
        monkeypatch.setattr("tfxfer.serving.run.open_rows", lambda *_: None)
    return request.param


def without(monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: {"avx2"})


def in_classes(predictions):
    """Return probabilities in the order of the classes."""
    return np.take_along_axis(predictions.probabilities, predictions.classes.argsort(axis=1), axis=1)


def test_it_is_evaluated_and_asked_as_it_was_trained_or_in_float32(trained, units, rows, caplog):
    path, fast, exact = trained
    wanted = fast if units else exact
    run = tx.open_run(path)
    asked = run.predict(TEST.images, top_k=3)
    for probabilities in (in_classes(asked), run.evaluate(TEST).probabilities):
        np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
    said = f"{path} was trained on what its frozen layers give in bfloat16; here they compute in plain float32, since "
    lines = [record.getMessage() for record in caplog.records if "bfloat16" in record.getMessage()]
    assert [line.startswith(said) for line in lines] == ([] if units else [True, True])
    built = run.predict(TEST.images, top_k=3, build=build)
    np.testing.assert_allclose(in_classes(built), wanted, atol=1e-6)


def test_float32_can_be_asked_for_without_a_word(trained, units, rows, caplog):
    path, _, exact = trained
    run = tx.open_run(path)
    with caplog.at_level(logging.INFO, "tfxfer"):
        np.testing.assert_allclose(run.evaluate(TEST, precision="float32").probabilities, exact, atol=1e-6)
        asked = run.predict(TEST.images, top_k=3, precision="float32")
    np.testing.assert_allclose(in_classes(asked), exact, atol=1e-6)
    assert "bfloat16" not in caplog.text


def test_the_difference_is_the_one_that_training_measured(trained, monkeypatch, caplog):
    path, _, _ = trained
    without(monkeypatch)
    change = json.loads((path / "precision.json").read_text())
    assert (set(change), change["examples"]) == ({"examples", "probabilities", "first_class"}, 10)
    assert 0 <= change["probabilities"] < 0.1
    tx.open_run(path).predict(TEST.images)
    assert f"on 10 validation examples, probabilities differed by {change['probabilities']:.1e} at most" in caplog.text
    assert f"{change['first_class']:.1%} had another first class" in caplog.text


def test_an_export_computes_in_float32_and_says_so(trained, tmp_path, caplog):
    path, _, exact = trained
    spec = tx.InputSpec("mine", "test", (8, 8), "RGB", mean=(0.0,) * 3, scale=(1.0,) * 3, class_names=("a", "b", "c"))
    weights = tx.open_run(path).weights()
    spec.save(weights.checkpoint)
    exported = tx.open_run(path).export(tmp_path / "served", build=build)
    assert exported.apart < 1e-5
    said = "here they compute in plain float32, as everything does in an export: on 10 validation examples"
    assert said in caplog.text
    with tx.serving.saved_model.loaded(tmp_path / "served") as (sess, served):
        answer = sess.run(served.outputs["probabilities"], {served.images: TEST.images})
    np.testing.assert_allclose(answer, exact, atol=1e-6)


def test_a_folded_run_is_folded_again_on_any_processor(tmp_path, units, rows, monkeypatch, caplog):
    path, folded, exact = train(tmp_path, "folded")
    run, given = tx.open_run(path), []
    divided = computed_once.divided
    monkeypatch.setattr(computed_once, "divided", lambda *args: given.append(args[-1]) or divided(*args))
    networks = 2 if rows else 3  # an evaluation of rows needs none
    for how, again in (("auto", ["folded"] * networks), ("folded", ["folded"] * networks), ("float32", [])):
        given.clear()
        asked = [run.predict(TEST.images, top_k=3, precision=how, **more) for more in ({}, {"build": build})]
        for probabilities in (*map(in_classes, asked), run.evaluate(TEST, precision=how).probabilities):
            np.testing.assert_allclose(probabilities, folded if again else exact, atol=1e-6)
        assert given == again
    assert "plain float32" not in caplog.text
    if units:
        with pytest.raises(DataError, match=r"takes what .* in float32 with batch normalisation and padding folded"):
            run.predict(TEST.images, precision="bfloat16")


def test_a_network_without_these_tensors_computes_in_float32_or_is_refused(trained, monkeypatch, caplog):
    path, _, exact = trained
    monkeypatch.setattr(processor, "features", lambda: {"amx_bf16"})

    def other(images):
        with tf.name_scope("other"):
            return build(images)

    asked = tx.open_run(path).predict(TEST.images, top_k=3, build=other)
    np.testing.assert_allclose(in_classes(asked), exact, atol=1e-6)
    assert "in plain float32, since this network has no features:0" in caplog.text
    with pytest.raises(DataError, match=r"`precision=bfloat16`: this network has no features:0.*leave `precision` out"):
        tx.open_run(path).predict(TEST.images, build=other, precision="bfloat16")


def test_bfloat16_is_refused_without_units_and_of_a_run_in_float32(trained, rows, monkeypatch):
    path, fast, _ = trained
    without(monkeypatch)
    with pytest.raises(DataError, match="none of amx_bf16, avx512_bf16"):
        tx.open_run(path).evaluate(TEST, precision="bfloat16")
    monkeypatch.setattr(processor, "features", lambda: {"amx_bf16"})
    again = tx.open_run(path).evaluate(TEST, precision="bfloat16")
    np.testing.assert_allclose(again.probabilities, fast, atol=1e-6)
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
        with (
            pytest.raises(DataError, match="takes what the frozen layers give in float32"),
            computed_once.repeated(None, sess, images, "bfloat16"),
        ):
            pass


def test_damage_is_told(trained, tmp_path):
    with pytest.raises(RunError, match=r"damaged: precision is 'int8', not one of bfloat16, float32, folded"):
        computed_once.read(tmp_path, {"precision": "int8", "computed_once": ["features:0"]})
    settings = {"precision": "bfloat16", "computed_once": "features:0"}
    with pytest.raises(RunError, match=r"settings\.json is damaged: computed_once is 'features:0', not the names"):
        computed_once.read(tmp_path, settings)
    assert computed_once.read(tmp_path, {}) is None
    too_large = json.dumps({"examples": 1, "probabilities": 10**400, "first_class": 0})
    for text in ("", "[]", '{"examples": 1}', too_large):
        (tmp_path / "precision.json").write_text(text)
        assert computed_once.describe_change(tmp_path).endswith("was not measured, as the training has not ended")
