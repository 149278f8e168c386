"""What `tfxfer train` does where TF_CONFIG makes it one process of a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from tfxfer.errors import RunError
from tfxfer.tools import _flags, _report, _training_flags
from tfxfer.weights.digests import digest

# Where files lie may differ from host to host, and how a host works too.
OWN = (
    *_training_flags.IDLE,
    *_training_flags.SESSION,
    "logdir",
    "weights",
    "data_dir",
    "overwrite",
    "shown",
    "keep",
    "keep_best",
)

OF_CLUSTERS = ("async_training", "cluster_timeout", "min_slice_size")


def define(values: flags.FlagValues) -> None:
    """Define the flags that matter where TF_CONFIG names a cluster."""
    with _flags.group(values, "a cluster, as TF_CONFIG names it"):
        flags.DEFINE_bool(
            "async_training",
            False,
            "Each process makes steps of its own, on --batch_size examples each; else all make each step together, "
            "of --batch_size examples in all.",
            flag_values=values,
        )
        flags.DEFINE_float(
            "cluster_timeout",
            300.0,
            "Seconds for which another process may be silent, at the start or later.",
            0.0,
            flag_values=values,
        )
        flags.DEFINE_integer(
            "min_slice_size",
            64 << 20,
            "A variable of at least twice as many bytes is split over several parameter servers, in parts of no fewer.",
            1,
            flag_values=values,
        )


@dataclasses.dataclass
class Part:
    """The part of this process.

    Attributes:
      task: as `tfxfer.train.cluster.tasks.read` returns it.
      settings: the flags' values, as attributes.
      replicas: what holds the steps together; None in asynchronous training.
      config: what TensorFlow is told.
    """

    task: Any
    settings: Any
    replicas: Any
    config: Any


def part(settings: Any) -> Part | None:
    """Return the part that TF_CONFIG gives this process, or None without a cluster.

    Raises:
      RunError: TF_CONFIG cannot be used, or the flags do not go with a cluster.
    """
    from tfxfer.train.cluster import tasks

    task = tasks.read(os.environ.get("TF_CONFIG"))
    present = [f"--{name}" for name in OF_CLUSTERS if settings[name].present]
    if task is None and present:
        raise _flags.UsageError(f"{' and '.join(present)}: TF_CONFIG names no cluster; set it, or leave this out")
    if task is None or settings.dry_run:
        return None
    if settings.store:
        raise RunError("--store goes with one process; leave it out, or unset TF_CONFIG")
    if settings.precision not in ("auto", "float32"):
        needs = f"--precision={settings.precision} needs --store, and so one process"
        raise RunError(f"{needs}; leave it out, or unset TF_CONFIG")
    from tfxfer.graph.sync_replicas import Replicas
    from tfxfer.restore.session import configuration

    config = configuration(**_training_flags.session_options(settings))
    alone = settings.async_training or task.serves
    return Part(task, settings, None if alone else Replicas(len(task.trainers), task.chief), config)


def serve(own: Part) -> int:
    """Be a parameter server to the end."""
    from tfxfer.train.cluster import session as cluster_session

    name = f"parameter server {own.task.index} at {own.task.cluster['ps'][own.task.index]}"
    print(f"{name}: waiting for the chief", flush=True)
    with _report.logging():
        print(f"{name}: {cluster_session.serve(own.task, seconds=own.settings.cluster_timeout, config=own.config)}")
    return 0


def placed(own: Part | None) -> Any:
    """Return the context in which the graph is built: what says where variables lie."""
    if own is None:
        return contextlib.nullcontext()
    from tfxfer.graph import sync_replicas as replicas

    return replicas.placed(own.task.cluster, own.task.device, own.settings.min_slice_size)


def work(own: Part, step: Any, plans: Sequence[Any], examples: Any) -> int:
    """Be a worker to the end."""
    from tfxfer.train.cluster.session import Messages
    from tfxfer.train.cluster.training import Worker

    terms = _terms(own, step, plans, examples)
    seconds, messages = own.settings.cluster_timeout, Messages(own.task)
    worker = Worker(own.task, step, examples, messages, own.replicas, terms, seconds=seconds, config=own.config)
    print(f"worker {own.task.index} at {own.task.cluster[own.task.role][own.task.index]}: trains", flush=True)
    with _report.logging():
        print(worker.run())
    return 0


@contextlib.contextmanager
def session(own: Part | None, step: Any, plans: Sequence[Any], examples: Any, settings: Any) -> Iterator[Any]:
    """Open the session of the chief, or of one process."""
    import tfxfer as tx

    if own is None:
        with tx.session(*plans, **_training_flags.session_options(settings)) as sess:
            yield sess
        return
    from tfxfer.train.cluster.session import Messages, chief_session
    from tfxfer.train.cluster.training import ChiefSteps

    messages, seconds = Messages(own.task), settings.cluster_timeout
    make_steps = functools.partial(
        ChiefSteps,
        step=step,
        task=own.task,
        messages=messages,
        replicas=own.replicas,
        terms=_terms(own, step, plans, examples),
        seconds=seconds,
    )
    print(f"chief at {own.task.cluster[own.task.role][own.task.index]}: waiting for all others", flush=True)
    with chief_session(
        own.task, plans, step.saver, messages, make_steps=make_steps, seconds=seconds, config=own.config
    ) as sess:
        yield sess


def _terms(own: Part, step: Any, plans: Sequence[Any], examples: Any) -> dict[str, Any]:
    """Return what all processes must have alike."""
    from tfxfer.data.batches import steps_per_epoch
    from tfxfer.graph.partitioned import wholes

    settings = own.settings
    values = {name: settings[name].value for name in settings if name not in OWN}
    weights = [f"{name} {digest(plan.weights[name])}" for plan in plans for name in wholes(plan.variables)]
    return {
        **{name: value if isinstance(value, int | float | None) else str(value) for name, value in values.items()},
        "async_training": settings.async_training,
        "the cluster's addresses": str({role: list(places) for role, places in sorted(own.task.cluster.items())}),
        "digest of what is restored": hashlib.sha256("\n".join(weights).encode()).hexdigest(),
        "training examples": len(examples.train),
        "digest of their labels": digest(examples.train.labels),
        "what is trained": str([list(wholes(stage.variables)) for stage in step.stages]),
        "steps": steps_per_epoch(len(examples.train), settings.batch_size) * settings.epochs,
    }
