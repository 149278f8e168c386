"""The filters of the first layer, as small pictures: in the source, and in the best checkpoint."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfxfer import input_spec as input_specs
from tfxfer.errors import TfxferError
from tfxfer.input_spec import InputSpec
from tfxfer.plots import tiles
from tfxfer.plots.png import png
from tfxfer.report.markup import Markup, data_uri, tag
from tfxfer.report.run_reader import Row, Run
from tfxfer.weights import Weights, digests, open_weights, roles


class _First(NamedTuple):
    """The kernel of the first convolution, as the best checkpoint has it."""

    name: str
    kernel: np.ndarray
    bgr: bool


def section(run: Run) -> Markup | None:
    """Return the filters, with why they cannot be shown; None where the network has no filters of pictures."""
    try:
        first = _first(run)
    except TfxferError as error:
        return _section(tag("p", f"They cannot be shown: {error}", class_="soft"))
    if first is None:
        return None
    height, width, channels, count = first.kernel.shape
    colours = {1: "grey", 3: "RGB"}[channels]
    what = f"{first.name}: {count} filters of {height}x{width}, {colours}"
    shown = f"; {tiles.MOST} of them are shown" if count > tiles.MOST else ""
    text = f"{what}{shown}. Each is drawn on its own scale; grey is 0."
    return _section(tag("p", text, class_="soft"), tag("div", _pictures(run, first, what), class_="tiles"))


def _section(*children: object) -> Markup:
    return tag("section", tag("h2", "Filters of the first layer"), *children, id="filters")


def _first(run: Run) -> _First | None:
    folder = run.path / "best"
    if not (folder / "checkpoint").is_file():
        return None
    weights = open_weights(folder)
    made = [row["variable"] for plan in run.plans or [] for row in plan["variables"]]
    name = next((name for name in [*made, *weights] if _is_first(name, weights)), None)
    return None if name is None else _First(name, weights[name], _is_bgr(weights))


def _is_first(name: str, weights: Weights) -> bool:
    if name not in weights:
        return False
    shape, kind = weights.shape(name), weights.dtype(name).kind
    return tiles.has_filters(shape) and kind == "f" and roles.role(name, shape, weights) == roles.KERNEL


def _is_bgr(weights: Weights) -> bool:
    try:
        sidecar = input_specs.sidecar(weights.checkpoint or "")
        return InputSpec.load(weights.checkpoint or "").channels == "BGR" if sidecar else False
    except (TfxferError, OSError):
        return False


def _pictures(run: Run, first: _First, what: str) -> list[Markup]:
    frozen = (run.frozen or {}).get("variables", {}).get(first.name)
    after = tiles.filters(first.kernel, bgr=first.bgr)
    if frozen == digests.digest(first.kernel):
        text = "Frozen: they are the same, bit for bit, at the start of the run and in its best checkpoint."
        return [_figure(after, what, text)]
    if first.name not in run.trained():
        return [_figure(after, what, "In the best checkpoint.")]
    row, before = _before(run, first)
    trained = _figure(after, f"{what}, after training", "After training, in the best checkpoint.")
    if row is None:
        return [trained]
    if before is None:
        return [_note(f"Before training they were {row['source']} of the source, which cannot be shown here."), trained]
    moved = float(np.abs(first.kernel - before).mean() / max(float(np.abs(before).mean()), 1e-30))
    text = f"Before training: {row['source']} of the source. On average a weight has moved by {moved:.1%} of its size."
    return [_figure(tiles.filters(before, bgr=first.bgr), f"{what}, before training", text), trained]


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


def _note(text: str) -> Markup:
    return tag("p", text, class_="note")


def _figure(grid: np.ndarray, description: str, text: str) -> Markup:
    # Not enlarged, so that all pixels stay equal.
    image = tag("img", src=data_uri(png(grid)), alt=description, style=f"max-width:{grid.shape[1]}px")
    return tag("figure", image, tag("figcaption", text))
