"""On what a run was made."""

from __future__ import annotations

from tests.made_runs import make
from tests.reports.pages import shown


def test_the_version_of_tensorflow_is_read_from_the_graph(tmp_path):
    run = make(tmp_path / "run")
    info = b"\x2a\x062.21.0"
    (run / "best/model.ckpt-120.meta").write_bytes(b"\x0a" + bytes([len(info)]) + info)
    assert "TensorFlow 2.21.0" in shown(run).text
    (run / "best/model.ckpt-120.meta").write_bytes(b"\xff\xff\xff")
    assert "TensorFlow 2.21.0" not in shown(run).text
