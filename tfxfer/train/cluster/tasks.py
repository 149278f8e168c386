"""Which part a process has in a cluster, read from TF_CONFIG, and whether the other parts answer.

    {"cluster": {"chief": ["a:2222"], "worker": ["b:2222"], "ps": ["c:2222"]}, "task": {"type": "worker", "index": 0}}

Parameter servers (`ps`) hold the variables; the chief restores, validates, saves and trains; workers train. Where no
chief is named, worker 0 is it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfxfer import names
from tfxfer.errors import RunError

ROLES = ("chief", "worker", "ps")
EXAMPLE = '{"cluster": {"worker": ["a:2222", "b:2222"], "ps": ["c:2222"]}, "task": {"type": "worker", "index": 0}}'
PAUSE = 0.2  # seconds between two checks


@dataclasses.dataclass(frozen=True)
class Task:
    """One process of a cluster.

    Attributes:
      cluster: the addresses, `host:port`, of each role that there is.
      role: `chief`, `worker` or `ps`.
      index: its place among those of its role.
    """

    cluster: Mapping[str, tuple[str, ...]]
    role: str
    index: int

    @property
    def device(self) -> str:
        """What TensorFlow calls its devices."""
        return f"/job:{self.role}/task:{self.index}"

    @property
    def serves(self) -> bool:
        """Whether it is a parameter server."""
        return self.role == "ps"

    @property
    def trainers(self) -> list[tuple[str, int]]:
        """Role and index of each process that trains, the chief first."""
        return [(role, k) for role in ("chief", "worker") for k in range(len(self.cluster.get(role, ())))]

    @property
    def place(self) -> int:
        """Its place among `trainers`."""
        return self.trainers.index((self.role, self.index))

    @property
    def chief(self) -> bool:
        """Whether it is the chief."""
        return self.trainers[0] == (self.role, self.index)

    def addresses(self, *roles: str) -> dict[str, str]:
        """Return the addresses of some roles, `chief` and `worker` without regard to who is called chief, by name."""
        trainers = {"chief": self.trainers[:1], "worker": self.trainers[1:]}
        servers = [("ps", k) for k in range(len(self.cluster["ps"]))]
        tasks = [task for role in roles for task in trainers.get(role, servers)]
        return {f"{role} {k}": self.cluster[role][k] for role, k in tasks}


def read(text: str | None) -> Task | None:
    """Return the task that a TF_CONFIG is for, or None if it is empty or names no cluster.

    Raises:
      RunError: it is not JSON, or not of the form that the module's docstring shows; all faults are listed.
    """
    if not (text or "").strip():
        return None
    try:
        config = json.loads(text or "")
    except ValueError as error:
        raise RunError(f"TF_CONFIG is not JSON: {error}; write it like {EXAMPLE}") from None
    if config == {}:
        return None
    faults = list(_faults(config))
    if faults:
        raise RunError(f"TF_CONFIG cannot be used: {'; '.join(faults)}; write it like {EXAMPLE}")
    task = config["task"]
    cluster = {role: tuple(addresses) for role, addresses in config["cluster"].items() if addresses}
    return Task(cluster=cluster, role=task["type"], index=task["index"])


def _faults(config: Any) -> Iterator[str]:
    cluster = config.get("cluster") if isinstance(config, dict) else None
    task = config.get("task") if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not all(map(_are_texts, cluster.values())):
        yield '"cluster" must give a list of addresses for each role'
        return
    yield from _cluster_faults(cluster)
    if not isinstance(task, dict) or set(task) - {"trial", "environment"} != {"type", "index"}:
        yield '"task" must have "type" and "index": which of these processes this one is'
        return
    role, index = task["type"], task["index"]
    if role not in ROLES:
        yield f"the task's type {role!r} is unknown; there are {', '.join(ROLES)}"
    elif not cluster.get(role):
        yield f"the task is a {role}, and the cluster has none"
    elif type(index) is not int or not 0 <= index < len(cluster[role]):
        yield f"the task's index {index!r} is out of range; {role} has 0 to {len(cluster[role]) - 1}"


def _cluster_faults(cluster: Mapping[str, Sequence[str]]) -> Iterator[str]:
    unknown = sorted(set(cluster) - set(ROLES))
    if unknown:
        yield f"{names.listed(unknown)}: unknown role; there are {', '.join(ROLES)}"
    if len(cluster.get("chief", ())) > 1:
        yield f"there are {len(cluster['chief'])} chiefs; name one"
    if not cluster.get("ps"):
        yield "the cluster has no parameter server; name one or more under ps"
    if not cluster.get("chief") and not cluster.get("worker"):
        yield "nobody trains; name a chief or workers"
    addresses = [address for of_role in cluster.values() for address in of_role]
    bad = [address for address in addresses if not _is_address(address)]
    if bad:
        yield f"{names.listed(bad)}: not host:port"
    twice = sorted({address for address in addresses if addresses.count(address) > 1})
    if twice:
        yield f"{names.listed(twice)}: named twice"


def _are_texts(addresses: Any) -> bool:
    return isinstance(addresses, list) and all(isinstance(address, str) for address in addresses)


def _is_address(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(host) and not set(host) & set("/@ \t") and port.isdecimal() and 0 < int(port) < 65536


# --- who answers ---


def answers(address: str, seconds: float = 1.0) -> bool:
    """Return whether anybody takes connections at an address."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), seconds):
        return True
    return False


def wait_for(addresses: Mapping[str, str], seconds: float) -> None:
    """Wait until all answer.

    Args:
      addresses: by name, as `Task.addresses` returns them.
      seconds: how long to wait, together.

    Raises:
      RunError: some have not answered in that time.
    """
    deadline = time.monotonic() + seconds
    silent = dict(addresses)
    while silent := {name: address for name, address in silent.items() if not answers(address)}:
        if time.monotonic() > deadline:
            raise RunError(silence(silent, seconds))
        time.sleep(PAUSE)


def silence(silent: Mapping[str, str], seconds: float) -> str:
    """Say who has not answered."""
    who = ", ".join(f"{name} at {address}" for name, address in silent.items())
    return (
        f"{who}: no answer for {seconds:g} seconds; start it, correct its address in every TF_CONFIG, "
        "or wait longer by `cluster_timeout`"
    )


class Watch:
    """Notes since when somebody has been silent."""

    def __init__(self, addresses: Mapping[str, str], seconds: float) -> None:
        """Begin to watch.

        Args:
          addresses: by name, as `Task.addresses` returns them.
          seconds: how long somebody may be silent.
        """
        self._addresses, self._seconds = addresses, seconds
        self._heard = dict.fromkeys(addresses, time.monotonic())
        self._next = 0.0
        self._silent: list[str] = []

    def silent(self) -> list[str]:
        """Return the names of those who do not answer; looked at once in two seconds at most."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 2.0
            self._silent = [name for name, address in self._addresses.items() if not answers(address)]
            self._heard.update({name: now for name in self._addresses if name not in self._silent})
        return self._silent

    def overdue(self) -> str:
        """Return what to say of those who have been silent for too long, or nothing."""
        now = time.monotonic()
        late = {name: self._addresses[name] for name in self.silent() if now - self._heard[name] > self._seconds}
        return silence(late, self._seconds) if late else ""

    def check(self) -> None:
        """Check who answers.

        Raises:
          RunError: somebody has been silent for too long.
        """
        if message := self.overdue():
            raise RunError(message)
