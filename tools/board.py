"""Show a run, or a folder of runs, in TensorBoard until Ctrl-C.

    tfxfer board runs/flowers

prints the address as soon as TensorBoard answers there, on this machine alone and on a free port unless --host and
--port say otherwise. It stops, with exit status 0, on Ctrl-C, SIGTERM and SIGHUP, and leaves no process behind.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from tfxfer import names, signals
from tfxfer.errors import RunError
from tfxfer.runs.files import is_run
from tfxfer.tools import _flags

EVENTS = "events.out.tfevents"
WAIT = 60.0  # seconds for TensorBoard to answer
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string(
        "host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets everybody in the network look.", flag_values=values
    )
    flags.DEFINE_integer("port", 0, "Port to listen on; 0 takes a free one.", 0, 65535, flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [directory] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    with contextlib.suppress(KeyboardInterrupt), signals.handled(signal.default_int_handler):
        check(Path(directory))
        check_port(values.host, values.port)
        url = _launch(directory, values.host, values.port)
        _await(url)
        print(f"{directory} is at {url} (Ctrl-C stops it)", flush=True)
        threading.Event().wait()
    return 0


def check(directory: Path) -> None:
    """Refuse what TensorBoard would show as nothing.

    Raises:
      RunError: the directory is not there, or holds neither a run nor events.
    """
    if not directory.is_dir():
        fault = "is a file" if directory.exists() else "is not there"
        raise RunError(f"{directory} {fault}; give a run directory, what --logdir was, or a folder of runs")
    if is_run(directory) or next(_events(directory), None):
        return
    entries = names.listed(sorted(entry.name for entry in directory.iterdir()), 5) or "nothing"
    raise RunError(
        f"{directory} holds no events for TensorBoard, but {entries}; give what --logdir was, or a folder of runs"
    )


def _events(directory: Path) -> Iterator[str]:
    for folder, _, entries in os.walk(directory):
        yield from (os.path.join(folder, name) for name in entries if EVENTS in name)


def check_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
      RunError: this machine has no such address, or somebody listens there already.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise RunError(
            f"cannot listen on port {port} of {host}: {error.strerror}; "
            "take another --port (0 for a free one) or --host"
        ) from None


def _launch(directory: str, host: str, port: int) -> str:
    """Start TensorBoard in a thread of this process, and return its address.

    Raises:
      RunError: it cannot be started.
    """
    from tensorboard import program

    # It warns of a second graph where a run went on, which says nothing to whoever looks at it.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    board = program.TensorBoard()
    # The fast loader would be a process of its own, which outlives a kill for a moment and calls itself experimental.
    board.configure(argv=("",), logdir=os.path.abspath(directory), host=host, port=port, load_fast="false")
    try:
        return board.launch()
    except program.TensorBoardServerException as error:
        raise RunError(f"{error.msg}; take another --port (0 for a free one) or --host") from None


def _await(url: str) -> None:
    """Wait until TensorBoard answers.

    Raises:
      RunError: it does not.
    """
    for host, here in LOOPBACK.items():
        url = url.replace(f"//{host}:", f"//{here}:").replace(f"//[{host}]:", f"//{here}:")
    # Never by a proxy, which may not know this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        with contextlib.suppress(OSError), opener.open(f"{url}data/environment", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RunError(f"TensorBoard does not answer at {url} after {WAIT:.0f} s")


if __name__ == "__main__":
    sys.exit(_flags.run(main))
