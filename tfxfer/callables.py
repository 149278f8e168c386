"""Fast compiled callables for a session. TensorFlow is imported by those who have one."""

from __future__ import annotations

import atexit
import itertools
import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from tfxfer import tf_private

T = TypeVar("T")

_alive: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _release_all() -> None:
    for call in _alive:
        tf_private.release(call)


def compiled(
    sess: Any,
    tensors: Sequence[Any],
    feeds: Sequence[Any],
    ops: Sequence[Any] = (),
    *,
    in_caller: bool = False,
    whole: bool = False,
) -> Callable[..., list[np.ndarray]]:
    """Return a function that takes an array for each feed, runs the ops and returns the tensors' values.

    It calls what lies below `Session.make_callable`; only a session on a server goes the long way.

    Args:
      sess: a `tf.Session` whose graph is complete.
      tensors: what to return; none of them is fed.
      feeds: the tensors that are fed. Arrays are cast to their dtypes; shapes are not looked at.
      ops: what else is run.
      in_caller: whether the calling thread runs the ops one after the other and wakes no other thread for them. Within
        an op, threads divide the work all the same, and the bits are the same. A session on a server ignores it.
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
    options.run_options.inter_op_thread_pool = -1 if in_caller else 0
    call = tf_private.session_callable(sess, options)
    _alive.add(call)
    dtypes = [feed.dtype.as_numpy_dtype for feed in feeds]
    return lambda *arrays: call(*(np.asarray(a, dtype) for a, dtype in zip(arrays, dtypes, strict=True)))


class Quickest(Generic[T]):
    """Calls functions that do the same in turn; when each was called often enough, the quickest of them alone."""

    def __init__(
        self,
        calls: Sequence[Callable[..., T]],
        *,
        tries: int = 25,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take the functions; of each, `tries` calls are timed by the `clock`, and their medians are compared."""
        self._calls, self._tries, self._clock = list(calls), tries, clock
        self._times: list[list[float]] = [[] for _ in calls]

    def __call__(self, *arguments: Any) -> T:
        """Call one of the functions."""
        if len(self._calls) == 1:
            return self._calls[0](*arguments)
        place = min(range(len(self._calls)), key=lambda number: len(self._times[number]))
        begin = self._clock()
        result = self._calls[place](*arguments)
        self._times[place].append(self._clock() - begin)
        if len(self._times[-1]) == self._tries:
            medians = [statistics.median(times) for times in self._times]
            self._calls = [self._calls[medians.index(min(medians))]]
        return result


def message(error: Exception) -> str:
    """Return the line of an error's message that says what happened, without TensorFlow's description of the op."""
    lines = [line.strip() for line in (getattr(error, "message", None) or str(error)).splitlines() if line.strip()]
    # "Graph execution error:", where the op was made, what happened, "[[{{node save/RestoreV2}}]]", and more.
    happened = [line for line, following in itertools.pairwise(lines) if following.startswith("[[{{node")]
    return (happened or lines or [type(error).__name__])[0]
