"""What a run shows in TensorBoard, and when: at its start, with a batch, after an epoch, with a validation, at its end.

`Step.summaries` says what. None of it changes what is trained: all is computed beside the step, and the settings of a
run do not contain it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer._version import __version__
from tfxfer.callables import message
from tfxfer.data.splits import Data
from tfxfer.errors import RunError
from tfxfer.evaluation.evaluate import Evaluation
from tfxfer.graph.partitioned import fetch, shape_of, wholes
from tfxfer.graph.preprocessing import input_specs
from tfxfer.graph.train_step import StageOps, Step
from tfxfer.graph.traversal import needed, placeholders
from tfxfer.graph.variables import model_variables
from tfxfer.plots import tiles
from tfxfer.runs.frozen import FrozenRecord
from tfxfer.runs.settings import RunSettings
from tfxfer.tensorboard import graph_layout, plugins, projector, results
from tfxfer.tensorboard.events import Events, table

log = logging.getLogger("tfxfer")

MOST_BYTES = 64 << 20  # of variables that are fetched together
TRACED = 10  # the step whose time and memory is recorded; the first ones still allocate
TRAIN, VALIDATION = "train", "validation"


class Directory(Protocol):
    """The run directory, as `tfxfer.train.run_directory` keeps it."""

    @property
    def path(self) -> Path:
        """Where it is."""

    def settings(self) -> RunSettings:
        """Return what the run was started with."""

    def frozen(self) -> FrozenRecord:
        """Return the digests of what was frozen, and what was compared."""

    def last_good(self) -> str:
        """Say which checkpoint is the last good one."""


class RunWriter:
    """The event files of a run, open for as long as it trains, and what goes into them."""

    def __init__(
        self,
        sess: tf.Session,
        step: Step,
        data: Data,
        directory: Directory,
        done: int,
        shown: Sequence[int],
        do: Callable[..., Future[None]],
    ) -> None:
        """Open the files, and write what belongs to the start of a run.

        Args:
          sess, step, data: as `tfxfer.fit` takes them.
          directory: the run directory.
          done: the number of steps made so far.
          shown: places in the validation split of the images that are shown.
          do: has a function called, with arguments, beside the training, in the order of the calls.

        Raises:
          RunError: the files cannot be written. Later on, it is raised by what waits for what `do` does.
        """
        self.sess, self.step, self.data, self.directory = sess, step, data, directory
        self._do = do
        self._last_write: Future[None] | None = None
        self._last_histograms: Future[None] | None = None
        with self._named():
            self.events = Events(directory.path, (TRAIN, VALIDATION), f".{done}", done)
        self._runnable: dict[int, list[tf.Tensor]] = {}
        self._shown = [place for place in shown if place < len(data.validation)]
        self._pace(0)
        self._moving = _moving(step)
        self._last: tuple[Evaluation | None, int] = None, done
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            if not done:
                self._begin()
            stack.pop_all()

    def _wants(self, name: str) -> bool:
        return name in self.step.summaries

    def _write(self, write: Callable[..., None], *args: Any) -> Future[None]:
        """Have a function write events, after all that was written before, while the training goes on."""
        self._last_write = self._do(self._call_named, write, *args)
        return self._last_write

    def _call_named(self, write: Callable[..., None], *args: Any) -> None:
        with self._named():
            write(*args)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Say of what cannot be written where it was to be and why."""
        try:
            yield
        except OSError as error:
            failure = f"cannot write events in {self.directory.path}: {error.strerror or error}"
            raise RunError(f"{failure}; {self.directory.last_good()}") from None

    # --- the start ---

    def _begin(self) -> None:
        step = self.step
        self._write(self.events.add, TRAIN, plugins.layout(list(step.metrics)), 0)
        if self._wants("graph"):
            self._write(self._graph)
        if self._wants("text"):
            self._write(self._texts)
        if self._wants("images"):
            self._filters(0)
            self._pictures()
        if self._wants("histograms"):
            self._histograms(step.trained, 0)
        self._activations(step.activations, 0)

    def _graph(self) -> None:
        self.events.graph(TRAIN, graph_layout.display_graph(self.sess.graph, self._display_names))

    def _pictures(self) -> None:
        if self.step.image_summary is None or not tiles.are_pictures(self.data.validation.images):
            log.info("image summaries are left out: examples of %s are not pictures", self.step.images.shape)
            return
        summary = self.sess.run(self.step.image_summary, {self.step.images: self._images})
        self._write(self.events.add, TRAIN, summary, 0)

    def _texts(self) -> None:
        for number, plan in enumerate(getattr(self.sess, "plans", ())):
            tag = f"restore_{number}" if number else "restore"
            report = plan.report().replace(str(plan.weights.path), Path(plan.weights.path).name)
            self.events.text(TRAIN, tag, "\n".join(f"    {line}" for line in report.splitlines()))
        settings = plugins.simple(self.directory.settings().by_name())
        self.events.text(TRAIN, "settings", table(("setting", "value"), list(settings.items())))
        self.events.text(TRAIN, "environment", table(("what", "which"), list(_environment().items())))

    def _filters(self, number: int) -> None:
        bgr = any(spec.channels == "BGR" for spec in input_specs(self.sess.graph)[:1])
        for name, kernel in fetch(self.sess, wholes(first_kernel(self.step))).items():
            self._write(self.events.image, TRAIN, f"filters/{name}", tiles.filters(kernel, bgr=bgr), number)

    # --- what is written as the run goes on ---

    def batch(self, stage: StageOps, feeds: Mapping[tf.Tensor, Any], number: int, examples: int) -> None:
        """Show the batch of a step that is about to be made.

        Args:
          stage: the stage that it belongs to.
          feeds: what the step is fed.
          number: of the step.
          examples: how many have been seen by this start of the run.
        """
        for summary in self.sess.run(self._summaries(stage, feeds), dict(feeds)):
            self._write(self.events.add, TRAIN, summary, number)
        self._speed(number, examples)

    def _summaries(self, stage: StageOps, feeds: Mapping[tf.Tensor, Any]) -> list[tf.Tensor]:
        """Return what is run of a stage's summaries: of the graph's own, fed with features, those that need no more."""
        if any(tensor is self.step.images for tensor in feeds):
            return [stage.summary]
        if stage.epoch not in self._runnable:
            runnable = [t for t in stage.own_summaries if not _lacking(t, feeds)]
            left_out = [tensor.op.name for tensor in stage.own_summaries if not any(tensor is t for t in runnable)]
            if left_out:
                log.warning("summaries that need the images are left out: %s", names.listed(left_out))
            self._runnable[stage.epoch] = [stage.scalars, *runnable]
        return self._runnable[stage.epoch]

    def traced(self, number: int) -> bool:
        """Return whether time and memory of a step are to be recorded."""
        return number == TRACED and self._wants("trace")

    def trace(self, metadata: tf.RunMetadata, number: int) -> None:
        """Show the time and memory of each op in a step."""
        self._write(self._trace, metadata, number)

    def _trace(self, metadata: tf.RunMetadata, number: int) -> None:
        self.events.metadata(TRAIN, graph_layout.display_metadata(metadata, self._display_names), number)

    def epoch(self, stage: StageOps, means: Mapping[str, float], number: int, examples: int) -> None:
        """Show what an epoch came to, after the step that ended it."""
        self._speed(number, examples)
        self._scalars(TRAIN, {f"epoch/{name}": value for name, value in means.items()}, number)
        if self._wants("histograms"):
            self._histograms(stage.variables, number)
        self._activations({name: self.step.activations[name] for name in self._moving}, number)

    def needs_probabilities(self) -> bool:
        """Return whether a validation must give what the model says of each example."""
        return any(map(self._wants, ("confusion", "mistakes", "pr_curves")))

    def validated(self, means: Mapping[str, float], result: Evaluation | None, number: int) -> None:
        """Show a validation.

        Args:
          means: of the step's metrics.
          result: of it, if `needs_probabilities`.
          number: of the step that it comes after.
        """
        both = {**means, **{f"epoch/{name}": value for name, value in means.items()}}
        self._scalars(VALIDATION, both, number)
        if result is not None and self._wants("confusion"):
            self._write(results.show_confusion, self.events, VALIDATION, result, number)
        if result is not None and self._wants("pr_curves"):
            self._write(results.show_curves, self.events, VALIDATION, result, number)
        self._last = result, number

    def pause(self, examples: int) -> None:
        """Leave what was done since the last step (validation, saving) out of the examples a second."""
        self._pace(examples)

    def finish(self, number: int) -> None:
        """Show what only the end of a run does: the first layer's filters, if they were trained, and mistakes."""
        if self._wants("images") and set(wholes(first_kernel(self.step))) & set(wholes(self.step.trained)):
            self._filters(number)
        result, step = self._last
        if self._wants("mistakes") and result is not None:
            self._write(results.show_mistakes, self.events, VALIDATION, result, self.data.validation, step)

    def _scalars(self, name: str, values: Mapping[str, float], number: int) -> None:
        self._write(self.events.scalars, name, values, number)

    def _pace(self, examples: int) -> None:
        self._since, self._seen = time.monotonic(), examples

    def _speed(self, number: int, examples: int) -> None:
        if examples > self._seen:
            rate = (examples - self._seen) / max(time.monotonic() - self._since, 1e-9)
            self._scalars(TRAIN, {"examples_per_second": rate}, number)
        self._pace(examples)

    def _histograms(self, variables: Sequence[tf.Variable], number: int) -> None:
        size = sum((variable.shape.num_elements() or 0) * variable.dtype.size for variable in variables)
        whole = wholes(variables)
        # Small ones together, since each run of a session costs; of large ones, one is in memory at a time, and none
        # beside the training.
        small = size <= MOST_BYTES
        for group in [whole] if small else [{name: parts} for name, parts in whole.items()]:
            self._wait_for_histograms()
            self._last_histograms = self._write(self.events.histograms, TRAIN, fetch(self.sess, group), number)
        if not small:
            self._wait_for_histograms()

    def _wait_for_histograms(self) -> None:
        if self._last_histograms is not None:
            self._last_histograms.result()

    def _activations(self, endpoints: Mapping[str, tf.Tensor], number: int) -> None:
        """Show what endpoints make of a few images; these go through the whole network, frozen layers included."""
        if not endpoints or not self._wants("activations"):
            return
        outputs = self.sess.run(dict(endpoints), {self.step.images: self._images, **self.step.eval_feeds})
        self._write(self._show_activations, outputs, number)

    def _show_activations(self, outputs: Mapping[str, np.ndarray], number: int) -> None:
        self.events.histograms(TRAIN, {f"activations/{name}": values for name, values in outputs.items()}, number)
        for name, values in outputs.items():
            if values.ndim == 4:
                self.events.image(TRAIN, f"feature_maps/{name}", tiles.feature_maps(values[0]), number)

    @functools.cached_property
    def _images(self) -> np.ndarray:
        """The images that are shown, read once, whatever becomes of the files."""
        return self.data.validation.images[np.asarray(self._shown, np.int64)]

    @functools.cached_property
    def _display_names(self) -> dict[str, str]:
        return graph_layout.display_names(self.step)

    def close(self) -> None:
        """Close the files, once all is written or has failed."""
        if self._last_write is not None:
            futures.wait([self._last_write])
        self.events.close()


