"""What summaries cost a training: the same run without them, with the default ones and with all, side by side.

    python benchmarks/summaries.py [--data_dir=MNIST_data] [--epochs=4] [--batch_size=64] [--turn=100]

A classifier on the frozen convolutions of checkpoints/digits_autoencoder is trained on MNIST, or without --data_dir on
scikit-learn's digits: three times, in three threads of one process that take turns of some steps, so that what else the
machine does hits all three alike. There is a summary of a batch every 100 steps, as ever. The first epoch warms up, and
start and end of the runs are not measured. *step* is what a step takes in turns that end no epoch; *run* is all of the
time by the number of steps, with what is shown after an epoch, validation and checkpoints. Printed are milliseconds a
step, by the clock and of processor time, and how much more that is than without summaries: of *step* the median over
turns, of *run* by the sums. All three must end with the same bits.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.data.batches import steps_per_epoch
from tfxfer.graph.summary_options import DEFAULT, SHOWN
from tfxfer.models import autoencoder, heads

WEIGHTS = Path(__file__).resolve().parent.parent / "checkpoints" / "digits_autoencoder"
NEVER = 10**9
CHOICES: dict[str, tuple[str, ...]] = {"off": (), "default": DEFAULT, "all": tuple(SHOWN)}


class Turns:
    """Who may go on; the others wait."""

    def __init__(self, count: int) -> None:
        self._condition, self._now, self._waiting = threading.Condition(), 0, [True] * count

    def wait(self, who: int) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._now == who)

    def give(self, who: int, *, for_good: bool = False) -> None:
        """Let the next one go on."""
        with self._condition:
            self._waiting[who] = not for_good
            order = [(who + more) % len(self._waiting) for more in range(1, len(self._waiting) + 1)]
            self._now = next((one for one in order if self._waiting[one]), -1)
            self._condition.notify_all()


class InTurn:
    """Images that are handed out, a batch at a time, to whose turn it is; `taken` is what its turns took."""

    def __init__(self, images: np.ndarray, turns: Turns, who: int, turn: int) -> None:
        self.images, self.shape, self.dtype = images, images.shape, images.dtype
        self.turns, self.who, self.turn, self.steps = turns, who, turn, 0
        self.taken: list[tuple[float, float]] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        if self.steps % self.turn == 0:
            if self.steps:
                self.taken.append((time.perf_counter() - self.began[0], time.process_time() - self.began[1]))
                self.turns.give(self.who)
                self.turns.wait(self.who)
            self.began = time.perf_counter(), time.process_time()
        self.steps += 1
        return self.images[indices]


def train(data: Data, images_in: InTurn, names: tuple[str, ...], options: argparse.Namespace, logdir: str) -> bytes:
    """Train, and return the bits of all variables at the end."""
    images_in.turns.wait(images_in.who)
    data = dataclasses.replace(data, train=Split(images_in, data.train.labels))
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        images = tf.placeholder(tf.uint8, [None, 28, 28, 1], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        ends = autoencoder.encoder(images)
        logits = heads.classifier(ends["flatten"], hidden=[200], classes=10)
        convolutions = tx.plan(tx.select("conv.*"), tx.open_weights(WEIGHTS))
        shown = {name: ends[name] for name in ("conv1", "conv2")} if "activations" in names else None
        trained = tx.select("fc.*", "logits/.*")
        step = tx.train_step(images, labels, logits, train=trained, summaries=names, activations=shown)
        with tx.session(convolutions) as sess:
            steps = 100 if names else NEVER  # without any: scalars by epoch alone
            numbers = {"epochs": options.epochs, "batch_size": options.batch_size, "summary_steps": steps}
            tx.fit(sess, step, data, logdir=logdir, **numbers)
            values = sess.run(tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES))
    images_in.turns.give(images_in.who, for_good=True)
    return b"".join(value.tobytes() for value in values)


def show(taken: dict[str, np.ndarray], every: int, turn: int) -> None:
    """Print what the turns [n, 2] of each choice took, by the clock and of the processor."""
    first = -(-every // turn)  # the first epoch warms up
    numbers = np.arange(first, len(taken["off"]))
    inside = numbers[numbers * turn // every == (numbers + 1) * turn // every]
    for what, chosen in (("step", inside), ("run", numbers)):
        if not len(chosen):
            continue
        base = taken["off"][chosen] / turn * 1000
        for choice, all_turns in taken.items():
            own = all_turns[chosen] / turn * 1000
            ratios = np.median(own / base, axis=0) if what == "step" else own.sum(axis=0) / base.sum(axis=0)
            middle = np.median(own, axis=0) if what == "step" else own.mean(axis=0)
            more = "" if choice == "off" else f"   clock {ratios[0] - 1:+.1%}, processor {ratios[1] - 1:+.1%}"
            print(f"{what:5} {choice:8} {middle[0]:7.3f} ms, processor {middle[1]:7.3f} ms{more}")


def main() -> int:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", help="directory of MNIST's four idx files; default: scikit-learn's digits")
    for name, default in (("epochs", 4), ("batch_size", 64), ("turn", 100)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    options = parser.parse_args()
    data = tx.data.mnist(options.data_dir) if options.data_dir else tx.data.digits()
    every = steps_per_epoch(len(data.train), options.batch_size)
    turns = Turns(len(CHOICES))
    pictures = np.asarray(data.train.images)
    sides = [InTurn(pictures, turns, who, options.turn) for who in range(len(CHOICES))]
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(len(sides)) as pool,
        contextlib.redirect_stderr(io.StringIO()),  # no live display, of which there can be but one
    ):
        started = [
            pool.submit(train, data, side, names, options, f"{folder}/{choice}")
            for side, (choice, names) in zip(sides, CHOICES.items(), strict=True)
        ]
        bits = {future.result() for future in started}
    print(
        f"{len(data.train):,} examples, {every} steps an epoch of {options.batch_size}; {options.epochs - 1} measured"
    )
    show({choice: np.array(side.taken) for side, choice in zip(sides, CHOICES, strict=True)}, every, options.turn)
    print("all three ended with the same bits" if len(bits) == 1 else "THE BITS DIFFER")
    return int(len(bits) != 1)


if __name__ == "__main__":
    sys.exit(main())
