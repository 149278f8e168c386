"""Signals: who handles them within a block, and that everything is as before behind it."""

from __future__ import annotations

import os
import signal

import pytest

from tfxfer import signals


def test_signals_are_noted_in_a_block_and_handled_as_before_behind_it():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with signals.noted() as received:
        assert received() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert received() == signal.SIGTERM  # the first one
    assert {number: signal.getsignal(number) for number in before} == before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.handled(signals.stop):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_ends_with_the_status_that_shells_give():
    with pytest.raises(SystemExit) as ended, signals.handled(signals.stop):
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    with pytest.raises(KeyboardInterrupt, match="saved at step 3"):
        signals.end_saved(signal.SIGINT, 3)
