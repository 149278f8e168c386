"""The names of what a run can show in TensorBoard. TensorFlow is not needed to know them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfxfer import extras, names
from tfxfer.errors import GraphError

# What can be shown beside the scalars of batches and epochs, which always are.
SHOWN = {
    "graph": "the graph, frozen and trained parts apart",
    "text": "restore plan, settings, environment and the proof that frozen variables did not move",
    "images": "images of the validation split, and the first layer's filters before and after",
    "histograms": "values of trained variables, once an epoch",
    "norms": "norms of gradients and weights by layer, with each summary of a batch",
    "results": "settings and final metrics, to compare runs; of the test also confusion matrix, mistakes and PR curves",
    "activations": "histograms and feature maps of endpoints, once an epoch",
    "confusion": "the confusion matrix of the validation split, with each validation",
    "mistakes": "its most confident mistakes, when the run ends",
    "pr_curves": "its precision and recall by class, with each validation",
    "projector": "endpoints of all examples for the embedding projector, when the run ends",
    "trace": "time and memory of each op in one step",
}
DEFAULT = ("graph", "text", "images", "histograms", "norms", "results")
OF_LABELS = ("confusion", "mistakes", "pr_curves")
DRAWN = ("confusion", "mistakes")
OF_ENDPOINTS = ("activations", "projector")


def choose(summaries: Sequence[str] | None, activations: Mapping[str, Any], *, labelled: bool) -> tuple[str, ...]:
    """Return what is to be shown, in the order of `SHOWN`.

    Args:
      summaries: names out of `SHOWN`; default: `DEFAULT`. What needs labels is left out where there are none.
      activations: endpoints by name; where there are some, activations are shown unless the projector alone is.
      labelled: whether there are labels.

    Raises:
      GraphError: a name is unknown, or endpoints are missing.
      MissingPackageError: matplotlib is not installed, and draws what is to be shown.
    """
    wanted = list(DEFAULT if summaries is None else summaries)
    unknown = [name for name in wanted if name not in SHOWN]
    if isinstance(summaries, str) or unknown:
        rows = "\n".join(f"  {name}: {what}" for name, what in SHOWN.items())
        got = repr(summaries) if isinstance(summaries, str) else names.listed(unknown)
        raise GraphError(f"summaries are a list of names, not {got}; there are\n{rows}")
    if set(DRAWN).intersection(wanted):
        extras.load("matplotlib")
    if activations and not set(OF_ENDPOINTS).intersection(wanted):
        wanted.append("activations")
    lacking = [name for name in OF_ENDPOINTS if name in wanted and not activations]
    if lacking:
        raise GraphError(f"{names.listed(lacking)} need endpoints: activations={{'conv1': ends['conv1']}}, say")
    return tuple(name for name in SHOWN if name in wanted and (labelled or name not in OF_LABELS))
