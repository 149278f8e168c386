"""The flags that say where what is computed once is kept, and how it is computed."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from tfxfer.data.dataset import PICTURES
from tfxfer.errors import DataError, GraphError
from tfxfer.store.precision_names import PRECISIONS, check
from tfxfer.tools import _flags, _training_flags

DEFAULT_PRECISION = "float32"
OF_STORE = (
    "In what the frozen layers compute; what is trained is always float32. folded is float32 with batch normalisation "
    "folded into the kernels, which is faster and rounds otherwise; bfloat16 has 8 bits of precision and is faster "
    "still on processors that have units for it; auto takes what the store already has, or else what is the fastest "
    "on the first batches."
)
OF_RUN = (
    "In what the frozen layers of a run compute: auto as in its training, or in float32 where the processor has no "
    "units for bfloat16; float32 as they are."
)
# Of tools that have no store without --store.
USES = (
    *(_flags.Use(name, "store", what="the directory that is filled") for name in ("store_dtype", "workers")),
    *(_flags.Use(name, "store", ("none",), unless=True) for name in ("store_dtype", "workers", "precision")),
)


def define(values: flags.FlagValues, default: str) -> None:
    """Define the flags of the store.

    Args:
      values: the tool's flags.
      default: what happens without --store, as the end of a sentence.
    """
    with _flags.group(values, "store"):
        flags.DEFINE_string(
            "store",
            None,
            f"Directory in which what the frozen layers compute is kept, once a picture; default: {default}.",
            flag_values=values,
        )
        define_dtype(values)
        define_precision(values)
        flags.DEFINE_integer(
            "workers",
            1,
            "Processes that compute what is not there yet, each with --intra_op_threads threads and as much memory as "
            "the network takes.",
            1,
            flag_values=values,
        )


def define_in_training(values: flags.FlagValues) -> None:
    """Define the flags of the store of a training, in which it can be left out."""
    define(
        values,
        "a temporary one beside --logdir, where what the frozen layers make of a picture is smaller than the picture; "
        "none computes it at each step",
    )


@contextlib.contextmanager
def place(
    settings: Any, step: Any, examples: Any, *, alone: bool = True, usual: str | None = None
) -> Iterator[str | None]:
    """Give the folder in which what a step's frozen layers compute is kept, or None where it is not.

    Args:
      settings: the flags' values.
      step: what `tfxfer.train_step` returned.
      examples: the data.
      alone: whether one process trains.
      usual: the folder that is taken without --store. Default: a temporary one.
    """
    if settings.store or not alone or settings.dataset not in PICTURES or not _pays(step, examples.train.images):
        yield None if settings.store == "none" else settings.store
        return
    if usual:
        yield usual
        return
    logdir = Path(settings.logdir).absolute()
    logdir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{logdir.name}.", suffix=".store", dir=logdir.parent) as folder:
        yield folder


def _pays(step: Any, images: Any) -> bool:
    """Return whether what is computed once is smaller than the picture that it is computed of, in all stages."""
    from tfxfer.frontier.search import frontier

    try:
        tensors = {tensor.name: tensor for stage in step.stages for tensor in frontier(step, stage).tensors}
    except GraphError:
        return False
    if step.images.name in tensors or not all(tensor.shape[1:].is_fully_defined() for tensor in tensors.values()):
        return False
    sizes = [math.prod(tensor.shape.as_list()[1:]) * tensor.dtype.size for tensor in tensors.values()]
    return sum(sizes) < math.prod(images.shape[1:]) * np.dtype(images.dtype).itemsize


def define_precision(values: flags.FlagValues) -> None:
    """Define the flag that says in which precision frozen layers compute what is stored."""
    flags.DEFINE_enum("precision", DEFAULT_PRECISION, PRECISIONS, OF_STORE, flag_values=values)


def define_precision_of_run(values: flags.FlagValues) -> None:
    """Define the flag that says in which precision the frozen layers of a run compute."""
    flags.DEFINE_enum("precision", "auto", PRECISIONS, OF_RUN, flag_values=values)


def define_dtype(values: flags.FlagValues) -> None:
    """Define the flag that says how rows are kept."""
    flags.DEFINE_enum(
        "store_dtype",
        "float32",
        ("float32", "float16"),
        "How numbers are kept in the store; float16 takes half the room and rounds to 3 digits.",
        flag_values=values,
    )


def define_extraction(values: flags.FlagValues) -> None:
    """Define the flags that an extraction has beside those of its network, examples and store."""
    flags.DEFINE_integer(
        "batch_size",
        None,
        "Pictures that go through the network at once; default: 32, and 128 of up to 64 x 64 pixels.",
        1,
        flag_values=values,
    )
    _flags.DEFINE_patterns(
        "restore", [], "Variables to restore from --weights; default: all; none for a random baseline.", values
    )


def options(settings: Any) -> dict[str, Any]:
    """Return the keyword arguments of `precompute` and `extract` that the flags set."""
    return {"dtype": settings.store_dtype, "workers": settings.workers, "precision": settings.precision}


def repeat_precision(settings: Any) -> None:
    """Let the run in --logdir that goes on say what --precision is, where nobody does."""
    if settings["precision"].present and settings.precision != "auto":
        return
    begun = _training_flags.begun(settings)
    if begun is not None:
        precision = begun.training.get("precision")
        settings.precision = precision if precision in PRECISIONS else DEFAULT_PRECISION


def check_stored(settings: Any, store: str | None) -> None:
    """Refuse another precision where nothing is stored: what a step computes itself is in plain float32.

    Raises:
      DataError: it was asked for, or the processor has no units for it.
    """
    check(settings.precision)
    if store is None and settings.precision not in ("auto", DEFAULT_PRECISION):
        raise DataError(
            f"--precision={settings.precision}: nothing is stored here, so that each step computes the frozen layers, "
            "in plain float32; give --store=DIR, which goes with one process, or leave --precision out"
        )
