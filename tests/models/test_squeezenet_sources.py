"""The forms in which weights of SqueezeNet circulate."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.models.test_squeezenet import LAYERS, placeholder
from tfxfer.models import squeezenet
from tfxfer.models.sources import recognise


def test_the_names_of_caffe_are_read(tmp_path):
    value = {
        layer.replace("/", "_"): {
            "weights": np.zeros(
                [2 if size is None else size for size in squeezenet.variables("squeezenet1_1")[f"{layer}/kernel"]],
                np.float32,
            ),
            "biases": np.zeros(
                2 if layer == "conv10" else squeezenet.variables("squeezenet1_1")[f"{layer}/bias"], np.float32
            ),
        }
        for layer in LAYERS
    }
    np.save(tmp_path / "w.npy", value, allow_pickle=True)
    file = tx.open_weights(tmp_path / "w.npy")
    source = recognise(file, squeezenet.SOURCES)
    assert source.name == "squeezenet1_1_caffe"
    assert set(source.apply(file)) == set(squeezenet.variables("squeezenet1_1"))


@pytest.mark.parametrize("model", ["squeezenet1_0", "squeezenet1_1"])
def test_keras_files_with_the_kernels_of_theano_are_recognised(tmp_path, model):
    import h5py

    rng, expected = np.random.default_rng(0), {}
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in LAYERS]
        for layer in LAYERS:
            kernel, bias = (squeezenet.variables(model)[f"{layer}/{name}"] for name in ("kernel", "bias"))
            values = rng.normal(size=[2 if size is None else size for size in kernel]).astype("f4")
            expected[f"{layer}/kernel"] = values
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/kernel:0".encode(), f"{layer}/bias:0".encode()]
            # (out, in, h, w), turned by 180 degrees.
            group[f"{layer}/kernel:0"] = values.transpose(3, 2, 0, 1)[:, :, ::-1, ::-1]
            group[f"{layer}/bias:0"] = np.zeros(2 if bias == (None,) else bias, "f4")
    found = tx.recognise(tmp_path / "w.h5")
    assert (found.model, found.source, found.input_spec.channels) == (model, f"{model}_keras_th", "BGR")
    assert all(np.array_equal(found.weights[name], value) for name, value in expected.items())


# Real files.


def test_a_real_file_with_odd_names_is_recognised(real_data):
    file = tx.open_weights(real_data("weights/squeezenet1_1_tf_notop.h5"))
    source = recognise(file, squeezenet.SOURCES)
    assert source.name == "squeezenet1_1_keras"
    assert source.compare(file).missing == ["conv10/kernel", "conv10/bias"]
    ours = source.apply(file)
    assert ours.source("conv1/kernel") == "conv1/uniform1"
    with tf.Graph().as_default():
        squeezenet.squeezenet1_1(placeholder(), top=False)
        assert len(tx.plan(tx.select(".*"), ours).variables) == 50
