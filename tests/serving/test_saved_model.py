"""Loading SavedModels: those of others too; what is none, or takes no images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.errors import WeightsError
from tfxfer.serving.saved_model import ask, loaded, takes_images


def save(path: Path, dtype: tf.DType = tf.uint8, name: str = "pictures") -> Path:
    """Write a SavedModel as others do, which counts its pixels."""
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(dtype, [None, 4, 5, 3])
        sums = tf.reduce_sum(tf.cast(images, tf.float32), axis=[1, 2])
        tf.saved_model.simple_save(sess, str(path), {name: images}, {"sums": sums})
    return path


def test_a_savedmodel_of_others_is_asked_about_pixels(tmp_path):
    path = save(tmp_path / "out")
    assert takes_images(path)
    with loaded(path, intra_op_threads=1, inter_op_threads=1) as (sess, served):
        assert served.image_bytes is None
        assert served.endpoints == {}
        assert sess.graph.finalized
        images = np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3)
        np.testing.assert_array_equal(ask(sess, served, images)["sums"], images.astype(np.float32).sum(axis=(1, 2)))


def test_one_that_takes_no_pixels_is_of_weights_alone(tmp_path):
    path = save(tmp_path / "out", tf.float32)
    assert not takes_images(path)
    message = r"out has no signature that takes images, uint8 \[n, height, width, channels\]"
    with pytest.raises(WeightsError, match=message), loaded(path):
        pass


def test_what_is_no_savedmodel_takes_no_images(tmp_path):
    assert not takes_images(tmp_path)
    assert not takes_images(tmp_path / "absent")
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 50)
    assert not takes_images(tmp_path)


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path):
    (tmp_path / "x.pb").write_bytes(b"\xff" * 50)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/saved_model.pb").write_bytes(save(tmp_path / "whole").joinpath("saved_model.pb").read_bytes()[:99])
    (tmp_path / "other.pb").write_bytes(tf.Graph().as_graph_def().SerializeToString())
    for path in ("absent", "x.pb", "cut", "other.pb", "."):
        with pytest.raises(WeightsError, match=r"^\S+ cannot be loaded: .+$"), loaded(tmp_path / path):
            pass


def test_an_error_of_who_uses_it_is_not_taken_for_one_of_loading(tmp_path):
    with pytest.raises(RuntimeError, match="mine"), loaded(save(tmp_path / "out")):
        raise RuntimeError("mine")
