"""The most probable classes of examples: arrays, pictures in files, steps and probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

import tfxfer as tx
from tests.data.test_decoding import cut_inside
from tests.data.test_pictures import encoded, photo
from tfxfer.errors import DataError, GraphError
from tfxfer.graph import layers
from tfxfer.serving.predict import find_pictures, predict, readable


@pytest.fixture
def brightness():
    """A session, images, and probabilities of four classes that depend on the first pixel."""
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, 2, 2, 3])
        scores = tf.cast(images[:, 0, 0, :1], tf.float32) * tf.constant([[0.0, 1, 1, 0.5]])
        yield sess, images, scores / tf.reduce_sum(scores, axis=1, keepdims=True)


def test_of_equal_classes_the_lower_number_comes_first_whatever_the_batch(brightness):
    sess, images, probabilities = brightness
    examples = np.arange(1, 61, dtype=np.uint8).reshape(5, 2, 2, 3)
    for batch_size in (1, 2, 32):
        top = predict(sess, probabilities, examples, images=images, top_k=3, batch_size=batch_size)
        assert top.classes.tolist() == [[1, 2, 3]] * 5
        np.testing.assert_allclose(top.probabilities, [[0.4, 0.4, 0.2]] * 5, rtol=1e-6)
    assert predict(sess, probabilities, examples, top_k=9).classes.shape == (5, 4)


def test_examples_that_do_not_fit_are_refused(brightness):
    sess, _, probabilities = brightness
    with pytest.raises(DataError, match=r"the examples are uint8 \(3, 3, 3\), and the model takes uint8 \(2, 2, 3\)"):
        predict(sess, probabilities, np.zeros((1, 3, 3, 3), np.uint8))
    with pytest.raises(DataError, match="the examples are float32"):
        predict(sess, probabilities, np.zeros((1, 2, 2, 3), np.float32))
    with pytest.raises(DataError, match="must be 1 or more"):
        predict(sess, probabilities, np.zeros((1, 2, 2, 3), np.uint8), top_k=0)


def test_a_picture_named_twice_is_predicted_once(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    pictures, bad = readable([str(tmp_path / "x.png")] * 2, (8, 8))
    assert (len(pictures), bad) == (1, {})
    with pytest.raises(DataError, match="no pictures"):
        readable([], (8, 8))


def test_a_step_says_itself_which_placeholders_are_fed(brightness):
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, 2, 2, 3])
        scale = tf.placeholder(tf.float32, [], name="scale")
        logits = scale * tf.cast(images[:, 0, 0, :], tf.float32)
        step = tx.eval_step(images, None, logits, eval_feeds={scale: 0.01})
        examples = np.array([[[[1, 9, 5]] * 2] * 2, [[[7, 2, 3]] * 2] * 2], np.uint8)
        found = predict(sess, step, examples, top_k=2, class_names=["a", "b", "c"])
        assert found.names == [["b", "c"], ["a", "c"]]
        assert found.to_json()[0]["top"][0]["class"] == 1
        with pytest.raises(GraphError, match=r"name the placeholder of the images \(`images`\): .* comes from .*scale"):
            predict(sess, step.probabilities, examples)
        with pytest.raises(DataError, match="there are 2 class names, and the model has 3 classes"):
            predict(sess, step, examples, class_names=["a", "b"])
        with pytest.raises(GraphError, match=r"are not probabilities \[n, classes\]"):
            predict(sess, images, examples)


def test_paths_are_brought_to_the_size_of_the_placeholder(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, level in (("dark.png", 20), ("folder/light.png", 200)):
        Image.new("RGB", (9, 7), (level,) * 3).save(tmp_path / name)
    (tmp_path / "text.jpg").write_text("no picture")
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, 4, 4, 3])
        mean = tf.reduce_mean(layers.flatten(tf.cast(images, tf.float32)), axis=1, keepdims=True) / 255
        found = predict(sess, tf.concat([1 - mean, mean], axis=1), [tmp_path / "dark.png", tmp_path / "folder"])
        assert found.paths == (str(tmp_path / "dark.png"), str(tmp_path / "folder/light.png"))
        assert found.classes[:, 0].tolist() == [0, 1]
        assert found.set_aside == {}
        grey = tf.placeholder(tf.uint8, [None, 4, 4, 1])
        scores = layers.flatten(tf.cast(grey, tf.float32))[:, :2]
        with pytest.raises(DataError, match="takes grey images of 4x4, and not RGB pictures"):
            predict(sess, scores, [tmp_path / "dark.png"])
    (tmp_path / "cut.jpg").write_bytes(cut_inside(encoded(photo(60, 80), "JPEG", quality=95)))
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, 4, 4, 3])
        scores = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])
        for decode, count in (("exact", 2), ("scaled", 1)):
            found = predict(sess, scores, [tmp_path / "dark.png", tmp_path / "cut.jpg"], top_k=1, decode=decode)
            assert len(found.classes) == count
        assert found.set_aside == {
            str(tmp_path / "cut.jpg"): "is cut short: it ends among its pixels, and the rest would be grey"
        }
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no pictures"):
        find_pictures([tmp_path / "empty"])
