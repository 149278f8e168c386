"""On what and when a run was made, as far as its files tell."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from tfxfer.errors import WeightsError
from tfxfer.formats import protobuf

MOST_BYTES = 64 << 20  # of a file that is read for it
_TIME = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ", re.MULTILINE)
_SPEED = re.compile(r"  (\d+) examples/s$", re.MULTILINE)


def environment(run: Path) -> dict[str, str]:
    """Return facts by name, from `train.log` and the graph beside the best checkpoint."""
    log = _read(run / "train.log").decode("utf-8", "replace")
    times, speeds = _TIME.findall(log), [int(speed) for speed in _SPEED.findall(log)]
    facts = {
        "TensorFlow": _tensorflow(run / "best"),
        "began": times[0] if times else "",
        "last line of the log": times[-1] if times else "",
        "median speed": f"{statistics.median(speeds):,.0f} examples/s" if speeds else "",
    }
    return {name: text for name, text in facts.items() if text}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
    except OSError:
        return b""


def _tensorflow(best: Path) -> str:
    """Return the version that wrote the graph: field 5 of field 1 (meta_info_def) of meta_graph.proto."""
    graphs = sorted(best.glob("*.meta"))
    data = memoryview(_read(graphs[-1])) if graphs else b""
    where = str(best)
    try:
        for info in protobuf.strings(protobuf.fields(data, where), 1):
            for version in protobuf.strings(protobuf.fields(info, where), 5):
                return protobuf.text(version, where)
    except WeightsError:
        return ""
    return ""
