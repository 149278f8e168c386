"""Evaluation, against numpy and scikit-learn; and what it refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Split
from tfxfer.errors import DataError
from tfxfer.evaluation.evaluate import Evaluation, check_split, measure
from tfxfer.graph import layers
from tfxfer.models import heads


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def split_of(n, classes=4, seed=0, shape=(4, 4, 1)):
    generator = np.random.default_rng(seed)
    return Split(generator.integers(0, 256, (n, *shape)).astype(np.uint8), generator.integers(0, classes, n))


def classifier(classes=4, **options):
    images = tf.placeholder(tf.uint8, [None, 4, 4, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    logits = heads.classifier(tf.cast(images, tf.float32) / 255, hidden=[20], classes=classes, **options)
    return tx.train_step(images, labels, logits, train=tx.select(".*"), loss=options.get("loss", "softmax"))


def by_numpy(sess, step, split):
    """Return logits, probabilities and losses of all examples, computed in float64."""
    w1, b1, w2, b2 = (value.astype(np.float64) for value in sess.run(tx.select(".*")))
    logits = np.maximum(split.images.reshape(len(split), -1) / 255 @ w1 + b1, 0) @ w2 + b2
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    return probabilities, -np.log(probabilities[np.arange(len(split)), split.labels])


def test_an_evaluation_equals_what_numpy_and_scikit_learn_say():
    step, split = classifier(), split_of(150)
    with tx.session() as sess:
        found = tx.evaluate(sess, step, split, class_names=["ant", "bee", "cat", "dog"])
        probabilities, losses = by_numpy(sess, step, split)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-6)
    predictions = probabilities.argmax(axis=1)
    assert np.array_equal(found.predictions, predictions)
    assert found.metrics["loss"] == pytest.approx(losses.mean(), rel=1e-6)
    assert found.accuracy == found.metrics["accuracy"] == pytest.approx((predictions == split.labels).mean(), abs=1e-9)
    assert np.array_equal(found.labels, split.labels)
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (split.labels, predictions), 1)
    assert np.array_equal(found.confusion, confusion)
    report = sklearn.metrics.classification_report(
        split.labels, predictions, target_names=["ant", "bee", "cat", "dog"], output_dict=True, zero_division=0.0
    )
    for name, row in found.per_class().items():
        assert row == pytest.approx(report[name])
    assert str(found) == f"loss {losses.mean():.4f}  accuracy {(predictions == split.labels).mean():.4f}"


def test_a_class_without_examples_and_without_predictions_counts_nothing():
    step, split = classifier(), split_of(9, classes=1)
    with tx.session() as sess:
        found = tx.evaluate(sess, step, split)
    assert found.class_names == ("0", "1", "2", "3")
    assert found.confusion.shape == (4, 4)
    assert found.confusion[0].sum() == 9
    assert [row["support"] for row in found.per_class().values()] == [9, 0, 0, 0]
    assert all(row["recall"] == 0 for row in list(found.per_class().values())[1:])


def test_the_evaluation_as_json_is_plain():
    step, split = classifier(), split_of(20)
    with tx.session() as sess:
        found = tx.evaluate(sess, step, split)
    plain = json.loads(json.dumps(found.to_json()))
    assert plain == found.to_json()
    assert set(plain) == {
        "loss",
        "accuracy",
        "top_k",
        "examples",
        "accuracy_interval",
        "class_names",
        "confusion",
        "per_class",
    }
    assert plain["top_k"] == {"1": plain["accuracy"]}
    assert plain["examples"] == np.sum(plain["confusion"]) == 20


def evaluation(probabilities, labels, k=5):
    classes = probabilities.shape[1]
    return Evaluation({"loss": 1.0}, probabilities, labels, tuple(map(str, range(classes))), k)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_is_what_scikit_learn_says_where_no_probabilities_are_equal(k):
    generator = np.random.default_rng(k)
    probabilities = generator.dirichlet(np.ones(10), 200).astype(np.float32)
    labels = generator.integers(0, 10, 200)
    found = evaluation(probabilities, labels, k).top_k
    assert set(found) == {1, k}
    for each, share in found.items():
        assert share == sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=each, labels=range(10))
    assert found[1] == np.mean(probabilities.argmax(axis=1) == labels)


def test_of_equal_probabilities_the_lower_class_comes_first_in_top_k_as_in_predictions():
    probabilities = np.full((6, 6), 1 / 6, np.float32)
    found = evaluation(probabilities, np.arange(6), 2)
    assert found.top_k == {1: 1 / 6, 2: 2 / 6}
    assert found.top_k[1] == np.mean(found.predictions == np.arange(6))


def test_top_k_has_no_number_that_there_are_not_more_classes_than():
    probabilities, labels = np.eye(5, dtype=np.float32), np.array([0, 1, 2, 3, 0])
    assert evaluation(probabilities, labels).top_k == {1: 0.8}
    assert str(evaluation(probabilities, labels)) == "loss 1.0000"
    six = np.eye(6, dtype=np.float32)
    assert evaluation(six, np.array([0, 1, 2, 3, 4, 0])).top_k == {1: 5 / 6, 5: 1.0}
    assert str(evaluation(six, np.arange(6))) == "loss 1.0000  top-5 accuracy 1.0000"


def test_what_is_not_a_number_is_never_among_the_first():
    probabilities = np.full((3, 6), np.nan, np.float32)
    assert evaluation(probabilities, np.array([0, 3, 5])).top_k == {1: 0.0, 5: 0.0}


def test_mistakes_come_with_the_most_confident_first_and_of_equals_in_their_order():
    sure = np.array([0.9, 0.6, 0.9, 0.99, 0.7])
    probabilities = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
    found = evaluation(probabilities, np.array([1, 1, 1, 0, 1]))
    assert found.mistakes().tolist() == [0, 2, 4, 1]
    assert found.mistakes(2).tolist() == [0, 2]
    assert evaluation(probabilities, np.zeros(5, int)).mistakes().tolist() == []


def test_top_k_arrives_from_evaluate():
    step, split = classifier(), split_of(50)
    with tx.session() as sess:
        found = tx.evaluate(sess, step, split, top_k=3)
        with pytest.raises(DataError, match="`top_k=0` must be 1 or more"):
            tx.evaluate(sess, step, split, top_k=0)
    assert found.top_k == {1: pytest.approx(found.accuracy), 3: pytest.approx(found.top_k[3])}
    assert found.accuracy < found.top_k[3] < 1
    assert str(found).endswith(f"  top-3 accuracy {found.top_k[3]:.4f}")


def test_two_classes_under_sigmoid_are_told_apart_at_one_half():
    step, split = classifier(classes=2, loss="sigmoid"), split_of(60, classes=2)
    with tx.session() as sess:
        found = tx.evaluate(sess, step, split)
        w1, b1, w2, b2 = sess.run(tx.select(".*"))
    logit = (np.maximum(split.images.reshape(60, -1) / 255 @ w1 + b1, 0) @ w2 + b2)[:, 0]
    second = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(found.probabilities, np.stack([1 - second, second], axis=1), atol=1e-6)
    wanted = -np.where(split.labels == 1, np.log(second), np.log(1 - second))
    assert found.metrics["loss"] == pytest.approx(wanted.mean(), rel=1e-5)
    assert found.accuracy == pytest.approx(((logit > 0) == split.labels).mean())
    assert found.confusion.shape == (2, 2)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 99, 100, 101, 256])
def test_a_short_last_batch_counts_as_much_as_it_has_examples(batch_size):
    # The last example is much the hardest: a mean of means would give it the weight of a batch.
    images = np.concatenate([np.zeros((99, 4, 4, 1)), np.full((1, 4, 4, 1), 255)]).astype(np.uint8)
    split = Split(images, np.array([0] * 99 + [3]))
    step = classifier()
    with tx.session() as sess:
        found = tx.evaluate(sess, step, split, batch_size=batch_size)
        probabilities, losses = by_numpy(sess, step, split)
    assert losses[-1] != pytest.approx(losses[0], rel=0.1)
    assert found.metrics["loss"] == pytest.approx(losses.mean(), rel=1e-6)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-6)


def test_evaluation_drops_nothing_and_changes_no_variable():
    split = split_of(50)
    images = tf.placeholder(tf.uint8, [None, 4, 4, 1])
    labels = tf.placeholder(tf.int64, [None])
    x = layers.batch_norm(layers.flatten(tf.cast(images, tf.float32)), "norm")
    logits = heads.classifier(x, hidden=[30], classes=4, dropout=0.9)
    step = tx.train_step(images, labels, logits, train=tx.select(".*", exclude=".*moving.*"))
    with tx.session() as sess:
        before = sess.run(tf.global_variables())
        first, second = tx.evaluate(sess, step, split), tx.evaluate(sess, step, split, batch_size=9)
        after = sess.run(tf.global_variables())
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-5)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))


def test_measure_gives_the_means_of_all_metrics_also_without_labels():
    images = tf.placeholder(tf.uint8, [None, 4, 4, 1])
    x = tf.cast(layers.flatten(images), tf.float32)
    losses = tf.reduce_mean(tf.square(layers.dense(x, 16, "fc", activation=None) - x), axis=1)
    step = tx.train_step(images, None, x, loss=losses, train=tx.select(".*"))
    split = split_of(23)
    with tx.session() as sess:
        found = measure(sess, step, Split(split.images), batch_size=5)
        wanted = sess.run(losses, {images: split.images})
    assert found == {"loss": pytest.approx(wanted.mean(), rel=1e-6)}


def test_measure_refuses_a_step_that_measures_nothing():
    images = tf.placeholder(tf.uint8, [None, 4, 4, 1])
    step = tx.eval_step(images, None, heads.classifier(tf.cast(images, tf.float32), classes=4))
    with tx.session() as sess, pytest.raises(DataError, match="no metrics; build it with labels, or with a loss"):
        measure(sess, step, Split(split_of(3).images))


def test_images_may_be_anything_that_an_array_indexes():
    class Decoded:
        dtype = np.dtype(np.uint8)

        def __init__(self, images):
            self.images, self.shape = images, images.shape

        def __len__(self):
            return len(self.images)

        def __getitem__(self, indices):
            return self.images[indices]

    step, split = classifier(), split_of(30)
    with tx.session() as sess:
        plain = tx.evaluate(sess, step, split)
        lazy = tx.evaluate(sess, step, Split(Decoded(split.images), split.labels), batch_size=30)
    assert np.array_equal(plain.probabilities, lazy.probabilities)


def test_labels_of_a_smaller_integer_are_taken():
    step, split = classifier(), split_of(30)
    with tx.session() as sess:
        plain = tx.evaluate(sess, step, split)
        small = tx.evaluate(sess, step, Split(split.images, split.labels.astype(np.uint8)))
    assert plain.metrics == small.metrics


GOOD = split_of(10)


@pytest.mark.parametrize(
    ("split", "told"),
    [
        (split_of(10, shape=(4, 5, 1)), "its images are (4, 5, 1), the model takes (4, 4, 1)"),
        (split_of(10, shape=(4, 4)), "its images are (4, 4), the model takes (4, 4, 1)"),
        (Split(GOOD.images / 255, GOOD.labels), "its images are float64, the model takes uint8"),
        (Split(GOOD.images.astype(np.int64), GOOD.labels), "its images are int64, the model takes uint8"),
        (Split(GOOD.images, GOOD.labels[:9]), "it has 10 images and 9 labels"),
        (Split(GOOD.images, GOOD.labels[:, None]), "its labels are int64 (10, 1), the model takes int64 [n]"),
        (Split(GOOD.images, GOOD.labels / 1), "its labels are float64 (10,), the model takes int64 [n]"),
        (
            Split(GOOD.images, np.array([0, 1, 2, 3, 4, 0, 0, -1, 0, 0])),
            "the model has 4 classes, and 2 of 10 labels are outside 0..3, the first at index 4: 4",
        ),
        (GOOD.take(np.array([], int)), "it has no examples"),
        (
            Split(np.zeros((2, 3, 3, 1), np.uint8), np.array([9, 9])),
            "its images are (3, 3, 1), the model takes (4, 4, 1); the model has 4 classes, and 2 of 2 labels",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_it_is_fed(split, told):
    step = classifier()
    message = re.escape(f"the split cannot be fed to the model: {told}")
    with tx.session() as sess, pytest.raises(DataError, match=message):
        tx.evaluate(sess, step, split)


def test_a_split_without_labels_is_refused():
    step = classifier()
    with (
        tx.session() as sess,
        pytest.raises(DataError, match="evaluation needs labels; to see a loss without them, fit"),
    ):
        tx.evaluate(sess, step, Split(GOOD.images))
    with pytest.raises(DataError, match="train cannot be fed to the model: it has no labels"):
        check_split(step, Split(GOOD.images), "train")


def test_a_step_without_labels_is_refused():
    images = tf.placeholder(tf.uint8, [None, 4, 4, 1])
    losses = layers.dense(tf.cast(layers.flatten(images), tf.float32), 1, "fc")[:, 0]
    step = tx.train_step(images, None, losses, loss=losses, train=tx.select(".*"))
    with tx.session() as sess, pytest.raises(DataError, match="evaluation needs labels"):
        tx.evaluate(sess, step, GOOD)
    check_split(step, Split(GOOD.images), "train")


def test_as_many_class_names_as_classes_are_needed():
    step = classifier()
    with tx.session() as sess, pytest.raises(DataError, match="there are 2 class names, and the model has 4 classes"):
        tx.evaluate(sess, step, GOOD, class_names=["cat", "dog"])


def test_a_batch_size_below_1_is_refused():
    step = classifier()
    with tx.session() as sess, pytest.raises(DataError, match="`batch_size=0` must be 1 or more"):
        tx.evaluate(sess, step, GOOD, batch_size=0)


def test_a_placeholder_of_floats_takes_bytes():
    images = tf.placeholder(tf.float32, [None, 4, 4, 1])
    labels = tf.placeholder(tf.int64, [None])
    step = tx.train_step(images, labels, heads.classifier(images, classes=4), train=tx.select(".*"))
    with tx.session() as sess:
        assert tx.evaluate(sess, step, GOOD).probabilities.shape == (10, 4)


def test_the_interval_is_of_the_examples_that_are_right():
    probabilities = np.float32([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [np.nan, 0.5]])
    result = tx.Evaluation({"accuracy": 0.5}, probabilities, np.array([0, 1, 1, 1]), ("cat", "dog"))
    wanted = scipy.stats.binomtest(2, 4).proportion_ci(method="wilson")
    assert result.right.tolist() == [True, True, False, False]
    assert result.accuracy_interval == pytest.approx((wanted.low, wanted.high), abs=1e-6)
