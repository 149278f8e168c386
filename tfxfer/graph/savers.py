"""What saves and restores the variables of a step: all of them, or what it writes and what it leaves apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from tfxfer.graph import own_state


class Saved(NamedTuple):
    """Variables that are saved together, and what saves and restores them; None where there are none."""

    variables: tuple[tf.Variable, ...] = ()
    saver: tf.train.Saver | None = None


def build_saver(variables: Sequence[tf.Variable], name: str | None = None) -> tf.train.Saver:
    """Build a Saver of these variables that deletes no checkpoint: that is the run directory's to do."""
    return tf.train.Saver(list(variables), max_to_keep=0, save_relative_paths=True, name=name)


def lasting_variables(unlisted: Sequence[tf.Variable]) -> list[tf.Variable]:
    """Return the global variables, and those that a network reads and no collection lists; local ones are left out."""
    local = {variable.op.name for variable in tf.local_variables()}
    return [*tf.global_variables(), *(variable for variable in unlisted if variable.op.name not in local)]


def split_saved(
    written: Sequence[tf.Variable], unlisted: Sequence[tf.Variable], run: Sequence[tf.Operation]
) -> tuple[Saved, Saved]:
    """Tell what a step writes from what stays as it is, so that each can be saved by itself.

    Args:
      written: what a step writes.
      unlisted: what the network reads and GLOBAL_VARIABLES does not list.
      run: the ops of a step, whose local variables count as written.
    """
    names_of_written = {variable.op.name for variable in written}
    lasting = lasting_variables(unlisted)
    recorded = {variable.op.name for variable in lasting}
    local = [v for v in own_state.variables_of_step(run, tf.local_variables()) if v.op.name not in recorded]
    known = recorded | {variable.op.name for variable in tf.local_variables()}
    apart = [variable for variable in written if variable.op.name not in known]
    moving = [*(v for v in lasting if v.op.name in names_of_written), *apart, *local]
    frozen = [v for v in lasting if v.op.name not in names_of_written]
    return _saved(moving), _saved(frozen)


def _saved(variables: Sequence[tf.Variable]) -> Saved:
    # A Saver beside the first goes into the same scope, so that the graph has one of them at its top.
    return Saved(tuple(variables), build_saver(variables, "save/part") if variables else None)
