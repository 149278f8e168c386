"""Event files: what goes in reads back by TensorBoard's own readers, after a kill and a cut as well."""

from __future__ import annotations

import signal
import subprocess
import sys
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfxfer.plots.png import png
from tfxfer.tensorboard.events import BINS, Events, histogram, literal, table


def opened(path, first_step: int | None = 0, suffix: str = ".a") -> Events:
    return Events(path, ("train", "validation"), suffix, first_step)


def read(path) -> EventAccumulator:
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    return events


def test_all_that_is_written_reads_back_with_its_values(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    graph = tf.GraphDef()
    graph.node.add(name="FROZEN/x", op="NoOp")
    metadata = tf.RunMetadata()
    metadata.step_stats.dev_stats.add(device="/cpu").node_stats.add(node_name="FROZEN/x")
    events = opened(tmp_path)
    events.scalars("train", {"loss": 0.5, "accuracy": 0.25}, 3)
    events.histograms("train", {"fc1/kernel": np.float32([1, 2, 4])}, 3)
    events.image("train", "pixels", pixels, 3)
    events.image("train", "file", png(pixels), 4)
    events.text("train", "note", "*hello*", 5)
    events.graph("train", graph)
    events.metadata("train", metadata, 10)
    events.add("validation", tf.Summary(value=[tf.Summary.Value(tag="loss", simple_value=1.0)]), 7)
    events.close()
    train = read(tmp_path / "train")
    assert [(e.step, e.value) for e in train.Scalars("loss")] == [(3, 0.5)]
    [shown] = train.Histograms("fc1/kernel")
    value = shown.histogram_value
    assert (shown.step, value.min, value.max, value.num, value.sum, value.sum_squares) == (3, 1, 4, 3, 7, 21)
    for tag in ("pixels", "file"):
        [image] = train.Images(tag)
        assert (image.width, image.height) == (7, 5)
        assert image.encoded_image_string == png(pixels)
    assert train.Tensors("note")[0].tensor_proto.string_val == [b"*hello*"]
    assert [node.name for node in train.Graph().node] == ["FROZEN/x"]
    assert train.RunMetadata("step_10").step_stats.dev_stats[0].node_stats[0].node_name == "FROZEN/x"
    assert [(e.step, e.value) for e in read(tmp_path / "validation").Scalars("loss")] == [(7, 1.0)]


def test_what_is_no_png_is_refused(tmp_path):
    events = opened(tmp_path)
    with pytest.raises(ValueError, match="x is not a PNG file"):
        events.image("train", "x", b"GIF89a" + bytes(40), 0)
    events.close()


def test_a_start_voids_what_was_written_for_later_steps_and_nothing_else(tmp_path):
    first = opened(tmp_path)
    for step in range(1, 8):
        first.scalars("train", {"loss": step}, step)
        first.histograms("train", {"v": np.float32([step])}, step)
        first.image("train", "i", np.full((1, 1, 1), step, np.uint8), step)
    first.close()
    second = opened(tmp_path, first_step=4, suffix=".b")
    for step in range(5, 9):
        second.scalars("train", {"loss": -step}, step)
    second.close()
    events = read(tmp_path / "train")
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [
        (1, 1), (2, 2), (3, 3), (4, 4), (5, -5), (6, -6), (7, -7), (8, -8)]  # fmt: skip
    assert [e.step for e in events.Histograms("v")] == [1, 2, 3, 4]
    assert [e.step for e in events.Images("i")] == [1, 2, 3, 4]


def test_a_writer_that_starts_nothing_voids_nothing(tmp_path):
    for suffix, value in ((".a", 1.0), (".b", 2.0)):
        events = opened(tmp_path, None, suffix)
        events.scalars("train", {suffix: value}, 5)
        events.close()
    assert set(read(tmp_path / "train").Tags()["scalars"]) == {".a", ".b"}


KILLED = """
import os, signal, sys
import numpy as np
from tfxfer.tensorboard.events import Events
from pathlib import Path
events = Events(Path(sys.argv[1]), ("train",), ".0", 0)
for step in range(100):
    events.scalars("train", {"loss": step}, step)
    events.histograms("train", {"v": np.arange(step + 1.0)}, step)
    events.image("train", "i", np.full((9, 9, 3), step, np.uint8), step)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, "-c", KILLED, folder], timeout=120, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    return folder / "train"


def test_what_was_written_survives_a_kill(killed):
    events = read(killed)
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(step, step) for step in range(100)]
    assert [e.histogram_value.num for e in events.Histograms("v")] == list(range(1, 101))
    assert [e.step for e in events.Images("i")] == list(range(100))


def test_a_file_that_is_cut_in_the_middle_reads_up_to_there(killed, tmp_path):
    [file] = killed.iterdir()
    data = file.read_bytes()
    for size in (len(data) // 2, len(data) // 2 + 5, len(data) // 3 + 1):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / file.name).write_bytes(data[:size])
        found = [e.step for e in read(folder).Scalars("loss")]
        assert 10 < len(found) < 100
        assert found == list(range(len(found)))


# --- histograms ---


def test_a_histogram_counts_as_numpy_does():
    values = np.random.default_rng(0).normal(3, 0.5, (100, 70)).astype(np.float32)
    found = histogram(values)
    counts, edges = np.histogram(values.astype(np.float64), BINS)
    assert (found.num, found.min, found.max) == (7000, values.min(), values.max())
    assert np.allclose(found.bucket_limit, edges[1:])
    assert np.abs(np.array(found.bucket) - counts).sum() <= 4, "values on an edge may round to either side"
    assert found.sum == pytest.approx(values.sum(dtype=np.float64))
    assert found.sum_squares == pytest.approx((values.astype(np.float64) ** 2).sum(), rel=1e-5)


def test_a_histogram_leaves_out_what_is_not_finite():
    found = histogram(np.float32([1, np.nan, 3, np.inf, -np.inf]))
    assert (found.min, found.max, found.num) == (1, 3, 2)
    assert histogram(np.float32([np.nan])).num == 0
    assert histogram(np.zeros((0, 3), np.float32)).num == 0


@pytest.mark.parametrize("values", [
    np.float32([7, 7]), np.float32([3e38, -3e38]), np.float64([1e308, -1e308, 0]), np.float32([1e-44, 0]),
    np.full(100, 2.3e306), np.array([True, False]), np.int32([5, -9]), np.float16([6e4, -6e4]), np.float32(4),
])  # fmt: skip
def test_a_histogram_of_any_numbers_counts_all_of_them(values):
    found = histogram(np.asarray(values))
    assert sum(found.bucket) == found.num == values.size
    assert (found.min, found.max) == (values.min(), values.max())
    assert len(found.bucket) == len(found.bucket_limit)


@pytest.mark.parametrize("size", [1, 2, 3, 999, 1000, 1001, 2500])
def test_every_value_counts_however_pieces_and_pairs_fall(monkeypatch, size):
    monkeypatch.setattr("tfxfer.tensorboard.events.PIECE", 1000)
    values = np.random.default_rng(size).integers(0, BINS, size).astype(np.float32)
    values[: min(size, 2)] = [0, BINS][: min(size, 2)]  # bins of width 1
    wanted = np.bincount(np.minimum(values, BINS - 1).astype(int), minlength=BINS) if size > 1 else [1]
    assert list(histogram(values).bucket) == list(wanted)


@given(npst.arrays(npst.floating_dtypes(sizes=(16, 32, 64), endianness="="), st.integers(0, 200)))
def test_no_array_of_floats_breaks_a_histogram(values):
    found = histogram(values)
    finite = values[np.isfinite(values)]
    assert sum(found.bucket) == found.num == len(finite)
    assert list(found.bucket_limit) == sorted(found.bucket_limit)


def test_a_large_array_is_counted_in_pieces(monkeypatch):
    values = np.random.default_rng(0).normal(size=10_001)
    whole = histogram(values)
    monkeypatch.setattr("tfxfer.tensorboard.events.PIECE", 1000)
    pieces = histogram(values)
    assert list(pieces.bucket) == list(whole.bucket)
    assert pieces.sum == pytest.approx(whole.sum)


# --- text ---

ODD = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a | b", "**bold** _it_ `code` # head",
    "\"quoted\" 'x'", "[link](javascript:alert(1))", "sun 🌻", "a\nb\tc", "&amp; &#60;", "1. one", "\\ back",
    "http://example.com/", "~~x~~", "![x](http://example.com/x.png)", "lone \ud800 surrogate", "    four spaces",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_a_cell_shows_a_text_as_it_stands_whatever_markdown_would_make_of_it(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a library that TensorBoard carries
        from tensorboard import plugin_util

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.tags, self.words = [], []

        def handle_starttag(self, tag, attrs):
            self.tags.append((tag, attrs))

        def handle_data(self, data):
            self.words.append(data)

    html = plugin_util.markdown_to_safe_html(table(("head", "other"), [(text, "x")]))
    reader = Reader()
    reader.feed(html)
    assert {tag for tag, _ in reader.tags} == {"table", "thead", "tbody", "tr", "th", "td"}
    cells = [word for word in reader.words if word.strip()]
    expected = " ".join(text.encode("utf-8", "replace").decode().split())
    assert cells == ["head", "other", expected, "x"]


def test_a_literal_is_on_one_line():
    assert "\n" not in literal("a\nb\r\nc")
    assert literal("fc1/kernel") == "fc1/kernel"
