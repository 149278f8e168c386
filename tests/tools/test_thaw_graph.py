"""`tfxfer thaw_graph` as a user runs it."""

from __future__ import annotations

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.tools import _flags, thaw_graph
from tfxfer.weights import open_weights


def run(*args: object) -> int:
    return _flags.run(thaw_graph.main, ["tfxfer thaw_graph", *map(str, args)])


def test_a_frozen_graph_becomes_a_checkpoint_and_a_metagraph(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], "x")
        tf.matmul(x, tf.constant(np.eye(3, 2, dtype=np.float32), name="fc/weights"), name="y")
        (tmp_path / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    assert run("frozen.pb", "thawed/model.ckpt") == 0
    out = capsys.readouterr().out
    assert out.startswith("thawed/model.ckpt: TensorFlow checkpoint V2, 1 variables, 6 parameters\n")
    assert "tfxfer inspect_graph thawed/model.ckpt.meta" in out
    np.testing.assert_array_equal(open_weights("thawed/model.ckpt")["fc/weights"], np.eye(3, 2))
    assert run("frozen.pb", "thawed/model.ckpt") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run("frozen.pb", "thawed/model.ckpt", "--overwrite") == 0
    assert run("gone.pb", "a") == 1
    assert "gone.pb" in capsys.readouterr().err
