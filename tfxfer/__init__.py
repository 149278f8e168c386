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
    from tfxfer import data, errors, export, graph, models, names, restore, run, weights
    from tfxfer.graph.importing import import_meta_graph
    from tfxfer.graph.train_step import Stage, train_step
    from tfxfer.graph.variables import select
    from tfxfer.models.recognition import recognise
    from tfxfer.restore import plan
    from tfxfer.run.evaluation import evaluate
    from tfxfer.run.extraction import precompute
    from tfxfer.run.session import session
    from tfxfer.run.training import fit
    from tfxfer.weights import open_weights

__version__ = "0.1.0"

__all__ = [
    "Stage",
    "data",
    "errors",
    "evaluate",
    "export",
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
    "run",
    "select",
    "session",
    "train_step",
    "weights",
]

_HOME = {
    "Stage": "tfxfer.graph.train_step",
    "evaluate": "tfxfer.run.evaluation",
    "fit": "tfxfer.run.training",
    "import_meta_graph": "tfxfer.graph.importing",
    "open_weights": "tfxfer.weights",
    "plan": "tfxfer.restore",
    "precompute": "tfxfer.run.extraction",
    "recognise": "tfxfer.models.recognition",
    "select": "tfxfer.graph.variables",
    "session": "tfxfer.run.session",
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
