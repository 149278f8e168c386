"""tfxfer/tuning/cross_validation.py: each head has the numbers that `fit` gives it alone; refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data.normalization import normalized
from tfxfer.data.splits import make_folds
from tfxfer.errors import DataError
from tfxfer.tuning import cross_validation
from tfxfer.tuning.cross_validation import CrossValidation, HeadTraining
from tfxfer.tuning.rows import statistics
from tfxfer.tuning.trials import Trial

CLASSES = "abcd"
LABELS = np.arange(90) % 4
ROWS = np.random.default_rng(0).normal(LABELS[:, None], 2.0, (90, 20)).astype(np.float32)
TRIALS = [
    Trial(endpoint="a", learning_rate=0.01, l2=0.01),
    Trial(endpoint="a", hidden=10, dropout=0.3, learning_rate=0.003),
    Trial(endpoint="a", hidden=16, dropout=0.5, learning_rate=0.02, l2=0.1, normalize="l2"),
    Trial(endpoint="a", hidden=13, learning_rate=0.02, normalize="standard"),
    Trial(endpoint="a", hidden=11, learning_rate=0.02, normalize="sqrt"),
    Trial(endpoint="a", hidden=12, learning_rate=1e30),
]


def alone(trial: Trial, training: HeadTraining, fold, labels: np.ndarray, logdir) -> tuple[float, float]:
    """Return loss and accuracy on the held-out examples of a head that `fit` trains."""
    train, held = fold
    x = normalized(ROWS, trial.normalize, *statistics(ROWS, train))
    classes = len(set(labels.tolist()))
    with tf.Graph().as_default():
        tf.set_random_seed(training.seed)
        images, numbers = tf.placeholder(tf.float32, [None, 20]), tf.placeholder(tf.int64, [None])
        hidden = [trial.hidden] if trial.hidden else []
        logits = tx.models.heads.classifier(
            images, hidden=hidden, classes=classes, dropout=trial.dropout, loss=training.loss
        )
        steps, rate = training.epochs * -(-len(train) // training.batch_size), trial.learning_rate
        step = tx.train_step(
            images,
            numbers,
            logits,
            train=[".*"],
            l2=trial.l2,
            loss=training.loss,
            optimizer=training.optimizer,
            class_weights=training.class_weights,
            learning_rate=rate if training.schedule == "constant" else lambda n: tf.train.cosine_decay(rate, n, steps),
        )
        splits = [(x[part], labels[part]) for part in (train, held, held)]
        data = tx.Data(*splits, class_names=tuple(CLASSES[:classes]))
        options = {"epochs": training.epochs, "batch_size": training.batch_size, "seed": training.seed}
        with tx.session() as sess:
            last = tx.fit(sess, step, data, logdir=logdir, **options).history[-1]
    return last["loss"], last["accuracy"]


@pytest.mark.parametrize(
    "training",
    [
        pytest.param(HeadTraining(epochs=2, batch_size=16, seed=3, class_weights=(1.0, 2.0, 0.5, 1.0)), id="adam"),
        pytest.param(HeadTraining(epochs=3, batch_size=8, seed=3), id="adam longer", marks=pytest.mark.slow),
        pytest.param(
            HeadTraining(epochs=2, batch_size=16, optimizer="rmsprop", schedule="constant", loss="sigmoid"),
            id="rmsprop",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            HeadTraining(epochs=2, batch_size=16, optimizer="momentum"), id="momentum", marks=pytest.mark.slow
        ),
    ],
)
def test_each_head_has_the_numbers_that_it_has_alone_also_beside_one_that_diverges(training, tmp_path):
    labels = LABELS % 2 if training.loss == "sigmoid" else LABELS
    fold = make_folds(labels, 3, training.seed, CLASSES)[1]
    steps = training.epochs * -(-len(fold[0]) // training.batch_size)
    validation = CrossValidation(
        TRIALS, {"a": ROWS}, labels, classes=len(set(labels.tolist())), training=training, steps=steps
    )
    scores = validation.run(fold)
    assert np.isfinite(scores.loss).tolist() == [True] * 5 + [False]
    for place, trial in enumerate(TRIALS[: 5 if training.optimizer == "adam" else 2]):
        loss, accuracy = alone(trial, training, fold, labels, tmp_path / str(place))
        assert (scores.loss[place], scores.accuracy[place]) == (pytest.approx(loss, rel=1e-5), accuracy)
    again = validation.run(fold)
    np.testing.assert_array_equal(again.loss, scores.loss)


def test_every_optimizer_of_train_but_ftrl_makes_steps_that_grow_with_its_rate():
    for name in sorted({*tx.graph.optimizers.OPTIMIZERS} - {"ftrl"}):
        training = HeadTraining(epochs=1, optimizer=name)
        scores = [
            CrossValidation(trials, {"a": ROWS}, LABELS, classes=4, training=training, steps=3).run(
                (np.arange(80), np.arange(80, 90))
            )
            for trials in (TRIALS[:1], [*TRIALS[:1], dataclasses.replace(TRIALS[0], learning_rate=0.5)])
        ]
        assert scores[1].loss[0] == pytest.approx(scores[0].loss[0], rel=1e-6)
        assert scores[1].loss[1] != scores[1].loss[0]


def test_all_that_cannot_be_trained_is_named_at_once():
    training = HeadTraining(epochs=0, optimizer="ftrl", schedule="cubic", loss="sigmoid")
    with pytest.raises(DataError) as refused:
        training.check(classes=3)
    for part in ("`epochs=0`", "`schedule=cubic`", "`optimizer=ftrl`", "there are 3; take softmax"):
        assert part in str(refused.value)


def test_what_would_take_more_than_the_memory_is_trained_in_portions(monkeypatch):
    monkeypatch.setattr(cross_validation, "MEMORY", 4 * 4 * 100 * 64 * 2)
    trials = [Trial(endpoint="a", hidden=units) for units in (64, 64, 64, 1000, 0)]
    parts = [*cross_validation.portions(trials, {"a": 100})]
    assert [(part.start, part.stop) for part in parts] == [(0, 2), (2, 3), (3, 4), (4, 5)]
