"""A session whose variables are restored or initialised, each exactly once, on a graph that is finalized."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import RestoreError, WeightsError
from tfxfer.graph.parts import taken, wholes
from tfxfer.restore import Plan
from tfxfer.weights import Tensor, open_weights
from tfxfer.weights.memory import owned

GROUP_BYTES = 64 << 20


class Session(tf.Session):
    """A `tf.Session` that knows which plans its variables came from.

    Attributes:
      plans: the plans it restored, in the order given.
    """

    plans: tuple[Plan, ...] = ()


@contextlib.contextmanager
def session(
    *plans: Plan,
    intra_op_threads: int = 0,
    inter_op_threads: int = 0,
    per_process_gpu_memory_fraction: float | None = None,
    allow_growth: bool = False,
) -> Iterator[Session]:
    """Open a session on the default graph: restore the plans, initialise all other variables, finalize the graph.

    No initializer of a restored variable runs, so none can wipe it; the others run last and may read what was restored.
    Nothing can be added to the graph from here on: build first, then run.

    Args:
      *plans: what `tfxfer.plan` returned, for this graph; no variable may be in two of them.
      intra_op_threads, inter_op_threads: threads within an op and across ops; 0 lets TensorFlow choose.
      per_process_gpu_memory_fraction: the share of a GPU's memory to take, in (0, 1].
      allow_growth: take a GPU's memory as it is needed.

    Raises:
      RestoreError: a variable is in two plans, or a plan has errors or is for another graph.
      WeightsError: the file changed, or its bytes fail their checksum.
    """
    graph = tf.get_default_graph()
    check(plans, graph)
    config = configuration(intra_op_threads, inter_op_threads, per_process_gpu_memory_fraction, allow_growth)
    with Session(graph=graph, config=config) as sess:
        graph.finalize()
        fill(sess, plans)
        sess.plans = plans
        yield sess


def fill(sess: tf.Session, plans: Sequence[Plan]) -> None:
    """Restore plans that `check` has passed, then initialise all other variables; nothing is added to the graph."""
    initializers = _initializers(sess.graph, {variable.op.name for plan in plans for variable in plan.variables})
    for plan in plans:
        _restore(sess, plan)
    if initializers:
        sess.run(initializers)


def check(plans: Sequence[Plan], graph: tf.Graph) -> None:
    """Refuse plans that cannot be restored together into a graph.

    Raises:
      RestoreError: a variable is in two of them, or one has errors or is for another graph.
    """
    counts = Counter(variable.op.name for plan in plans for variable in plan.variables)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise RestoreError(f"{names.listed(twice)}: in more than one plan; select each variable once")
    for plan in plans:
        if plan.saver is None:
            raise RestoreError(f"the plan from {plan.weights.path} has errors:\n{plan.report()}", plan)
        if plan.variables[0].graph is not graph:
            raise RestoreError(
                f"the plan from {plan.weights.path} is for another graph; call plan and session within "
                "the same `with graph.as_default()`",
                plan,
            )


def _initializers(graph: tf.Graph, restored: set[str]) -> list[tf.Operation]:
    # The ops themselves and no tf.group of them: nothing is added, so that a finalized graph can have further sessions.
    keys = (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.LOCAL_VARIABLES)
    variables = [variable for key in keys for variable in graph.get_collection(key)]
    wanted = [variable.initializer for variable in variables if variable.op.name not in restored]
    return wanted + graph.get_collection(tf.GraphKeys.TABLE_INITIALIZERS)


def _restore(sess: tf.Session, plan: Plan) -> None:
    if plan.by == "Saver":
        _restore_by_saver(sess, plan)
        return
    for group in _groups(plan):
        # An initializer's second input is the value it assigns: fed, it loads an array and adds no op. The variable may
        # take the array's memory over, so that it must not be that of a file.
        arrays = {name: plan.weights[name] for name in group}
        initializers = {part.initializer: taken(part, arrays[name]) for name, parts in group.items() for part in parts}
        sess.run(list(initializers), {op.inputs[1]: owned(array) for op, array in initializers.items()})


def _groups(plan: Plan) -> Iterator[dict[str, list[tf.Variable]]]:
    """Yield the variables, those together that are small: each run of a session costs some milliseconds."""
    group: dict[str, list[tf.Variable]] = {}
    size = 0
    for name, parts in wholes(plan.variables).items():
        more = plan.weights.tensor(name).nbytes
        if group and size + more > GROUP_BYTES:
            yield group
            group, size = {}, 0
        group[name] = parts
        size += more
    yield group


def _restore_by_saver(sess: tf.Session, plan: Plan) -> None:
    now = _unchanged(plan)
    try:
        plan.saver.restore(sess, plan.weights.checkpoint)  # type: ignore[union-attr]  # _check saw that there is one
    except (tf.errors.OpError, ValueError) as error:
        # Read by our own reader, which names variable and file, as TensorFlow does not.
        for tensor in now:
            tensor.read()
        raise WeightsError(f"cannot restore from {plan.weights.path}: {message(error)}") from None


def _unchanged(plan: Plan) -> list[Tensor]:
    """Return what is to be restored as the file holds it now; a Saver puts an array of any shape into a variable.

    Raises:
      WeightsError: the file is broken, or another than the plan was made from.
    """
    fresh = open_weights(plan.weights.checkpoint or plan.weights.path, max_bytes=sys.maxsize)
    table = {fresh.source(name): fresh.tensor(name) for name in fresh}
    planned = [(plan.weights.source(name), plan.weights.tensor(name)) for name in wholes(plan.variables)]
    changed = [
        source
        for source, was in planned
        if source not in table or (table[source].shape, table[source].dtype) != (was.shape, was.dtype)
    ]
    if changed:
        raise WeightsError(
            f"{plan.weights.path} has changed since the plan was made, in {names.listed(changed)}; "
            "call open_weights and plan again"
        )
    return [table[source] for source, _ in planned]


def message(error: Exception) -> str:
    """Return the one line of an error's message that says what happened, without TensorFlow's account of the op."""
    lines = [line.strip() for line in (getattr(error, "message", None) or str(error)).splitlines() if line.strip()]
    # "Graph execution error:", where the op was made, what happened, "[[{{node save/RestoreV2}}]]", and more.
    happened = [line for line, following in itertools.pairwise(lines) if following.startswith("[[{{node")]
    return (happened or lines or [type(error).__name__])[0]


def configuration(
    intra_op_threads: int = 0,
    inter_op_threads: int = 0,
    per_process_gpu_memory_fraction: float | None = None,
    allow_growth: bool = False,
) -> tf.ConfigProto:
    """Return what TensorFlow is told of a session; the arguments are those of `session`."""
    config = tf.ConfigProto(
        intra_op_parallelism_threads=intra_op_threads, inter_op_parallelism_threads=inter_op_threads
    )
    config.gpu_options.allow_growth = allow_growth
    if per_process_gpu_memory_fraction is not None:
        config.gpu_options.per_process_gpu_memory_fraction = per_process_gpu_memory_fraction
    # Constant folding turns a gradient's shape into a control edge onto a fed op and so runs what lies behind it: a
    # step that is fed at the input of a trained convolution would compute the frozen ones all the same.
    # Arithmetic optimization puts another op in place of one that is fed (x * x, x + x, -x), and function optimization
    # specializes a function to what it is called on; both ask for the images then.
    rewrites = config.graph_options.rewrite_options
    rewrites.constant_folding = type(rewrites).OFF
    rewrites.arithmetic_optimization = type(rewrites).OFF
    rewrites.function_optimization = type(rewrites).OFF
    return config
