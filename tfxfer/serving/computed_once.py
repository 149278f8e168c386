"""The part of a run's network that training computed once, not in plain float32, and how it is computed afterwards.

The same tensors are computed so again, and the rest in float32, so that the trained layers take what they were trained
on. Where the processor has no units for bfloat16, all is in float32, and by how much that differs is said.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import DataError, RunError
from tfxfer.runs.files import PRECISION, read_json
from tfxfer.store.fingerprint import NOTHING
from tfxfer.store.precision import divided
from tfxfer.store.precision_names import HOW, check, is_possible

log = logging.getLogger("tfxfer")


class ComputedOnce(NamedTuple):
    """What training computed in another precision than float32.

    Attributes:
      run: the path of the run.
      tensors: the last of it, by name.
      precision: "bfloat16" or "folded".
    """

    run: Path
    tensors: tuple[str, ...]
    precision: str

    def say_float32(self, why: str) -> None:
        """Log that all is computed in plain float32, and by how much that differs from training."""
        log.warning(
            "%s was trained on what its frozen layers give %s; here they compute in plain float32, %s: %s",
            self.run,
            HOW[self.precision],
            why,
            describe_change(self.run),
        )


def read(run: Path, settings: Mapping[str, Any], scope: str = "") -> ComputedOnce | None:
    """Return what a run computed in another precision, None where all was in float32.

    Args:
      run: its path.
      settings: its settings by name.
      scope: the scope that its network is imported into, with the slash.

    Raises:
      RunError: the settings are damaged.
    """
    precision = settings.get("precision", "float32")
    if precision == "float32":
        return None
    if precision not in tuple(HOW):
        raise RunError(f"{run}/settings.json is damaged: precision is {precision!r}, not one of {names.listed(HOW)}")
    tensors = settings.get("computed_once")
    if not isinstance(tensors, list) or not tensors or not all(isinstance(name, str) for name in tensors):
        raise RunError(f"{run}/settings.json is damaged: computed_once is {tensors!r}, not the names of tensors")
    return ComputedOnce(run, tuple(f"{scope}{name}" for name in tensors), precision)


def possible(settings: Mapping[str, Any]) -> str:
    """Return in which precision a run computed its frozen part, or float32 where the processor cannot."""
    precision = str(settings.get("precision", "float32"))
    return precision if is_possible(precision) else "float32"


def asked(part: ComputedOnce | None, precision: str) -> str:
    """Return in which precision the frozen part is asked for: "auto" asks for that of training.

    Raises:
      DataError: `precision` cannot be had.
    """
    check(precision)
    trained = part.precision if part else "float32"
    if precision not in ("auto", "float32", trained):
        raise DataError(
            f"`precision={precision}`: what was trained takes what the frozen layers give {HOW[trained]}; leave "
            "`precision` out, or train a run with it"
        )
    return trained if precision == "auto" else precision


@contextlib.contextmanager
def repeated(
    part: ComputedOnce | None,
    sess: tf.Session,
    images: tf.Tensor,
    precision: str = "auto",
    feeds: Mapping[tf.Tensor, np.ndarray] = NOTHING,
) -> Iterator[None]:
    """Let a session compute a part as in training, or in float32 where that cannot be.

    Args:
      part: what training computed in another precision; None for nothing.
      sess: a session on the network, opened by `tfxfer.session`.
      images: the placeholder of the images.
      precision: "auto"; "float32" for all; or that of training, which refuses what `auto` computes in float32.
      feeds: what else is fed in each call, by placeholder.

    Raises:
      DataError: `precision` cannot be had.
    """
    if asked(part, precision) == "float32" or part is None:
        yield
        return
    with divided(sess, images, _tensors(part, sess.graph, precision), feeds, part.precision):
        yield


def _tensors(part: ComputedOnce, graph: tf.Graph, precision: str) -> list[tf.Tensor]:
    """Return what is computed as in training; nothing where that cannot be, which is said."""
    tensors, lost = _present(graph, part.tensors)
    why = "this processor has no units for bfloat16"
    if lost:
        why = f"this network has no {names.listed(lost)}"
        if precision != "auto":
            raise DataError(f"`precision={precision}`: {why}, which {part.run} has; leave `precision` out")
    if lost or not is_possible(part.precision):
        part.say_float32(f"since {why}")
        return []
    return tensors


def _present(graph: tf.Graph, tensors: tuple[str, ...]) -> tuple[list[tf.Tensor], list[str]]:
    present, lost = [], []
    for name in tensors:
        try:
            present.append(graph.get_tensor_by_name(name))
        except (KeyError, ValueError):
            lost.append(name)
    return present, lost


def describe_change(run: Path) -> str:
    """Say by how much a run's precision changed what its network says, as its training measured it in the end."""
    try:
        change = read_json(run / PRECISION)
        return (
            f"on {change['examples']:d} validation examples, probabilities differed by {change['probabilities']:.1e} "
            f"at most, and {change['first_class']:.1%} had another first class"
        )
    except (RunError, LookupError, TypeError, ValueError, ArithmeticError):
        return "by how much that differs was not measured, as the training has not ended"
