"""A session whose variables are restored or initialised, each exactly once, on a graph that is finalized."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import RestoreError, WeightsError
from tfxfer.restore import Plan


class Session(tf.Session):
    """A `tf.Session` that knows which plans its variables came from.

    Attributes:
      plans: the plans it restored, in the order given.
    """

    plans: tuple[Plan, ...] = ()


@contextlib.contextmanager
def session(*plans: Plan, intra_op_threads: int = 0, inter_op_threads: int = 0,
            per_process_gpu_memory_fraction: float | None = None, allow_growth: bool = False) -> Iterator[Session]:
    """Open a session on the default graph: restore the plans, initialise all other variables, finalize the graph.

    No initializer of a restored variable runs, so none can wipe it; the others run last and may read what was restored.
    Nothing can be added to the graph from here on: build first, then run.

    Args:
      *plans: what `tfxfer.plan` returned, for this graph; no variable may be in two of them.
      intra_op_threads, inter_op_threads: threads within an op and across ops; 0 lets TensorFlow choose.
      per_process_gpu_memory_fraction: the share of a GPU's memory to take, in (0, 1].
      allow_growth: take a GPU's memory as it is needed.

    Raises:
      RestoreError: a variable is in two plans, or a plan has errors.
      WeightsError: the file changed, or its bytes fail their checksum.
    """
    graph = tf.get_default_graph()
    _check(plans)
    restored = {id(variable) for plan in plans for variable in plan.variables}
    others = [v for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES) if id(v) not in restored]
    with tf.name_scope("SESSION/"):
        initialise = tf.group(tf.variables_initializer(others), tf.local_variables_initializer(),
                              tf.tables_initializer(), name="initialise")
    config = _config(intra_op_threads, inter_op_threads, per_process_gpu_memory_fraction, allow_growth)
    with Session(graph=graph, config=config) as sess:
        graph.finalize()
        for plan in plans:
            _restore(sess, plan)
        sess.run(initialise)
        sess.plans = plans
        yield sess


def _check(plans: tuple[Plan, ...]) -> None:
    counts = Counter(variable.op.name for plan in plans for variable in plan.variables)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise RestoreError(f"{names.listed(twice)}: in more than one plan; select each variable once")
    for plan in plans:
        if plan.saver is None:
            raise RestoreError(f"the plan from {plan.weights.path} has errors:\n{plan.report()}", plan)


def _restore(sess: tf.Session, plan: Plan) -> None:
    if plan.weights.checkpoint:
        try:
            plan.saver.restore(sess, plan.weights.checkpoint)
        except (tf.errors.OpError, ValueError) as error:
            raise WeightsError(f"cannot restore from {plan.weights.path}: {message(error)}") from None
        return
    for variable in plan.variables:
        # The initializer's second input is the value it assigns: fed, it loads an array and adds no op.
        sess.run(variable.initializer, {variable.initializer.inputs[1]: plan.weights[variable.op.name]})


def message(error: Exception) -> str:
    """Return the first line of an error's message, without TensorFlow's account of the op that met it."""
    return (getattr(error, "message", None) or str(error)).splitlines()[0]


def _config(intra: int, inter: int, fraction: float | None, growth: bool) -> tf.ConfigProto:
    config = tf.ConfigProto(intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter)
    config.gpu_options.allow_growth = growth
    if fraction is not None:
        config.gpu_options.per_process_gpu_memory_fraction = fraction
    # Constant folding turns a gradient's shape into a control edge onto a fed op and so runs what lies behind it: a
    # step that is fed at the input of a trained convolution would compute the frozen ones all the same.
    rewrites = config.graph_options.rewrite_options
    rewrites.constant_folding = type(rewrites).OFF
    return config
