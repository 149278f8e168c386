"""The filters of the first layer, as small pictures: in the source, and in the best checkpoint."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfxfer.errors import TfxferError
from tfxfer.markup import Markup, data_uri, section, soft, tag
from tfxfer.plots import tiles
from tfxfer.plots.png import png
from tfxfer.reports.run_reader import Row, Run
from tfxfer.weights import Weights, digests, open_weights, roles


class _First(NamedTuple):
    """The kernel of the first convolution, as the best checkpoint has it."""

    name: str
    kernel: np.ndarray
    bgr: bool


def filters_section(run: Run) -> Markup | None:
    """Return the filters, with why they cannot be shown; None where the network has no filters of pictures."""
    title = "Filters of the first layer"
    try:
        first = _first(run)
    except TfxferError as error:
        return section("filters", title, soft(f"They cannot be shown: {error}"))
    if first is None:
        return None
    height, width, channels, count = first.kernel.shape
    colours = {1: "grey", 3: "RGB"}[channels]
    description = f"{first.name}: {count} filters of {height}x{width}, {colours}"
    shown = f"; {tiles.MOST} of them are shown" if count > tiles.MOST else ""
    text = soft(f"{description}{shown}. Each is drawn on its own scale; grey is 0.")
    return section("filters", title, text, tag("div", _pictures(run, first, description), class_="tiles"))


def _first(run: Run) -> _First | None:
    folder = run.path / "best"
    if not (folder / "checkpoint").is_file():
        return None
    weights = open_weights(folder)
    made = [row["variable"] for plan in run.plans or [] for row in plan["variables"]]
    slots = roles.slots_by_place(weights, weights.shape)
    name = next((name for name in [*made, *weights] if _is_first(name, weights, slots)), None)
    return None if name is None else _First(name, weights[name], _is_bgr(weights))


def _is_first(name: str, weights: Weights, slots: frozenset[str]) -> bool:
    if name not in weights:
        return False
    shape, kind = weights.shape(name), weights.dtype(name).kind
    return tiles.has_filters(shape) and kind == "f" and roles.role(name, shape, weights, slots=slots) == roles.KERNEL


def _is_bgr(weights: Weights) -> bool:
    try:
        input_spec = weights.input_spec()
    except TfxferError:
        return False
    return input_spec is not None and input_spec.channels == "BGR"


def _pictures(run: Run, first: _First, description: str) -> list[Markup]:
    def figure(kernel: np.ndarray, when: str, text: str) -> Markup:
        grid = tiles.filters(kernel, bgr=first.bgr)
        # Not enlarged, so that all pixels stay equal.
        look = f"max-width:{grid.shape[1]}px"
        image = tag("img", src=data_uri(png(grid)), alt=f"{description}{when}", style=look)
        return tag("figure", image, tag("figcaption", text))

    if (run.frozen or {}).get("variables", {}).get(first.name) == digests.digest(first.kernel):
        text = "Frozen: they are the same, bit for bit, at the start of the run and in its best checkpoint."
        return [figure(first.kernel, "", text)]
    if first.name not in run.trained():
        return [figure(first.kernel, "", "In the best checkpoint.")]
    row, before = _before(run, first)
    trained = figure(first.kernel, ", after training", "After training, in the best checkpoint.")
    if row is None:
        return [trained]
    if before is None:
        text = f"Before training they were {row['source']} of the source, which cannot be shown here."
        return [tag("p", text, class_="note"), trained]
    moved = float(np.abs(first.kernel - before).mean() / max(float(np.abs(before).mean()), 1e-30))
    text = f"Before training: {row['source']} of the source. On average a weight has moved by {moved:.1%} of its size."
    return [figure(before, ", before training", text), trained]


def _before(run: Run, first: _First) -> tuple[Row | None, np.ndarray | None]:
    """Return how the kernel was restored, and what it was, if the source is still there and lies as we have it."""
    for plan in run.plans or []:
        for row in plan["variables"]:
            if row["variable"] == first.name and row["status"] == "restored":
                return row, _read(str(plan["weights"]), str(row.get("source")), first.kernel.shape)
    return None, None


def _read(path: str, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        weights = open_weights(path)
        sources = {weights.source(ours): ours for ours in weights}
        kernel = weights[sources[name]] if name in sources else None
    except TfxferError:
        return None
    return kernel if kernel is not None and kernel.shape == shape else None
