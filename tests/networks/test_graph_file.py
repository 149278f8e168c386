"""What a network in a file is, whatever the kind of file."""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from tfxfer.networks.files import open_graph


def test_a_network_is_described_alike_as_metagraph_and_as_frozen_graph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 8, 8, 3], "x")
        x = tf.nn.conv2d(x, tf.get_variable("conv/kernel", [3, 3, 3, 4]), [1, 1, 1, 1], "SAME")
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        bn = {part: tf.get_variable(f"bn/{part}", [4], trainable="moving" not in part) for part in parts}
        tf.nn.fused_batch_norm(x, *bn.values(), is_training=False)[0]
        tf.identity(graph.get_tensor_by_name("FusedBatchNormV3:0"), "y")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            tf.train.Saver().save(sess, "model.ckpt")
            frozen = tf.graph_util.convert_variables_to_constants(sess, graph.as_graph_def(), ["y"])
    (tmp_path / "frozen.pb").write_bytes(frozen.SerializeToString())
    files = [open_graph("model.ckpt.meta"), open_graph("frozen.pb")]
    first, second = (
        {name: (v.shape, v.dtype, v.trainable) for name, v in sorted(file.variables.items())} for file in files
    )
    assert first == second
    assert {name for name, (_, _, trainable) in first.items() if not trainable} == {
        "bn/moving_mean",
        "bn/moving_variance",
    }
    assert set(files[0].weights) == set(files[1].weights) == set(first)
