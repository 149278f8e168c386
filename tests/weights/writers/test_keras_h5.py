"""Keras files that are written, against h5py and `keras.Model.load_weights`."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers

from tfxfer.weights import open_weights, streams, writers
from tfxfer.weights.writers import keras_h5

# Keras 3 calls np.array on its variables as NumPy 1 allowed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(0)


def held(named):
    return {name: streams.held(array) for name, array in named.items()}


def network() -> keras.Model:
    """A small network of every layer whose arrays have an order of their own, whose layers are not in that of names."""
    images = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, name="z_first")(images)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.SeparableConv2D(5, 3, name="separable")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2DTranspose(3, 2, use_bias=False, name="back")(x)
    x = layers.LayerNormalization(name="layer_norm")(x)
    x = layers.Reshape((-1, 3))(x)
    x = layers.LSTM(6, name="recurrent")(x)
    return keras.Model(images, layers.Dense(2, name="a_last")(x))


def randomised(model: keras.Model) -> keras.Model:
    model.set_weights([RNG.uniform(0.1, 1, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def arrays_of(model: keras.Model) -> dict[str, np.ndarray]:
    """The arrays by our names, those of a layer in an order that is not Keras's."""
    named = {}
    for layer in model.layers:
        for weight in reversed(layer.weights):
            named[f"{layer.name}/{weight.path.rpartition('/')[2]}"] = np.asarray(weight)
    return named


def test_keras_loads_a_network_by_the_order_of_its_layers(tmp_path):
    model, other = randomised(network()), network()
    named = arrays_of(model)
    assert "norm/moving_variance" in named
    writers.write(tmp_path / "a.h5", held(named))
    other.load_weights(tmp_path / "a.h5")
    images = RNG.normal(size=(2, 12, 12, 3))
    np.testing.assert_array_equal(other.predict(images, verbose=0), model.predict(images, verbose=0))
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_keras_loads_a_network_by_the_names_of_its_layers_in_any_order(tmp_path):
    model, other = randomised(network()), network()
    named = arrays_of(model)
    writers.write(tmp_path / "a.h5", held({name: named[name] for name in sorted(named, reverse=True)}))
    other.load_weights(tmp_path / "a.h5", by_name=True)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_names_alone_put_layer_10_behind_layer_9(tmp_path):
    named = {f"conv{i}/{kind}": np.full((i,), i, np.float32) for i in (1, 2, 9, 10, 11) for kind in ("bias", "kernel")}
    writers.write(tmp_path / "a.h5", held(dict(sorted(named.items()))))
    assert list(open_weights(tmp_path / "a.h5"))[::2] == [f"conv{i}/kernel" for i in (1, 2, 9, 10, 11)]
    own = {name: named[name] for name in ("conv2/kernel", "conv1/kernel", "conv2/bias", "conv10/bias")}
    assert keras_h5.order(held(own)) == ["conv2/kernel", "conv2/bias", "conv1/kernel", "conv10/bias"]


def test_other_conventions_of_naming_come_in_the_same_order():
    for names in (
        ["c/weights", "c/biases"],
        ["c/depthwise_kernel", "c/pointwise_kernel", "c/bias"],
        ["n/scale", "n/offset", "n/mean", "n/variance"],
        ["n/gamma", "n/beta", "n/moving_mean", "n/moving_variance", "n/other"],
        ["c/kernel", "c/recurrent_kernel", "c/bias"],
    ):
        shapes = {name: (2, 2) if "kernel" in name or "weights" in name else (2,) for name in names}
        given = sorted(names, key=lambda name: ("kernel" not in name, name))
        assert keras_h5.order(held({name: np.ones(shapes[name]) for name in given})) == names


def test_the_layout_is_that_of_keras_2(tmp_path):
    named = {
        "conv1/kernel": np.ones((2, 3)),
        "conv1/bias": np.ones(3),
        "block/é/kernel": np.ones((1, 1)),
        "alone": np.ones(2),
    }
    writers.write(tmp_path / "a.h5", held(named))
    with h5py.File(tmp_path / "a.h5") as file:
        assert [name.decode() for name in file.attrs["layer_names"]] == ["conv1", "block/é", "alone"]
        assert list(file["conv1"].attrs["weight_names"]) == [b"conv1/kernel:0", b"conv1/bias:0"]
        assert file["block/é/block/é/kernel:0"].shape == (1, 1)
        assert file["alone/alone:0"].shape == (2,)
    assert list(open_weights(tmp_path / "a.h5")) == ["conv1/kernel", "conv1/bias", "block/é/kernel", "alone"]


def test_bfloat16_is_a_float_that_h5py_and_keras_read(tmp_path):
    kernel = RNG.normal(size=(3, 2)).astype(ml_dtypes.bfloat16)
    writers.write(tmp_path / "a.h5", held({"d/kernel": kernel, "d/bias": np.ones(2, ml_dtypes.bfloat16)}))
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(np.asarray(file["d/d/kernel:0"], np.float32), kernel.astype(np.float32))
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.load_weights(tmp_path / "a.h5")
    np.testing.assert_array_equal(model.get_weights()[0], kernel.astype(np.float32))


def test_lists_of_names_that_no_header_holds_are_cut(tmp_path):
    named = {f"layer{i}{'x' * 90}/kernel": np.full(2, i, np.float32) for i in range(1000)}
    writers.write(tmp_path / "a.h5", held(named))
    with h5py.File(tmp_path / "a.h5") as file:
        assert "layer_names1" in file.attrs
    weights = open_weights(tmp_path / "a.h5")
    assert list(weights) == list(named)
    assert all(weights[name][0] == i for i, name in enumerate(named))


@pytest.mark.slow
def test_keras_vgg16_loads_what_is_converted_from_our_names_and_answers_the_same(tmp_path):
    model, other = (keras.applications.VGG16(weights=None) for _ in range(2))
    model.set_weights([RNG.standard_normal(w.shape, np.float32) * 0.03 for w in model.get_weights()])
    convs = [f"conv{block}_{i}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)]
    names = [f"{layer}/{kind}" for layer in (*convs, "fc6", "fc7", "fc8") for kind in ("kernel", "bias")]
    named = dict(zip(names, model.get_weights(), strict=True))
    writers.write(tmp_path / "vgg16.ckpt", held(named))
    found = open_weights(tmp_path / "vgg16.ckpt")
    writers.write(tmp_path / "vgg16.h5", {name: found.tensor(name) for name in found})
    other.load_weights(tmp_path / "vgg16.h5")
    images = RNG.uniform(0, 255, (1, 224, 224, 3))
    np.testing.assert_array_equal(other.predict(images, verbose=0), model.predict(images, verbose=0))


def test_a_disk_that_is_full_is_told_of_and_nothing_is_left(tmp_path):
    """Whatever byte the disk ends at, there is an error that says so, no crash, and no file."""
    program = textwrap.dedent("""
        import resource, signal, sys
        import numpy as np
        from tfxfer.errors import WeightsError
        from tfxfer.weights import streams, writers

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # too large a file is then an error, as a full disk is
        named = {f"l{k}/kernel": streams.held(np.ones((50, 50), "f4")) for k in range(8)}
        for limit in range(0, 80_000, 1_500):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                writers.write(sys.argv[1], named)
            except WeightsError as error:
                assert "was not written: File too large" in str(error), error
            else:
                raise SystemExit(f"{limit} bytes were enough")
    """)
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.h5"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
