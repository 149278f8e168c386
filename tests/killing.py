"""Kill one training again and again, start it again each time, and compare it with one that was left alone.

    python tests/killing.py FOLDER SEED KILLS

It imports TensorFlow once and forks a process a start, before any session exists. The parent prints JSON: how each
start ended, and what the two runs left. Moments: `step:N`, when the batch of step N is taken; `replace:N`, at the N-th
rename of a file, which is inside a save; `time:S`, by the parent, S seconds after the start.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.models import autoencoder, heads
from tfxfer.run import directory

EPOCHS = 4


def examples() -> Data:
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 3, 150)
    images = generator.integers(0, 256, (150, 8, 8, 1)).astype(np.uint8) // 2
    images[np.arange(150), labels * 2] += 90
    train, validation, test = (Split(images[a:b], labels[a:b]) for a, b in ((0, 70), (70, 110), (110, 150)))
    return Data(train, validation, test, ("a", "b", "c"))


def train(logdir: str, dies: str = "") -> float:
    """Train with dropout, two stages, a multiplier, a schedule, patience; return the test accuracy."""
    data = examples()
    if dies.startswith("step:"):
        _die_in(batch_of=int(dies[5:]))
    if dies.startswith("replace:"):
        _die_in(rename=int(dies[8:]))
    with tf.Graph().as_default():
        tf.set_random_seed(3)
        images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=[12], classes=3, dropout=0.5)
        stages = [tx.Stage(0, tx.select("fc.*", "logits/.*")), tx.Stage(2, tx.select("conv2/.*"), 0.1)]
        step = tx.train_step(
            images,
            labels,
            logits,
            stages=stages,
            multipliers={"fc1/bias": 0.5},
            clip_norm=5.0,
            learning_rate=lambda n: tf.train.cosine_decay(0.01, n, 60),
        )
        with tx.session(intra_op_threads=1, inter_op_threads=1) as sess:
            fitted = tx.fit(
                sess,
                step,
                data,
                epochs=EPOCHS,
                logdir=logdir,
                batch_size=8,
                save_steps=5,
                summary_steps=2,
                keep=2,
                keep_best=2,
                patience=50,
            )
            step.saver.restore(sess, fitted.best)
            return tx.evaluate(sess, step, data.test).accuracy


def _die_in(batch_of: int = -1, rename: int = -1) -> None:
    """Kill this process at the n-th call of what takes a batch, or of what renames a file."""
    counts = {"batch": 0, "rename": 0}
    take, replace = Split.take, os.replace

    def counted_take(self, indices):
        counts["batch"] += 1
        if counts["batch"] == batch_of:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(self, indices)

    def counted_replace(*names):
        counts["rename"] += 1
        if counts["rename"] == rename:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(*names)

    Split.take, os.replace = counted_take, counted_replace


def start(logdir: str, dies: str = "") -> int:
    """Run one start in a process of its own and return how it ended, as `os.waitpid` says."""
    child = os.fork()
    if not child:
        status = 1
        try:
            Path(logdir + ".accuracy").write_text(repr(train(logdir, dies)))
            status = 0
        finally:
            os._exit(status)
    if dies.startswith("time:"):
        time.sleep(float(dies[5:]))
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def left(logdir: str) -> dict:
    """Return all that must be the same, however often the run was killed."""
    run = directory.find_run(logdir)
    last, state = _latest(run)
    best = sorted(str(file.with_suffix("").name) for file in (run / "best").glob("*.index"))
    state.pop("saved")
    tensors = {prefix: _hex(run / prefix) for prefix in (last, *(f"best/{name}" for name in best))}
    return {"state": state, "tensors": tensors, "accuracy": Path(logdir + ".accuracy").read_text(), "best": best}


def _latest(run: Path) -> tuple[str, dict]:
    states = {int(file.name.split("-")[1].split(".")[0]): file for file in run.glob("*.state.json")}
    return f"model.ckpt-{max(states)}", json.loads(states[max(states)].read_text())


def _hex(prefix: Path) -> dict[str, str]:
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name).tobytes().hex() for name in sorted(reader.get_variable_to_shape_map())}


def main(folder: str, seed: str, kills: str) -> None:
    whole, killed = f"{folder}/whole", f"{folder}/killed"
    began = time.monotonic()
    assert start(whole) == 0
    seconds = time.monotonic() - began
    chance = random.Random(int(seed))
    # Before the first checkpoint, and inside a save; then anywhere.
    moments = ["step:3", "replace:9"]
    while len(moments) < int(kills):
        moments.append(
            chance.choice(
                [
                    f"step:{chance.randint(1, 30)}",
                    f"replace:{chance.randint(1, 60)}",
                    f"time:{chance.uniform(0, seconds):.3f}",
                ]
            )
        )
    ends = [(moment, start(killed, moment)) for moment in moments]
    while (end := start(killed)) != 0:
        raise SystemExit(f"the last start ended with {end}")
    print(json.dumps({"ends": ends, "whole": left(whole), "killed": left(killed)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
