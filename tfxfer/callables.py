"""Fast compiled callables for a session. TensorFlow is imported by those who have one."""

from __future__ import annotations

import atexit
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfxfer import tf_private

_alive: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _release_all() -> None:
    for call in _alive:
        tf_private.release(call)


def compiled(
    sess: Any, tensors: Sequence[Any], feeds: Sequence[Any], ops: Sequence[Any] = (), *, whole: bool = False
) -> Callable[..., list[np.ndarray]]:
    """Return a function that takes an array for each feed, runs the ops and returns the tensors' values.

    It calls what lies below `Session.make_callable`; only a session on a server goes the long way.

    Args:
      sess: a `tf.Session` whose graph is complete.
      tensors: what to return; none of them is fed.
      feeds: the tensors that are fed. Arrays are cast to their dtypes; shapes are not looked at.
      ops: what else is run.
      whole: whether this session computes all, also where it has a way of its own (`compile`) to divide the work.
    """
    if not whole and getattr(sess, "compile", None):
        return sess.compile(tensors, feeds, ops)

    from tensorflow.core.protobuf.config_pb2 import CallableOptions

    if sess.sess_str:
        general = sess.make_callable([list(tensors), list(ops)], list(feeds))
        return lambda *arrays: general(*arrays)[0]
    options = CallableOptions(
        feed=[t.name for t in feeds], fetch=[t.name for t in tensors], target=[op.name for op in ops]
    )
    call = tf_private.session_callable(sess, options)
    _alive.add(call)
    dtypes = [feed.dtype.as_numpy_dtype for feed in feeds]
    return lambda *arrays: call(*(np.asarray(a, dtype) for a, dtype in zip(arrays, dtypes, strict=True)))


def message(error: Exception) -> str:
    """Return the line of an error's message that says what happened, without TensorFlow's description of the op."""
    lines = [line.strip() for line in (getattr(error, "message", None) or str(error)).splitlines() if line.strip()]
    # "Graph execution error:", where the op was made, what happened, "[[{{node save/RestoreV2}}]]", and more.
    happened = [line for line, following in itertools.pairwise(lines) if following.startswith("[[{{node")]
    return (happened or lines or [type(error).__name__])[0]
