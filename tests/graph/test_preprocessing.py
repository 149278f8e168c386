"""Preprocessing inside the graph, against numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.errors import DataError
from tfxfer.graph.preprocessing import input_specs, preprocess
from tfxfer.input_spec import InputSpec

RGB = InputSpec("net", "test", (4, 5), "RGB", (123.68, 116.779, 103.939), (1, 1, 1))
BGR = dataclasses.replace(RGB, channels="BGR", mean=(103.939, 116.779, 123.68))
# torchvision's: mean and standard deviation of pixels in 0..1.
UNIT = dataclasses.replace(RGB, mean=(123.675, 116.28, 103.53), scale=(1 / 58.395, 1 / 57.12, 1 / 57.375))
GREY = InputSpec("net", "test", (4, 5), "grey", (0,), (1 / 255,))


def run(input_spec: InputSpec, pixels: np.ndarray) -> np.ndarray:
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, *pixels.shape[1:]])
        return sess.run(preprocess(images, input_spec), {images: pixels})


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)


def test_mean_is_subtracted_in_the_order_of_the_channels(pixels):
    np.testing.assert_array_equal(run(RGB, pixels), pixels - np.float32([123.68, 116.779, 103.939]))
    np.testing.assert_array_equal(run(BGR, pixels), pixels[..., ::-1] - np.float32([103.939, 116.779, 123.68]))


def test_rgb_and_bgr_are_the_same_numbers_in_another_order(pixels):
    np.testing.assert_array_equal(run(RGB, pixels), run(BGR, pixels)[..., ::-1])


def test_scale_is_applied_after_the_mean(pixels):
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(run(UNIT, pixels), expected, rtol=0, atol=1e-6)


def test_numbers_that_are_the_same_for_all_channels_are_one(pixels):
    spec = dataclasses.replace(RGB, mean=(127.5,) * 3, scale=(1 / 127.5,) * 3)
    np.testing.assert_array_equal(run(spec, pixels), (pixels - np.float32(127.5)) * np.float32(1 / 127.5))


@pytest.mark.parametrize("spec", [RGB, BGR, UNIT], ids=["RGB", "BGR", "mean and scale"])
def test_pictures_of_unknown_size_get_the_same_bits(pixels, spec):
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, None, None, 3])
        assert sess.run(preprocess(images, spec), {images: pixels}).tobytes() == run(spec, pixels).tobytes()


def test_no_pictures_give_none(pixels):
    assert run(UNIT, pixels[:0]).shape == (0, 4, 5, 3)


def test_a_grey_picture_keeps_its_one_channel(pixels):
    np.testing.assert_array_equal(run(GREY, pixels[..., :1]), pixels[..., :1] * np.float32(1 / 255))


def test_the_input_is_float32_of_the_same_shape_and_grouped_in_the_graph():
    with tf.Graph().as_default():
        result = preprocess(tf.placeholder(tf.uint8, [None, None, 7, 3]), BGR)
        assert result.dtype == tf.float32
        assert result.shape.as_list() == [None, None, 7, 3]
        assert result.name == "PREPROCESS/input:0"


def test_the_graph_remembers_its_input_specs():
    with tf.Graph().as_default() as graph:
        assert input_specs() == []
        preprocess(tf.placeholder(tf.uint8, [None, 4, 5, 3]), BGR)
        preprocess(tf.placeholder(tf.uint8, [None, 4, 5, 1]), GREY)
        assert input_specs() == input_specs(graph) == [BGR, GREY]
        tf.train.export_meta_graph()  # nothing in a collection that a MetaGraph cannot hold


def test_pictures_in_floats_are_refused():
    with tf.Graph().as_default(), pytest.raises(DataError, match=r"images are float32; pass uint8 in 0\.\.255"):
        preprocess(tf.placeholder(tf.float32, [None, 4, 5, 3]), RGB)


@pytest.mark.parametrize(
    ("input_spec", "shape", "message"),
    [
        (
            RGB,
            [None, 4, 5, 1],
            r"images have the shape \(None, 4, 5, 1\); the input spec wants RGB pictures, \[n, h, w, 3\]",
        ),
        (BGR, [None, 4, 5, 4], r"the input spec wants RGB pictures, \[n, h, w, 3\]"),
        (GREY, [None, 4, 5, 3], r"the input spec wants grey pictures, \[n, h, w, 1\]"),
        (RGB, [4, 5, 3], r"images have the shape \(4, 5, 3\)"),
        (RGB, [None, 4, 5, None], r"images have the shape \(None, 4, 5, None\)"),
        (RGB, None, r"images have the shape <unknown>"),
    ],
)
def test_pictures_of_another_shape_are_refused(input_spec, shape, message):
    with tf.Graph().as_default(), pytest.raises(DataError, match=message):
        preprocess(tf.placeholder(tf.uint8, shape), input_spec)
