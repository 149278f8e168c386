"""Named arrays in files: one lazy, read-only mapping over whatever file they lie in.

Names, shapes and dtypes come from headers alone; an array is read when it is asked for. Nothing here imports
TensorFlow, runs code from a file, or believes a size before it is checked.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxfer import names, notebook
from tfxfer._lazy import attach
from tfxfer.errors import WeightsError
from tfxfer.formats.tensors import Tensor, shown
from tfxfer.input_spec import InputSpec, sidecar
from tfxfer.weights import layouts, quantization, readers
from tfxfer.weights.layouts import Layout

MAX_BYTES = 16 << 30

__all__ = ["MAX_BYTES", "Layout", "Tensor", "Weights", "open_weights"]

if TYPE_CHECKING:
    from tfxfer.weights import bundle as bundle
    from tfxfer.weights import caffemodel as caffemodel
    from tfxfer.weights import checkpoint_v1 as checkpoint_v1
    from tfxfer.weights import digests as digests
    from tfxfer.weights import find_checkpoint as find_checkpoint
    from tfxfer.weights import graph_def as graph_def
    from tfxfer.weights import graph_uses as graph_uses
    from tfxfer.weights import identify as identify
    from tfxfer.weights import keras3 as keras3
    from tfxfer.weights import keras_h5 as keras_h5
    from tfxfer.weights import layouts as layouts
    from tfxfer.weights import matlab as matlab
    from tfxfer.weights import meta_graph as meta_graph
    from tfxfer.weights import npy as npy
    from tfxfer.weights import npy_dict as npy_dict
    from tfxfer.weights import npz as npz
    from tfxfer.weights import object_graph as object_graph
    from tfxfer.weights import onnx as onnx
    from tfxfer.weights import pytorch as pytorch
    from tfxfer.weights import quantization as quantization
    from tfxfer.weights import readers as readers
    from tfxfer.weights import roles as roles
    from tfxfer.weights import safetensors as safetensors
    from tfxfer.weights import saved_model as saved_model
    from tfxfer.weights import slices as slices
    from tfxfer.weights import streams as streams
    from tfxfer.weights import tensor_proto as tensor_proto
    from tfxfer.weights import tf_types as tf_types
    from tfxfer.weights import tfjs as tfjs
    from tfxfer.weights import tflite as tflite
    from tfxfer.weights import writers as writers
else:
    __getattr__, __dir__ = attach(__name__)


class Weights(Mapping[str, np.ndarray]):
    """Named arrays in a file. `weights["conv1/kernel"]` reads that array and no other.

    Attributes:
      path: the file as the user named it.
      kind: what the file is, in words ("TensorFlow checkpoint V2").
      checkpoint: the prefix that `tf.train.Saver.restore` takes, or None if TensorFlow cannot restore it.
      skipped: what else the file holds, by name, each with the reason why it is not read: text, the state of an
        iterator, what TensorFlow notes for itself. To ask for it by name raises that reason.
      stated: what the file itself says of its input and of its classes, as MatConvNet's do; None for most. Its `model`
        and `source` are words: which network it is, `tfxfer.recognise` finds out.

    Example:
      >>> np.savez("weights.npz", **{"fc/kernel": np.eye(2), "fc/bias": np.zeros(2)})
      >>> weights = tx.open_weights("weights.npz")
      >>> {name: weights.shape(name) for name in weights}
      {'fc/kernel': (2, 2), 'fc/bias': (2,)}
      >>> weights["fc/kernel"].tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        path: str,
        kind: str,
        tensors: Mapping[str, Tensor],
        *,
        sources: Mapping[str, str] | None = None,
        checkpoint: str | None = None,
        transformed: frozenset[str] = frozenset(),
        skipped: Mapping[str, str] | None = None,
        stated: InputSpec | None = None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.checkpoint = checkpoint
        self._tensors = dict(tensors)
        self._sources = dict(sources or {})
        self._transformed = transformed
        self.skipped: Mapping[str, str] = dict(skipped or {})
        self.stated = stated

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self.tensor(name)
        try:
            return tensor.read()
        except MemoryError:
            raise WeightsError(
                f"{self.path}: {name} takes {tensor.nbytes:,} bytes, more than there is memory"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __repr__(self) -> str:
        return f"<Weights {self.path}: {self.kind}, {len(self)} tensors>"

    def _repr_html_(self) -> str:
        numbers = sum(tensor.size for tensor in self._tensors.values())
        title = f"{self.path} ({self.kind}): {len(self):,} arrays, {numbers:,} numbers"
        columns = ("name", "shape", "dtype", "numbers")
        table = notebook.table(columns, list(self), self._cells, numbers={"numbers"})
        rest = [f"not read: {names.listed(self.skipped)}"] if self.skipped else []
        return notebook.described(title, table, notes=rest)

    def _cells(self, name: str) -> tuple[str, ...]:
        tensor = self.tensor(name)
        return name, str(tensor.shape), "text" if tensor.dtype.hasobject else tensor.dtype.name, f"{tensor.size:,}"

    def tensor(self, name: str) -> Tensor:
        """Return shape, dtype and reader of one array without reading it.

        Raises:
          KeyError: no array has this name; the message gives the nearest.
          WeightsError: it is one of `skipped`.
        """
        if name in self.skipped and name not in self._tensors:
            raise WeightsError(self.skipped[name])
        if name not in self._tensors:
            raise KeyError(f"{name} is not in {self.path}{names.did_you_mean(name, self)}")
        return self._tensors[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape from the header."""
        return self.tensor(name).shape

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype from the header."""
        return self.tensor(name).dtype

    def source(self, name: str) -> str:
        """Return the name that the array has in the file, before any renaming; of a checkpoint, its key."""
        self.tensor(name)
        return self._sources.get(name, name)

    def transformed(self, name: str) -> bool:
        """Say whether a layout changes the array, so that TensorFlow cannot restore it from the file itself."""
        self.tensor(name)
        return name in self._transformed

    def only(self, chosen: Iterable[str]) -> Weights:
        """Return some of the same arrays, in the order given.

        Raises:
          KeyError: one of the names is unknown.
        """
        return self._with({name: self.tensor(name) for name in chosen}, self._sources, self._transformed)

    def renamed(self, rules: names.Rules | Callable[[str], str]) -> Weights:
        """Return the same arrays under other names; see `names.renamer` for the rules.

        Raises:
          SelectionError: a rule matches nothing, or two names would become one.
        """
        new = names.renamer(rules, list(self))
        return self._with(
            {name: self._tensors[old] for name, old in new.items()},
            {name: self.source(old) for name, old in new.items()},
            frozenset(name for name, old in new.items() if old in self._transformed),
        )

    def laid_out(self, rules: layouts.Rules) -> Weights:
        """Return the same arrays, some of them in another layout; see `layouts` for which there are.

        Args:
          rules: pairs (regular expression, layout or its text), each for the names that the expression matches whole.
            Where several match a name, they are applied in their order.

        Raises:
          SelectionError: an expression matches nothing.
          WeightsError: a text is not a layout, or a layout does not fit to the shape of an array; all such are named.
        """
        chosen = layouts.matched(rules, list(self))
        faults: list[str] = []
        changed = {name: _changed(name, self.tensor(name), found, faults) for name, found in chosen.items()}
        if faults:
            raise WeightsError(f"the layouts do not fit to {self.path}:\n  {shown(faults)}")
        return self._with({**self._tensors, **changed}, self._sources, self._transformed | changed.keys())

    def input_spec(self) -> InputSpec | None:
        """Read the input spec that lies beside the file; None where there is none.

        Raises:
          WeightsError: it cannot be read, or is not an input spec.
        """
        return InputSpec.load(self._stem) if os.path.exists(self.input_spec_path) else None

    @property
    def input_spec_path(self) -> Path:
        """Where the input spec of this file lies, if it has one."""
        return sidecar(self._stem)

    @property
    def _stem(self) -> str:
        return self.checkpoint or self.path

    def _with(self, tensors: Mapping[str, Tensor], sources: Mapping[str, str], transformed: frozenset[str]) -> Weights:
        return Weights(
            self.path,
            self.kind,
            tensors,
            sources=sources,
            checkpoint=self.checkpoint,
            transformed=transformed,
            skipped=self.skipped,
            stated=self.stated,
        )


def open_weights(
    path: str | os.PathLike[str],
    *,
    rename: names.Rules | Callable[[str], str] | None = None,
    layout: layouts.Rules | None = None,
    dequantize: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Weights:
    """Open a file of weights without reading an array. What the file is, its content tells and not its name.

    An entry of the file that is not a weight does not keep the others from being read: see `Weights.skipped`.

    Args:
      path: a file of weights, or what leads to it:
        TensorFlow: a checkpoint (its prefix, its directory, which means the latest, or one of its files), a SavedModel
        directory, or a frozen graph (GraphDef, MetaGraphDef, SavedModel without variables), whose constants are read;
        NumPy: .npz, .npy, or a pickle of arrays; Keras: .h5, .weights.h5, .keras; safetensors;
        PyTorch: .pth, .pt, .bin (state dicts, checkpoints, whole modules, TorchScript);
        MATLAB: .mat of versions 5 to 7.3, as MatConvNet writes it; Caffe: .caffemodel, .binaryproto;
        ONNX: .onnx, with the files that it names; TensorFlow.js: model.json, its folder or one of its shards;
        TensorFlow Lite: .tflite.
      rename: pairs (regular expression, replacement), applied in order to the names of the reader, or a function.
      layout: pairs (regular expression, layout), for names after renaming; see `Weights.laid_out`.
      dequantize: give the real numbers, as float32, in the place of integers with a scale, as quantized models of
        TensorFlow Lite have them; see `quantization`. Those of TensorFlow.js come as real numbers always.
      max_bytes: refuse a file whose tensors announce more than this in all.

    Raises:
      WeightsError: the file is missing, cut short, corrupt, of an unknown kind, or announces too much; a layout does
        not fit; or there is nothing to dequantize.
      SelectionError: a rule matches nothing, or two names would become one.

    Example:
      >>> np.savez("weights.npz", **{"fc8/kernel": np.eye(2), "fc8/bias": np.zeros(2)})
      >>> list(tx.open_weights("weights.npz", rename=[("^fc8/", "logits/")]))
      ['logits/kernel', 'logits/bias']
    """
    name = os.fspath(path)
    found = readers.read(name)
    skipped = {entry: tensor.fault for entry, tensor in found.tensors.items() if tensor.fault}
    tensors = {entry: tensor for entry, tensor in found.tensors.items() if not tensor.fault}
    if dequantize:
        tensors = quantization.dequantized(tensors, name)
    announced = sum(tensor.nbytes for tensor in tensors.values())
    if announced > max_bytes:
        raise WeightsError(f"{name} announces {announced:,} bytes of tensors, more than max_bytes={max_bytes:,}")
    if not tensors:
        why = f":\n  {shown(list(skipped.values()))}" if skipped else ""
        raise WeightsError(f"{name} is a {found.kind} that holds no arrays{why}")
    weights = Weights(
        name,
        found.kind,
        tensors,
        sources=found.sources,
        checkpoint=found.checkpoint,
        skipped=skipped,
        stated=found.stated,
    )
    if rename is not None:
        weights = weights.renamed(rename)
    return weights if layout is None else weights.laid_out(layout)


def _changed(name: str, tensor: Tensor, changes: list[Layout], faults: list[str]) -> Tensor:
    shape = tensor.shape
    try:
        for change in changes:
            shape = change.shape(shape)
    except WeightsError as error:
        faults.append(f"{name}: {error}")
    return Tensor(shape, tensor.dtype, functools.partial(_read_changed, tensor, changes))


def _read_changed(tensor: Tensor, changes: list[Layout]) -> np.ndarray:
    return functools.reduce(lambda array, change: change.apply(array), changes, tensor.read())
