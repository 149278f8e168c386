"""Which reader the file of a network is for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

from tests.networks.made import write_frozen
from tfxfer.errors import SelectionError, WeightsError
from tfxfer.networks.files import open_graph


def test_a_metagraph_is_meant_by_its_file_and_by_its_prefix(trained):
    for path in ("model.ckpt.meta", "model.ckpt"):
        assert open_graph(path).kind == "MetaGraph"


def test_what_is_neither_a_file_nor_a_network_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(SelectionError, match=r"'vgg61' is neither a file nor the name of a network \(did you mean vgg"):
        open_graph("vgg61")
    (tmp_path / "a.meta").write_bytes(b"not a graph")
    with pytest.raises(WeightsError, match="is not a MetaGraph"):
        open_graph(str(tmp_path / "a.meta"))


def test_an_option_that_the_reader_does_not_take_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frozen()
    with pytest.raises(SelectionError, match=r"frozen\.pb: `tags`: not used with a frozen graph; leave it out"):
        open_graph("frozen.pb", tags="serve")
    with pytest.raises(WeightsError, match=r"`moving_averages`: frozen\.pb has no variable"):
        open_graph("frozen.pb", moving_averages=True)


@pytest.mark.parametrize(
    "path", ["model.ckpt.index", "model.ckpt.data-00000-of-00001", "checkpoint", ".", "model.ckpt"]
)
def test_a_file_of_a_checkpoint_leads_to_its_prefix_and_the_graph_beside_it(trained, path):
    if path != "model.ckpt":
        with pytest.raises(WeightsError, match=r"means the checkpoint (\./)?model\.ckpt, .*: give model\.ckpt\.meta"):
            open_graph(path)
    os.rename("model.ckpt.meta", "elsewhere.meta")
    with pytest.raises(WeightsError, match=r"its graph model\.ckpt\.meta is not there; .* checkpoint as `weights`"):
        open_graph(path)
    assert open_graph("elsewhere.meta", weights=path).weights is not None


def test_a_checkpoint_of_the_first_format_has_no_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default(), tf.Session() as sess:
        variable = tf.get_variable("v", [2])
        sess.run(variable.initializer)
        tf.train.Saver(write_version=tf.train.SaverDef.V1).save(sess, "old", write_meta_graph=False)
    with pytest.raises(WeightsError, match=r"means the checkpoint old, .* its graph old\.meta is not there"):
        open_graph("old")


def node_of(size: int) -> bytes:
    """Return how a GraphDef begins whose only node is a constant of so many bytes, `w`, without these bytes."""

    def field(number: int, content: bytes, more: int = 0) -> bytes:
        length, size = b"", len(content) + more
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    shape = field(2, b"\x08" + field(0, b"", size // 4)[1:])
    value = field(8, b"\x08\x01" + field(2, shape) + field(4, b"", size), size)
    dtype = field(5, field(1, b"dtype") + field(2, b"\x30\x01"))
    node = field(1, b"w") + field(2, b"Const") + dtype + field(5, field(1, b"value") + field(2, value, size), size)
    return field(1, node, size)


def test_such_a_beginning_is_of_a_graph_where_it_is_small():
    [node] = tf.GraphDef.FromString(node_of(8) + bytes(8)).node
    assert tf.make_ndarray(node.attr["value"].tensor).tolist() == [0, 0]


REFUSED = """
import re, sys
from tfxfer.errors import WeightsError
from tfxfer.networks.files import open_graph
for path in sys.argv[1:]:
    try:
        open_graph(path)
    except WeightsError as error:
        print(error)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
def test_a_graph_of_more_than_2_gb_is_refused_without_being_read(tmp_path):
    content, size = node_of(3 << 30), 3 << 30
    (tmp_path / "saved").mkdir()
    paths = [tmp_path / "frozen.pb", tmp_path / "model.meta", tmp_path / "saved/saved_model.pb"]
    for path in paths:
        with open(path, "wb") as file:
            file.write(content)
            file.truncate(len(content) + size)
    done = subprocess.run([sys.executable, "-c", REFUSED, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *said, peak = done.stdout.splitlines()
    assert len(said) == 3
    for path, line in zip(paths, said, strict=True):
        assert f"{path} has 3,221,2" in line
        assert "no graph of more than 2 GB from one file; take the network from a MetaGraph" in line
    assert int(peak) < 1 << 20  # kilobytes
