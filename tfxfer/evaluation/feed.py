"""How examples go into a step: as images, or as what was computed from them once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.data.pictures import Pictures, ahead
from tfxfer.data.splits import Images, Split
from tfxfer.errors import DataError
from tfxfer.frontier.search import frontier
from tfxfer.graph.eval_step import EvalStep
from tfxfer.graph.losses import is_one_hot
from tfxfer.graph.stages import StageOps
from tfxfer.store.store import Rows

MOST_BYTES = 1 << 30  # of rows that training reads into memory; of more, it reads each batch from the store


class Feed:
    """Examples as the arrays that a step is fed with.

    Attributes:
      tensors: what is fed, in the order in which `arrays` gives it.
    """

    def __init__(self, step: EvalStep, split: Split, stage: StageOps | None = None, *, training: bool = False) -> None:
        """Decide what is fed.

        Args:
          step: what `train_step` or `eval_step` returned.
          split: the examples; where they have features, these are fed in place of the images.
          stage: the stage that is run; default: the last one, whose frontier is right for all.
          training: whether placeholders get what they are fed in training, in that stage, or in evaluation.

        Raises:
          DataError: the features were computed for another step.
        """
        stage = stage or step.last_stage
        inputs = (step.images,) if split.features is None else frontier(step, stage).tensors
        columns: dict[str, Images] = {step.images.name: split.images, **(split.features or {})}
        absent = [f"{tensor.name} {tensor.shape}" for tensor in inputs if not _fits(tensor, columns.get(tensor.name))]
        if absent:
            present = [f"{name} {tuple(column.shape)}" for name, column in columns.items()]
            raise DataError(
                f"the examples hold {names.listed(present)}, and this step needs {names.listed(absent)}: they were "
                "precomputed for another step; call precompute with this one"
            )
        self.tensors: list[tf.Tensor] = list(inputs)
        self._columns: list[Any] = [columns[tensor.name] for tensor in inputs]
        if training:
            self._columns = in_memory(self._columns)
        if step.labels is not None:
            self.tensors.append(step.labels)
            self._columns.append(_rows(step, split.labels))
        constants = stage.feeds if stage and training else step.eval_feeds
        self.tensors += constants
        self._constants = list(constants.values())

    def arrays(self, indices: np.ndarray) -> list[np.ndarray]:
        """Return the arrays of some examples, and then the constants that every step is fed."""
        return [*(column[indices] for column in self._columns), *self._constants]

    def fed(self, arrays: Sequence[Any]) -> dict[tf.Tensor, Any]:
        """Return what `arrays` gave, by the tensors that are fed with it."""
        return dict(zip(self.tensors, arrays, strict=True))

    @contextlib.contextmanager
    def batches(self, indices: Iterable[np.ndarray]) -> Iterator[Iterator[list[np.ndarray]]]:
        """Give the arrays of each batch in turn; files are read ahead until the block ends."""
        if any(isinstance(column, (Pictures, Rows)) for column in self._columns):
            with contextlib.closing(ahead(self.arrays, indices)) as loaded:
                yield loaded
        else:
            yield map(self.arrays, indices)


def in_memory(columns: Sequence[Any], most_bytes: int | None = None) -> list[Any]:
    """Read columns whose rows lie in a store, if all of these fit in memory together.

    Args:
      columns: of one split.
      most_bytes: that may be read; default: `MOST_BYTES`, or a quarter of the memory that is free if this is less.
    """
    stored = [column for column in columns if isinstance(column, Rows)]
    most = min(MOST_BYTES, _free_memory() // 4) if most_bytes is None else most_bytes
    if sum(math.prod(column.shape) * column.dtype.itemsize for column in stored) > most:
        return list(columns)
    return [column[np.arange(len(column))] if isinstance(column, Rows) else column for column in columns]


def _free_memory() -> int:
    """Return the bytes that programs can still take, as Linux says; 0 where it does not."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def _rows(step: EvalStep, labels: Any) -> Any:
    """Return labels as a step takes them: class numbers as one-hot rows where its placeholder is for these."""
    if labels is None or labels.ndim != 1 or step.labels is None or not is_one_hot(step.labels):
        return labels
    return np.eye(step.outputs.shape[1], dtype=step.labels.dtype.as_numpy_dtype)[labels]


def _fits(tensor: tf.Tensor, column: Images | None) -> bool:
    return column is not None and tensor.shape.is_compatible_with([None, *column.shape[1:]])
