"""Proof that what nobody trains does not move: digests of variables, taken and compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import tensorflow.compat.v1 as tf

from tfxfer.errors import FrozenError
from tfxfer.graph.partitioned import fetch_in_groups, wholes
from tfxfer.graph.train_step import Step
from tfxfer.tf_private import creation_number
from tfxfer.weights.digests import METHOD, digest

__all__ = ["METHOD", "check", "digest", "digests", "frozen_variables"]


def frozen_variables(step: Step, epoch: int) -> list[tf.Variable]:
    """Return the variables that no stage up to that of `epoch` (counted from 0) writes.

    These are all global variables of the graph, and what a network reads besides, but the trained ones, the moving
    statistics that follow them, whatever else the network writes, optimizer slots, global_step and the states of
    generators.
    """
    counted = (*step.slots, step.global_step, *step.generators)
    written = {variable.op.name for variable in (*step.stage(epoch).written, *counted)}
    listed = step.images.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    variables = {variable.op.name: variable for variable in (*listed, *step.moving.variables, *step.frozen.variables)}
    frozen = [variable for name, variable in variables.items() if name not in written]
    return sorted(frozen, key=lambda variable: creation_number(variable.op))


def digests(sess: tf.Session, variables: Iterable[tf.Variable]) -> dict[str, str]:
    """Return the digest of each variable's value by op name; not all values are in memory at once.

    The parts of a split variable count as one, under the name of the whole.
    """
    return {name: digest(value) for name, value in fetch_in_groups(sess, wholes(variables))}


def check(sess: tf.Session, variables: Sequence[tf.Variable], before: Mapping[str, str], when: str) -> int:
    """Compare variables with their digests from the start of the run, and return how many they are.

    Raises:
      FrozenError: some differ; all of them are listed.
    """
    now = digests(sess, variables)
    moved = [name for name, value in now.items() if before.get(name) != value]
    if moved:
        rows = "\n".join(f"  {name}: was {before.get(name, 'absent')[:12]}, is {now[name][:12]}" for name in moved)
        raise FrozenError(
            f"{len(moved)} of {len(now)} frozen variables have changed {when}:\n{rows}\n"
            "something other than the training step writes them; nothing after the start of the run can be trusted"
        )
    return len(now)
