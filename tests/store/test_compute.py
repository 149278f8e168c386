"""Computing rows: batches of one size, images taken ahead, and no more memory than a few batches need."""
# ruff: noqa: F811  # imported fixtures are taken by their names

from __future__ import annotations

import itertools
import threading
import tracemalloc

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.killing import Watched
from tests.store.test_extraction import IMAGES, RNG, computed, encoded, extracted, floats, graph  # noqa: F401
from tfxfer.errors import GraphError
from tfxfer.store import compute
from tfxfer.store.extraction import extract


def test_the_bits_of_a_row_do_not_depend_on_its_neighbours(tmp_path):
    def wide(images):
        return tf.matmul(encoded(images), tf.fill([128, 4096], 0.3) + tf.linspace(0.0, 1.0, 4096))

    (rows,) = extracted(tmp_path / "a", wide)
    order = RNG.permutation(100)
    (shuffled,) = extracted(tmp_path / "b", wide, [IMAGES[order]])
    assert shuffled.tobytes() == rows[order].tobytes()
    for some in (IMAGES[:1], IMAGES[:33]):
        (few,) = extracted(tmp_path / f"c{len(some)}", wide, [some])
        assert few.tobytes() == rows[: len(some)].tobytes()


def test_the_network_sees_batches_of_one_size_and_one_of_another_as_a_check(tmp_path, monkeypatch):
    sizes, compiled = [], compute.compiled

    def noting(*arguments):
        call = compiled(*arguments)
        return lambda batch: [sizes.append(len(batch)), call(batch)][1]

    def sizes_of(count):
        sizes.clear()
        extracted(tmp_path, encoded, [IMAGES[:count]], batch_size=16)
        return list(sizes)

    monkeypatch.setattr(compute, "compiled", noting)
    assert sizes_of(40) == [16, 16, 16, 4]  # some are computed again in the last batch, where there is room
    assert sizes_of(40) == [16, 4]
    assert sizes_of(48) == [16, 4]
    assert sizes_of(64) == [16, 16, 4]


def test_an_interruption_loses_nothing_that_was_computed(tmp_path, computed):
    count = itertools.count(1)

    def interrupt():
        if next(count) == 4:  # the first is for the keys
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extracted(tmp_path, encoded, [Watched(IMAGES, interrupt)], batch_size=16)
    assert sum(map(len, computed)) == 32
    computed.clear()
    extracted(tmp_path, encoded, batch_size=16)
    assert sum(map(len, computed)) == 68


def test_a_tensor_without_the_batch_as_its_first_dimension_is_refused(tmp_path):
    message = r"transpose:0 gives \(64, 32\) for 32 examples: its first dimension is not the batch"
    with pytest.raises(GraphError, match=message):
        extracted(tmp_path, lambda images: tf.transpose(floats(images)))


def test_the_next_images_are_taken_while_the_network_computes(tmp_path, monkeypatch):
    taken, ahead = itertools.count(), threading.Event()
    seen = []

    def take():
        seen.append(threading.current_thread() is threading.main_thread())
        if next(taken) == 2:  # after the keys, and the first batch
            ahead.set()

    def waiting(*args):
        run = compiled(*args)
        return lambda batch: run(batch) if ahead.wait(10) else pytest.fail("nothing was taken ahead")

    compiled = compute.compiled
    monkeypatch.setattr(compute, "compiled", waiting)
    extracted(tmp_path, floats, [Watched(IMAGES, take)])
    assert seen[1:5] == [False] * 4


def test_extraction_takes_memory_for_a_few_batches_and_not_for_all_examples(tmp_path):
    """4,000 rows of 2,560 floats are 41 MB."""
    images = np.arange(4000, dtype=np.int32).view(np.uint8).reshape(4000, 2, 2, 1)
    fed = tf.placeholder(tf.uint8, [None, 2, 2, 1])
    tensor = tf.tile(tf.cast(tf.reshape(fed, [-1, 4]), tf.float32), [1, 640])
    with tx.session() as sess:
        tracemalloc.start()
        ((rows,),) = extract(sess, fed, [tensor], [images], tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert rows.shape == (4000, 2560)
    assert peak < 8e6
