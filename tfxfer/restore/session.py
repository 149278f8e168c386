"""A session whose variables are restored or initialised, each exactly once, on a graph that is finalized."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError, NotOpenError
from tfxfer.graph.variables import every_variable
from tfxfer.restore.plan import Plan, check, move


class Session(tf.Session):
    """A `tf.Session` that knows which plans its variables came from.

    Attributes:
      plans: the plans it restored, in the order given.
      compile: makes compiled calls where a part is computed elsewhere, see `tfxfer.store.precision.divided`; or None.
    """

    plans: tuple[Plan, ...] = ()
    compile: Callable[..., Callable[..., list[np.ndarray]]] | None = None


class Opening(contextlib.AbstractContextManager[Session]):
    """A session that `with` opens, and closes at its end."""

    def __init__(self, opened: contextlib.AbstractContextManager[Session]) -> None:
        self._opened = opened

    def __enter__(self) -> Session:
        return self._opened.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._opened.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> object:
        """Refuse to be used as the session.

        Raises:
          NotOpenError: always; `with` gives the session.
        """
        raise NotOpenError(f"the session is not open, and has no {name} yet; write `with tx.session(...) as sess:`")


def session(
    *plans: Plan,
    intra_op_threads: int = 0,
    inter_op_threads: int = 0,
    per_process_gpu_memory_fraction: float | None = None,
    allow_growth: bool = False,
) -> Opening:
    """Open a session on the default graph: restore the plans, initialise all other variables, finalize the graph.

    No initializer of a restored variable runs, so none can wipe it; the others run last and may read what was restored.
    Nothing can be added to the graph from here on: build first, then run.

        with tx.session(plan) as sess:
            sess.run(logits, {images: pictures})

    Args:
      *plans: what `tfxfer.plan` returned, for this graph; no variable may be in two of them. Together they must restore
        every variable that the network reads, that is not trainable, and that the file of one of them holds, except
        what a plan excludes.
      intra_op_threads, inter_op_threads: threads within an op and across ops; 0 lets TensorFlow choose.
      per_process_gpu_memory_fraction: the share of a GPU's memory to take, in (0, 1].
      allow_growth: take a GPU's memory as it is needed.

    Raises:
      RestoreError: see `tfxfer.restore.plan.check`.
      GraphError: TensorFlow executes eagerly, so that it has no graph to run.
      WeightsError: the file changed, or its bytes fail their checksum.

    Example:
      >>> np.savez("weights.npz", **{"fc/kernel": np.ones((4, 2), np.float32)})
      >>> x = tf.placeholder(tf.float32, [None, 4])
      >>> logits = tx.graph.layers.dense(x, 2, "fc")
      >>> with tx.session(tx.plan("fc/kernel", "weights.npz")) as sess:
      ...     sess.run(logits, {x: [[1, 2, 3, 4]]}).tolist()
      [[10.0, 10.0]]
    """
    config = configuration(intra_op_threads, inter_op_threads, per_process_gpu_memory_fraction, allow_growth)
    return Opening(_opened(plans, config))


@contextlib.contextmanager
def _opened(plans: tuple[Plan, ...], config: tf.ConfigProto) -> Iterator[Session]:
    if tf.executing_eagerly():
        raise GraphError(
            "TensorFlow executes eagerly here, and a session runs a graph; build the network, and open the session, "
            "within `with tf.Graph().as_default():`"
        )
    graph = tf.get_default_graph()
    check(plans, graph)
    with Session(graph=graph, config=config) as sess:
        graph.finalize()
        fill(sess, plans)
        sess.plans = plans
        yield sess


def fill(sess: tf.Session, plans: Sequence[Plan]) -> None:
    """Restore plans that `check` has passed, then initialise all other variables; nothing is added to the graph."""
    initializers = _initializers(sess.graph, {variable.op.name for plan in plans for variable in plan.variables})
    for plan in plans:
        move(sess, plan)
    if initializers:
        sess.run(initializers)


def _initializers(graph: tf.Graph, restored: set[str]) -> list[tf.Operation]:
    # The ops themselves and no tf.group of them: nothing is added, so that a finalized graph can have further sessions.
    wanted = [variable.initializer for variable in every_variable(graph) if variable.op.name not in restored]
    return wanted + graph.get_collection(tf.GraphKeys.TABLE_INITIALIZERS)


def configuration(
    intra_op_threads: int = 0,
    inter_op_threads: int = 0,
    per_process_gpu_memory_fraction: float | None = None,
    allow_growth: bool = False,
) -> tf.ConfigProto:
    """Return the configuration of a session; the arguments are those of `session`."""
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
