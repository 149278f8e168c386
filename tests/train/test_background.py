"""Writing beside the training: its order, its failures, and what a signal, a crash and a full disk leave."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable

import pytest

from tests.killing import Watched
from tests.train.test_fit import Small, scalars, tensors, two_classes
from tfxfer.data import Data, Split
from tfxfer.errors import RunError
from tfxfer.tensorboard import events
from tfxfer.train.background import Background
from tfxfer.train.run_directory import opened
from tfxfer.weights.writers import bundle

LONG = 120  # seconds after which a test gives up


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tfxfer-background")]


def test_work_is_done_in_order_beside_the_caller_and_no_thread_is_left():
    done, may_go = [], threading.Event()
    with Background() as background:
        background.do(may_go.wait, LONG)
        for number in range(5):
            background.do(done.append, number)
        assert done == []  # nobody has waited
        may_go.set()
        background.wait()
        assert done == list(range(5))
        background.do(lambda: done.append(threading.current_thread().name))
    assert done[5].startswith("tfxfer-background")
    assert threads() == []


def fail() -> None:
    raise RunError("full")


def test_after_a_failure_nothing_is_done_and_the_next_call_tells_it():
    done, may_go, background = [], threading.Event(), Background()
    background.do(may_go.wait, LONG)
    failing = background.do(fail)
    later = background.do(done.append, 1)
    may_go.set()
    assert failing.exception() is later.exception()
    for call in (background.wait, lambda: background.do(done.append, 2)):
        with pytest.raises(RunError, match="full"):
            call()
    with pytest.raises(RunError, match="full"), background:
        pass
    assert done == []
    assert threads() == []


def test_a_failure_does_not_hide_what_ended_the_block_and_is_told_beside_it(caplog):
    def fail_twice() -> None:
        with Background() as background:
            background.do(fail)
            raise ValueError("mine")

    with caplog.at_level(logging.WARNING, "tfxfer"), pytest.raises(ValueError, match="mine"):
        fail_twice()
    assert caplog.messages == ["full"]


# --- in a training ---


def at_step(number: int, call: Callable[[], object], data: Data | None = None) -> Data:
    """Call a function when the batch of a step is taken."""
    data, count = data or two_classes(), itertools.count(1)
    images = Watched(data.train.images, lambda: call() if next(count) == number else None)
    return dataclasses.replace(data, train=Split(images, data.train.labels))


@pytest.fixture
def blocked(monkeypatch):
    """Let the first checkpoint be written only once this is set, which a later step of the training does."""
    may_go, write = threading.Event(), bundle.write

    def wait(*args, **options):
        assert may_go.wait(LONG), "the training has waited for its checkpoint"
        write(*args, **options)

    monkeypatch.setattr(bundle, "write", wait)
    return may_go


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, Small().fit(two_classes(), folder, epochs=3)


def check_goes_on(run, whole) -> None:
    folder, expected = whole
    fitted = Small().fit(two_classes(), run, epochs=3)
    assert tensors(fitted.last) == tensors(expected.last)
    assert tensors(fitted.best) == tensors(expected.best)
    assert fitted.history == expected.history
    assert scalars(run, "train") == scalars(folder, "train")


def test_steps_are_made_while_a_checkpoint_is_written_which_is_that_of_its_step(tmp_path, blocked, whole):
    fitted = Small().fit(at_step(10, blocked.set), tmp_path / "run", epochs=3)
    for name in ("model.ckpt-7", "model.ckpt-21"):
        assert tensors(tmp_path / "run" / name) == tensors(whole[0] / name)
    assert fitted.history == whole[1].history
    assert threads() == []


def test_a_signal_during_a_write_waits_for_it_and_saves_and_the_run_goes_on_to_the_same_bits(tmp_path, blocked, whole):
    def ask_to_end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # a second one changes nothing
        blocked.set()

    with pytest.raises(SystemExit):
        Small().fit(at_step(10, ask_to_end), tmp_path / "run", epochs=3)
    assert threads() == []
    assert {file.name for file in (tmp_path / "run").glob("*.index")} == {"model.ckpt-7.index", "model.ckpt-10.index"}
    check_goes_on(tmp_path / "run", whole)


def test_a_crash_waits_for_what_is_being_written_and_lets_go_of_the_run(tmp_path, blocked, whole):
    def crash() -> None:
        blocked.set()
        raise ValueError("no such picture")

    with pytest.raises(ValueError, match="no such picture"):
        Small().fit(at_step(10, crash), tmp_path / "run", epochs=3)
    assert threads() == []
    with opened(tmp_path / "run") as directory:
        assert directory.latest()[1].step == 7
    check_goes_on(tmp_path / "run", whole)


def full_from(call: int, function: Callable) -> Callable:
    """Return a function that fails from its n-th call on, as on a full disk."""
    count = itertools.count(1)

    def write(*args, **options):
        if next(count) >= call:
            raise OSError(errno.ENOSPC, "No space left on device")
        return function(*args, **options)

    return write


def test_a_disk_that_fills_up_in_a_write_ends_the_run_by_name_and_leaves_the_checkpoint_before_whole(
    tmp_path, monkeypatch, whole
):
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "write", full_from(2, bundle.write))
        with pytest.raises(
            RunError, match=r"cannot save step 14 .*No space left on device; the last good checkpoint is .*ckpt-7$"
        ):
            Small().fit(two_classes(), tmp_path / "run", epochs=3)
    assert threads() == []
    assert tensors(tmp_path / "run/model.ckpt-7") == tensors(whole[0] / "model.ckpt-7")
    assert not list((tmp_path / "run").rglob(".saving"))
    check_goes_on(tmp_path / "run", whole)


@pytest.mark.parametrize("call", [2, 20])
def test_events_that_cannot_be_written_end_the_run_by_name_too(tmp_path, monkeypatch, whole, call):
    with monkeypatch.context() as patch:
        patch.setattr(events.EventFile, "add", full_from(call, events.EventFile.add))
        with pytest.raises(RunError, match=r"cannot write events in .*run: No space left on device; the "):
            Small().fit(two_classes(), tmp_path / "run", epochs=3)
    assert threads() == []
    check_goes_on(tmp_path / "run", whole)
