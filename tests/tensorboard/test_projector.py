"""The embedding projector's files, read back by the projector itself."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from matplotlib.image import imread
from PIL import Image
from tensorboard.plugins.projector import projector_plugin

import tfxfer as tx
from tfxfer.data import Data, Pictures, Split
from tfxfer.tensorboard import projector
from tfxfer.tensorboard.projector import _flat


class Doubling:
    """A network that gives the pixels times two."""

    def __init__(self, size=(4, 4, 1)):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.images = tf.placeholder(tf.uint8, [None, *size], name="images")
            self.ends = {"pool1": tf.cast(self.images, tf.float32) * 2, "pool5/x": tf.cast(self.images, tf.float32)}

    def write(self, data, folder):
        with self.graph.as_default(), tx.session() as sess:
            return projector.write(sess, self.images, self.ends, data, folder)


def data_of(sizes=(30, 10, 5), size=(4, 4, 1), class_names=("a", "b", "c")) -> Data:
    generator = np.random.default_rng(0)
    splits = [
        Split(generator.integers(0, 256, (count, *size)).astype(np.uint8), generator.integers(0, 3, count))
        for count in sizes
    ]
    return Data(*splits, class_names=class_names)


def config(folder):
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    return text_format.Parse((folder / projector.CONFIG).read_text(), ProjectorConfig())


def rows_of(folder) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "projector/metadata.tsv").read_text().split("\n")[:-1]]


def test_tensorboard_reads_each_endpoint_of_each_example(tmp_path):
    data = data_of()
    assert Doubling().write(data, tmp_path) == 45
    shown = config(tmp_path).embeddings
    assert [(one.tensor_name, list(one.tensor_shape)) for one in shown] == [("pool1", [45, 16]), ("pool5/x", [45, 16])]
    every = np.concatenate([split.images for split in (data.train, data.validation, data.test)]).reshape(45, -1)
    for one, factor in zip(shown, (2, 1), strict=True):
        read = projector_plugin._read_tensor_tsv_file(str(tmp_path / one.tensor_path))
        assert np.array_equal(read, every.astype(np.float32) * factor)


def test_each_row_has_class_split_and_example(tmp_path):
    data = data_of()
    Doubling().write(data, tmp_path)
    head, *rows = rows_of(tmp_path)
    assert head == ["class", "split", "example"]
    assert [row[1] for row in rows] == ["train"] * 30 + ["validation"] * 10 + ["test"] * 5
    assert [row[0] for row in rows[30:40]] == ["abc"[label] for label in data.validation.labels]
    assert [row[2] for row in rows[40:]] == ["0", "1", "2", "3", "4"]


def test_the_sprite_has_a_thumbnail_for_each_row_in_its_order(tmp_path):
    data = data_of()
    Doubling().write(data, tmp_path)
    [side, _] = config(tmp_path).embeddings[0].sprite.single_image_dim
    sheet = np.round(imread(io.BytesIO((tmp_path / "projector/sprite.png").read_bytes()))[..., 0] * 255)
    across = sheet.shape[0] // side
    assert sheet.shape[:2] == (7 * side, 7 * side)
    for row, image in ((0, data.train.images[0]), (8, data.train.images[8]), (44, data.test.images[4])):
        top, left = row // across * side, row % across * side
        assert np.array_equal(sheet[top : top + side : side // 4, left : left + side : side // 4], image[..., 0])


def test_names_cannot_break_the_table(tmp_path):
    names = ('a\t"b"', "<b>bold</b>\n", "sun \N{SUNFLOWER} \ud800")
    data = data_of(class_names=names)
    Doubling().write(data, tmp_path)
    rows = rows_of(tmp_path)
    assert {len(row) for row in rows} == {3}
    assert {row[0] for row in rows[1:]} == {'a "b"', "\u2039b>bold\u2039/b>", "sun \N{SUNFLOWER} \\ud800"}


def test_of_pictures_the_end_of_the_path_is_shown_and_one_that_is_gone_stops_nothing_but_its_thumbnail(tmp_path):
    (tmp_path / "cat").mkdir()
    for name in ("x.png", "y.png"):
        Image.new("RGB", (9, 9), (200, 10, 10)).save(tmp_path / "cat" / name)
    pictures = Pictures([tmp_path / "cat/x.png", tmp_path / "cat/y.png"], (4, 4))
    rows = {"MUL:0": np.ones((2, 7), np.float32)}
    split = Split(pictures, np.array([0, 1]), rows)
    data = Data(split, dataclasses.replace(split), dataclasses.replace(split), ("cat", "dog"))
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 4, 4, 3])
        stored = tf.multiply(tf.zeros([tf.shape(images)[0], 7]), 3.0, name="MUL")
        (tmp_path / "cat/y.png").unlink()
        with tx.session() as sess:
            assert projector.write(sess, images, {"stored": stored}, data, tmp_path) == 6
    assert [row[2] for row in rows_of(tmp_path)[1:3]] == ["cat/x.png", "cat/y.png"]
    assert (projector_plugin._read_tensor_tsv_file(str(tmp_path / "projector/stored.tsv")) == 1).all(), "as stored"


def test_of_many_examples_some_of_each_split_are_shown_and_the_sprite_stays_in_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "MOST", 20)
    assert Doubling().write(data_of((60, 20, 20)), tmp_path) == 20
    assert [row[1] for row in rows_of(tmp_path)[1:]] == ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    monkeypatch.setattr(projector, "LARGEST", 30)
    Doubling().write(data_of((60, 20, 20)), tmp_path)
    with Image.open(tmp_path / "projector/sprite.png") as sprite:
        assert sprite.size == (30, 30)


def test_examples_that_are_no_pictures_have_no_sprite(tmp_path):
    data = data_of(size=(4, 4, 2))
    Doubling((4, 4, 2)).write(data, tmp_path)
    assert not config(tmp_path).embeddings[0].HasField("sprite")
    assert not (tmp_path / "projector/sprite.png").exists()


def test_classes_without_a_name_and_examples_without_a_label_are_shown(tmp_path):
    data = data_of(class_names=())
    data = dataclasses.replace(data, test=Split(data.test.images))
    Doubling().write(data, tmp_path)
    rows = rows_of(tmp_path)[1:]
    assert [row[0] for row in rows[:30]] == [str(label) for label in data.train.labels]
    assert {row[0] for row in rows[40:]} == {"-"}


# --- how large endpoints are brought down ---


@pytest.mark.parametrize("shape", [(2, 112, 112, 64), (3, 7, 7, 512), (1, 14, 9, 16), (2, 50_000), (2, 3, 4, 5, 600)])
def test_no_row_has_more_numbers_than_a_browser_takes(shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    flat = _flat(values)
    assert flat.shape[0] == shape[0]
    assert flat.shape[1] <= projector.MOST_NUMBERS


def test_blocks_of_positions_are_averaged_short_ones_at_the_edge_too(monkeypatch):
    monkeypatch.setattr(projector, "MOST_NUMBERS", 4)
    values = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    assert _flat(values).tolist() == [[(0 + 1 + 3 + 4) / 4, (2 + 5) / 2, (6 + 7) / 2, 8]]


def test_small_endpoints_stay_as_they_are_and_nothing_is_nan():
    values = np.array([[1.5, np.nan, np.inf]])
    flat = _flat(values)
    assert flat.shape == (1, 3)
    assert np.isfinite(flat).all()
    assert flat[0, 0] == 1.5
