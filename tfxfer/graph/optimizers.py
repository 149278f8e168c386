"""Optimizers by name, and the check that an argument makes one. TensorFlow is not needed to know the names."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from tfxfer import names
from tfxfer.errors import GraphError

# What each is called in tf.train, and what it needs beside a learning rate.
OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
    "adadelta": ("AdadeltaOptimizer", {}),
    "adagrad": ("AdagradOptimizer", {}),
    "adam": ("AdamOptimizer", {}),
    "ftrl": ("FtrlOptimizer", {}),
    "momentum": ("MomentumOptimizer", {"momentum": 0.9}),
    "rmsprop": ("RMSPropOptimizer", {}),
    "sgd": ("GradientDescentOptimizer", {}),
}
_HOW = (
    "as optimizer=tf.train.AdamOptimizer, or with options functools.partial(tf.train.MomentumOptimizer, momentum=0.9)"
)


def optimizer_factory(optimizer: Any) -> Callable[..., Any]:
    """Return what is called as `factory(learning_rate=tensor)` and gives an optimizer of `tf.train`.

    Args:
      optimizer: a name out of `OPTIMIZERS`, a class of `tf.train`, or a function that makes one of these.

    Raises:
      GraphError: it is something else: an optimizer that is made already, one of Keras, or an unknown name.
    """
    import tensorflow.compat.v1 as tf

    if isinstance(optimizer, str):
        if optimizer.lower() not in OPTIMIZERS:
            raise GraphError(f"optimizer={optimizer!r} is not known; there are {names.listed(OPTIMIZERS)}; or {_HOW}")
        name, options = OPTIMIZERS[optimizer.lower()]
        return functools.partial(getattr(tf.train, name), **options)
    if isinstance(optimizer, tf.train.Optimizer):
        own = type(optimizer).__name__
        named = f"tf.train.{own}" if hasattr(tf.train, own) else own
        raise GraphError(
            f"optimizer is made already, a {named} with a learning rate of its own; let train_step make it: "
            f"optimizer={named}, learning_rate=1e-3; options go into a function, as "
            "functools.partial(tf.train.MomentumOptimizer, momentum=0.9)"
        )
    kind = optimizer.func if isinstance(optimizer, functools.partial) else optimizer
    if not callable(kind) or (inspect.isclass(kind) and not issubclass(kind, tf.train.Optimizer)):
        raise GraphError(f"optimizer={_named(kind)} does not make an optimizer of tf.train; give a class of it, {_HOW}")
    try:
        inspect.signature(optimizer).bind(learning_rate=1.0)
    except TypeError as error:
        raise GraphError(
            f"optimizer={_named(kind)} cannot be called with learning_rate alone: {error}; {_HOW}"
        ) from None
    return optimizer


def make_optimizer(make: Callable[..., Any], rate: Any) -> Any:
    """Return the optimizer that `make` makes for a learning rate, a scalar tensor.

    Raises:
      GraphError: it gives something else than an optimizer of `tf.train`.
    """
    import tensorflow.compat.v1 as tf

    solver = make(learning_rate=rate)
    if not isinstance(solver, tf.train.Optimizer):
        raise GraphError(f"optimizer gives a {_named(type(solver))}, not an optimizer of tf.train; {_HOW}")
    return solver


def _named(kind: Any) -> str:
    """Return where a class or a function comes from and what it is called; of anything else, its class."""
    kind = kind if callable(kind) and hasattr(kind, "__qualname__") else type(kind)
    return f"{kind.__module__}.{kind.__qualname__}"


def check_numbers(learning_rate: Any, clip_norm: float | None, factors: dict[str, float]) -> None:
    """Refuse numbers that make no sense; all are listed at once.

    Args:
      learning_rate: as `train_step` takes it; what is not a number is not looked at.
      clip_norm: as `train_step` takes it.
      factors: what learning rates are multiplied by, by what they are for.

    Raises:
      GraphError: a learning rate or a factor is negative or not finite, or clip_norm is not above 0.
    """
    problems = []
    if isinstance(learning_rate, (str, bool)) or learning_rate is None:
        problems.append(f"`learning_rate={learning_rate!r}`: give a number, or a function from global_step to a scalar")
    elif isinstance(learning_rate, (int, float)) and not 0 <= learning_rate < math.inf:
        problems.append(f"`learning_rate={learning_rate}`: give a number from 0 on, as 1e-3")
    if clip_norm is not None and not 0 < clip_norm < math.inf:
        problems.append(f"`clip_norm={clip_norm}`: give a number above 0, or None for no clipping")
    problems += [
        f"{name}={factor}: give a number from 0 on" for name, factor in factors.items() if not 0 <= factor < math.inf
    ]
    if problems:
        raise GraphError("; ".join(problems))
