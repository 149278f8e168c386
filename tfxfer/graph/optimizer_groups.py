"""The optimizers of a step: one for the variables that join in one stage and share one multiplier."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import optimizers
from tfxfer.graph.partitioned import name_of
from tfxfer.graph.stages import Stage

LearningRate = float | Callable[[tf.Variable], tf.Tensor]
Pairs = Sequence[tuple[Any, tf.Variable]]


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """The options of `train_step` that say how variables move, under its names, and as it takes them."""

    optimizer: str | Callable[..., tf.train.Optimizer]
    learning_rate: LearningRate
    multipliers: Mapping[str, float]
    clip_norm: float | None
    l2: float

    def check(self, stages: Sequence[Stage]) -> None:
        """Refuse numbers that make no sense; see `optimizers.check_numbers`."""
        factors = {f"multipliers[{pattern!r}]": factor for pattern, factor in self.multipliers.items()}
        factors |= {f"the multiplier of the stage at epoch {stage.epoch}": stage.multiplier for stage in stages}
        optimizers.check_numbers(self.learning_rate, self.clip_norm, factors)


@dataclasses.dataclass(frozen=True)
class _Group:
    """Variables, by name, that join in one epoch and share one multiplier, and their optimizer."""

    epoch: int
    factor: float
    rate: tf.Tensor
    optimizer: tf.train.Optimizer
    members: set[str]


class OptimizerGroups:
    """The optimizers of all stages.

    Those of different stages cannot share an optimizer: Adam corrects for slots that begin at zero by the number of
    steps that the optimizer, and not the variable, has made.

    Attributes:
      options: how variables move.
      steps: the variable that counts steps.
      rate: float32 scalar, the learning rate before any multiplier.
    """

    def __init__(self, options: OptimizerOptions, stages: Sequence[Stage], steps: tf.Variable) -> None:
        """Make the optimizers.

        Args:
          options: as `train_step` takes them.
          stages: with the variables that join in each.
          steps: the variable that counts steps, which a schedule takes.

        Raises:
          SelectionError: a multiplier matches no trained variable, or two match one.
          GraphError: the optimizer cannot be used, as where it computes gradients in a way of its own.
        """
        self.options, self.steps = options, steps
        make = optimizers.optimizer_factory(options.optimizer)
        rate = options.learning_rate
        with tf.name_scope("SOLVER/"):
            self.rate = tf.cast(rate(steps) if callable(rate) else rate, tf.float32, name="learning_rate")
            self._groups = [
                _Group(
                    stages[place].epoch,
                    factor,
                    scaled := self.rate * factor,
                    _make(make, scaled),
                    members,
                )
                for (place, factor), members in sorted(_members(stages, options.multipliers).items())
            ]

    @property
    def slots(self) -> tuple[tf.Variable, ...]:
        """The optimizers' own variables, as far as they are made."""
        return tuple(variable for group in self._groups for variable in group.optimizer.variables())

    def rates(self, epoch: int) -> dict[str, tf.Tensor]:
        """Return by tag the learning rate, and those of the groups that are trained from an epoch on if they differ."""
        rates = {"learning_rate": self.rate}
        if len(self._groups) == 1 and self._groups[0].factor == 1:
            return rates
        from_later = any(group.epoch for group in self._groups)
        for group in self._groups:
            title = f"epoch_{group.epoch}_x{group.factor:g}" if from_later else f"x{group.factor:g}"
            if group.epoch <= epoch:
                rates[f"learning_rate/{title}"] = group.rate
        return rates

    def apply(self, pairs: Pairs, *, name: str, updates: Sequence[tf.Operation]) -> tf.Operation:
        """Return the op that makes one step and counts it.

        Args:
          pairs: gradients and their variables.
          name: what the ops are called.
          updates: what else has to run in a step.
        """
        applies = []
        for number, group in enumerate(self._groups, 1):
            own = [(gradient, variable) for gradient, variable in pairs if name_of(variable) in group.members]
            if own:
                # The scope goes in as a name: within tf.name_scope, beta1_power would be called SOLVER/beta1_power.
                scope = name if len(self._groups) == 1 else f"{name}_group{number}"
                with tf.variable_scope(
                    tf.get_variable_scope(), custom_getter=_get_under_free_name, auxiliary_name_scope=False
                ):
                    applies.append(group.optimizer.apply_gradients(own, name=f"SOLVER/{scope}"))
        with tf.name_scope("SOLVER/"), tf.control_dependencies([*applies, *updates]):
            step = self.steps.assign_add(1, read_value=False, name="step")
        return getattr(step, "op", step)

    def settings(self) -> dict[str, Any]:
        """Return what was asked for, as JSON has it; a schedule is told by the graph."""
        rate, clip_norm = self.options.learning_rate, self.options.clip_norm
        factors = {name: group.factor for group in self._groups for name in group.members if group.factor != 1}
        return {
            "optimizer": _described(self._groups[0].optimizer),
            **({} if callable(rate) or tf.is_tensor(rate) else {"learning_rate": float(rate)}),
            "multipliers": dict(sorted(factors.items())) or None,
            "clip_norm": None if clip_norm is None else float(clip_norm),
        }


