"""Which reader the file of a network is for."""

from __future__ import annotations

import pytest

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
