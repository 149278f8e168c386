"""Kill one extraction again and again, start it again each time, and compare its store with one left alone.

    python tests/filling.py FOLDER SEED KILLS NETWORK

It imports TensorFlow once and forks a process a start, before any session exists. The parent prints JSON: how each
start ended, how many rows it had handed over and how many of these the store then held, and the rows of three stores:
one that was left alone, one that was killed, one that two processes filled at once. Moments: `take:N`, when images are
taken for the N-th time; `replace:N`, at the N-th rename of a file, which is inside the writing of a shard; `time:S`, by
the parent, S seconds after the start.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.killing import Watched
from tfxfer.models import autoencoder, vgg
from tfxfer.store import shard_writer, store
from tfxfer.store.extraction import extract

COUNT = 600
# Side and channels of its pictures, what is extracted, and what makes it.
NETWORKS = {
    "encoder": (8, 1, ("conv1", "flatten"), autoencoder.encoder),
    "vgg16": (32, 3, ("fc6",), vgg.vgg16),
}


def pictures(side: int, channels: int) -> np.ndarray:
    """600 pictures, of which the last 20 are as some of the first."""
    images = np.random.default_rng(5).integers(0, 256, (COUNT, side, side, channels)).astype(np.uint8)
    images[-20:] = images[100:120]
    return images


def fill(folder: str, network: str, dies: str = "") -> None:
    """Extract, in three parts; note beside the store how many rows were handed to the writer."""
    side, channels, endpoints, build = NETWORKS[network]
    kind, _, number = dies.partition(":")
    die = _death(int(number)) if kind in ("take", "replace") else int
    replace, add = os.replace, shard_writer.Writer.add
    if kind == "replace":
        os.replace = lambda *names: (die(), replace(*names))
    handed = os.open(folder + ".handed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def counted(self, keys, rows):
        add(self, keys, rows)
        os.write(handed, b"." * len(keys))

    shard_writer.Writer.add = counted
    images = pictures(side, channels)
    parts = [Watched(images[a:b], die if kind == "take" else int) for a, b in ((0, 300), (300, 450), (450, COUNT))]
    with tf.Graph().as_default():
        placeholder = tf.placeholder(tf.uint8, [None, side, side, channels], name="images")
        ends = build(placeholder)
        with tx.session(intra_op_threads=1, inter_op_threads=1) as sess:
            extract(sess, placeholder, [ends[name] for name in endpoints], parts, folder, batch_size=16)


def _death(calls: int) -> Callable[[], None]:
    count = itertools.count(1)
    return lambda: os.kill(os.getpid(), signal.SIGKILL) if next(count) == calls else None


def begin(folder: str, network: str, dies: str = "") -> int:
    """Run one start in a process of its own, and return its id."""
    child = os.fork()
    if not child:
        status = 1
        try:
            fill(folder, network, dies)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def start(folder: str, network: str, dies: str = "") -> tuple[int, int, int]:
    """Return how one start ended, how many rows it handed over, and how many the store has gained by it."""
    before = complete(folder, network)
    child = begin(folder, network, dies)
    if dies.startswith("time:"):
        time.sleep(float(dies[5:]))
        os.kill(child, signal.SIGKILL)
    end = os.waitpid(child, 0)[1]
    handed = Path(folder + ".handed")
    return end, handed.stat().st_size if handed.exists() else 0, complete(folder, network) - before


def tables(folder: str) -> dict[str, store.Table]:
    """Return the tables of a store, by the tensor each belongs to."""
    found = {}
    for about in Path(folder).glob("*/about.json"):
        record = json.loads(about.read_text())
        found[record["tensor"]] = store.Table(about.parent, record, np.dtype(record["dtype"]))
    return found


def complete(folder: str, network: str) -> int:
    """Return how many examples have a row in each of the tables that there are in the end."""
    lengths = [len(table) for table in tables(folder).values()]
    return min(lengths) if len(lengths) == len(NETWORKS[network][2]) else 0


def left(folder: str) -> dict[str, dict[str, str]]:
    """Return a digest of each row, by tensor and key."""
    return {
        tensor: {
            key: hashlib.sha256(row.tobytes()).hexdigest()
            for key, row in zip(sorted(table), store.Rows(table, sorted(table), table.dtype)[:], strict=True)
        }
        for tensor, table in sorted(tables(folder).items())
    }


def main(folder: str, seed: str, kills: str, network: str) -> None:
    whole, killed, shared = (f"{folder}/{name}" for name in ("whole", "killed", "shared"))
    began = time.monotonic()
    assert start(whole, network)[0] == 0
    seconds = time.monotonic() - began
    chance = random.Random(int(seed))
    # When it has just begun, and between the two files of a shard; then anywhere. Later starts have less to do.
    moments = ["take:2", "replace:4"]
    while len(moments) < int(kills):
        kinds = [
            f"take:{chance.randint(1, 8)}",
            f"replace:{chance.randint(1, 8)}",
            f"time:{chance.uniform(0, seconds):.3f}",
        ]
        moments.append(chance.choice(kinds))
    ends = [(moment, *start(killed, network, moment)) for moment in moments]
    last = start(killed, network)
    assert last[0] == 0, last
    both = [begin(shared, network), begin(shared, network)]
    assert [os.waitpid(child, 0)[1] for child in both] == [0, 0]
    print(json.dumps({"ends": ends, "last": last, "stores": [left(name) for name in (whole, killed, shared)]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
