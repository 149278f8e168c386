"""How far long work is, where nobody looks at a terminal."""

from __future__ import annotations

import re
import threading

from tfxfer import progress


def test_without_a_terminal_a_line_comes_again_and_again_also_while_nothing_advances(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE", 0.001)
    told = threading.Semaphore(0)

    def tell() -> str:
        told.release()
        return "epoch 3/20  step 120 of 800  loss 0.1234  512 examples/s"

    with progress.bar(800, 119, "train", tell) as bar:
        bar.advance(loss=0.1234)
        for _ in range(3):
            assert told.acquire(timeout=60)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    wanted = r"\d\d:\d\d:\d\d train: epoch 3/20  step 120 of 800  loss 0\.1234  512 examples/s"
    assert all(re.fullmatch(wanted, line) for line in lines)


def test_work_that_says_nothing_of_itself_is_counted():
    with progress.bar(9, 4, "extract") as bar:
        bar.advance(2)
        assert bar.position() == "6 of 9"


def test_work_that_ends_within_half_a_minute_writes_nothing(capsys):
    with progress.bar(3, 0, "train") as bar:
        bar.advance(3)
    assert capsys.readouterr().err == ""
