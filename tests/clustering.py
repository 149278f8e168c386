"""Processes of a cluster on this machine, each a `tfxfer train`: started, killed, waited for."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_addresses(number: int) -> list[str]:
    """Return addresses on loopback at which nobody listens for now, below the ports that outgoing connections take."""
    found: list[str] = []
    while len(found) < number:
        address = f"127.0.0.1:{random.randint(20000, 32000)}"
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", int(address[10:]))):
            found += [address] if address not in found else []
    return found


class Cluster:
    """One parameter server, worker 0 as chief and worker 1, by one command."""

    def __init__(self, folder: Path, *flags: object) -> None:
        server, *trainers = free_addresses(3)
        self.addresses = {"ps": [server], "worker": trainers}
        self.folder, self.flags = folder, [str(flag) for flag in flags]
        self.processes: list[subprocess.Popen] = []

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def start(self, role: str, index: int = 0, more: Sequence[object] = ()) -> subprocess.Popen:
        """Start a process; what it says goes to `ROLE-INDEX.out` and `.err`."""
        task = {"cluster": self.addresses, "task": {"type": role, "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        command = [sys.executable, ROOT / "tools/train.py", *self.flags, *map(str, more)]
        with self.said(role, index, "out").open("a") as out, self.said(role, index, "err").open("a") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        self.processes.append(process)
        return process

    def said(self, role: str, index: int, stream: str) -> Path:
        return self.folder / f"{role}-{index}.{stream}"


def wait_until(true, seconds: float = 90.0) -> None:
    """Wait until something is true, or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
