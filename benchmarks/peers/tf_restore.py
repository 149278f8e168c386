"""VGG16 into a session without tfxfer: one constant assignment a variable, a bare Saver, or tf_slim's function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks import work
from benchmarks.peers import tf_networks


def constants(folder: Path, variables: dict[str, tf.Variable]) -> tf.Session:
    """Restore as the scripts that come with vgg16_weights.npz do."""
    sess = tf.Session()
    arrays = np.load(folder / "vgg16_weights.npz")
    for key in arrays.files:
        name = key.replace("_W", "/kernel").replace("_b", "/bias")
        if name in variables:
            sess.run(variables[name].assign(arrays[key]))
    return sess


def saver(folder: Path, variables: dict[str, tf.Variable]) -> tf.Session:
    """Restore a checkpoint by a Saver of the variables."""
    sess = tf.Session()
    tf.train.Saver(list(variables.values())).restore(sess, str(folder / "vgg16.ckpt"))
    return sess


def slim(folder: Path, variables: dict[str, tf.Variable]) -> tf.Session:
    """Restore a checkpoint as tf_slim does."""
    import tf_slim

    sess = tf.Session()
    tf_slim.assign_from_checkpoint_fn(str(folder / "vgg16.ckpt"), list(variables.values()))(sess)
    return sess


WAYS: dict[str, Callable[[Path, dict[str, tf.Variable]], tf.Session]] = {
    "constants": constants,
    "saver": saver,
    "slim": slim,
}


def main() -> None:
    """Restore, and report how long it took."""
    options, clock = work.options(), work.Clock()
    if options.way == "slim":
        import tf_slim  # noqa: F401  # loaded before the clock runs, as TensorFlow is
    with tf.Graph().as_default():
        tf_networks.vgg16(tf.placeholder(tf.uint8, [None, options.side, options.side, 3]), top=options.part == "all")
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        with clock.running():
            sess = WAYS[options.way](Path(options.folder, f"vgg16-{options.side}"), variables)
        chosen = ("conv1_2/kernel", "conv5_3/kernel")
        work.report(clock.seconds, {name: work.sample(sess.run(variables[name])) for name in chosen})


if __name__ == "__main__":
    main()
