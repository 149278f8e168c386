"""Training with the products of trained dense layers in bfloat16; variables, and all that is evaluated, in float32.

What follows such a product on the way to the metrics is made a second time, for training alone. So the network that is
evaluated, predicted with and exported stays as it is given.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence

import tensorflow.compat.v1 as tf

from tfxfer import names, processor
from tfxfer.errors import GraphError
from tfxfer.graph import traversal, updates, writes
from tfxfer.graph.eval_step import EvalStep

log = logging.getLogger("tfxfer")

PRECISIONS = ("float32", "bfloat16")
_FLOW = updates.LOOPS | {"Merge", "RefMerge", "RefSwitch", "Switch"}


def check(precision: str) -> None:
    """Refuse a precision that does not exist, or that the processor has no units for.

    Raises:
      GraphError: it is not one of `PRECISIONS`, or bfloat16 would be slower here than float32.
    """
    if precision not in PRECISIONS:
        raise GraphError(f"`train_precision={precision!r}` must be one of {names.listed(PRECISIONS)}")
    if precision == "bfloat16" and not processor.has_units():
        raise GraphError(
            f"`train_precision='bfloat16'`: {processor.without_units()}, and would be "
            "slower than in float32; train with `train_precision='float32'`"
        )


def in_bfloat16(step: EvalStep, trained: Sequence[tf.Variable], update_ops: Iterable[tf.Operation]) -> EvalStep:
    """Return what training computes: metrics and probabilities by way of products in bfloat16.

    Each product (MatMul) of float32 that depends on examples on one side, and on a trained variable and on no example
    on the other, is computed from both sides in bfloat16, and so are its gradients. Products within functions,
    branches and loops stay in float32.

    Args:
      step: the part of the step without training.
      trained: what any stage trains.
      update_ops: what may run beside the optimizers.

    Raises:
      GraphError: the network has no such product, or what follows one cannot be made a second time; each op is named.
    """
    shown = [tensor for tensor in (*step.metrics.values(), step.probabilities) if tensor is not None]
    needed = traversal.needed([tensor.op for tensor in shown])
    products = _products(needed, step.examples, trained)
    following = traversal.spread(products, needed, through_control=True)
    order = [op for op in needed if op in following]
    _check_following(order, update_ops)
    copies: dict[tf.Operation, tf.Operation] = {}
    for op in order:
        copies[op] = _product(op, copies) if op in products else updates.copy(op, copies, scope="SOLVER/bfloat16")
    log.info("trained in bfloat16, with float32 variables: %s", names.listed(op.name for op in products))
    anew = {tensor: _copied(tensor, copies) for tensor in shown}
    metrics = {name: anew[tensor] for name, tensor in step.metrics.items()}
    probabilities = None if step.probabilities is None else anew[step.probabilities]
    return dataclasses.replace(step, metrics=metrics, probabilities=probabilities)


def _copied(tensor: tf.Tensor, copies: Mapping[tf.Operation, tf.Operation]) -> tf.Tensor:
    return copies[tensor.op].outputs[tensor.value_index] if tensor.op in copies else tensor


def _products(
    needed: Sequence[tf.Operation], examples: Sequence[tf.Tensor], trained: Sequence[tf.Variable]
) -> list[tf.Operation]:
    """Return the products of trained dense layers among the needed ops.

    Raises:
      GraphError: there are none.
    """
    data = traversal.spread({tensor.op for tensor in examples}, needed)
    weights = traversal.spread({variable.op for variable in trained}, needed) - data
    inner = traversal.inner(needed)
    products = [
        op
        for op in needed
        if op.type == "MatMul"
        and op.get_attr("T") == tf.float32
        and op not in inner
        and any(tensor.op in data for tensor in op.inputs)
        and any(tensor.op in weights for tensor in op.inputs)
    ]
    if not products:
        raise GraphError(
            "`train_precision='bfloat16'`: the network has no product (MatMul) of examples and a trained variable in "
            "float32 outside of functions, branches and loops; train with `train_precision='float32'`"
        )
    return products


def _check_following(ops: Sequence[tf.Operation], update_ops: Iterable[tf.Operation]) -> None:
    """Refuse what cannot be made a second time, or would run the first in training too."""
    wrong = [f"{op.name} ({op.type}) is part of a branch or loop of TensorFlow 1" for op in ops if op.type in _FLOW]
    wrong += [f"{op.name} ({op.type}) writes a variable" for op in writes.written(ops)]
    wrong += [
        f"the update op {op.name} takes what follows a product"
        for op in update_ops
        if set(ops).intersection(traversal.needed([op]))
    ]
    if wrong:
        raise GraphError(
            "\n  ".join(
                ["`train_precision='bfloat16'`: what follows the trained products cannot be made anew:", *wrong]
            )
            + "\ntrain with `train_precision='float32'`"
        )


def _product(op: tf.Operation, copies: Mapping[tf.Operation, tf.Operation]) -> tf.Operation:
    """Return the op that casts back to float32 what a product is in bfloat16."""
    sides = [_copied(tensor, copies) for tensor in op.inputs]
    before = [copies.get(other, other) for other in op.control_inputs]
    with tf.name_scope("SOLVER/bfloat16/"), tf.control_dependencies(before):
        low = [tf.cast(side, tf.bfloat16) for side in sides]
        transposed = {name: op.get_attr(name) for name in ("transpose_a", "transpose_b")}
        return tf.cast(tf.matmul(*low, **transposed, name=op.name), tf.float32).op
