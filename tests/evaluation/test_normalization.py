"""Statistics come from the training examples once: from images or stored rows; a run that goes on has its own."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data.normalization import FeatureStatistics
from tfxfer.errors import DataError, RunError
from tfxfer.models import heads

generator = np.random.default_rng(0)
X = (generator.normal(size=(400, 6)) * 5 + 30).astype(np.float32)
Y = (X[:, 0] > 30).astype(np.int64)
DATA = tx.Data(train=(X[:300], Y[:300]), validation=(X[300:350], Y[300:350]), test=(X[350:], Y[350:]),
               class_names=("low", "high"))  # fmt: skip


def build():
    tf.set_random_seed(0)
    images, labels = tf.placeholder(tf.float32, [None, 6], "images"), tf.placeholder(tf.int64, [None], "labels")
    base = tf.nn.relu(tx.graph.layers.dense(images, 5, "base", activation=None))
    logits = heads.classifier(heads.normalize(base), hidden=[4], classes=2)
    return tx.train_step(images, labels, logits, train=["fc1/.*", "logits/.*"]), base


def set_values(sess):
    return sess.run([v for v in sess.graph.get_collection("variables") if v.op.name.startswith("normalize/")])


@pytest.mark.parametrize("stored", [False, True])
def test_fit_computes_them_freezes_them_and_a_run_that_goes_on_keeps_them(tmp_path, stored):
    values = []
    for epochs in (1, 3):
        with tf.Graph().as_default():
            step, base = build()
            with tx.session() as sess:
                data = tx.precompute(sess, step, DATA, store=tmp_path / "store") if stored else DATA
                features = FeatureStatistics()
                features.add(sess.run(base, {step.images: X[:300]}))
                fitted = tx.fit(sess, step, data, epochs=epochs, logdir=tmp_path / "run")
                assert fitted.frozen == 4  # base and the statistics
                values.append(set_values(sess))
                np.testing.assert_allclose(values[-1], features.mean_and_scale(), rtol=1e-5)
                accuracy = tx.evaluate(sess, step, DATA.test).accuracy
    assert [v.tobytes() for v in values[0]] == [v.tobytes() for v in values[1]]
    saved = tx.open_weights(tmp_path / "run")
    assert saved["normalize/mean"].tobytes() == values[1][0].tobytes()
    assert tx.open_run(tmp_path / "run").evaluate(DATA.test, checkpoint="last").accuracy == pytest.approx(accuracy)


def test_a_run_that_goes_on_has_those_of_its_checkpoint_and_computes_none(tmp_path, monkeypatch):
    def run(epochs):
        with tf.Graph().as_default():
            step, _ = build()
            with tx.session() as sess:
                tx.fit(sess, step, DATA, epochs=epochs, logdir=tmp_path / "run")
                return set_values(sess)

    first = run(1)
    monkeypatch.setattr(FeatureStatistics, "add", None)  # would fail
    assert np.array_equal(run(2), first)


def test_what_is_not_set_is_refused_by_name_and_the_cure_cures():
    with tf.Graph().as_default():
        step, _ = build()
        with tx.session() as sess:
            for call in (lambda: tx.evaluate(sess, step, DATA.test), lambda: tx.predict(sess, step, X)):
                with pytest.raises(RunError, match=r"normalize/mean, normalize/scale: not set.*fit_normalization"):
                    call()
            assert tx.fit_normalization(sess, step, DATA) == ["normalize/mean", "normalize/scale"]
            assert tx.fit_normalization(sess, step, (X[:9], Y[:9])) == []
            assert tx.evaluate(sess, step, DATA.test).undecided == 0


def test_a_plan_leaves_the_statistics_of_another_run_out_unless_they_are_chosen(tmp_path):
    with tf.Graph().as_default():
        step, _ = build()
        with tx.session() as sess:
            fitted = tx.fit(sess, step, DATA, epochs=1, logdir=tmp_path / "run")
            first = set_values(sess)
    for chosen, size in (("base/.*", 2), ("(base|normalize)/.*", 0)):
        with tf.Graph().as_default():
            step, _ = build()
            with tx.session(tx.plan(chosen, fitted.last)) as sess:
                assert len(tx.fit_normalization(sess, step, (X[:50], Y[:50]))) == size
                assert np.array_equal(set_values(sess), first) == (size == 0)


def test_features_that_are_not_numbers_are_refused_with_their_example():
    wrong = X[:300].copy()
    wrong[[7, 290], 0] = np.nan
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.float32, [None, 6]), tf.placeholder(tf.int64, [None])
        step = tx.eval_step(images, labels, heads.classifier(heads.normalize(images), classes=2))
        with (
            tx.session() as sess,
            pytest.raises(DataError, match=r"of 2 of 300 examples are NaN .*\n  example 7\n  example 290$"),
        ):
            tx.fit_normalization(sess, step, (wrong, Y[:300]))
