"""Named arrays in files: one lazy, read-only mapping over whatever file they lie in.

Names, shapes and dtypes come from headers alone; an array is read when it is asked for. Nothing here imports
TensorFlow, runs code from a file, or believes a size before it is checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.weights import bundle
from tfxfer.weights.tensors import Tensor

MAX_BYTES = 16 << 30

__all__ = ["MAX_BYTES", "Tensor", "Weights", "open_weights"]


class Weights(Mapping[str, np.ndarray]):
    """Named arrays in a file. `weights["conv1/kernel"]` reads that array and no other.

    Attributes:
      path: the file as the user named it.
      kind: what the file is, in words ("TensorFlow checkpoint V2").
      checkpoint: the prefix that `tf.train.Saver.restore` takes, or None if TensorFlow cannot restore it.
    """

    def __init__(self, path: str, kind: str, tensors: Mapping[str, Tensor], *, sources: Mapping[str, str] | None = None,
                 checkpoint: str | None = None) -> None:
        self.path = path
        self.kind = kind
        self.checkpoint = checkpoint
        self._tensors = dict(tensors)
        self._sources = dict(sources or {})

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensor(name).read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __repr__(self) -> str:
        return f"<Weights {self.path}: {self.kind}, {len(self)} tensors>"

    def tensor(self, name: str) -> Tensor:
        """Return shape, dtype and reader of one array without reading it.

        Raises:
          KeyError: there is no such name; the message gives the nearest.
        """
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
        """Return the name that the array has in the file, before any renaming."""
        self.tensor(name)
        return self._sources.get(name, name)

    def renamed(self, rules: names.Rules | Callable[[str], str]) -> Weights:
        """Return the same arrays under other names; see `names.renamer` for the rules.

        Raises:
          SelectionError: a rule matches nothing, or two names would become one.
        """
        new = names.renamer(rules, list(self))
        return Weights(self.path, self.kind, {name: self._tensors[old] for name, old in new.items()},
                       sources={name: self.source(old) for name, old in new.items()}, checkpoint=self.checkpoint)


def open_weights(path: str | os.PathLike[str], *, rename: names.Rules | Callable[[str], str] | None = None,
                 max_bytes: int = MAX_BYTES) -> Weights:
    """Open a file of weights without reading an array.

    Args:
      path: a TensorFlow checkpoint: its prefix, its directory (the latest is taken), or one of its files.
      rename: pairs (regular expression, replacement), applied in order to the names in the file, or a function.
      max_bytes: refuse a file whose tensors announce more than this in all.

    Raises:
      WeightsError: the file is missing, cut short, corrupt, of an unknown kind, or announces too much.
      SelectionError: a rename rule matches nothing, or two names would become one.
    """
    name = os.fspath(path)
    prefix = bundle.find_prefix(Path(name))
    weights = Weights(name, "TensorFlow checkpoint V2", bundle.read(prefix), checkpoint=str(prefix))
    announced = sum(weights.tensor(key).nbytes for key in weights)
    if announced > max_bytes:
        raise WeightsError(f"{name} announces {announced:,} bytes of tensors, more than max_bytes={max_bytes:,}")
    return weights if rename is None else weights.renamed(rename)
