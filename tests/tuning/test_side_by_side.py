"""tfxfer/tuning/side_by_side.py: padding stays 0, and no head sees another."""

from __future__ import annotations

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.tuning import side_by_side
from tfxfer.tuning.trials import Trial


def trained(trials: list[Trial], steps: int = 5) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the variables and losses of heads after some steps on one batch."""
    generator = np.random.default_rng(0)
    batch, numbers = generator.normal(size=(1, 12, 6)).astype(np.float32), np.arange(12) % 3
    with tf.Graph().as_default():
        heads = side_by_side.build(trials, {"a": 6}, classes=3)
        feeds = {heads.inputs["a"]: batch, heads.labels: numbers}
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            for _ in range(steps):
                sess.run(heads.apply, feeds)
            variables = {variable.op.name: sess.run(variable) for variable in tf.global_variables()}
            return variables, sess.run(heads.metrics["loss"], feeds)


def test_padded_units_stay_exactly_0():
    trials = [Trial(endpoint="a", hidden=units, dropout=0.2, learning_rate=0.1, l2=0.1) for units in (5, 8)]
    variables, _ = trained(trials)
    assert {name: value.shape for name, value in variables.items() if name.endswith("kernel")} == {
        "bank0/fc1/kernel": (2, 6, 8), "bank0/logits/kernel": (2, 8, 3)}  # fmt: skip
    assert not variables["bank0/fc1/kernel"][0, :, 5:].any()
    assert not variables["bank0/fc1/bias"][0, :, 5:].any()
    assert not variables["bank0/logits/kernel"][0, 5:].any()
    assert variables["bank0/fc1/kernel"][1].all()


def test_a_head_that_diverges_leaves_the_bits_of_the_others():
    good = [Trial(endpoint="a", hidden=8, dropout=0.5, learning_rate=rate) for rate in (0.01, 0.1)]
    bad = Trial(endpoint="a", hidden=8, learning_rate=1e30)
    _, losses = trained([good[0], bad, good[1]])
    _, alone = trained([good[0], Trial(endpoint="a", hidden=8, learning_rate=0.01), good[1]])
    assert not np.isfinite(losses[1]).all()
    assert np.isfinite(losses[[0, 2]]).all()
    np.testing.assert_array_equal(losses[[0, 2]], alone[[0, 2]])
