"""Event files, as TensorBoard reads them: a writer for each of a run's curves, which a resumed run goes on in."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.data.pictures import in_parallel
from tfxfer.formats.leveldb import masked
from tfxfer.plots.png import SIGNATURE, png

BINS = 60  # of a histogram; TensorBoard draws 30
PIECE = 1 << 18  # numbers of an array that are looked at together: what is made of them stays in the cache
FEW = 16  # pieces of an array that one thread looks at


class EventFile:
    """An event file: records of an Event each, with checksums, as TFRecord files have them.

    Each record is handed to the operating system at once, so that a kill does not lose it. TensorFlow's FileWriter has
    a thread of its own, which loses what a full disk does not take and prints a traceback.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        """Create a file in a folder, which is made if it is missing.

        Raises:
          OSError: it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}{suffix}"
        self._file = (folder / name).open("wb")
        try:
            self.add(tf.Event(file_version="brain.Event:2"))
        except BaseException:
            self.close()
            raise

    def add(self, event: tf.Event) -> None:
        """Write an event, as of now.

        Raises:
          OSError: it cannot be written.
        """
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = len(data).to_bytes(8, "little")
        self._file.write(b"".join((length, _checksum(length), data, _checksum(data))))
        self._file.flush()

    def close(self) -> None:
        """Close the file; what could not be written of it is lost."""
        with contextlib.suppress(OSError):
            self._file.close()


def _checksum(data: bytes) -> bytes:
    return masked(google_crc32c.value(data)).to_bytes(4, "little")


class Events:
    """The event files of a run, open for as long as it trains; they are written by one thread at a time."""

    def __init__(self, path: Path, names: Sequence[str], suffix: str, first_step: int | None) -> None:
        """Open files.

        Args:
          path: the run directory.
          names: of its folders, each with a file.
          suffix: what the files' names end with. Two files of one second would share a name without.
          first_step: the number of steps made so far. What was written for later ones is void: TensorBoard purges it
            when it meets the SessionLog that this writes. None: nothing is.

        Raises:
          OSError: they cannot be written. So it is with all that writes to them.
        """
        self._files: dict[str, EventFile] = {}
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            for name in names:
                self._files[name] = EventFile(path / name, suffix)
                if first_step is not None:
                    start = tf.SessionLog(status=tf.SessionLog.START)
                    self._files[name].add(tf.Event(session_log=start, step=first_step + 1 if first_step else 0))
            stack.pop_all()

    def add(self, name: str, summary: Any, step: int) -> None:
        """Write a summary, serialized or not, to one of the folders."""
        data = summary if isinstance(summary, bytes) else summary.SerializeToString()
        self._files[name].add(tf.Event(summary=tf.Summary.FromString(data), step=step))

    def graph(self, name: str, graph: tf.GraphDef) -> None:
        """Write a graph."""
        self._files[name].add(tf.Event(graph_def=graph.SerializeToString()))

    def metadata(self, name: str, metadata: tf.RunMetadata, step: int) -> None:
        """Write the time and memory of each op in a step."""
        event = tf.Event(step=step)
        event.tagged_run_metadata.tag = f"step_{step}"
        event.tagged_run_metadata.run_metadata = metadata.SerializeToString()
        self._files[name].add(event)

    def scalars(self, name: str, values: Mapping[str, float], step: int) -> None:
        """Write scalars, tag to value."""
        parts = [tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self.add(name, tf.Summary(value=parts), step)

    def histograms(self, name: str, values: Mapping[str, np.ndarray], step: int) -> None:
        """Write histograms of arrays, by tag."""
        parts = [tf.Summary.Value(tag=tag, histo=histogram(array)) for tag, array in values.items()]
        self.add(name, tf.Summary(value=parts), step)

    def image(self, name: str, tag: str, image: np.ndarray | bytes, step: int) -> None:
        """Write an image: uint8 [height, width, 1, 3 or 4], or a PNG."""
        data = image if isinstance(image, bytes) else png(image)
        width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
        if not data.startswith(SIGNATURE):
            raise ValueError(f"{tag} is not a PNG file")
        shown = tf.Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=data)
        self.add(name, tf.Summary(value=[tf.Summary.Value(tag=tag, image=shown)]), step)

    def text(self, name: str, tag: str, markdown: str, step: int = 0) -> None:
        """Write a text for TensorBoard's text page; what is not to be read as markdown was made so by `literal`."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self.add(name, text_pb(tag, markdown), step)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


