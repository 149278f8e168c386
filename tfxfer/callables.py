"""What is called again and again in a session; TensorFlow is loaded by whoever has one."""

from __future__ import annotations

import atexit
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_alive: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _forget() -> None:
    """Keep TensorFlow from letting go of what is left when the process ends, by functions that are gone by then."""
    for call in _alive:
        call._handle = None


def compiled(
    sess: Any, tensors: Sequence[Any], feeds: Sequence[Any], ops: Sequence[Any] = ()
) -> Callable[..., list[np.ndarray]]:
    """Return a function that takes an array for each feed, runs the ops and gives the tensors' values.

    `Session.make_callable` with feeds resolves them anew on each call, which takes as long as a small step does. So
    TensorFlow's own callable, which lies below it, is called straight away; only a session on a server does it the
    long way.

    Args:
      sess: a `tf.Session` whose graph is complete.
      tensors: what to give; none of them is fed.
      feeds: what is fed. Arrays are cast to the dtypes of these; their shapes are not looked at.
      ops: what is run beside.
    """
    from tensorflow.core.protobuf.config_pb2 import CallableOptions

    if sess.sess_str:
        general = sess.make_callable([list(tensors), list(ops)], list(feeds))
        return lambda *arrays: general(*arrays)[0]
    call = sess._make_callable_from_options(
        CallableOptions(feed=[t.name for t in feeds], fetch=[t.name for t in tensors], target=[op.name for op in ops])
    )
    _alive.add(call)
    kinds = [feed.dtype.as_numpy_dtype for feed in feeds]
    return lambda *arrays: call(*(np.asarray(a, kind) for a, kind in zip(arrays, kinds, strict=True)))


def message(error: Exception) -> str:
    """Return the one line of an error's message that says what happened, without TensorFlow's account of the op."""
    lines = [line.strip() for line in (getattr(error, "message", None) or str(error)).splitlines() if line.strip()]
    # "Graph execution error:", where the op was made, what happened, "[[{{node save/RestoreV2}}]]", and more.
    happened = [line for line, following in itertools.pairwise(lines) if following.startswith("[[{{node")]
    return (happened or lines or [type(error).__name__])[0]
