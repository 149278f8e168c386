"""Kill one training again and again, start it again each time, and compare it with one that was left alone.

    python -m tests.killing FOLDER SEED KILLS

It imports TensorFlow once and forks a process a start, before any session exists. The parent prints JSON: how each
start ended, and what the two runs left. Moments: `step:N`, when the batch of step N is taken; `replace:N`, at the N-th
rename of a file, and `sync:N`, at the N-th flush of one, which are inside a save, beside the training; `time:S`, by the
parent, S seconds after the start.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer import files
from tfxfer.data import Data, Split
from tfxfer.models import autoencoder, heads
from tfxfer.runs.files import find_run

EPOCHS = 4


class Watched:
    """Images that call a function whenever some of them are taken."""

    def __init__(self, images: np.ndarray, call: Callable[[], object]) -> None:
        self.images, self.call = images, call
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        self.call()
        return self.images[indices]


def examples() -> Data:
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 3, 150)
    images = generator.integers(0, 256, (150, 8, 8, 1)).astype(np.uint8) // 2
    images[np.arange(150), labels * 2] += 90
    train, validation, test = (Split(images[a:b], labels[a:b]) for a, b in ((0, 70), (70, 110), (110, 150)))
    return Data(train, validation, test, ("a", "b", "c"))


def train(logdir: str, dies: str = "") -> float:
    """Train with dropout, two stages, a multiplier, a schedule, L2, class weights, patience; return test accuracy."""
    data = examples()
    if dies.startswith("step:"):
        data = dataclasses.replace(
            data, train=Split(Watched(data.train.images, _death(int(dies[5:]))), data.train.labels)
        )
    if dies.startswith("replace:"):
        replace, die = os.replace, _death(int(dies[8:]))
        os.replace = lambda *names: (die(), replace(*names))
    if dies.startswith("sync:"):
        sync, die_in_sync = files.sync, _death(int(dies[5:]))
        files.sync = lambda path: (die_in_sync(), sync(path))
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
            l2=0.01,
            class_weights=[1.0, 0.5, 2.0],
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
                checkpoints=tx.CheckpointOptions(save_steps=5, keep=2, keep_best=2),
                summaries=tx.SummaryOptions(summary_steps=2),
                patience=50,
            )
            step.saver.restore(sess, fitted.best)
            return tx.evaluate(sess, step, data.test).accuracy


def _death(calls: int) -> Callable[[], None]:
    """Return a function that kills this process when it is called the n-th time."""
    count = itertools.count(1)
    return lambda: os.kill(os.getpid(), signal.SIGKILL) if next(count) == calls else None


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
    run = find_run(logdir)
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
    # Before the first checkpoint, inside a save, and after a checkpoint: a second is begun once the first is whole.
    moments = ["step:3", "replace:9", "sync:8", "step:12"]
    while len(moments) < int(kills):
        moments.append(
            chance.choice(
                [
                    f"step:{chance.randint(1, 30)}",
                    f"replace:{chance.randint(1, 60)}",
                    f"sync:{chance.randint(1, 60)}",
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
