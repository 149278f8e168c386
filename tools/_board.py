"""The flags that say what a run shows in TensorBoard, and what they make of `tfxfer.train_step` and `fit`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph.summary_options import DEFAULT, OF_ENDPOINTS, SHOWN
from tfxfer.tools import _flags


class _NamesFlag(flags.Flag):
    """Names between commas; where it is known which there are, `all` and `none` too. Its value is a list[str]."""

    def __init__(self, name: str, default: list[str], help: str, form: str, known: list[str] | None = None) -> None:
        self.form, self._known = form, known
        super().__init__(flags.ArgumentParser(), None, name, default, help)

    def _parse(self, argument: Any) -> list[str]:
        if not isinstance(argument, str):
            return list(argument)
        pieces = [piece.strip() for piece in argument.split(",") if piece.strip()]
        if self._known is None:
            return pieces
        if pieces in (["all"], ["none"], []):
            return self._known if pieces == ["all"] else []
        for name in pieces:
            if name not in self._known:
                raise flags.IllegalFlagValueError(
                    f"flag --{self.name}={argument}: {name!r} is not known{names.did_you_mean(name, self._known)}; "
                    f"write all, none, or some of {', '.join(self._known)}"
                )
        return pieces


class _PlacesFlag(flags.Flag):
    """Integers from 0 on, between commas; its value is a list[int]."""

    form = "N,N,..."

    def __init__(self, name: str, default: list[int], help: str) -> None:
        super().__init__(flags.ArgumentParser(), None, name, default, help)

    def _parse(self, argument: Any) -> list[int]:
        if not isinstance(argument, str):
            return list(argument)
        pieces = argument.split(",")
        if not all(piece.strip().isdecimal() for piece in pieces):
            raise flags.IllegalFlagValueError(f"flag --{self.name}={argument}: write integers from 0 on, as in 0,1,2,3")
        return [int(piece) for piece in pieces]


def define(values: flags.FlagValues) -> None:
    """Define the flags that say what is shown in TensorBoard."""
    each = "; ".join(f"{name}: {what}" for name, what in SHOWN.items())
    with _flags.group(values, "TensorBoard"):
        flags.DEFINE_flag(
            _NamesFlag(
                "summaries",
                list(DEFAULT),
                f"What is shown beside scalars of batches and epochs. {each}.",
                "NAME,...|all|none",
                list(SHOWN),
            ),
            values,
        )
        flags.DEFINE_flag(
            _NamesFlag(
                "activations",
                [],
                "Endpoints, as conv1,pool5, whose activations are shown, and which the projector gets; default: the "
                "first and the last pooling layer, if --summaries asks for either.",
                "ENDPOINT,...",
            ),
            values,
        )
        flags.DEFINE_flag(
            _PlacesFlag(
                "shown",
                [0, 1, 2, 3],
                "Validation examples, counted from 0, whose images and activations are shown; feature maps are of the "
                "first.",
            ),
            values,
        )


def step(settings: Any, ends: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of `tfxfer.train_step` that the flags set.

    Args:
      settings: the flags' values, as attributes.
      ends: the network's endpoints.

    Raises:
      GraphError: the network has no such endpoint; those that it has are listed.
    """
    activations = settings.activations
    if not activations and set(OF_ENDPOINTS).intersection(settings.summaries):
        activations = _pooling_layers(ends)
    unknown = [name for name in activations if name not in ends]
    if unknown:
        raise GraphError(
            f"--activations: the network has no endpoint {names.listed(unknown)}; it has {', '.join(ends)}"
        )
    return {"summaries": settings.summaries, "activations": {name: ends[name] for name in activations}}


def _pooling_layers(ends: Mapping[str, Any]) -> list[str]:
    """Return the first and the last pooling layer; where there is none, convolution."""
    for kind in (r"pool\d+", r"conv\d+"):
        layers = [name for name in ends if re.fullmatch(kind, name) and ends[name].shape.rank == 4]
        if layers:
            return list(dict.fromkeys([layers[0], layers[-1]]))
    return []


def show_test(settings: Any, sess: Any, made: Any, result: Any, split: Any, fitted: Any) -> None:
    """Write what the test gave for TensorBoard, if --summaries asks for results.

    Args:
      settings: the flags' values, as attributes.
      sess: the session.
      made: what `tfxfer.train_step` returned.
      result: what `tfxfer.evaluate` said of the test split.
      split: the test split.
      fitted: what `tfxfer.fit` returned.
    """
    from tfxfer.tensorboard import results

    if "results" in made.summaries:
        results.tested(Path(settings.logdir), result, split, fitted.steps)