def _members(stages: Sequence[Stage], multipliers: Mapping[str, float]) -> dict[tuple[int, float], set[str]]:
    """Return the names of the variables that join in one stage and share one multiplier, by these two."""
    joins = {name_of(variable): number for number, stage in enumerate(stages) for variable in stage.selection}
    factors = {name_of(variable): stage.multiplier for stage in stages for variable in stage.selection}
    matches = {pattern: names.match([pattern], list(factors)) for pattern in multipliers}
    matched = [name for of_pattern in matches.values() for name in of_pattern]
    twice = sorted({name for name in matched if matched.count(name) > 1})
    if twice:
        raise SelectionError(f"{names.listed(twice)}: matched by two of the multipliers {list(multipliers)}")
    for pattern, of_pattern in matches.items():
        for name in of_pattern:
            factors[name] *= multipliers[pattern]
    groups: dict[tuple[int, float], set[str]] = {}
    for name, factor in factors.items():
        groups.setdefault((joins[name], factor), set()).add(name)
    return groups


def _make(make: Callable[..., tf.train.Optimizer], rate: tf.Tensor) -> tf.train.Optimizer:
    """Return the optimizer for a learning rate; refuse one whose own way to gradients would not be gone."""
    optimizer = optimizers.make_optimizer(make, rate)
    own = [
        method
        for method in ("compute_gradients", "minimize")
        if getattr(getattr(optimizer, method), "__func__", None) is not getattr(tf.train.Optimizer, method)
    ]
    if own:
        kind = type(optimizer)
        raise GraphError(
            f"optimizer: {kind.__module__}.{kind.__qualname__} has a {names.listed(own)} of its own, which train_step "
            "does not call: it computes the gradients itself, and gives them to apply_gradients. Move what the method "
            "does to the gradients into apply_gradients of that class; or give the optimizer that it is built on, with "
            "`l2` for a decay of weights, `clip_norm` for clipping, or `replicas` for several processes"
        )
    return optimizer


def _described(optimizer: tf.train.Optimizer) -> dict[str, Any]:
    """Return an optimizer's class and the numbers that it holds; a wrapped optimizer is one of them."""
    described: dict[str, Any] = {"class": type(optimizer).__name__}
    of_all = {*vars(tf.train.Optimizer(use_locking=False, name="any"))}  # how it is called, and its slots
    for name, value in sorted(vars(optimizer).items()):
        if name in of_all or name.startswith("_self_"):
            continue
        if isinstance(value, tf.train.Optimizer):
            described[name.lstrip("_")] = _described(value)
        elif isinstance(value, bool | int | float | np.number):
            described[name.lstrip("_")] = value.item() if isinstance(value, np.number) else value
    return described


def _get_under_free_name(getter: Callable[..., Any], name: str, **options: Any) -> Any:
    """Get a slot under a name that no op has: an imported graph may hold the slots of another optimizer."""
    slot = name.rstrip("/")  # A slot is made in a variable scope of its name, with an empty name.
    if not _is_op(slot):
        return getter(name, **options)
    numbered = (f"{slot}_{number}" for number in itertools.count(1))
    return getter(next(free for free in numbered if not _is_op(free)), **options)


def _is_op(name: str) -> bool:
    # Asked by name: the list of all ops, made for each slot, would cost the square of their number.
    try:
        tf.get_default_graph().get_operation_by_name(name)
    except KeyError:
        return False
    return True
