"""Frozen graphs as checkpoints and MetaGraphs, which TensorFlow itself imports."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import WeightsError
from tfxfer.networks.thaw import thaw

IMAGES = np.random.default_rng(7).random((3, 4, 4, 2), np.float32)


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Write `frozen.pb`, a network with a placeholder that has a default and a scope named as an op; run it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 4, 4, 2], "x")
        keep = tf.placeholder_with_default(1.0, [], "keep")
        kernel = tf.constant(rng.random((3, 3, 2, 5), np.float32), name="conv/kernel")
        x = tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME", name="conv")
        statistics = [tf.constant(rng.random(5, np.float32), name=f"bn/{part}") for part in ("g", "b", "m", "v")]
        x = tf.nn.fused_batch_norm(x, *statistics, is_training=False)[0] * keep
        tf.nn.softmax(tf.reduce_mean(x, [1, 2]), name="softmax")
        with open("frozen.pb", "wb") as file:
            file.write(graph.as_graph_def().SerializeToString())
        with tf.Session() as sess:
            return sess.run("softmax:0", {"x:0": IMAGES})


def test_tensorflow_imports_and_restores_what_was_written_to_the_same_bits(outputs):
    thawed = thaw("frozen.pb", "out/model.ckpt")
    assert thawed.variables["conv/kernel"] == (3, 3, 2, 5)
    with tf.Graph().as_default() as graph:
        saver = tf.train.import_meta_graph("out/model.ckpt.meta")
        names = {variable.op.name for variable in tf.global_variables()}
        assert names == {"conv/kernel", "bn/g", "bn/b", "bn/m", "bn/v"} == set(thawed.variables)
        assert {variable.op.name for variable in tf.trainable_variables()} == {"conv/kernel", "bn/g", "bn/b"}
        assert graph.get_operation_by_name("keep").type == "PlaceholderWithDefault"
        with tf.Session() as sess:
            saver.restore(sess, "out/model.ckpt")
            np.testing.assert_array_equal(sess.run("softmax:0", {"x:0": IMAGES}), outputs)


def test_a_network_of_what_was_written_is_the_same_as_of_the_frozen_graph(outputs):
    thaw("frozen.pb", "model.ckpt")
    for path in ("model.ckpt.meta", "frozen.pb"):
        with tf.Graph().as_default():
            net = tx.network(path)
            with tx.session(tx.plan(net.variables, net.weights)) as sess:
                np.testing.assert_array_equal(sess.run(net["softmax"], {net.images: IMAGES}), outputs)


def test_what_is_there_is_not_lost_and_the_cure_cures(outputs, tmp_path):
    thaw("frozen.pb", "model.ckpt")
    before = (tmp_path / "model.ckpt.meta").read_bytes()
    with pytest.raises(WeightsError, match=r"model\.ckpt\.data-\S+ exists; .*`overwrite=True`"):
        thaw("frozen.pb", "model.ckpt")
    moved = thaw("frozen.pb", "model.ckpt", overwrite=True).moved
    assert {new.name.partition(".old-1")[2].partition("-")[0] for new in moved.values()} == {".data", ".index", ".meta"}
    assert (tmp_path / "model.ckpt.old-1.meta").read_bytes() == before
    with tf.Graph().as_default():
        assert "conv/kernel" in tx.network("model.ckpt.old-1.meta").weights


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_refused_leaves_everything_as_it_was(outputs, tmp_path, overwrite):
    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    thaw("frozen.pb", "model.ckpt")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.meta").write_bytes((tmp_path / "model.ckpt.meta").read_bytes())
    before = content()
    for path, out, message in (
        ("model.ckpt.meta", "model.ckpt", "nothing is changed in place"),
        ("frozen.pb", "folder", "folder is a folder"),
        ("frozen.pb", "out.npz", r"out\.npz: a thawed graph is a checkpoint .* ends in \.ckpt or has no suffix"),
    ):
        with pytest.raises(WeightsError, match=message):
            thaw(path, out, overwrite=overwrite)
    assert content() == before


def test_a_metagraph_that_is_read_from_is_not_moved_aside(outputs, tmp_path):
    meta_graph = tf.MetaGraphDef()
    meta_graph.graph_def.ParseFromString((tmp_path / "frozen.pb").read_bytes())
    (tmp_path / "frozen.meta").write_bytes(meta_graph.SerializeToString())
    weights = tx.open_weights("frozen.meta")
    tensors = {name: weights.tensor(name) for name in weights}
    with pytest.raises(WeightsError, match="nothing is changed in place"):
        tx.weights.writers.write("frozen", tensors, sources=[weights], overwrite=True, meta_graph=b"")


def test_a_graph_without_weights_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        tf.identity(tf.placeholder(tf.float32, [None], "x"), "y")
        tf.train.export_meta_graph("plain.meta")
        (tmp_path / "plain.pb").write_bytes(graph.as_graph_def().SerializeToString())
    for path in ("plain.meta", "plain.pb"):
        with pytest.raises(WeightsError, match=r"has no weights that could|no constants that are weights"):
            thaw(path, "out.ckpt")


def test_an_input_spec_beside_the_file_goes_along(outputs):
    spec = tx.InputSpec("mine", "by hand", (4, 4), "RGB", (1.0,) * 3, (0.5,) * 3)
    spec.save("frozen.pb")
    thaw("frozen.pb", "out/model.ckpt")
    assert tx.open_weights("out/model.ckpt").input_spec() == spec
