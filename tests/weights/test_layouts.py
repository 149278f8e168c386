"""Layouts against numpy written out, forth and back, and on the way through open_weights."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.errors import SelectionError, WeightsError
from tfxfer.weights import Tensor, Weights, layouts, open_weights

RNG = np.random.default_rng(0)
SIDE = st.integers(1, 4)
EXAMPLES = {
    "theano_conv": (5, 4, 3, 2),
    "oihw_conv": (5, 4, 3, 2),
    "oihw_depthwise": (5, 1, 3, 2),
    "transpose": (7, 3),
    "chw_fc:3,2,4": (24, 5),
    "conv_fc:3,2,4": (3, 2, 4, 5),
    "bgr_conv": (3, 3, 3, 2),
    "transpose+chw_fc:3,2,4": (5, 24),
    "oihw_conv+bgr_conv": (2, 3, 3, 3),
}


def test_theano_kernels_are_turned_by_180_degrees_and_reordered():
    kernel = RNG.normal(size=(2, 3, 4, 5))
    result = layouts.layout("theano_conv").apply(kernel)
    assert result.shape == (4, 5, 3, 2)
    for out, inside, row, column in np.ndindex(kernel.shape):
        assert result[3 - row, 4 - column, inside, out] == kernel[out, inside, row, column]


def test_pytorch_kernels_are_reordered():
    kernel = RNG.normal(size=(2, 3, 4, 5))
    result = layouts.layout("oihw_conv").apply(kernel)
    for out, inside, row, column in np.ndindex(kernel.shape):
        assert result[row, column, inside, out] == kernel[out, inside, row, column]


def test_depthwise_kernels_of_pytorch_are_reordered():
    kernel = RNG.normal(size=(4, 1, 2, 3))
    forth = layouts.layout("oihw_depthwise")
    result = forth.apply(kernel)
    assert result.shape == forth.shape(kernel.shape) == (2, 3, 4, 1)
    for channel, _, row, column in np.ndindex(kernel.shape):
        assert result[row, column, channel, 0] == kernel[channel, 0, row, column]
    assert np.array_equal(forth.inverse.apply(result), kernel)
    with pytest.raises(WeightsError, match=r"oihw_depthwise takes \(channels, 1, h, w\), not \(4, 2, 3, 3\)"):
        forth.shape((4, 2, 3, 3))
    with pytest.raises(WeightsError, match=r"-oihw_depthwise takes \(h, w, channels, 1\), not \(3, 3, 4, 2\)"):
        forth.inverse.shape((3, 3, 4, 2))


@given(h=SIDE, w=SIDE, c=SIDE, n=SIDE)
def test_a_dense_layer_behind_a_convolution_gives_the_same_in_either_order(h, w, c, n):
    features, kernel = RNG.normal(size=(6, h, w, c)), RNG.normal(size=(c * h * w, n))
    expected = features.transpose(0, 3, 1, 2).reshape(6, -1) @ kernel
    result = features.reshape(6, -1) @ layouts.layout(f"chw_fc:{h},{w},{c}").apply(kernel)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@given(h=SIDE, w=SIDE, c=SIDE, n=SIDE)
def test_a_convolution_over_the_whole_picture_gives_the_same_as_a_dense_layer(h, w, c, n):
    features, kernel = RNG.normal(size=(6, h, w, c)), RNG.normal(size=(h, w, c, n))
    expected = np.einsum("bhwc,hwcn->bn", features, kernel)
    result = features.reshape(6, -1) @ layouts.layout(f"conv_fc:{h},{w},{c}").apply(kernel)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_the_first_convolution_takes_its_channels_in_the_other_order():
    picture, kernel = RNG.normal(size=(3, 3, 3)), RNG.normal(size=(3, 3, 3, 4))
    expected = np.einsum("hwc,hwcn->n", picture[:, :, ::-1], kernel)
    np.testing.assert_allclose(np.einsum("hwc,hwcn->n", picture, layouts.layout("bgr_conv").apply(kernel)), expected)


@pytest.mark.parametrize("shape", [(1001,), (8, 1001), (1, 1, 8, 1001)])
def test_the_background_class_is_dropped_and_comes_back_as_zeros(shape):
    forth = layouts.layout("classes_1001")
    array = RNG.normal(size=shape)
    result = forth.apply(array)
    np.testing.assert_array_equal(result, array[..., 1:])
    back = forth.inverse.apply(result)
    assert back.shape == shape
    np.testing.assert_array_equal(back[..., 1:], array[..., 1:])
    assert not back[..., 0].any()
    np.testing.assert_array_equal(forth.apply(back), result)
    assert not forth.exact


@pytest.mark.parametrize(
    ("text", "shapes", "result", "back"),
    [
        ("vector", [(1, 5), (5, 1), (1, 1, 1, 5), (5,)], (5,), (1, 5)),
        ("vector", [(1, 1), (1,), (1, 1, 1, 1)], (1,), (1, 1)),
        ("vector", [(0,), (1, 0)], (0,), (1, 0)),
        ("matrix", [(1, 1, 4, 5), (4, 5), (1, 4, 5)], (4, 5), (1, 1, 4, 5)),
        ("matrix", [(1, 1, 1, 5), (1, 5)], (1, 5), (1, 1, 1, 5)),
    ],
)
def test_sides_of_one_are_dropped_and_come_back_as_the_format_has_them(text, shapes, result, back):
    values = RNG.normal(size=result)
    for shape in shapes:
        array, forth = values.reshape(shape), layouts.layout(text)
        assert forth.shape(shape) == result
        assert forth.apply(array).tobytes() == values.tobytes()
        assert forth.apply(array).shape == result
    assert forth.inverse.shape(result) == back
    assert forth.inverse.apply(values).shape == back
    np.testing.assert_array_equal(forth.apply(forth.inverse.apply(values)), values)
    assert not forth.exact
    assert not layouts.layout("matrix+transpose").exact


@pytest.mark.parametrize("text", EXAMPLES)
def test_layouts_are_exactly_invertible_and_their_shapes_are_known_beforehand(text):
    forth, array = layouts.layout(text), RNG.normal(size=EXAMPLES[text])
    result = forth.apply(array)
    assert forth.shape(array.shape) == result.shape
    assert forth.inverse.shape(result.shape) == array.shape
    np.testing.assert_array_equal(forth.inverse.apply(result), array)
    assert forth.exact
    assert forth.inverse.inverse.text == text
    assert layouts.layout(forth.text).text == text


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_kernels_of_any_shape_come_back(array):
    for text in ("theano_conv", "oihw_conv", "-theano_conv", "-oihw_conv"):
        layout = layouts.layout(text)
        assert layout.inverse.apply(layout.apply(array)).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("oihw_conv", (3, 3), r"the layout oihw_conv takes \(out, in, h, w\), not \(3, 3\)"),
        ("-oihw_conv", (3,), r"the layout -oihw_conv takes \(h, w, in, out\), not \(3,\)"),
        ("transpose", (3,), r"the layout transpose takes two dimensions, not \(3,\)"),
        ("chw_fc:7,7,512", (4096, 10), r"the layout chw_fc:7,7,512 takes \(25088, n\), not \(4096, 10\)"),
        ("conv_fc:7,7,512", (1, 1, 512, 9), r"takes \(7, 7, 512, n\), not \(1, 1, 512, 9\)"),
        ("-conv_fc:7,7,512", (512, 9), r"the layout -conv_fc:7,7,512 takes \(25088, n\), not \(512, 9\)"),
        ("bgr_conv", (3, 3, 4, 8), r"takes \(h, w, 3, out\), not \(3, 3, 4, 8\)"),
        ("classes_1001", (8, 1000), r"takes 1001 classes last, not \(8, 1000\)"),
        ("-classes_1001", (), r"takes 1000 classes last, not \(\)"),
        ("vector", (2, 3), r"the layout vector takes n values along one side, the other sides 1, not \(2, 3\)"),
        ("vector", (), r"not \(\)"),
        ("-vector", (1, 3), r"the layout -vector takes one dimension, not \(1, 3\)"),
        ("matrix", (2, 1, 4, 5), r"or more of which all but the last two are 1, not \(2, 1, 4, 5\)"),
        ("matrix", (5,), r"not \(5,\)"),
        ("-matrix", (5,), r"the layout -matrix takes two dimensions, not \(5,\)"),
        ("transpose+chw_fc:1,1,2", (2, 3), r"transpose\+chw_fc:1,1,2 takes \(2, n\), not \(3, 2\)"),
    ],
)
def test_layouts_refuse_shapes_that_they_are_not_for(text, shape, message):
    with pytest.raises(WeightsError, match=message):
        layouts.layout(text).shape(shape)
    with pytest.raises(WeightsError, match=message):
        layouts.layout(text).apply(np.zeros(shape))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("oihw_cov", r"'oihw_cov' is not a layout \(did you mean oihw_conv\?\); the layouts are theano_conv, oih"),
        ("", r"'' is not a layout"),
        ("transpose+", r"'' is not a layout"),
        ("--transpose", r"'-transpose' is not a layout"),
        ("chw_fc", r"'chw_fc' is not a layout: chw_fc takes 3 sizes, as in chw_fc:7,7,512"),
        ("chw_fc:7,7", r"'chw_fc:7,7' is not a layout: chw_fc takes 3 sizes, as in chw_fc:7,7,512"),
        ("chw_fc:7,7,512,", r"is not a layout: chw_fc takes 3 sizes"),
        ("conv_fc:7,0,512", r"is not a layout: conv_fc takes 3 sizes"),
        ("conv_fc:7,a,512", r"is not a layout: conv_fc takes 3 sizes"),
        ("transpose:3", r"'transpose:3' is not a layout: transpose takes 0 sizes, as in transpose"),
    ],
)
def test_texts_that_are_no_layout_are_refused(text, message):
    with pytest.raises(WeightsError, match=message):
        layouts.layout(text)


def pytorch(tmp_path):
    arrays = {
        "conv.weight": RNG.normal(size=(4, 3, 2, 2)),
        "fc.weight": RNG.normal(size=(5, 8)),
        "fc.bias": RNG.normal(size=5),
    }
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
    return arrays


def test_layouts_are_applied_to_the_new_names_and_to_no_others(tmp_path):
    arrays = pytorch(tmp_path)
    weights = open_weights(
        tmp_path / "a.safetensors",
        rename=[(r"\.weight", "/kernel"), (r"\.bias", "/bias")],
        layout=[
            ("conv/kernel", "oihw_conv"),
            ("fc/kernel", layouts.layout("transpose")),
            ("fc/kernel", "chw_fc:2,2,2"),
        ],
    )
    assert {name: weights.shape(name) for name in weights} == {
        "conv/kernel": (2, 2, 3, 4),
        "fc/kernel": (8, 5),
        "fc/bias": (5,),
    }
    np.testing.assert_array_equal(weights["conv/kernel"], arrays["conv.weight"].transpose(2, 3, 1, 0))
    rows = arrays["fc.weight"].T.reshape(2, 2, 2, 5).transpose(1, 2, 0, 3).reshape(8, 5)
    np.testing.assert_array_equal(weights["fc/kernel"], rows)
    np.testing.assert_array_equal(weights["fc/bias"], arrays["fc.bias"])
    assert [weights.transformed(name) for name in ("conv/kernel", "fc/kernel", "fc/bias")] == [True, True, False]
    assert weights.source("fc/kernel") == "fc.weight"
    again = weights.renamed([("conv", "conv1")])
    assert again.transformed("conv1/kernel")
    assert again.shape("conv1/kernel") == (2, 2, 3, 4)


def test_a_layout_for_nothing_and_layouts_that_do_not_fit_are_refused(tmp_path):
    pytorch(tmp_path)
    path = tmp_path / "a.safetensors"
    with pytest.raises(SelectionError, match=r"'conv9.*' +nearest: conv\.weight"):
        open_weights(path, layout=[("conv9.*", "oihw_conv")])
    with pytest.raises(WeightsError) as caught:
        open_weights(path, layout=[(".*", "oihw_conv")])
    assert "the layouts do not fit to" in str(caught.value)
    assert "fc.weight: the layout oihw_conv takes (out, in, h, w), not (5, 8)" in str(caught.value)
    assert "fc.bias: the layout oihw_conv takes (out, in, h, w), not (5,)" in str(caught.value)


def test_planning_with_layouts_reads_no_array():
    def never() -> np.ndarray:
        raise AssertionError("read")

    weights = Weights("a", "made by hand", {"w": Tensor((4, 3, 2, 2), np.dtype("f4"), never)})
    assert weights.laid_out([("w", "oihw_conv")]).shape("w") == (2, 2, 3, 4)
