"""The pictures: a photograph and its bars a row, whatever the names are; the curves of a run."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from matplotlib.image import imread

from tfxfer.errors import DataError
from tfxfer.plots import curves


def draw(path, count: int = 2, name: str = "a daisy") -> np.ndarray:
    photographs = [np.full((20, 20, 3), (250, 10, 10), np.uint8)] * count
    curves.predictions(path, photographs, ["x.jpg"] * count, [[name, "b"]] * count, [[0.75, 0.25]] * count)
    return imread(path)


def test_each_photograph_is_a_row_with_its_bars(tmp_path):
    one, three = draw(tmp_path / "1.png", 1), draw(tmp_path / "3.png", 3)
    assert three.shape[0] == 3 * one.shape[0]
    assert one.shape == (240, 800, 4)
    red, blue = ((one[..., :3] * 255).round() == colour for colour in ((250, 10, 10), (31, 119, 180)))
    assert red.all(-1)[:, :400].sum() > 10_000
    widths = np.unique(blue.all(-1).sum(1))
    assert widths[-1] == pytest.approx(3 * widths[widths > 0][0], rel=0.05)


def test_names_are_no_formulas(tmp_path):
    draw(tmp_path / "odd.png", name="$x_1 {")
    assert (tmp_path / "odd.png").stat().st_size > 0


def test_what_is_there_stays_if_it_cannot_be_written(tmp_path):
    draw(tmp_path / "kept.png")
    with pytest.raises(OSError, match="No such file"):
        draw(tmp_path / "nowhere" / "x.png")
    assert sorted(os.listdir(tmp_path)) == ["kept.png"]


# --- curves ---

BLUE, VERMILLION, GREEN = (0, 114, 178), (213, 94, 0), (0, 158, 115)  # Okabe and Ito's


def rows(epochs: int = 4, *, every: int = 10, accuracy: bool = True, rates=(), validations: int = 1) -> list[dict]:
    """A history: losses fall, accuracies rise, and a validation or several an epoch."""
    found = []
    for epoch in range(1, epochs + 1):
        means = {"loss": 1 / epoch} | ({"accuracy": 1 - 0.5 / epoch} if accuracy else {})
        rate = {"learning_rate": rates[epoch - 1]} if len(rates) else {}
        found.append({"step": epoch * every, "epoch": epoch, "split": "train", **means, **rate})
        found += [
            {"step": epoch * every - k * every // validations, "epoch": epoch, "split": "validation", **means}
            for k in range(validations)
        ]
    return found


def drawn(history: list[dict], **options) -> np.ndarray:
    return (imread(io.BytesIO(curves.curves(history, **options)))[..., :3] * 255).round().astype(int)


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((image == colour).all(-1).sum())


def test_loss_and_accuracy_are_drawn_side_by_side_in_two_colours():
    image = drawn(rows())
    left, right = np.array_split(image[:-40], 2, axis=1)
    assert image.shape == (360, 840, 3)
    assert min(count(half, colour) for half in (left, right) for colour in (BLUE, VERMILLION)) > 50


def test_what_was_not_measured_has_no_panel():
    assert drawn(rows(accuracy=False)).shape == (360, 420, 3)


def test_the_learning_rate_is_drawn_if_it_varies():
    constant, falling = drawn(rows(rates=[0.1] * 4)), drawn(rows(rates=[0.1, 0.05, 0.02, 0.01]))
    assert (constant.shape[1], falling.shape[1]) == (840, 1260)
    assert count(constant, GREEN) == 0
    assert count(falling[:, 840:], GREEN) > 50


def test_the_best_epoch_is_marked_where_it_is():
    plain, *marked = (drawn(rows(epochs=10), best=best) for best in (None, 20, 80))
    # The numbers above the panels and the legend below change too.
    places = [np.flatnonzero((image != plain)[60:-60].any(-1).any(0)) for image in marked]
    for panel in (0, 420):
        first, second = (place[(place >= panel) & (place < panel + 420)] for place in places)
        assert first.min() + 100 < second.min()
        assert first.max() + 100 < second.max()


def test_a_single_epoch_and_a_thousand_can_be_drawn():
    assert count(drawn(rows(epochs=1), best=10), BLUE) > 10
    assert count(drawn(rows(epochs=1000), best=5000), BLUE) > 50


def test_validations_within_an_epoch_and_runs_that_ended_within_the_first_can_be_drawn():
    assert count(drawn(rows(validations=5), best=8), VERMILLION) > 50
    assert count(drawn([row for row in rows(epochs=1) if row["split"] == "validation"]), VERMILLION) > 10


def test_losses_far_apart_are_drawn_on_a_logarithmic_scale():
    near = rows()
    far = [row | {"loss": row["loss"] ** 6} for row in near]
    zero = [row | {"loss": 0.0} for row in far]
    for history in (near, far, zero):
        assert count(drawn(history), BLUE) > 50


def test_the_title_is_no_formula_and_the_same_history_gives_the_same_bytes():
    first, second = (curves.curves(rows(), best=20, title="runs/$x_1 {") for _ in range(2))
    assert first == second


def test_nothing_to_draw_is_refused():
    with pytest.raises(DataError, match="there is nothing to draw yet: no epoch has ended"):
        curves.curves([])