def conclude(sess: tf.Session, step: Step, data: Data, directory: Directory, state: Mapping[str, Any]) -> None:
    """Write what is written once a run has ended; what is there already stays, or is replaced by the same.

    Raises:
      RunError: it cannot be written.
    """
    try:
        if "results" in step.summaries:
            settings, frozen = directory.settings().by_name(), directory.frozen().to_json()
            results.trained(directory.path, settings, frozen, state)
        if "projector" in step.summaries and not (directory.path / TRAIN / projector.CONFIG).exists():
            projector.write(sess, step.images, step.activations, data, directory.path / TRAIN, feeds=step.eval_feeds)
    except (OSError, tf.errors.OpError) as error:
        failure = f"cannot write for TensorBoard in {directory.path}: {message(error)}"
        raise RunError(f"{failure}; training is done, and {directory.last_good()}") from None


def first_kernel(step: Step) -> list[tf.Variable]:
    """Return the kernel of the first convolution over the images, in its parts; nothing where there is none."""
    channels = step.images.shape.as_list()[-1:] if step.images.shape.rank == 4 else []
    for parts in wholes(model_variables(step.images.graph)).values():
        shape = shape_of(parts[0])
        if shape.is_fully_defined() and tiles.has_filters(shape.as_list(), channels):
            return parts
    return []


def _lacking(tensor: tf.Tensor, feeds: Iterable[tf.Tensor]) -> bool:
    return any(op.type != "PlaceholderWithDefault" for op in placeholders([tensor.op], feeds))


def _moving(step: Step) -> list[str]:
    """Return the endpoints that training changes; what the others make of the same images stays as it is."""
    written = {variable.op.name for stage in step.stages for variable in stage.written}
    return [
        name for name, tensor in step.activations.items() if written.intersection(op.name for op in needed([tensor.op]))
    ]


def _environment() -> dict[str, str]:
    import tensorboard

    return {
        "tfxfer": __version__,
        "tensorflow": tf.__version__,
        "tensorboard": tensorboard.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
    }
