"""What a run writes for TensorBoard: two writers, `train` and `validation`, that a resumed run goes on in one curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow.compat.v1 as tf


class Events:
    """The event files of a run, open for as long as it trains."""

    def __init__(self, path: Path, graph: tf.Graph, first_step: int) -> None:
        """Open both writers.

        Args:
          path: the run directory.
          graph: shown in TensorBoard; written when a run begins.
          first_step: the number of steps made so far. What was written for later ones is void: TensorBoard purges it
            when it meets the SessionLog that this writes.
        """
        self._graph = graph
        with graph.as_default():
            # Two writers of one second would share a file's name; the suffix tells them apart.
            self._writers = {
                name: tf.summary.FileWriter(str(path / name), filename_suffix=f".{first_step}")
                for name in ("train", "validation")
            }
        start = tf.SessionLog(status=tf.SessionLog.START)
        for writer in self._writers.values():
            writer.add_session_log(start, first_step + 1 if first_step else 0)
        if not first_step:
            self._writers["train"].add_graph(graph)

    def add(self, name: str, summary: bytes, step: int) -> None:
        """Write a serialized summary to `train` or `validation`."""
        self._writers[name].add_summary(summary, step)

    def scalars(self, name: str, values: Mapping[str, float], step: int) -> None:
        """Write scalars, tag to value."""
        parts = [tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._writers[name].add_summary(tf.Summary(value=parts), step)

    def text(self, tag: str, text: str) -> None:
        """Write a text for TensorBoard's text page, at step 0, shown as it stands."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        markdown = "\n".join(f"    {line}" for line in text.splitlines())
        self._writers["train"].add_summary(text_pb(tag, markdown).SerializeToString(), 0)

    def flush(self) -> None:
        """Hand everything written so far to the operating system, so that a kill does not lose it."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Flush and close both writers."""
        for writer in self._writers.values():
            writer.close()
