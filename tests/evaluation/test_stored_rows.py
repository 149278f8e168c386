"""Rows of a store that are found again, and those that are not taken for what weights compute."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.evaluation.stored_rows import describe, open_rows
from tfxfer.graph import layers
from tfxfer.store.store import Rows

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1)).astype(np.uint8)
LABELS = np.arange(8) % 2


def computed(folder: Path, dtype: str = "float32", train: str = "logits/.*", precision: str = "float32"):
    """Store the frozen part of a small network in `folder`; return its description, its weights and the rows."""
    data = tx.data.Data((IMAGES, LABELS), (IMAGES, LABELS), (IMAGES, LABELS), ("dark", "bright"))
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.uint8, [None, 4, 4, 1]), tf.placeholder(tf.int64, [None])
        x = layers.conv2d(tf.cast(images, tf.float32) / 255, 2, 3, "conv")
        logits = layers.dense(layers.flatten(x), 2, "logits", activation=None)
        step = tx.train_step(images, labels, logits, train=train)
        with tx.session() as sess:
            assert describe(step, data.test) == {}
            values = sess.run({variable.op.name: variable for variable in tx.select("conv.*|logits.*")})
            np.savez(folder / "w.npz", **values)
            split = tx.precompute(sess, step, data, store=folder / "store", dtype=dtype, precision=precision).test
            return describe(step, split), tx.open_weights(folder / "w.npz"), next(iter(split.features.values()))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    return (folder, *computed(folder))


def test_rows_are_found_by_what_is_described_and_in_the_order_of_the_images(stored):
    folder, described, weights, rows = stored
    assert Path(described["table"]).parent == folder / "store"
    assert json.loads(Path(described["table"], "about.json").read_text())["tensor"] == described["tensor"]
    found = open_rows(described, weights, IMAGES[::-1])
    assert isinstance(found, Rows)
    np.testing.assert_array_equal(found[np.arange(8)], rows[np.arange(8)[::-1]])


def test_rows_of_other_images_or_other_weights_are_not_found(stored, tmp_path):
    _, described, weights, _ = stored
    other = IMAGES.copy()
    other[3, 0, 0, 0] ^= 1
    assert open_rows(described, weights, other) is None
    assert open_rows(described, weights, IMAGES[:0]) is None
    moved = weights["conv/bias"] + np.float32(1e-7)
    for name, values in (("moved", {**weights, "conv/bias": moved}), ("fewer", {"conv/bias": weights["conv/bias"]})):
        np.savez(tmp_path / f"{name}.npz", **values)
        assert open_rows(described, tx.open_weights(tmp_path / f"{name}.npz"), IMAGES) is None
    np.savez(tmp_path / "head.npz", **{**weights, "logits/bias": weights["logits/bias"] + 1})
    assert open_rows(described, tx.open_weights(tmp_path / "head.npz"), IMAGES) is not None


@pytest.mark.parametrize(
    "described",
    [None, [], {}, {"table": 3}, {"tensor": "x:0", "table": "/not/there"}, {"tensor": "x:0", "table": "a\0b"}],
)
def test_a_description_of_nothing_finds_nothing(stored, described):
    assert open_rows(described, stored[2], IMAGES) is None


def test_rows_of_a_precision_are_found_where_it_is_asked_for(tmp_path):
    described, weights, rows = computed(tmp_path, precision="folded")
    assert open_rows(described, weights, IMAGES) is None
    assert open_rows(described, weights, IMAGES, "bfloat16") is None
    found = open_rows(described, weights, IMAGES, "folded")
    np.testing.assert_array_equal(found[np.arange(8)], rows[np.arange(8)])


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"tensorflow": "1.15.0"}, {"dtype": "float16"}], ids=str)
def test_rows_that_were_computed_otherwise_are_not_found(stored, tmp_path, change):
    _, described, weights, _ = stored
    table = shutil.copytree(described["table"], tmp_path / "table")
    about = json.loads((table / "about.json").read_text())
    (table / "about.json").write_text(json.dumps({**about, **change}))
    assert open_rows({**described, "table": str(table)}, weights, IMAGES) is None
    (table / "about.json").write_text(json.dumps(about))
    assert open_rows({**described, "table": str(table)}, weights, IMAGES) is not None
    (table / "about.json").write_text("{")
    assert open_rows({**described, "table": str(table)}, weights, IMAGES) is None
