"""SavedModel directories, whose variables are a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights

RNG = np.random.default_rng(0)


def test_a_saved_model_of_tensorflow_1_has_the_names_of_its_variables(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.get_variable("conv1/kernel", [3, 2])
        sess.run(tf.global_variables_initializer())
        builder = tf.saved_model.Builder(str(tmp_path / "model"))
        builder.add_meta_graph_and_variables(sess, ["serve"])
        builder.save()
    weights = open_weights(tmp_path / "model")
    assert {name: weights.shape(name) for name in weights} == {"conv1/kernel": (3, 2)}
    assert weights.kind == "TensorFlow SavedModel"


def test_a_saved_model_without_variables_is_named_as_frozen(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    with pytest.raises(WeightsError, match=r"is a SavedModel without variables: .*variables\.index does not exist"):
        open_weights(tmp_path)
    with pytest.raises(WeightsError, match="A frozen model keeps its weights as constants in the graph"):
        open_weights(tmp_path / "saved_model.pb")
