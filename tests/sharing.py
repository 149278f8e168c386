"""Fill a store with several workers, and print their process ids.

    python tests/sharing.py STORE WORKERS

600 pictures of 32x32 go through VGG16 with random weights, up to fc6.
"""

from __future__ import annotations

import json
import sys

import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.filling import pictures
from tfxfer.models import vgg
from tfxfer.store import worker_pool
from tfxfer.store.extraction import extract


def main(folder: str, count: str) -> None:
    start = worker_pool._start
    pids = []

    def noted(*args):
        worker = start(*args)
        pids.append(worker.process.pid)
        if len(pids) == int(count):
            print(json.dumps(pids), flush=True)
        return worker

    worker_pool._start = noted
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        tensor = vgg.vgg16(images)["fc6"]
        with tx.session() as sess:
            extract(sess, images, [tensor], [pictures(32, 3)], folder, batch_size=16, workers=int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
