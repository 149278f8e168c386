"""How long it takes to bring VGG16's weights into a session, side by side with what else people do.

    python benchmarks/restore.py [--rounds=5] [--slow] [--json=FILE]

A VGG16 of full size (138,357,544 parameters, 528 MiB) is made of random numbers and written as `.npz` and as a
checkpoint of TensorFlow's. Each case runs in a fresh process, the cases in turn, round by round; what is timed begins
when the graph is built and TensorFlow is loaded. `--slow` adds the well-known loaders' way, one constant assigned a
variable.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BYTES = 138_357_544 * 4
CASES = ("np_load", "npz_all", "npz_convolutions", "saver_all", "checkpoint_all", "saver_convolutions",
         "checkpoint_convolutions")  # fmt: skip


def make(folder: Path) -> None:
    """Write the two files, with the names of the well-known `vgg16_weights.npz` and with ours."""
    import numpy as np
    import tensorflow.compat.v1 as tf

    from tfxfer.models import vgg

    generator = np.random.default_rng(0)
    shapes = {name: tuple(1000 if side is None else side for side in shape)
              for name, shape in vgg.variables("vgg16").items()}  # fmt: skip
    arrays = {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    theirs = {name.replace("/kernel", "_W").replace("/bias", "_b"): array for name, array in arrays.items()}
    np.savez(folder / "vgg16_weights.npz", **theirs)
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, 224, 224, 3])
        vgg.vgg16(images)
        variables = {variable.op.name: variable for variable in tf.global_variables() if variable.op.name in arrays}
        saver = tf.train.Saver(variables)
        for name, variable in variables.items():
            sess.run(variable.initializer, {variable.initializer.inputs[1]: arrays[name]})
        saver.save(sess, str(folder / "vgg16.ckpt"), write_meta_graph=False)


def run_case(case: str, folder: Path) -> dict[str, float]:
    """Run one case in this process and return its seconds, and how far the peak of memory rose, in bytes."""
    import tensorflow.compat.v1 as tf

    from tfxfer.models import vgg

    with tf.Graph().as_default():
        vgg.vgg16(tf.placeholder(tf.uint8, [None, 224, 224, 3]), top="convolutions" not in case, dropout=0.0)
        for step in _steps(case, folder):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.monotonic()
            step()
            seconds = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": seconds, "peak_bytes": peak * 1024}


def _steps(case: str, folder: Path) -> Iterator[Callable[[], object]]:
    """Yield what prepares a case and, last, what is timed."""
    import numpy as np
    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.models import vgg

    npz, checkpoint = folder / "vgg16_weights.npz", str(folder / "vgg16.ckpt")
    if case == "np_load":
        yield lambda: list(np.load(npz).values())
        return
    if case.startswith(("npz", "checkpoint")):

        def ours() -> None:
            weights = (
                tx.open_weights(npz, rename=vgg.RENAMES) if case.startswith("npz") else tx.open_weights(checkpoint)
            )
            plan = tx.plan(tf.trainable_variables(), weights)
            with tx.session(plan):
                pass

        yield ours
        return
    sess = tf.Session()
    if case == "constants":
        arrays = {vgg.RENAMES(name): array for name, array in np.load(npz).items()}
        yield lambda: [sess.run(variable.assign(arrays[variable.op.name])) for variable in tf.trainable_variables()]
        return

    def bare() -> None:
        with tf.Session() as session:
            tf.train.Saver(tf.trainable_variables()).restore(session, checkpoint)

    yield bare


def main() -> None:
    """Run all cases and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case == "make":
        make(Path(options.folder))
    elif options.case:
        print(json.dumps(run_case(options.case, Path(options.folder))))
    else:
        with tempfile.TemporaryDirectory() as folder:
            report(measure(folder, options.rounds, options.slow), options.json)


def measure(folder: str, rounds: int, slow: bool) -> dict[str, list[dict[str, float]]]:
    """Run every case in a fresh process, round by round; the first round warms the disk's cache and does not count."""
    _process("make", folder)
    results: dict[str, list[dict[str, float]]] = {}
    for number in range(rounds + 1):
        for case in (*CASES, *(["constants"] if slow and number == 1 else [])):
            figures = json.loads(_process(case, folder))
            if number:
                results.setdefault(case, []).append(figures)
    return results


def _process(case: str, folder: str) -> str:
    command = [sys.executable, __file__, "--case", case, "--folder", folder]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def report(results: dict[str, list[dict[str, float]]], file: str | None) -> None:
    """Print medians, and each case's time as a multiple of the others that it is compared with."""
    seconds = {case: statistics.median(row["seconds"] for row in rows) for case, rows in results.items()}
    print(f"{'case':24} {'seconds':>8} {'min':>7} {'max':>7}  peak memory / 528 MiB")
    for case, rows in results.items():
        times = [row["seconds"] for row in rows]
        peak = statistics.median(row["peak_bytes"] for row in rows) / BYTES
        print(f"{case:24} {seconds[case]:8.3f} {min(times):7.3f} {max(times):7.3f}  {peak:.2f}")
    pairs = [("npz_all", "np_load"), ("npz_all", "npz_convolutions"), ("checkpoint_all", "saver_all"),
             ("checkpoint_convolutions", "saver_convolutions"), ("checkpoint_all", "checkpoint_convolutions"),
             ("constants", "npz_all")]  # fmt: skip
    for one, other in pairs:
        if one in seconds:
            print(f"{one} takes {seconds[one] / seconds[other]:.2f} times as long as {other}")
    if file:
        Path(file).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
