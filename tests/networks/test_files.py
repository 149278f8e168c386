"""Which reader the file of a network is for."""

from __future__ import annotations

import pytest

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
