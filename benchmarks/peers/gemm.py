"""How fast the processor multiplies matrices: the time that a network's products and sums would take at that rate."""

from __future__ import annotations

import math
from typing import Any

import tensorflow.compat.v1 as tf

from benchmarks import work
from benchmarks.peers import tf_networks

SIDE, TIMES = 2048, 12


def operations(options: Any) -> int:
    """Return how many products and sums a network takes for one picture."""
    with tf.Graph().as_default() as graph:
        tf_networks.codes(options, tf.placeholder(tf.uint8, [1, options.side, options.side, 3]))
        convolutions = [op for op in graph.get_operations() if op.type in ("Conv2D", "DepthwiseConv2dNative")]
        sizes = [(op.inputs[1].shape.as_list(), op.outputs[0].shape.as_list()) for op in convolutions]
    return sum(2 * math.prod(kernel) * math.prod(output[1:3]) for kernel, output in sizes)


def main() -> None:
    """Multiply, and report the time of the network's work at the best rate that was seen."""
    options, best = work.options(), float("inf")
    with tf.Graph().as_default(), tf.Session() as sess:
        dtype = tf.as_dtype(options.precision)
        a, b = (tf.get_variable(name, initializer=tf.cast(tf.random.normal([SIDE, SIDE]), dtype)) for name in "ab")
        product = tf.matmul(a, b)
        sess.run(tf.global_variables_initializer())
        for _ in range(TIMES):
            clock = work.Clock()
            with clock.running():
                sess.run(product.op)
            best = min(best, clock.seconds)
    rate = 2 * SIDE**3 / best
    seconds = operations(options) * options.pictures / rate
    work.report(seconds, computing=seconds, gflops=rate / 1e9)


if __name__ == "__main__":
    main()
