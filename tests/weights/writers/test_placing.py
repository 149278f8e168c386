"""Files come to their places together or not at all, whatever happens among the renames."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.weights.writers.test_writers import held, names_in, same, values
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights, streams, writers
from tfxfer.weights.writers import placing


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("out", "call"), [*(("out.ckpt", call) for call in range(1, 5)), *(("out.npz", call) for call in range(1, 3))]
)
def test_whatever_happens_among_the_renames_is_taken_back(tmp_path, monkeypatch, out, call, late):
    old = values()
    writers.write(tmp_path / out, held(old))
    before, rename, count = names_in(tmp_path), os.rename, itertools.count(1)

    def fail(source, target):
        number = next(count)
        if number == call and not late:
            raise OSError(5, "Input/output error")
        rename(source, target)
        if number == call:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(KeyboardInterrupt if late else WeightsError, match=None if late else "Input/output error"):
        writers.write(tmp_path / out, held(values()), overwrite=True)
    assert names_in(tmp_path) == before
    assert all(same(open_weights(tmp_path / out)[key], array) for key, array in old.items())


def test_an_error_that_only_flushing_meets_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(placing, "PAUSE", 0.001)
    sync = placing.files.sync

    def fail_once(path):
        monkeypatch.setattr(placing.files, "sync", sync)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(placing.files, "sync", fail_once)

    def slow() -> Iterator[np.ndarray]:
        time.sleep(0.1)
        yield np.ones(2, np.float32)

    with pytest.raises(WeightsError, match=r"was not written: Input/output error\. Nothing has changed"):
        writers.write(tmp_path / "a.npz", {"w": streams.computed((2,), np.dtype(np.float32), slow)})
    assert names_in(tmp_path) == []
