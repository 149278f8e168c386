"""What is worked out of a step: which of its ops keep a state that no checkpoint holds."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.train.test_resume import Net
from tfxfer.runs.settings import read_settings


def generator_noise(x):
    return x + tf.random.Generator.from_seed(1).normal(tf.shape(x))


@tf.function
def traced(x):
    return tf.nn.dropout(x, rate=0.5, seed=3)


def looped(x):
    return tf.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, y + tf.random.normal([], seed=1)), [0, x])[1]


@pytest.mark.parametrize(("keep", "named"), [
    (lambda x: tf.nn.dropout(x, rate=0.5, seed=3), r"dropout/random_uniform/RandomUniform \(RandomUniform\)"),
    (lambda x: tf.transpose(tf.random.shuffle(tf.transpose(x), seed=1)), r"RandomShuffle \(RandomShuffle\)"),
    (lambda x: tf.ensure_shape(tf.py_func(lambda y: y, [x], tf.float32), [None, 5]), r"PyFunc \(PyFunc\)"),
    (lambda x: x + tf.cast(tf.data.make_one_shot_iterator(tf.data.Dataset.range(99).repeat()).get_next(), tf.float32),
     r"\(OneShotIterator\)"),
    (traced, r"\(RandomUniform\)"),
    (looped, r"\(RandomStandardNormal\)"),
])  # fmt: skip
def test_ops_that_keep_a_state_are_named_at_the_start_and_recorded(tmp_path, caplog, keep, named):
    net = Net(keep=keep)
    with caplog.at_level(logging.WARNING, "tfxfer"):
        fitted = net.fit(tmp_path / "run", epochs=1)
    assert not fitted.exact_resume
    [warning] = [record.getMessage() for record in caplog.records if record.name == "tfxfer"]
    assert re.search(named, warning), warning
    assert read_settings(tmp_path / "run").training["stateful_ops"]
    assert "a step runs ops whose state" in (tmp_path / "run/train.log").read_text()


@pytest.mark.parametrize(
    "options", [{}, {"local": True}, {"keep": generator_noise}], ids=["plain", "local", "generator"]
)
def test_what_lies_in_variables_is_kept_local_ones_and_generators_too(tmp_path, options):
    whole, parts = Net(**options), Net(**options)
    assert whole.fit(tmp_path / "whole", epochs=4).exact_resume
    Net(**options).fit(tmp_path / "run", epochs=2)
    parts.fit(tmp_path / "run", epochs=4)
    assert all(np.array_equal(*pair) for pair in zip(whole.values, parts.values, strict=True))


def test_warnings_reach_standard_error_where_nobody_listens(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tfxfer"), "propagate", False)
    Net(keep=traced).fit(tmp_path / "run", epochs=1)
    assert "a step runs ops whose state" in capsys.readouterr().err
    assert logging.getLogger("tfxfer").handlers == []
