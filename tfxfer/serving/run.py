"""A run that was trained, opened again: its settings, how it went, and what its network says of pictures.

    run = tx.open_run("runs/flowers")
    print(run.best, run.class_names)
    print(run.predict("photographs").names)
    print(run.evaluate())
    run.export("served")

The tools `evaluate`, `predict` and `export_model` do this.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.data.dataset import PATHS, PICTURES, check_there, load_dataset
from tfxfer.data.folders import walk
from tfxfer.data.listings import read
from tfxfer.data.splits import Data, Split
from tfxfer.errors import DataError, GraphError, RunError, WeightsError
from tfxfer.evaluation.evaluate import Evaluation, evaluate
from tfxfer.evaluation.stored_rows import open_rows
from tfxfer.graph.eval_step import EvalStep, eval_step
from tfxfer.graph.importing import read_placeholder
from tfxfer.graph.losses import class_probabilities
from tfxfer.graph.train_step import train_step
from tfxfer.graph.variables import select
from tfxfer.input_spec import InputSpec
from tfxfer.models.network import build_classifier, build_endpoints, build_network
from tfxfer.models.registry import MODELS, Model
from tfxfer.networks import meta_graph
from tfxfer.networks.file_model import FileModel, as_model
from tfxfer.reports import run_reader
from tfxfer.reports.run_reader import Test
from tfxfer.restore.plan import plan
from tfxfer.restore.session import session
from tfxfer.runs.files import FEATURES, STEM, checkpoint_steps, find_run, is_run, read_json
from tfxfer.serving import computed_once
from tfxfer.serving.export import Build, Exported
from tfxfer.serving.predict import Examples, Predictions, pillow_kind
from tfxfer.serving.trained_network import TrainedNetwork
from tfxfer.statistics.calibration import FILE as CALIBRATION
from tfxfer.statistics.calibration import Calibration
from tfxfer.store.extraction import precompute
from tfxfer.store.precision_names import is_possible
from tfxfer.train.settings import of_split
from tfxfer.weights import Weights, open_weights

log = logging.getLogger("tfxfer")

Row = Mapping[str, Any]
_SCOPE = "network"  # into which a MetaGraph is imported
_AFTER = {"best": "the first validation", "last": "the first epoch"}
_EVALUATE = "give the examples, in Python: run.evaluate(data=...)"
_BUILD = "give what builds the network as `build`, in Python: run.predict(..., build=...)"


# What `tfxfer train` stores of a network, and what each value must be.
_NETWORK: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (lambda value: isinstance(value, str) and value in MODELS, "the name of a model"),
    "dataset": (lambda value: isinstance(value, str), "the name of a data set"),
    "endpoint": (lambda value: value is None or isinstance(value, str), "the name of an endpoint"),
    "hidden": (
        lambda value: isinstance(value, list) and all(isinstance(units, int) and units > 0 for units in value),
        "a list of numbers of units",
    ),
    "loss": (lambda value: isinstance(value, str), "the name of a loss"),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory, as it was when it was opened.

    What needs the network (`predict`, `evaluate`, `export`, `network`) builds it from the settings of `tfxfer train`. A
    network in a file, and one that a program of your own gave to `tfxfer.fit`, is imported from the MetaGraph beside
    the checkpoint; or give what builds it as `build`, a function from images, uint8 [n, height, width, channels], to
    endpoints by name, the last of them the probabilities [n, classes].

    Attributes:
      path: of the directory.
      settings: what it was trained with, by name.
      plan: what was restored, a dict for each plan, as `Plan.to_json` gives it.
      history: a dict for each epoch and each validation, in order: `step`, `epoch`, `split` and means of metrics.
      best: the best validation, `step` and means; None before the first.
      test: what the last test gave; None before it.
      calibration: the temperature of the best network; None where none was fitted. If it is `used`, predictions and
        exports of that checkpoint divide logits by it; `evaluate` does not, and no prediction depends on it.
      faults: which files of the run cannot be read, and why.

    Example:
      >>> images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(tf.cast(images, tf.float32) / 255, classes=10)
      >>> step = tx.train_step(images, labels, logits, train=".*")
      >>> with tx.session() as sess:
      ...     fitted = tx.fit(sess, step, tx.data.digits(), epochs=1, logdir="runs/digits")
      >>> run = tx.open_run("runs/digits")
      >>> run.settings["epochs"], run.best["step"], run.test
      (1, 40, None)
    """

    path: Path
    settings: Row
    plan: Sequence[Row]
    history: Sequence[Row]
    best: Row | None
    test: Test | None
    calibration: Calibration | None
    faults: list[str]

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def checkpoints(self) -> list[str]:
        """The prefixes of the last checkpoints, in the order of their steps."""
        return [str(self.path / f"{STEM}-{step}") for step in sorted(checkpoint_steps(self.path))]

    @property
    def checkpoint(self) -> str:
        """The prefix of the best checkpoint by validation.

        Raises:
          RunError: there is none yet.
        """
        return self.weights().checkpoint or ""

    @property
    def input_spec(self) -> InputSpec:
        """What the best checkpoint expects of images, and the names of its classes.

        Raises:
          RunError: the run has no checkpoint yet.
          WeightsError: no input spec lies beside it, or it cannot be read.
        """
        return self.input_spec_of(self.weights())

    @property
    def class_names(self) -> tuple[str, ...]:
        """One for each class: of the input spec, or else of the last test; empty where neither names them.

        Raises:
          RunError: the run has no checkpoint yet.
        """
        return self._class_names(self.weights().input_spec())

    def weights(self, checkpoint: str = "best") -> Weights:
        """Open the `best` or the `last` checkpoint, or the weights that lie at any path.

        Raises:
          RunError: the run has no such checkpoint yet.
          WeightsError: it cannot be read.
        """
        if checkpoint not in _AFTER:
            return open_weights(checkpoint)
        folder = self.path / "best" if checkpoint == "best" else self.path
        if not any(folder.glob("*.index")):
            raise RunError(
                f"{self.path} has no {checkpoint} checkpoint; training writes one after {_AFTER[checkpoint]}"
            )
        return open_weights(folder)

    def input_spec_of(self, weights: Weights) -> InputSpec:
        """Return the input spec beside weights; of those that have none beside them, that of the best checkpoint.

        Raises:
          RunError: the run has no checkpoint yet.
          WeightsError: an input spec cannot be read.
        """
        return weights.input_spec() or InputSpec.load(self.checkpoint)

    def check_network(self) -> None:
        """Refuse settings that do not say what the network is, or on which examples it was trained.

        Raises:
          RunError: values are missing, or are not what they must be.
        """
        # What lies as a MetaGraph beside the checkpoints lacks only its examples.
        checks = _NETWORK if self._is_ours() else {"dataset": _NETWORK["dataset"]}
        missing = [name for name in checks if name not in self.settings]
        if missing:
            cure = f"to predict or export, {_BUILD}" if self._is_ours() else _EVALUATE
            raise RunError(
                f"{self.path} was not made by `tfxfer train`: its settings.json has no {', '.join(missing)}; {cure}"
            )
        wrong = [
            f"{name} is {self.settings[name]!r}, not {meaning}"
            for name, (fits, meaning) in checks.items()
            if not fits(self.settings[name])
        ]
        if wrong:
            raise RunError(f"{self.path}/settings.json is damaged: {'; '.join(wrong)}")

    def network(
        self, checkpoint: str = "best", *, build: Build | None = None, endpoint: str | None = None
    ) -> TrainedNetwork:
        """Return the network with the weights of a checkpoint.

        Args:
          checkpoint: as `weights` takes it.
          build: what builds a network that is in no settings.
          endpoint: build no further than to this endpoint, and no head. Default: all, up to the probabilities; of what
            is imported, these alone.

        Raises:
          RunError: the run has no such checkpoint, or the settings do not say what the network is.
        """
        if build is not None:
            network = self._own_network(self.weights(checkpoint), build)
            return dataclasses.replace(network, computed_once=computed_once.read(self.path, self.settings))
        if not self._is_ours():
            return self._imported(self.weights(checkpoint), endpoint)
        self.check_network()
        weights = self.weights(checkpoint)
        input_spec = self.input_spec_of(weights)
        model, classes = self.settings["model"], len(input_spec.class_names)
        if endpoint is None:
            head = {**self._head(), "temperature": self._temperature(weights)}
            from_settings = functools.partial(build_classifier, model, classes=classes, **head)
        else:
            from_settings = functools.partial(build_endpoints, model, classes=classes, endpoint=endpoint)
        part = computed_once.read(self.path, self.settings)
        return TrainedNetwork(from_settings, weights, input_spec, input_spec.class_names, computed_once=part)

    def predict(
        self, examples: Examples, *, checkpoint: str = "best", build: Build | None = None, **options: Any
    ) -> Predictions:
        """Return the most probable classes of examples.

        Args:
          examples: uint8 [n, height, width, channels]; or paths of pictures, and of folders of them.
          checkpoint, build: as `network` takes them.
          **options: `top_k`, `batch_size`, `precision` as `evaluate` takes it, and those of `tfxfer.session`.

        Raises:
          RunError: the run has no such checkpoint, or the settings do not say what the network is.
          DataError: the examples cannot be used, or the precision cannot be had.
        """
        return self.network(checkpoint, build=build).predict(examples, **options)

    def export(
        self, out: str | os.PathLike[str], *, checkpoint: str = "best", build: Build | None = None, **options: Any
    ) -> Exported:
        """Write the network as a SavedModel.

        Args:
          out: the directory to write.
          checkpoint, build: as `network` takes them.
          **options: as `tfxfer.serving.export.export_model` takes them.

        Raises:
          RunError: the run has no such checkpoint, or the settings do not say what the network is.
          GraphError, DataError, OSError: as `export_model` raises them; nothing is written.
        """
        return self.network(checkpoint, build=build).export(out, **options)

    def evaluate(
        self,
        split: str | Split = "test",
        *,
        checkpoint: str = "best",
        data: Data | None = None,
        top_k: int = 5,
        precision: str = "auto",
        **session_options: Any,
    ) -> Evaluation:
        """Return how good the network is.

        Where the store that the run was trained on has the rows of all examples, in the precision that is asked for, a
        checkpoint of the run is evaluated on them: the frozen part is neither built nor restored, and no picture is
        opened.

        Args:
          split: "train", "validation" or "test" of the data; or a split of your own.
          checkpoint: as `weights` takes it.
          data: the examples. Default: `load_data()`.
          top_k: as `tfxfer.evaluate` takes it.
          precision: of what training computed once: "auto", as there, or in float32 where the processor has no units
            for bfloat16; "float32"; or that of training alone, "bfloat16" or "folded".
          **session_options: as `tfxfer.session` takes them.

        Raises:
          RunError: the run has no such checkpoint, or the settings do not say what the network is.
          DataError: the examples are not there any more, or cannot be used; or the precision cannot be had.
        """
        if self._is_ours() or (data is None and not isinstance(split, Split)):
            self.check_network()
        weights = self.weights(checkpoint)
        if isinstance(split, Split):
            examples, class_names = split, self._class_names(weights.input_spec())
        else:
            data = data or self.load_data(self.input_spec_of(weights))
            examples, class_names = _split_of(data, split), data.class_names
        with tf.Graph().as_default():
            part = computed_once.read(self.path, self.settings, "" if self._is_ours() else f"{_SCOPE}/")
            asked = computed_once.asked(part, precision)
            from_rows = self._rows_step(weights, examples, asked) if is_possible(asked) else None
            examples, step, weights = from_rows or (examples, *self._eval_step(weights, examples, len(class_names)))
            with session(plan(select(".*"), weights), **session_options) as sess, contextlib.ExitStack() as stack:
                if not from_rows:
                    stack.enter_context(computed_once.repeated(part, sess, step.images, precision, step.eval_feeds))
                return evaluate(sess, step, examples, class_names=class_names, top_k=top_k)

    def precompute(
        self, store: str | os.PathLike[str], data: Data | None = None, *, checkpoint: str = "best", **options: Any
    ) -> Data:
        """Return the run's examples with what its frozen layers make of them, in `Split.features`.

        Args:
          store: as `tfxfer.precompute` takes it; what the training stored there is read.
          data: the examples. Default: `load_data()`.
          checkpoint: as `weights` takes it; the frozen layers are the same in each.
          **options: `batch_size`, `dtype`, `workers` and `precision`, as `tfxfer.precompute` takes them; `dtype` and
            `precision` default to those of training, and to float32 where the processor has no units for bfloat16.

        Raises:
          RunError: the run has no such checkpoint, or the settings do not say what the network or what is trained is.
          GraphError: nothing is frozen.
          DataError: the examples are not there any more, or cannot be used.
        """
        self.check_network()
        weights = self.weights(checkpoint)
        data = data or self.load_data(self.input_spec_of(weights))
        trained = [name for stage in self.settings.get("stages") or [] for name in stage["train"]]
        with tf.Graph().as_default():
            made, weights = self._eval_step(weights, data.train, len(data.class_names))
            network, scope = select(".*"), "" if self._is_ours() else f"{_SCOPE}/"
            patterns = names.exactly([f"{scope}{name}" for name in dict.fromkeys(trained)])
            step = train_step(made.images, made.labels, made.outputs, train=patterns, loss=self.settings["loss"])
            with session(plan(network, weights)) as sess:
                as_trained = {"precision": computed_once.possible(self.settings)}
                if "store_dtype" in self.settings:
                    as_trained["dtype"] = self.settings["store_dtype"]
                return precompute(sess, step, data, store=store, **{**as_trained, **options})

    def load_data(self, input_spec: InputSpec | None = None, **paths: str) -> Data:
        """Return the examples that the run was trained on, in their splits.

        Where pictures are others than they were then, that is logged as a warning.

        Args:
          input_spec: to what size, and how, pictures are brought. Default: as for the best checkpoint.
          **paths: `data_dir`, `listing`, `validation_listing`: where they are now, if they have moved.

        Raises:
          RunError: the settings do not say what the examples are, or the run was trained without one of `paths`.
          DataError: they are not there any more, or cannot be used.
        """
        self.check_network()
        dataset = self.settings["dataset"]
        unused = [f"`{name}`" for name in paths if name not in PATHS.get(dataset, ())]
        if unused:
            raise RunError(f"{names.listed(unused)}: {self.path} was trained on {dataset}, without it; leave it out")
        settings = {**self.settings, **paths}
        wrong = [name for name in PATHS["listing"] if not isinstance(settings.get(name), str | None)]
        if wrong:
            raise RunError(f"{self.path}/settings.json is damaged: {names.listed(wrong)} must be paths")
        check_there(settings, self.path)
        data = load_dataset(settings, input_spec or self.input_spec, index=self._index())
        with contextlib.suppress(RunError, WeightsError):  # How pictures were brought to pixels is not known.
            if dataset in PICTURES and input_spec in (None, self.input_spec):
                self._warn_of_others(data)
        return data

    def _warn_of_others(self, data: Data) -> None:
        """Log where the examples are not those of the training, by the contents of the files: their splits are others.

        A damaged picture is one of them again if it was set aside by what a store remembers, and the store is gone.
        """
        splits = {"training": data.train, "validation": data.validation}
        if self.settings.get("augment"):
            del splits["training"]  # of which there are crops
        others = [
            f"{name}: {len(split)}, then {self.settings.get(f'{name}_examples')}"
            for name, split in splits.items()
            if isinstance(then := self.settings.get(f"{name}_data"), dict) and then != of_split(split)
        ]
        if others:
            log.warning(
                "%s was trained on other pictures than there are now (%s): some were added, removed or changed, or the "
                "store is gone that noted which are damaged. A split may hold what was trained on",
                self.path,
                "; ".join(others),
            )

    def some_examples(self, count: int) -> tuple[np.ndarray | None, list[str]]:
        """Return a few images, uint8 [m, height, width, channels], or the paths of a few pictures, of the run's data.

        Files that only Pillow decodes are left out. Neither is returned where the data is gone, or not named.
        """
        settings, dataset = self.settings, self.settings.get("dataset")
        try:
            if dataset not in PICTURES:
                return np.asarray(load_dataset(settings).test.images[:count]), []
            if dataset == "folder":
                paths = walk([Path(settings["data_dir"])])[0][0]
            else:
                listing = Path(settings.get("validation_listing") or settings["listing"])
                paths = [line.path for line in read(listing, Path(settings.get("data_dir") or listing.parent), [])]
        except (DataError, KeyError, TypeError):
            return None, []
        usable = [path for path in paths if os.path.exists(path) and not pillow_kind(path)]
        return None, usable[:: max(1, len(usable) // count)][:count]

    def _eval_step(self, weights: Weights, examples: Split, classes: int) -> tuple[EvalStep, Weights]:
        """Build what evaluates in the default graph, and return it with the weights under the names of that graph."""
        labels = tf.placeholder(tf.int64, [None], name="labels")
        loss = self.settings.get("loss")
        if self._is_ours():
            images = tf.placeholder(tf.uint8, [None, *examples.images.shape[1:]], name="images")
            input_spec = self.input_spec_of(weights)
            model = self.settings["model"]
            network = build_network(model, images, classes=classes, input_spec=input_spec, **self._head())
            return eval_step(images, labels, network.logits, loss=self.settings["loss"]), weights
        if not isinstance(loss, str):
            raise RunError(
                f"{self.path} was trained by a loss of its own, which settings.json does not hold; build a "
                "step with it by tfxfer.eval_step, and call tfxfer.evaluate"
            )
        opened = self._opened(weights, "outputs")
        images = tf.placeholder(opened.taken.dtype, opened.taken.shape, name="images")
        [logits] = _end_of(opened.model(scope=_SCOPE), images).values()
        return eval_step(images, labels, logits, loss=loss), _scoped(weights)

    def _rows_step(self, weights: Weights, examples: Split, precision: str) -> tuple[Split, EvalStep, Weights] | None:
        """Build what evaluates rows that are stored in a precision, in the default graph, from the run's MetaGraph.

        Returns:
          The rows as examples, the step, and the weights under the names of the graph; None where rows are missing, or
          are not all that the rest of the network takes.
        """
        described, loss = self._features(), self.settings.get("loss")
        if not isinstance(loss, str) or examples.features or not self._is_own(weights):
            return None
        rows = open_rows(described, weights, examples.images, precision)
        if rows is None:
            return None
        prefix = self._prefix(weights)
        try:
            tensors, feeds = self._served()
            file = meta_graph.read(prefix, weights=weights)
            opened = as_model(file, input=described["tensor"], endpoint=tensors["outputs"], feeds=feeds)
        except (WeightsError, GraphError, RunError, KeyError):
            return None
        features = tf.placeholder(rows.dtype, [None, *rows.shape[1:]], name="features")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        [logits] = _end_of(opened.model(scope=_SCOPE), features).values()
        step = eval_step(features, labels, logits, loss=loss)
        return dataclasses.replace(examples, images=rows), step, _scoped(weights)

    def _is_own(self, weights: Weights) -> bool:
        """Say whether weights are a checkpoint of this run: what others are of may compute otherwise."""
        folder = Path(weights.checkpoint or weights.path).resolve().parent
        return folder in (self.path.resolve(), self.path.resolve() / "best")

    def _features(self) -> Any:
        """Return what features.json holds; None where it does not exist, or is damaged."""
        with contextlib.suppress(RunError):
            return read_json(self.path / FEATURES)
        return None

    def _index(self) -> str | None:
        """Return what remembers the pictures of the store that the run was trained on, if it can be written."""
        described = self._features()
        table = described.get("table") if isinstance(described, dict) else None
        index = Path(table).parent / "pictures.json" if isinstance(table, str) else None
        usable = (
            index is not None and index.is_file() and os.access(index, os.W_OK) and os.access(index.parent, os.W_OK)
        )
        return str(index) if usable else None

    def _temperature(self, weights: Weights) -> float:
        """Return by what logits are divided; 1 where the run did not ask for it, or has no temperature for the weights.

        Raises:
          RunError: it asked for it, and calibration.json cannot be used.
        """
        faults = [fault for fault in self.faults if fault.startswith(CALIBRATION)]
        if faults:
            raise RunError(
                f"{self.path}: {faults[0]}; delete it to get probabilities as the network gives them, or train again "
                "by the same command, which fits the temperature anew"
            )
        used = self.calibration is not None and self.calibration.used
        if not used and not self.settings.get("calibrate"):
            return 1.0
        fitted = self.path / self.calibration.checkpoint if self.calibration else None
        if fitted is None or fitted.absolute() != Path(weights.checkpoint or weights.path).absolute():
            log.warning(
                "%s: probabilities are as the network gives them: %s",
                weights.checkpoint or weights.path,
                f"the temperature is that of {fitted}" if fitted else f"{CALIBRATION} is not there yet",
            )
            return 1.0
        return self.calibration.temperature if self.calibration else 1.0

    def _own_network(self, weights: Weights, build: Build) -> TrainedNetwork:
        if self.calibration is not None and self.calibration.used:
            log.warning("%s: probabilities are as `build` gives them: it divides by no temperature", self.path)
        input_spec = weights.input_spec()

        def build_own(images: tf.Tensor, *, input_spec: InputSpec | None) -> Mapping[str, tf.Tensor]:
            return build(images)  # it prepares images itself

        return TrainedNetwork(build_own, weights, input_spec, self._class_names(input_spec))

    def _imported(self, weights: Weights, endpoint: str | None = None) -> TrainedNetwork:
        """Return the network that was trained, from the MetaGraph beside the checkpoint.

        Args:
          weights: its weights.
          endpoint: as `network` takes it.

        Raises:
          RunError: the MetaGraph cannot be read, has no probabilities, or wants values that no file of the run holds.
        """
        temperature = self._temperature(weights) if endpoint is None else 1.0
        last = "probabilities" if temperature == 1 else "outputs"
        opened = self._opened(weights, endpoint or last, named=endpoint is None)
        row = opened.model(scope=_SCOPE)
        build: Callable[..., Mapping[str, tf.Tensor]] = functools.partial(_ends_of, row)
        if endpoint is None:
            build = functools.partial(_end_of, row)
        if temperature != 1:
            build = functools.partial(_calibrated_end, row, temperature)
        input_spec = weights.input_spec()
        part = computed_once.read(self.path, self.settings, f"{_SCOPE}/")
        return TrainedNetwork(build, _scoped(weights), input_spec, self._class_names(input_spec), opened.taken, part)

    def _opened(self, weights: Weights, endpoint: str, *, named: bool = True) -> FileModel:
        """Find the way to an endpoint in the MetaGraph beside a checkpoint, or beside the best.

        Args:
          weights: the checkpoint, or other weights.
          endpoint: a tensor, or what `tensors` in the settings calls one, if it is `named` there.
          named: whether it is.

        Raises:
          RunError: the MetaGraph cannot be read, or has no such tensor; or nobody says what placeholders are fed.
        """
        prefix = self._prefix(weights)
        tensors, feeds = self._served()
        texts = [name for name, value in feeds.items() if isinstance(value, str)]
        if texts or (named and endpoint not in tensors):
            lacks = f"what {names.listed(texts)} is fed" if texts else endpoint
            raise RunError(f"{self.path} does not hold {lacks}; {_BUILD}")
        try:
            taken = read_placeholder(prefix, tensors["images"])
            file = meta_graph.read(prefix, weights=weights)
        except (WeightsError, GraphError) as error:
            raise RunError(f"{error}; {_BUILD}") from None
        try:
            end = tensors[endpoint] if named else endpoint
            opened = as_model(file, input=tensors["images"], endpoint=end, feeds=feeds)
        except GraphError as error:
            if not named:
                raise
            raise RunError(f"{self.path}/settings.json does not fit {prefix}.meta: {error}; {_BUILD}") from None
        return dataclasses.replace(opened, taken=taken)

    def _prefix(self, weights: Weights) -> str:
        """Return beside which checkpoint the MetaGraph lies: these weights, or, of an average, say, the best."""
        prefix = weights.checkpoint or weights.path
        return prefix if Path(f"{prefix}.meta").exists() else self.checkpoint

    def _is_ours(self) -> bool:
        """Say whether the network is a model of the registry, or else lies as a MetaGraph beside the checkpoints."""
        whole = all(name in self.settings for name in _NETWORK)
        model = self.settings.get("model")
        return "tensors" not in self.settings or (whole and not (isinstance(model, str) and model not in MODELS))

    def _served(self) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """Return the names of the tensors by which the network is run, and what evaluation fed, by placeholder."""
        tensors, feeds = self.settings["tensors"], self.settings.get("eval_feeds") or {}
        by_name = isinstance(tensors, dict) and all(isinstance(name, str) for name in tensors.values())
        if not by_name or "images" not in tensors or not isinstance(feeds, dict):
            raise RunError(f"{self.path}/settings.json does not name the tensors of the network; {_BUILD}")
        return tensors, feeds

    def _class_names(self, input_spec: InputSpec | None) -> tuple[str, ...]:
        if input_spec is not None:
            return input_spec.class_names
        return tuple(self.test.class_names) if self.test else ()

    def _head(self) -> dict[str, Any]:
        head = {name: self.settings[name] for name in ("endpoint", "hidden", "loss")}
        return {**head, "normalize": self.settings.get("normalize") or "none"}


def _ends_of(model: Model, images: tf.Tensor, *, input_spec: InputSpec | None = None) -> Mapping[str, tf.Tensor]:
    """Import a network that prepares pictures itself, and return its endpoints."""
    return build_endpoints(model, images)


def _end_of(model: Model, images: tf.Tensor, *, input_spec: InputSpec | None = None) -> Mapping[str, tf.Tensor]:
    """Import a network that prepares pictures itself, and return its last endpoint alone."""
    return dict(list(build_endpoints(model, images).items())[-1:])


def _calibrated_end(
    model: Model, temperature: float, images: tf.Tensor, *, input_spec: InputSpec | None = None
) -> Mapping[str, tf.Tensor]:
    """Import a network that prepares pictures itself up to its logits, and return the probabilities alone."""
    [logits] = _end_of(model, images).values()
    return {"probabilities": class_probabilities(logits, temperature)}


def _scoped(weights: Weights) -> Weights:
    return weights.renamed([("^", f"{_SCOPE}/")])


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run directory, also one that is still being trained.

    Raises:
      RunError: it holds no run, or its settings cannot be read. What else cannot be read is in `Run.faults`.

    Example:
      >>> images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(tf.cast(images, tf.float32) / 255, classes=10)
      >>> step = tx.train_step(images, labels, logits, train=".*")
      >>> with tx.session() as sess:
      ...     fitted = tx.fit(sess, step, tx.data.digits(), epochs=1, logdir="runs/digits")
      >>> tx.open_run("runs/digits").predict(tx.data.digits().test.images, top_k=1).classes.shape
      (360, 1)
    """
    files = run_reader.read(find_run(path))
    return Run(
        path=files.path,
        settings=files.settings,
        plan=files.plans or [],
        history=files.history,
        best=files.best,
        test=files.test,
        calibration=files.calibration,
        faults=files.faults,
    )


def find_run_of(path: str | os.PathLike[str]) -> Run | None:
    """Return the run that a path is, or lies in as a checkpoint of it; None where it does not.

    Raises:
      RunError: the settings of the run cannot be read.
    """
    for folder in (Path(path), *Path(path).parents[:2]):
        with contextlib.suppress(OSError):
            if is_run(folder):
                return open_run(folder)
    return None


def _split_of(data: Data, name: str) -> Split:
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    if name not in splits:
        raise DataError(f"{name!r} is not a split; the splits are {', '.join(splits)}")
    return splits[name]
