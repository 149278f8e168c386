"""In which precision the frozen part of a network is computed: what the processor can do, the choice, the session.

In bfloat16, convolutions and matrix products take numbers of 8 bits of precision and add them up in float32. Only what
is frozen is computed so, in a session of its own on the same graph; what is trained is always float32.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.callables import compiled
from tfxfer.errors import DataError, GraphError
from tfxfer.formats.buffers import owned
from tfxfer.graph.traversal import initializer_of, variables_read
from tfxfer.processor import WITHOUT_UNITS, has_units
from tfxfer.store.compute import Network
from tfxfer.store.fingerprint import READ_TOGETHER, value_of
from tfxfer.tf_private import session_config

log = logging.getLogger("tfxfer")

PRECISIONS = ("auto", "bfloat16", "float32")
# Measured on a processor with units, which oneDNN was kept from using (ONEDNN_MAX_CPU_ISA=AVX512_CORE).
LOSS = "0.4 times as fast as in float32 (SqueezeNet 0.46, EfficientNet-Lite0 0.40, VGG16 0.38)"
MARGIN = 1.1  # by which bfloat16 must be faster for `auto` to take it
FEWEST = 4  # batches; of fewer, measuring would take longer than computing
ROUNDS = 2


def check(precision: str) -> None:
    """Refuse a precision that nobody knows, and bfloat16 where the processor has no units for it.

    Raises:
      DataError: it is one of these.
    """
    if precision not in PRECISIONS:
        raise DataError(f"`precision={precision}`: it is one of {names.listed(PRECISIONS)}")
    if precision == "bfloat16" and not has_units():
        raise DataError(
            f"`precision=bfloat16`: {WITHOUT_UNITS}, and would be {LOSS}; leave `precision` out, or give "
            "`precision=auto`"
        )


def of_session(sess: tf.Session) -> str:
    """Return the precision in which a session computes convolutions and products of float32."""
    rewrites = session_config(sess).graph_options.rewrite_options
    return "bfloat16" if rewrites.auto_mixed_precision_onednn_bfloat16 == type(rewrites).ON else "float32"


def of_rows(features: Mapping[str, Any] | None) -> set[str]:
    """Return the precisions in which features were computed: float32 where they are not from a store, or not there."""
    return {getattr(column, "about", {}).get("precision", "float32") for column in (features or {"": None}).values()}


def configuration(sess: tf.Session, precision: str) -> tf.ConfigProto:
    """Return the configuration of a session that computes in `float32`, as this one does, or in `bfloat16`."""
    config = tf.ConfigProto()
    config.CopyFrom(session_config(sess))
    if precision == "bfloat16":
        rewrites = config.graph_options.rewrite_options
        rewrites.auto_mixed_precision_onednn_bfloat16 = type(rewrites).ON
    return config


@contextlib.contextmanager
def computing(network: Network, precision: str) -> Iterator[Network]:
    """Give a network as it computes in a precision: in bfloat16 in a session of its own, which ends with the block.

    Args:
      network: what is computed, in a session in which everything is restored.
      precision: "float32" or "bfloat16".

    Raises:
      GraphError: the variables cannot be brought to another session.
    """
    if precision == of_session(network.sess) or precision == "float32":
        yield network
        return
    with _session(network.sess, network.tensors, configuration(network.sess, precision)) as sess:
        yield dataclasses.replace(network, sess=sess)


@contextlib.contextmanager
def _session(sess: tf.Session, tensors: Sequence[tf.Tensor], config: tf.ConfigProto) -> Iterator[tf.Session]:
    """Open a session on the same graph, with the same values of the variables that the tensors read, and of no others.

    Nothing is added to the graph, which may be finalized.
    """
    loads = _loads(sess, variables_read(tensors))
    with tf.Session(graph=sess.graph, config=config) as other:
        for group in _groups(loads):
            values = sess.run([value_of(op) for op, _ in group])
            feeds = {load.inputs[1]: _owned(value) for (_, load), value in zip(group, values, strict=True)}
            other.run([load for _, load in group], feeds)
        other.plans = getattr(sess, "plans", ())
        yield other


def _loads(sess: tf.Session, variables: Sequence[tf.Operation]) -> list[tuple[tf.Operation, tf.Operation]]:
    """Return each variable with the op that assigns its initial value, which can be fed."""
    if sess.sess_str:
        raise GraphError(
            f"the session runs on the server {tf.compat.as_text(sess.sess_str)}, and bfloat16 needs another one in "
            "this process; give `precision=float32`"
        )
    pairs = [(op, initializer_of(op)) for op in variables]
    loads = [(op, load) for op, load in pairs if load is not None and sess.graph.is_feedable(load.inputs[1])]
    lost = [op.name for op in variables if op not in dict(loads)]
    if lost:
        raise GraphError(
            f"{names.listed(lost)}: no op assigns a value that can be fed, so that another session, as bfloat16 needs "
            "it, cannot have the same; make these by tf.Variable or tf.get_variable, or give `precision=float32`"
        )
    return loads


def _groups(loads: Sequence[tuple[tf.Operation, tf.Operation]]) -> Iterator[list[tuple[tf.Operation, tf.Operation]]]:
    """Yield small variables together, but never two of one initial value, in whose place a single array is fed."""
    group: dict[Any, tuple[tf.Operation, tf.Operation]] = {}
    size = 0
    for op, load in loads:
        initial = load.inputs[1]
        if group and (initial.ref() in group or size >= READ_TOGETHER):
            yield list(group.values())
            group, size = {}, 0
        group[initial.ref()] = op, load
        size += (initial.shape.num_elements() or READ_TOGETHER) * initial.dtype.size
    if group:
        yield list(group.values())


def _owned(value: Any) -> np.ndarray:
    """Return an array whose memory a variable may take over; strings are copied anyway."""
    array = np.asarray(value)
    return array if array.dtype == object else owned(array)


# --- the choice ---


def choose(network: Network, batch: Callable[[], np.ndarray], batch_size: int, batches: int) -> tuple[str, str]:
    """Return the faster precision, where the processor has units for bfloat16, and why.

    Args:
      network: what is computed.
      batch: gives images to measure on.
      batch_size: how many go through the network at once.
      batches: how many batches there are to compute.
    """
    if batches < FEWEST:
        return "float32", f"so few batches ({batches}) are computed sooner than measured"
    factor = measure(network, batch(), batch_size)
    precision = "bfloat16" if factor >= MARGIN else "float32"
    return precision, f"bfloat16 is {factor:.2f} times as fast on the first batches"


def measure(network: Network, images: np.ndarray, batch_size: int) -> float:
    """Return how many times as fast a network is in bfloat16, on one batch: pairs in turn, after one to warm up."""
    with computing(network, "bfloat16") as low:
        pair = [each.make_callable(batch_size) for each in (network, low)]
        seconds = [[_seconds(run, images) for run in pair] for _ in range(1 + ROUNDS)]
    return statistics.median(exact / fast for exact, fast in seconds[1:])


def _seconds(run: Callable[[np.ndarray], Any], images: np.ndarray) -> float:
    began = time.perf_counter()
    run(images)
    return time.perf_counter() - began


# --- networks whose frozen part alone is in bfloat16 ---


@contextlib.contextmanager
def divided(sess: tf.Session, images: tf.Tensor, tensors: Sequence[tf.Tensor]) -> Iterator[None]:
    """Let the compiled calls of a session compute some tensors in bfloat16, and all that follows in float32.

    Args:
      sess: a session in which everything is restored, opened by `tfxfer.session`.
      images: the placeholder of the images.
      tensors: where the frozen part ends; none leaves the session as it is.

    Raises:
      GraphError: see `computing`.
    """
    if not tensors:
        yield
        return
    with computing(Network(sess, images, tensors), "bfloat16") as low:

        def compile_in_two(
            fetches: Sequence[tf.Tensor], feeds: Sequence[tf.Tensor], ops: Sequence[tf.Operation] = ()
        ) -> Callable[..., list[np.ndarray]]:
            if images.ref() not in {feed.ref() for feed in feeds}:  # features are fed
                return compiled(sess, fetches, feeds, ops, whole=True)
            first = compiled(low.sess, tensors, feeds)
            second = compiled(sess, fetches, [*tensors, *feeds], ops, whole=True)
            return lambda *arrays: second(*first(*arrays), *arrays)

        sess.compile = compile_in_two
        try:
            yield
        finally:
            sess.compile = None
