"""Names and values of Keras's HDF5 files from 0.x to whole models of 3.x, against h5py and Keras itself."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from tests import fuzz
from tfxfer.errors import WeightsError
from tfxfer.weights import keras_h5, open_weights

# Keras 3 calls np.array on its variables as NumPy 1 allowed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(0)


def by_h5py(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def check(path: Path, expected: dict[str, str]) -> None:
    """Compare names, shapes, dtypes and values; `expected` gives the path in the file for every name."""
    tensors, arrays = keras_h5.read(path), by_h5py(path)
    assert list(tensors) == list(expected)
    assert set(expected.values()) == arrays.keys()
    for name, tensor in tensors.items():
        array = np.asarray(arrays[expected[name]])
        assert (tensor.shape, tensor.dtype) == (array.shape, array.dtype)
        assert tensor.read().tobytes() == array.tobytes()


def keras_2(path: Path, layers: dict[str, dict[str, np.ndarray]], group: str = "/") -> Path:
    """Write weights as Keras 1 and 2 do: a group for each layer, with the names of its weights as attributes."""
    with h5py.File(path, "a") as file:
        top = file.require_group(group)
        top.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, weights in layers.items():
            top.require_group(layer).attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                top[layer][name] = array
    return path


def test_keras_0_files_have_the_names_of_their_paths_in_numerical_order(real_data):
    numbers = (0, 2, 5, 7, 9, 12)
    names = [f"layer_{layer}/param_{param}" for layer in numbers for param in (0, 1)]
    check(real_data("keras/keras0_autoencoder.h5"), {name: name for name in names})


def test_keras_1_files_have_odd_weights_under_the_name_of_their_layer(real_data):
    path = real_data("weights/squeezenet1_1_tf_notop.h5")
    tensors, arrays = keras_h5.read(path), by_h5py(path)
    assert len(tensors) == 50
    assert list(tensors)[:4] == [
        "conv1/uniform1",
        "conv1/conv1_b",
        "fire2/squeeze1x1/uniform2",
        "fire2/squeeze1x1/fire2/squeeze1x1_b",
    ]
    assert tensors.keys() == arrays.keys()
    assert all(tensor.read().tobytes() == arrays[name].tobytes() for name, tensor in tensors.items())


def test_keras_2_whole_models_have_the_names_of_variables_and_those_of_the_optimizer_apart(real_data):
    names = [
        f"{layer}/{kind}"
        for layer in ("conv2d_1", "conv2d_2", "conv2d_3", "dense_1", "dense_2")
        for kind in ("kernel", "bias")
    ]
    expected = {name: f"model_weights/{name.split('/')[0]}/{name}:0" for name in names}
    optimizer = ["RMSprop/iterations", *(f"training/RMSprop/accumulator_{i}_1" for i in range(10))]
    check(
        real_data("keras/keras2_mnist_cnn.h5"),
        expected | {f"optimizer_weights/{name}": f"optimizer_weights/{name}:0" for name in optimizer},
    )


def test_keras_3_whole_models_in_hdf5_have_the_same_names(real_data):
    tensors = keras_h5.read(real_data("keras/keras3_mnist.h5"))
    assert [name for name in tensors if not name.startswith("optimizer_weights/")] == [
        f"dense{number}/{kind}" for number in ("", "_1", "_2", "_3") for kind in ("kernel", "bias")
    ]
    arrays = by_h5py(real_data("keras/keras3_mnist.h5"))
    assert len(tensors) == len(arrays)
    assert tensors["dense_1/kernel"].read().tobytes() == arrays["model_weights/dense_1/dense_1/kernel"].tobytes()


def test_names_are_not_doubled_and_lose_the_number_of_the_output(tmp_path):
    path = keras_2(
        tmp_path / "a.h5",
        {
            "conv1": {"conv1/kernel:0": np.ones(1), "conv1/bias:0": np.ones(2)},
            "conv10": {"conv1/kernel:0": np.ones(3)},
            "relu": {},
        },
    )
    assert {name: tensor.shape for name, tensor in keras_h5.read(path).items()} == {
        "conv1/kernel": (1,),
        "conv1/bias": (2,),
        "conv10/conv1/kernel": (3,),
    }


def test_models_within_models_stand_under_the_name_of_the_inner_model(tmp_path):
    path = keras_2(
        tmp_path / "a.h5", {"vgg16": {"block1_conv1/kernel:0": np.ones(1)}, "fc": {"fc/kernel:0": np.ones(2)}}
    )
    assert list(keras_h5.read(path)) == ["vgg16/block1_conv1/kernel", "fc/kernel"]


def test_two_weights_that_would_get_one_name_keep_their_paths(tmp_path):
    path = keras_2(tmp_path / "a.h5", {"a": {"b/k": np.ones(1), "k": np.ones(2)}, "a/b": {}, "b": {"b/k": np.ones(4)}})
    with h5py.File(path, "a") as file:
        file["a/b/k:0"] = np.ones(3)
        file["a/b"].attrs["weight_names"] = [b"k:0"]
    assert {name: tensor.shape for name, tensor in keras_h5.read(path).items()} == {
        "a/b/k": (1,),
        "a/k": (2,),
        "a/b/k:0": (3,),
        "b/k": (4,),
    }


def test_lists_of_names_that_are_cut_into_pieces_are_put_together(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"a"], [b"b"]
        for layer in "ab":
            file[f"{layer}/w0"], file[f"{layer}/w1"] = np.ones(1), np.ones(2)
            file[layer].attrs["weight_names0"], file[layer].attrs["weight_names1"] = [b"w0"], [b"w1"]
    assert list(keras_h5.read(tmp_path / "a.h5")) == ["a/w0", "a/w1", "b/w0", "b/w1"]


def test_weights_of_the_model_itself_are_listed(tmp_path):
    path = keras_2(tmp_path / "a.h5", {"fc": {"fc/kernel:0": np.ones(2)}})
    with h5py.File(path, "a") as file:
        file["top_level_model_weights/scale:0"] = np.ones(3)
        file["top_level_model_weights"].attrs["weight_names"] = [b"scale:0"]
    assert list(keras_h5.read(path)) == ["fc/kernel", "top_level_model_weights/scale"]


def test_other_hdf5_files_have_the_names_of_their_paths(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["net/w10"], file["net/w9"], file["b"] = np.ones(1), np.ones(2), np.ones(3)
    weights = open_weights(tmp_path / "a.h5")
    assert list(weights) == ["b", "net/w9", "net/w10"]
    assert weights.kind == "HDF5 file"


def test_a_weight_that_is_named_and_not_there_is_refused(tmp_path):
    path = keras_2(tmp_path / "a.h5", {"conv1": {"conv1/kernel:0": np.ones(1)}})
    with h5py.File(path, "a") as file:
        del file["conv1/conv1/kernel:0"]
    with pytest.raises(WeightsError, match="is corrupt: it should hold conv1/conv1/kernel:0, which does not exist"):
        open_weights(path)


def test_links_behind_names_are_listed_and_the_rest_is_read(tmp_path):
    layers = {layer: {f"{layer}/kernel:0": np.ones(1), f"{layer}/bias:0": np.ones(1)} for layer in ("conv1", "conv2")}
    path = keras_2(tmp_path / "a.h5", layers)
    with h5py.File(path, "a") as file:
        del file["conv1/conv1/kernel:0"], file["conv2"]
        file["conv1/conv1/kernel:0"] = h5py.ExternalLink("/etc/passwd", "x")
        file["conv2"] = h5py.SoftLink("/conv1")
    weights = open_weights(path)
    assert list(weights) == ["conv1/bias"]
    assert list(weights.skipped) == ["conv1/kernel", "conv2"]
    with pytest.raises(WeightsError, match="conv1/conv1/kernel:0 is a link to another file"):
        weights["conv1/kernel"]


def test_what_keras_saves_in_hdf5_is_read_under_the_names_of_its_variables(tmp_path):
    keras.utils.set_random_seed(1)
    inner = keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="c1"), layers.BatchNormalization(name="bn")], name="inner"
    )
    x = keras.Input((6, 6, 3))
    y = layers.Dense(2, name="out")(layers.Flatten()(layers.DepthwiseConv2D(2, name="dw")(inner(x))))
    model = keras.Model(x, y)
    model.save(tmp_path / "a.h5")
    weights = open_weights(tmp_path / "a.h5")
    assert weights.keys() == {variable.path for variable in model.variables}
    for variable in model.variables:
        assert weights[variable.path].tobytes() == variable.numpy().tobytes()


def test_broken_real_files_give_only_weights_errors(tmp_path, real_data, fuzz_cases):
    for name in ("keras/keras0_autoencoder.h5", "keras/keras2_mnist_cnn.h5", "weights/squeezenet1_1_tf_notop.h5"):
        good = real_data(name).read_bytes()
        assert fuzz.check_all(tmp_path / "a.h5", fuzz.broken(good, fuzz_cases // 3, begin=30_000))["refused"] > 0
