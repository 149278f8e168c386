"""The order of examples: permutations that depend on (seed, epoch) alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.data import batches as ordering
from tfxfer.data.batches import batch, batches, chunks, order, steps_per_epoch
from tfxfer.errors import DataError

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(1, 50)
BATCH_SIZES = st.integers(1, 60)


@given(SEEDS, st.integers(0, 10**6), COUNTS)
def test_an_epoch_is_a_permutation(seed, epoch, n):
    permutation = order(seed, epoch, n)
    assert permutation.dtype == np.int64
    assert np.array_equal(np.sort(permutation), np.arange(n))


def test_the_order_stays_the_same_in_every_version():
    # A run that is resumed after an upgrade must go on in the same order: never change these numbers.
    assert order(0, 0, 10).tolist() == [6, 3, 8, 1, 4, 5, 9, 2, 7, 0]
    assert order(7, 3, 10).tolist() == [2, 1, 4, 8, 9, 3, 5, 7, 6, 0]


def test_the_order_differs_between_epochs_and_between_seeds():
    orders = [order(seed, epoch, 100) for seed in range(5) for epoch in range(5)]
    assert len({tuple(one) for one in orders}) == 25


def test_every_example_comes_first_about_equally_often():
    firsts = np.bincount([order(1, epoch, 5)[0] for epoch in range(2000)], minlength=5)
    assert firsts.min() > 330
    assert firsts.max() < 470


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(10, 5, 2), (11, 5, 3), (1, 5, 1), (5, 5, 1), (6, 1, 6)])
def test_a_short_last_batch_counts_as_a_step(n, batch_size, steps):
    assert steps_per_epoch(n, batch_size) == steps


@given(SEEDS, COUNTS, BATCH_SIZES)
def test_each_epoch_of_batches_is_its_order_whole(seed, n, batch_size):
    endless = batches(seed, n, batch_size)
    for epoch in range(3):
        drawn = list(itertools.islice(endless, steps_per_epoch(n, batch_size)))
        assert np.array_equal(np.concatenate(drawn), order(seed, epoch, n))
        assert all(len(indices) == batch_size for indices in drawn[:-1])


@given(SEEDS, COUNTS, BATCH_SIZES, st.integers(0, 120))
def test_batches_started_anywhere_equal_the_uninterrupted_ones(seed, n, batch_size, first_step):
    uninterrupted = list(itertools.islice(batches(seed, n, batch_size), first_step + 10))[first_step:]
    resumed = list(itertools.islice(batches(seed, n, batch_size, first_step), 10))
    assert [one.tolist() for one in resumed] == [one.tolist() for one in uninterrupted]
    assert batch(seed, first_step, n, batch_size).tolist() == uninterrupted[0].tolist()


def test_one_permutation_is_made_an_epoch(monkeypatch):
    epochs = []
    monkeypatch.setattr(ordering, "order", lambda seed, epoch, n: epochs.append(epoch) or order(seed, epoch, n))
    list(itertools.islice(batches(0, 10, 3, first_step=5), 10))
    assert epochs == [1, 2, 3]


@given(COUNTS, BATCH_SIZES)
def test_chunks_go_through_all_in_order(n, batch_size):
    parts = list(chunks(n, batch_size))
    assert np.array_equal(np.concatenate(parts), np.arange(n))
    assert all(part.dtype == np.int64 for part in parts)
    assert len(parts) == steps_per_epoch(n, batch_size)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: order(-1, 0, 5), "`seed=-1` is out of range; take one from 0 to 4294967295"),
        (lambda: order(2**32, 0, 5), "`seed=4294967296` is out of range"),
        (lambda: order(0, -1, 5), "`epoch=-1` must be 0 or more"),
        (lambda: order(0, 0, 0), "`n=0` must be 1 or more"),
        (lambda: steps_per_epoch(0, 0), "`n=0` and `batch_size=0` must be 1 or more"),
        (lambda: batches(0, 5, 0), "`batch_size=0` must be 1 or more"),
        (lambda: batches(0, 5, 2, -3), "`first_step=-3` must be 0 or more"),
        (lambda: batches(-2, 5, 2), "`seed=-2` is out of range"),
        (lambda: chunks(0, 5), "`n=0` must be 1 or more"),
    ],
)
def test_an_argument_out_of_range_is_refused_at_the_call(call, message):
    with pytest.raises(DataError, match=message):
        call()
