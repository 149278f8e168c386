"""In which precision the frozen part of a network is computed: what the processor can do, the choice, the session.

`float32` computes the graph as it is. `folded` computes in float32 too, with batch normalisation folded into the
convolutions, which rounds otherwise. `bfloat16` also lets convolutions and matrix products take numbers of 8 bits of
precision, and adds them up in float32. Only what is frozen is computed so, in a graph and a session of its own; what
is trained is always float32.
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

from tfxfer.callables import compiled
from tfxfer.errors import GraphError
from tfxfer.graph.traversal import needed
from tfxfer.graph_def import folding, inlining
from tfxfer.processor import has_units, without_units
from tfxfer.store import batch_norm_folding, fingerprint, pad_folding
from tfxfer.store.compute import Network
from tfxfer.store.graph_copy import opened, pruned, subgraph
from tfxfer.tf_private import session_config

log = logging.getLogger("tfxfer")

MARGIN = 1.1  # by which what is less exact must be faster for `auto` to take it
FEWEST = 4  # batches; of fewer, measuring would take longer than computing
ROUNDS, ENOUGH = 3, 0.5  # seconds: of rounds that take as long, one tells enough
SHARE = 8  # of a batch, an eighth is measured: it tells the same
_REWRITES = ("auto_mixed_precision_mkl", "auto_mixed_precision_onednn_bfloat16")  # by oneDNN, to bfloat16
FOLDED = "batch normalisation and padding folded"  # in addresses: to be changed where rows get other bits


def of_network(network: Network) -> str:
    """Return the precision in which a network computes."""
    return network.precision or of_session(network.sess)


def of_session(sess: tf.Session) -> str:
    """Return the precision in which a session computes convolutions and products of float32."""
    rewrites = session_config(sess).graph_options.rewrite_options
    return "bfloat16" if any(getattr(rewrites, name) == type(rewrites).ON for name in _REWRITES) else "float32"


def of_rows(features: Mapping[str, Any] | None) -> set[str]:
    """Return the precisions in which features were computed: float32 where they are not from a store, or not there."""
    return {getattr(column, "about", {}).get("precision", "float32") for column in (features or {"": None}).values()}


def configuration(sess: tf.Session, precision: str) -> tf.ConfigProto:
    """Return the configuration of a session that computes in a precision; for `float32`, that of this one."""
    config = tf.ConfigProto()
    config.CopyFrom(session_config(sess))
    if precision in ("float32", of_session(sess)):
        return config
    rewrites = config.graph_options.rewrite_options
    for name in _REWRITES:
        rewrites.ClearField(name)
    if precision == "bfloat16":
        rewrites.auto_mixed_precision_onednn_bfloat16 = type(rewrites).ON
    if not rewrites.ByteSize():  # as in a session that was opened without
        config.graph_options.ClearField("rewrite_options")
    return config


def rewrites(sess: tf.Session, precision: str) -> str:
    """Return how a graph is changed to compute in a precision: by TensorFlow, and here. It decides the bits of rows."""
    by_tensorflow = fingerprint.rewrites(configuration(sess, precision))
    changed_here = precision not in ("float32", of_session(sess))
    return f"{by_tensorflow}, {FOLDED}" if changed_here else by_tensorflow


@contextlib.contextmanager
def computing(network: Network, precision: str) -> Iterator[Network]:
    """Give a network as it computes in a precision: if not in float32, in a session of its own, which the block ends.

    That session has a graph of its own too, in which batch normalisation is folded into the convolutions, and which is
    fed images alone: what else is fed is bound to its value, and a placeholder with a default to that.

    Args:
      network: what is computed, in a session in which everything is restored.
      precision: "bfloat16", "float32" or "folded".

    Raises:
      GraphError: the variables cannot be brought to another session.
    """
    if precision in ("float32", of_session(network.sess)):
        yield network
        return
    _check_local(network.sess, precision)
    outputs = [tensor.name for tensor in network.tensors]
    graph_def, names, arrays = _folded(_decided(network), network.images.name, outputs, network.sess)
    with opened(graph_def, configuration(network.sess, precision), network.sess, arrays) as sess:
        images, *tensors = (sess.graph.get_tensor_by_name(name) for name in (network.images.name, *names))
        yield Network(sess, images, tensors, origin=network, precision=precision)


def _check_local(sess: tf.Session, precision: str) -> None:
    if sess.sess_str:
        raise GraphError(
            f"the session runs on the server {tf.compat.as_text(sess.sess_str)}, and `precision={precision}` needs "
            "another one in this process; give `precision=float32`"
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
) -> tuple[tf.GraphDef, list[str], dict[str, np.ndarray]]:
    """Fold batch normalisation and padding; return the graph, the tensors in it, and the values of new variables."""
    pad_folding.fold(graph_def)
    chains = batch_norm_folding.chains(graph_def, images, tensors)
    constants = list(dict.fromkeys(name for each in chains.values() for chain in each for name in chain.constants))
    names, arrays = batch_norm_folding.fold(graph_def, chains, _evaluated(graph_def, constants, sess))
    outputs = [names[tensor] for tensor in tensors]
    return pruned(graph_def, [images, *outputs]), outputs, arrays


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
    """Return the precision that is the fastest, and why.

    Measured are `folded`, if there is anything to fold, and `bfloat16`, if the processor has units for it. Each must be
    faster by a margin than what is more exact.

    Args:
      network: what is computed.
      batch: gives images to measure on.
      batch_size: how many go through the network at once.
      batches: how many batches there are to compute.
    """
    if batches < FEWEST:
        return "float32", f"so few batches ({batches}) are computed sooner than measured"
    if network.sess.sess_str:
        return "float32", "the session runs on a server"
    others = [*(["folded"] if _can_fold(network) else []), *(["bfloat16"] if has_units() else [])]
    if not others:
        return "float32", f"{without_units()}, and the network has no batch normalisation or padding to fold"
    factors = measure(network, batch(), batch_size, others)
    precision, best = "float32", 1.0
    for name, factor in factors.items():
        if factor >= MARGIN * best:
            precision, best = name, factor
    measured = " and ".join(f"{name} is {factor:.2f} times as fast" for name, factor in factors.items())
    return precision, f"{measured} on the first batches"


def _can_fold(network: Network) -> bool:
    graph_def, tensors = _decided(network), [tensor.name for tensor in network.tensors]
    padded = pad_folding.fold(graph_def)
    return padded or any(batch_norm_folding.chains(graph_def, network.images.name, tensors).values())


def measure(network: Network, images: np.ndarray, batch_size: int, others: Sequence[str]) -> dict[str, float]:
    """Return how many times as fast a network is in other precisions, on a part of a batch.

    Each runs it once to warm up, and then in turn: some times, and large networks once.
    """
    batch_size = -(-batch_size // SHARE)
    images = images[:batch_size]
    with contextlib.ExitStack() as stack:
        networks = [network, *(stack.enter_context(computing(network, name)) for name in others)]
        runs = [each.make_callable(batch_size) for each in networks]
        for run in runs:
            run(images)
        rounds: list[list[float]] = []
        while not rounds or (len(rounds) < ROUNDS and sum(rounds[-1]) < ENOUGH):
            rounds.append([_seconds(run, images) for run in runs])
    factors = ([exact / seconds for seconds in rest] for exact, *rest in rounds)
    return dict(zip(others, map(statistics.median, zip(*factors, strict=True)), strict=True))


def _seconds(run: Callable[[np.ndarray], Any], images: np.ndarray) -> float:
    began = time.perf_counter()
    run(images)
    return time.perf_counter() - began


# --- networks whose frozen part alone is in another precision ---


@contextlib.contextmanager
def divided(
    sess: tf.Session,
    images: tf.Tensor,
    tensors: Sequence[tf.Tensor],
    feeds: Mapping[tf.Tensor, np.ndarray],
    precision: str,
) -> Iterator[None]:
    """Let the compiled calls of a session compute some tensors in a precision, and all that follows in float32.

    Args:
      sess: a session in which everything is restored, opened by `tfxfer.session`.
      images: the placeholder of the images.
      tensors: where the frozen part ends; none leaves the session as it is.
      feeds: what else is fed in each call, as `Network` has it.
      precision: "bfloat16" or "folded".

    Raises:
      GraphError: see `computing`.
    """
    if not tensors:
        yield
        return
    ends = {tensor.ref(): place for place, tensor in enumerate(tensors)}
    with computing(Network(sess, images, tensors, feeds), precision) as low:

        def compile_in_two(
            fetches: Sequence[tf.Tensor], feeds: Sequence[tf.Tensor], ops: Sequence[tf.Operation] = ()
        ) -> Callable[..., list[np.ndarray]]:
            refs = [feed.ref() for feed in feeds]
            if images.ref() not in refs:  # features are fed
                return compiled(sess, fetches, feeds, ops, whole=True)
            place = refs.index(images.ref())
            first = compiled(low.sess, low.tensors, [low.images, *low.feeds], whole=True)
            further = [fetch for fetch in fetches if fetch.ref() not in ends]
            second = compiled(sess, further, [*tensors, *feeds], ops, whole=True) if further or ops else None

            def run(*arrays: np.ndarray) -> list[np.ndarray]:
                frozen = first(arrays[place], *low.feeds.values())
                rest = iter(second(*frozen, *arrays) if second else ())
                return [frozen[ends[fetch.ref()]] if fetch.ref() in ends else next(rest) for fetch in fetches]

            return run

        sess.compile = compile_in_two
        try:
            yield
        finally:
            sess.compile = None
