"""SavedModel directories, whose variables are a checkpoint, or else constants of the graph."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf2  # tf.Module and its savers are TF 2's alone
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

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


KERNEL = RNG.random((3, 2), np.float32)


def exported(path: Path, *, variable: bool, tags: Sequence[str] = ("serve",)) -> Path:
    """Write a SavedModel of TensorFlow 1 with a constant, and with a variable or without."""
    with tf.Graph().as_default(), tf.Session() as sess:
        y = tf.matmul(tf.placeholder(tf.float32, [None, 3]), tf.constant(KERNEL, name="fc/kernel"))
        if variable:
            tf.matmul(y, tf.get_variable("head/kernel", [2, 2]))
            sess.run(tf.global_variables_initializer())
        builder = tf.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(sess, list(tags))
        builder.save()
    return path


def test_of_a_saved_model_without_variables_the_constants_are_read(tmp_path):
    exported(tmp_path / "model", variable=False)
    for path in (tmp_path / "model", tmp_path / "model" / "saved_model.pb"):
        weights = open_weights(path)
        assert weights.kind == "constants of a SavedModel"
        assert weights.checkpoint is None
        assert list(weights) == ["fc/kernel"]
        assert weights["fc/kernel"].tobytes() == KERNEL.tobytes()


def test_the_constants_of_a_saved_model_of_tensorflow_2_lie_in_its_functions(tmp_path):
    module = tf2.Module()
    module.call = tf2.function(
        lambda x: tf2.matmul(x, tf2.constant(KERNEL, name="fc/kernel")),
        input_signature=[tf2.TensorSpec([None, 3])],
        autograph=False,
    )
    tf2.saved_model.save(module, str(tmp_path))
    assert (tmp_path / "variables" / "variables.index").exists()  # it holds no variable
    weights = open_weights(tmp_path)
    assert weights.kind == "constants of a SavedModel"
    assert {name.rpartition("/fc/")[2] for name in weights} == {"kernel"}
    assert all(name.startswith("__inference_") for name in weights)
    assert all(array.tobytes() == KERNEL.tobytes() for array in weights.values())


def test_of_a_saved_model_with_both_the_variables_are_read_and_the_constants_named(tmp_path):
    weights = open_weights(exported(tmp_path / "model", variable=True))
    assert list(weights) == ["head/kernel"]
    why = weights.skipped["fc/kernel"]
    assert "it is a constant, and of a SavedModel the variables are read; copy " in why
    shutil.copy(tmp_path / "model" / "saved_model.pb", tmp_path / "elsewhere.pb")  # as it says
    assert list(open_weights(tmp_path / "elsewhere.pb")) == ["fc/kernel"]
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"\x08\x01\x12\xff")
    assert list(open_weights(tmp_path / "model")) == ["head/kernel"]


def test_graphs_of_one_saved_model_that_differ_are_told_apart_by_their_tags(tmp_path):
    model = SavedModel.FromString((exported(tmp_path / "a", variable=False) / "saved_model.pb").read_bytes())
    other = model.meta_graphs.add()
    other.CopyFrom(model.meta_graphs[0])
    other.meta_info_def.tags[:] = ["serve", "tpu"]
    (tmp_path / "same.pb").write_bytes(model.SerializeToString())
    assert list(open_weights(tmp_path / "same.pb")) == ["fc/kernel"]
    constant = next(node for node in other.graph_def.node if node.op == "Const")
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(2 * KERNEL))
    (tmp_path / "other.pb").write_bytes(model.SerializeToString())
    weights = open_weights(tmp_path / "other.pb")
    assert list(weights) == ["fc/kernel", "serve,tpu/fc/kernel"]
    assert weights["serve,tpu/fc/kernel"].tobytes() == (2 * KERNEL).tobytes()


def test_a_saved_model_without_variables_and_constants_is_named(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    for path in (tmp_path, tmp_path / "saved_model.pb"):
        with pytest.raises(
            WeightsError, match="it is a SavedModel without variables, and with no constants that are w"
        ):
            open_weights(path)


def test_a_saved_model_that_lacks_the_index_of_its_variables_is_incomplete(tmp_path):
    exported(tmp_path, variable=True)
    (tmp_path / "variables" / "variables.index").unlink()
    with pytest.raises(WeightsError, match=r"variables\.index does not exist \(variables/ holds variables\.data-"):
        open_weights(tmp_path)
    shutil.rmtree(tmp_path / "variables")
    weights = open_weights(tmp_path)
    assert list(weights) == ["fc/kernel"]
    assert "whose value lies in the checkpoint that belongs to the graph" in weights.skipped["head/kernel"]
