"""In which precision the frozen part of a network is computed: what the processor can do, the choice, the session.

In bfloat16, convolutions and matrix products take numbers of 8 bits of precision and add them up in float32. Only what
is frozen is computed so, in a graph and a session of its own, in which batch normalisation is folded into the
convolutions; what is trained is always float32.
"""

from __future__ import annotations

import contextlib
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
from tfxfer.graph.traversal import needed
from tfxfer.graph_def import folding, inlining
from tfxfer.processor import WITHOUT_UNITS, has_units
from tfxfer.store import batch_norm_folding, fingerprint
from tfxfer.store.compute import Network
from tfxfer.store.graph_copy import opened, pruned, subgraph
from tfxfer.tf_private import session_config

log = logging.getLogger("tfxfer")

PRECISIONS = ("auto", "bfloat16", "float32")
# Measured on a processor with units, which oneDNN was kept from using (ONEDNN_MAX_CPU_ISA=AVX512_CORE).
LOSS = "0.4 times as fast as in float32 (SqueezeNet 0.46, EfficientNet-Lite0 0.40, VGG16 0.38)"
MARGIN = 1.1  # by which bfloat16 must be faster for `auto` to take it
FEWEST = 4  # batches; of fewer, measuring would take longer than computing
ROUNDS = 2
FOLDED = "batch normalisation folded"  # in addresses: to be changed where rows get other bits


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


def rewrites(sess: tf.Session, precision: str) -> str:
    """Return how a graph is changed to compute in a precision: by TensorFlow, and here. It decides the bits of rows."""
    by_tensorflow = fingerprint.rewrites(configuration(sess, precision))
    changed_here = precision == "bfloat16" and precision != of_session(sess)
    return f"{by_tensorflow}, {FOLDED}" if changed_here else by_tensorflow


@contextlib.contextmanager
def computing(network: Network, precision: str) -> Iterator[Network]:
    """Give a network as it computes in a precision: in bfloat16 in a session of its own, which ends with the block.

    That session has a graph of its own too, in which batch normalisation is folded into the convolutions, and which is
    fed images alone: what else is fed is bound to its value, and a placeholder with a default to that.

    Args:
      network: what is computed, in a session in which everything is restored.
      precision: "float32" or "bfloat16".

    Raises:
      GraphError: the variables cannot be brought to another session.
    """
    if precision == of_session(network.sess) or precision == "float32":
        yield network
        return
    _check_local(network.sess)
    outputs = [tensor.name for tensor in network.tensors]
    graph_def, arrays = _folded(_decided(network), network.images.name, outputs, network.sess)
    with opened(graph_def, configuration(network.sess, precision), network.sess, arrays) as sess:
        images, *tensors = (sess.graph.get_tensor_by_name(name) for name in (network.images.name, *outputs))
        yield Network(sess, images, tensors, origin=network)


def _check_local(sess: tf.Session) -> None:
    if sess.sess_str:
        raise GraphError(
            f"the session runs on the server {tf.compat.as_text(sess.sess_str)}, and bfloat16 needs another one in "
            "this process; give `precision=float32`"
        )


def _decided(network: Network) -> tf.GraphDef:
    """Return what computes the tensors, without what only other values of the placeholders would need."""
    images, tensors = network.images, network.tensors
    ops = set(needed(tensor.op for tensor in (images, *tensors)))
    values = {}
    for op in ops:
        if op.type == "PlaceholderWithDefault" and op is not images.op:
            values[op.outputs[0].name] = tf.get_static_value(op.inputs[0])
    for tensor, value in network.feeds.items():
        if tensor.op in ops:
            values[tensor.name] = np.asarray(value, tensor.dtype.as_numpy_dtype)
    bound = {name: value for name, value in values.items() if value is not None}
    graph_def = folding.fold(subgraph(images.graph, {op.name for op in ops}), bound)
    while inlining.calls(graph_def):  # of a branch that is taken
        graph_def = folding.fold(inlining.inline(graph_def), {})
    return pruned(graph_def, [images.name, *(tensor.name for tensor in tensors)])


def _folded(
    graph_def: tf.GraphDef, images: str, tensors: Sequence[str], sess: tf.Session
) -> tuple[tf.GraphDef, dict[str, np.ndarray]]:
    """Fold batch normalisation; return the graph, and the values of the variables that it has in addition."""
    chains = batch_norm_folding.chains(graph_def, images, tensors)
    constants = list(dict.fromkeys(name for chain in chains for name in chain.constants))
    arrays = batch_norm_folding.fold(graph_def, chains, _evaluated(graph_def, constants, sess))
    return pruned(graph_def, [images, *tensors]), arrays


def _evaluated(graph_def: tf.GraphDef, tensors: Sequence[str], sess: tf.Session) -> dict[str, np.ndarray]:
    """Return the values of tensors that constants and variables decide, so that nothing need be waited for."""
    if not tensors:
        return {}
    part = pruned(graph_def, tensors)
    for node in part.node:
        sources = [source for source in node.input if not source.startswith("^")]
        del node.input[:]
        node.input.extend(sources)
    with opened(pruned(part, tensors), configuration(sess, "float32"), sess, {}) as other:
        return dict(zip(tensors, other.run(list(tensors)), strict=True))


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
def divided(
    sess: tf.Session, images: tf.Tensor, tensors: Sequence[tf.Tensor], feeds: Mapping[tf.Tensor, np.ndarray]
) -> Iterator[None]:
    """Let the compiled calls of a session compute some tensors in bfloat16, and all that follows in float32.

    Args:
      sess: a session in which everything is restored, opened by `tfxfer.session`.
      images: the placeholder of the images.
      tensors: where the frozen part ends; none leaves the session as it is.
      feeds: what else is fed in each call, as `Network` has it.

    Raises:
      GraphError: see `computing`.
    """
    if not tensors:
        yield
        return
    with computing(Network(sess, images, tensors, feeds), "bfloat16") as low:

        def compile_in_two(
            fetches: Sequence[tf.Tensor], feeds: Sequence[tf.Tensor], ops: Sequence[tf.Operation] = ()
        ) -> Callable[..., list[np.ndarray]]:
            refs = [feed.ref() for feed in feeds]
            if images.ref() not in refs:  # features are fed
                return compiled(sess, fetches, feeds, ops, whole=True)
            place = refs.index(images.ref())
            first = compiled(low.sess, low.tensors, [low.images, *low.feeds], whole=True)
            second = compiled(sess, fetches, [*tensors, *feeds], ops, whole=True)
            return lambda *arrays: second(*first(arrays[place], *low.feeds.values()), *arrays)

        sess.compile = compile_in_two
        try:
            yield
        finally:
            sess.compile = None
