"""A network with its weights: what it predicts and exports, and what it cannot be built from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tfxfer as tx
from tests.tools.test_compare_outputs import arrays
from tfxfer.errors import DataError, GraphError, RestoreError, WeightsError
from tfxfer.models import squeezenet
from tfxfer.serving.trained_network import open_classifier


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights of a whole network under Caffe's names, of 7 classes."""
    path = tmp_path_factory.mktemp("file") / "caffe.npz"
    ends = {"kernel": "weights", "bias": "biases"}
    named = {name.rpartition("/"): array for name, array in arrays(7).items()}
    np.savez(path, **{f"{layer}/{ends[end]}": array for (layer, _, end), array in named.items()})
    return path


def test_a_models_own_classifier_predicts(file):
    network = open_classifier("squeezenet1_1", file, image_size=32)
    assert (network.name, network.input_spec.size, network.class_names[:2]) == ("squeezenet1_1", (32, 32), ("0", "1"))
    examples = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    predictions = network.predict(examples, top_k=7)
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), [1, 1, 1], rtol=1e-5)
    with network.session() as (sess, images, endpoints):
        expected = sess.run(endpoints["prob"], {images: examples})
    np.testing.assert_array_equal(np.sort(expected)[:, ::-1], predictions.probabilities)
    named = open_classifier("squeezenet1_1", tx.open_weights(file), image_size=32, class_names=list("abcdefg"))
    assert named.predict(examples, top_k=1).names == [["abcdefg"[row[0]]] for row in predictions.classes]


def test_what_does_not_fit_is_refused(file, tmp_path):
    with pytest.raises(GraphError, match="`model=autoencoder` has no classifier of its own; give a run in which"):
        open_classifier("autoencoder", file)
    with pytest.raises(WeightsError, match=r"none of the .* sources|is not"):
        open_classifier("vgg16", file)
    network = open_classifier("squeezenet1_1", file, image_size=32)
    part = {name: array for name, array in arrays().items() if name.startswith("conv1/")}
    np.savez(tmp_path / "part.npz", **part)
    partial = dataclasses.replace(network, weights=tx.open_weights(tmp_path / "part.npz"))
    with pytest.raises(RestoreError, match="cannot restore"), partial.session():
        pass
    nameless = dataclasses.replace(network, input_spec=None)
    with pytest.raises(DataError, match="no input spec lies beside"), nameless.session():
        pass
    assert set(network.weights) == set(squeezenet.variables("squeezenet1_1"))