class _FinitePart(NamedTuple):
    """The finite values of a piece of an array, float32 or float64, and what they come to."""

    values: np.ndarray
    low: float
    high: float
    total: float
    squares: float


def histogram(values: np.ndarray) -> tf.HistogramProto:
    """Count the finite values of an array in bins of one width; a large array in parallel.

    TensorFlow's own op takes ten times as long, with bins so fine that TensorBoard adds them up again.
    """
    flat = values.reshape(-1)
    pieces = [flat[start : start + PIECE] for start in range(0, len(flat), PIECE)]
    each = in_parallel if len(pieces) > FEW else map
    parts = [part for part in each(_finite_part, pieces) if len(part.values)]
    if not parts:
        return tf.HistogramProto(bucket_limit=[0.0], bucket=[0.0])
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    bins = BINS if high > low else 1
    count = functools.partial(_counts, low=low, high=high, bins=bins)
    counts = np.sum(list(each(count, [part.values for part in parts])), axis=0)
    with np.errstate(all="ignore"):
        limits = np.linspace(low / 2, high / 2, bins + 1)[1:] * 2
    return tf.HistogramProto(
        min=low,
        max=high,
        num=counts.sum(),
        # Either may go beyond the largest float64; TensorBoard reads an infinite sum as it reads any other.
        sum=sum(part.total for part in parts),
        sum_squares=sum(part.squares for part in parts),
        bucket_limit=limits,
        bucket=counts,
    )


def _finite_part(piece: np.ndarray) -> _FinitePart:
    if piece.dtype not in (np.float32, np.float64):
        piece = piece.astype(np.float64)
    low, high = float(piece.min()), float(piece.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        piece = piece[np.isfinite(piece)]
        low, high = float(piece.min(initial=np.inf)), float(piece.max(initial=-np.inf))
    with np.errstate(all="ignore"):
        return _FinitePart(piece, low, high, float(piece.sum()), float(np.dot(piece, piece)))


def _counts(values: np.ndarray, low: float, high: float, bins: int) -> np.ndarray:
    """Return int64 [bins]: how many values are in each of the bins between low and high."""
    kind, ends = values.dtype.type, bins + 1
    with np.errstate(all="ignore"):
        # Of halves, none of which is beyond the dtype's range.
        places = values * kind(0.5)
        places -= kind(low / 2)
        places *= (scale := kind(np.float64(bins) / (high / 2 - low / 2)))
        if not np.isfinite(scale):
            np.minimum(np.fmax(places, 0, out=places), bins, out=places)
    np.floor(places, out=places)
    # What takes longest is to count: done for two values at a time.
    half = len(places) // 2
    pairs = places[:half] * kind(ends) + places[half : 2 * half]
    joint = np.bincount(pairs.astype(np.intp), minlength=ends * ends).reshape(ends, ends)
    counts = joint.sum(axis=0) + joint.sum(axis=1)
    counts[places[2 * half :].astype(np.intp)] += 1
    counts[-2] += counts[-1]  # the end of the last bin belongs to it
    return counts[:-1]


# --- text ---


def literal(text: object) -> str:
    """Return what markdown shows as this text, on one line, whatever is in it: markup, quotes, pipes."""
    line = " ".join(str(text).encode("utf-8", "replace").decode().split())
    return re.sub(r"""[\\`*_{}\[\]()#+!|<>&~"'^]""", lambda match: f"&#{ord(match[0])};", line)


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in markdown; all cells are shown as they stand."""
    lines = [[literal(cell) for cell in head], ["---"] * len(head), *([literal(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
