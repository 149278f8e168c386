"""What a step saves: everything, or what it writes apart from what stays."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.graph.steps import deep, linear, op_names, staged


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_the_saver_keeps_every_variable_slots_and_global_step_included(tmp_path):
    step = staged()
    with tx.session() as sess:
        for number in range(6):
            step.saver.save(sess, str(tmp_path / f"model-{number}"), write_meta_graph=False)
    saved = tx.open_weights(tmp_path / "model-0")
    assert sorted(saved) == sorted(op_names(tf.global_variables()))
    # What is kept is the run directory's to say.
    assert len(list(tmp_path.glob("*.index"))) == 6


def test_what_a_step_writes_is_saved_apart_from_what_stays(tmp_path):
    step = deep(train=lambda: tx.select("logits/.*"))
    written = {name for name in op_names(tf.global_variables()) if name.startswith(("logits/", "beta"))}
    assert set(op_names(step.moving.variables)) == written | {"global_step"}
    assert set(op_names(step.frozen.variables)) == set(op_names(tf.global_variables())) - written - {"global_step"}
    with tx.session() as sess:
        step.frozen.saver.save(sess, str(tmp_path / "frozen"), write_meta_graph=False)
    assert sorted(tx.open_weights(tmp_path / "frozen")) == sorted(op_names(step.frozen.variables))


def test_where_nothing_stays_there_is_no_saver_for_it():
    assert linear().frozen == ((), None)
