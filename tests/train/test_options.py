"""The numbers of a run: which are refused, and at which steps something falls due."""

from __future__ import annotations

import dataclasses

import pytest

from tfxfer.errors import RunError
from tfxfer.train.options import RunOptions, SummaryOptions

OPTIONS = RunOptions(
    steps_per_epoch=10, epochs=3, batch_size=8, seed=0, save_steps=4, validation_steps=10, summary_steps=100,
    keep=5, keep_best=1, monitor="accuracy", patience=None,
)  # fmt: skip


def test_numbers_that_are_too_small_are_named_together():
    with pytest.raises(RunError, match="`epochs=0`, `keep_best=-1`: must be 1 or more"):
        dataclasses.replace(OPTIONS, epochs=0, keep_best=-1).check()
    with pytest.raises(RunError, match="`validation_steps=31` is more than the 30 steps of the run"):
        dataclasses.replace(OPTIONS, validation_steps=31).check()
    OPTIONS.check()


def test_the_best_is_found_by_the_metric_that_is_monitored():
    def best(monitor, *validations):
        rows = [{"step": step, **means} for step, means in enumerate(validations, 1)]
        return min(rows, key=dataclasses.replace(OPTIONS, monitor=monitor).rank)["step"]

    means = [{"accuracy": 0.8, "loss": 0.5}, {"accuracy": 0.9, "loss": 0.7}, {"accuracy": 0.9, "loss": 0.6}]
    assert (best("accuracy", *means), best("loss", *means)) == (3, 1)
    assert best("loss", {"loss": 0.5}, {"loss": 0.5}) == best("accuracy", {"loss": 0.5}, {"loss": 0.6}) == 1
    with pytest.raises(RunError, match="`monitor='f1'`: the best checkpoint is found by 'accuracy' or 'loss'"):
        dataclasses.replace(OPTIONS, monitor="f1").check()


@pytest.mark.parametrize("shown", [(), (-1,), (20,)])
def test_places_that_are_not_in_the_split_are_refused(shown):
    with pytest.raises(RunError, match="give places in the validation split, from 0 to 19"):
        SummaryOptions(shown=shown).check_shown(20)
    SummaryOptions(shown=(0, 25)).check_shown(20)  # those that there are, are shown


@pytest.mark.parametrize(("step", "due"), [(0, 4), (3, 4), (4, 8), (8, 10), (10, 12), (98, 99), (99, 100)])
def test_nothing_that_falls_due_is_skipped(step, due):
    assert OPTIONS.next_due(step) == due  # saved each 4, an epoch each 10, shown before step 100
