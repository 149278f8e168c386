"""tools/board.py: TensorBoard starts, says where it is, and stops with all that belongs to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import google_crc32c
import pytest

from tests import browsing, made_runs
from tfxfer.errors import RunError
from tfxfer.tools import _flags, board

COMMAND = Path(sys.executable).with_name("tfxfer")


def events(folder: Path, tag: str, values: Sequence[float]) -> Path:
    """Write an event file of scalars, as TensorFlow does."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    found = [Event(wall_time=1.0, file_version="brain.Event:2")]
    for step, value in enumerate(values):
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        found.append(Event(wall_time=2.0 + step, step=step, summary=summary))
    folder.mkdir(parents=True)
    path = folder / "events.out.tfevents.1.here"
    path.write_bytes(b"".join(framed(event.SerializeToString()) for event in found))
    return path


def framed(data: bytes) -> bytes:
    """Return a record of a TFRecord file: length and data, each with its masked CRC-32C."""
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def start(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, "board", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True
    )  # fmt: skip


def left(group: int) -> list[str]:
    """Return the command lines of the processes of a group that are still there."""
    found = []
    for process, line in browsing.processes().items():
        with contextlib.suppress(ProcessLookupError):
            found += [line] if os.getpgid(process) == group else []
    return found


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of this machine on which somebody listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_it_answers_at_the_address_that_it_prints_and_stops_without_a_trace(tmp_path):
    events(tmp_path / "runs/one/train", "loss", [3.0, 2.0, 1.0])
    process = start(tmp_path / "runs")
    try:
        url = browsing.address(process)
        assert url.startswith("http://127.0.0.1:")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def points() -> list[list[float]]:
            address = f"{url}data/plugin/scalars/scalars?run=one%2Ftrain&tag=loss"
            try:
                with opener.open(address, timeout=10) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError:
                return []  # not loaded yet

        assert [row[1:] for row in browsing.wait(points, "the scalars")] == [[0, 3.0], [1, 2.0], [2, 1.0]]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "")
        assert left(process.pid) == []
    finally:
        browsing.stop(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_starts_stops_it_as_well(tmp_path, number):
    events(tmp_path / "train", "loss", [1.0])
    process = start(tmp_path)
    try:
        browsing.wait(lambda: handles(process.pid, signal.SIGTERM), "its handlers", 20)
        time.sleep(0.3)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "")
        assert left(process.pid) == []
    finally:
        browsing.stop(process)


def handles(pid: int, number: int) -> bool:
    """Say whether a process has a handler of its own for a signal, as Linux tells."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_a_port_in_use_is_a_clear_error_before_anything_is_loaded(tmp_path, taken, capsys):
    made_runs.make(tmp_path / "run")
    code = f"from tfxfer.tools import board; board.main(['b', {str(tmp_path / 'run')!r}, '--port={taken}'])"
    code = f"import sys\ntry: {code}\nexcept ValueError as e: print(e)\nprint('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code.replace("\ntry: ", "\ntry:\n ").replace("; board.", "\n board.")],
                          capture_output=True, text=True)  # fmt: skip
    said = f"cannot listen on port {taken} of 127.0.0.1: Address already in use; take another --port (0 for a free one)"
    assert (done.stdout, done.stderr) == (f"{said} or --host\nFalse\n", "")
    assert _flags.run(board.main, ["tfxfer board", str(tmp_path / "run"), f"--port={taken}"]) == 1
    assert capsys.readouterr().err.startswith(f"RunError: {said}")


def test_a_host_that_is_not_here_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"cannot listen on port 0 of 192\.0\.2\.1: "):
        board.check_port("192.0.2.1", 0)
    with pytest.raises(RunError, match=r"of no\.such\.host\.invalid: "):
        board.check_port("no.such.host.invalid", 0)
    board.check_port("127.0.0.1", 0)


def test_a_directory_without_events_is_refused_with_what_is_there(tmp_path):
    with pytest.raises(RunError, match="gone is not there; give a run directory"):
        board.check(tmp_path / "gone")
    with pytest.raises(RunError, match="holds no events for TensorBoard, but nothing; give what --logdir was"):
        board.check(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match=r"holds no events for TensorBoard, but notes\.txt"):
        board.check(tmp_path)
    with pytest.raises(RunError, match=r"notes\.txt is a file; give a run directory"):
        board.check(tmp_path / "notes.txt")


def test_a_run_that_has_written_no_events_yet_and_a_folder_of_runs_are_shown(tmp_path):
    made_runs.write(tmp_path / "begun", "settings.json", {})
    board.check(tmp_path / "begun")
    events(tmp_path / "runs/a/b/train", "loss", [1.0])
    board.check(tmp_path / "runs")


@pytest.mark.parametrize(("args", "message"), [
    ([], "0 arguments are too few, 1 are needed"),
    (["a", "b"], "unexpected argument: b"),
    (["a", "--port=65536"], "flag --port=65536"),
])  # fmt: skip
def test_bad_usage_has_status_two(args, message, capsys):
    assert _flags.run(board.main, ["tfxfer board", *args]) == 2
    assert message in capsys.readouterr().err


def test_handlers_of_signals_are_as_they_were_afterwards(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert _flags.run(board.main, ["tfxfer board", str(tmp_path)]) == 1
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
