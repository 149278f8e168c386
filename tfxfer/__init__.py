"""Transfer learning with TensorFlow 1.x-style graphs and checkpoints.

    import tfxfer as tx

    data = tx.data.digits()
    convs = tx.plan(tx.select("conv.*"), tx.open_weights("checkpoints/digits_autoencoder"))
    step = tx.train_step(images, labels, logits, train=tx.select("fc.*", "logits/.*"), ...)
    with tx.session(convs) as sess:
        tx.fit(sess, step, data, epochs=20, logdir="runs/digits")

Every name is loaded when it is first used, so that `import tfxfer` takes no time and what only reads files never loads
TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfxfer import data, errors, evaluation, graph, models, names, restore, serving, store, train, weights
    from tfxfer.evaluation.evaluate import evaluate
    from tfxfer.graph.eval_step import eval_step
    from tfxfer.graph.importing import import_meta_graph
    from tfxfer.graph.stages import Stage
    from tfxfer.graph.train_step import train_step
    from tfxfer.graph.variables import select
    from tfxfer.models.recognition import recognise
    from tfxfer.restore.plan import plan
    from tfxfer.restore.session import session
    from tfxfer.store.extraction import precompute
    from tfxfer.train.fit import fit
    from tfxfer.train.options import CheckpointOptions, SummaryOptions
    from tfxfer.weights import open_weights

__version__ = "0.1.0"

__all__ = [
    "CheckpointOptions",
    "Stage",
    "SummaryOptions",
    "data",
    "errors",
    "eval_step",
    "evaluate",
    "evaluation",
    "fit",
    "graph",
    "import_meta_graph",
    "models",
    "names",
    "open_weights",
    "plan",
    "precompute",
    "recognise",
    "restore",
    "select",
    "serving",
    "session",
    "store",
    "train",
    "train_step",
    "weights",
]

_HOME = {
    "CheckpointOptions": "tfxfer.train.options",
    "Stage": "tfxfer.graph.stages",
    "SummaryOptions": "tfxfer.train.options",
    "eval_step": "tfxfer.graph.eval_step",
    "evaluate": "tfxfer.evaluation.evaluate",
    "fit": "tfxfer.train.fit",
    "import_meta_graph": "tfxfer.graph.importing",
    "open_weights": "tfxfer.weights",
    "plan": "tfxfer.restore.plan",
    "precompute": "tfxfer.store.extraction",
    "recognise": "tfxfer.models.recognition",
    "select": "tfxfer.graph.variables",
    "session": "tfxfer.restore.session",
    "train_step": "tfxfer.graph.train_step",
}


def __getattr__(name: str) -> object:
    """Load a public name, or a subpackage, when it is first used (PEP 562)."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in __all__:
        return importlib.import_module(f"tfxfer.{name}")
    from tfxfer.names import did_you_mean

    raise AttributeError(f"module 'tfxfer' has no attribute {name!r}{did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
