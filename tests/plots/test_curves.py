"""Curves: scales and lines that the page and matplotlib share, and the picture by matplotlib."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tfxfer.errors import DataError
from tfxfer.plots import curves
from tfxfer.plots.palette import LIGHT, rgb

BLUE, ORANGE, GREEN = (rgb(LIGHT[name]) for name in ("blue", "orange", "green"))


# --- scales ---


@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e6), st.integers(3, 9))
@example(1.0, 400_001.0, 3)
def test_ticks_of_a_scale_are_round_and_few(low, wide, most):
    ticks = curves.ticks(low, low + wide, most)
    assert 1 <= len(ticks) <= most
    assert all(low - wide * 1e-6 <= value <= low + wide * (1 + 1e-6) for value in ticks)
    apart = np.diff(ticks)
    assert len(apart) == 0 or np.allclose(apart, apart[0], rtol=1e-3)


@given(st.floats(1e-20, 1e20), st.floats(21, 1e20))
def test_a_logarithmic_scale_has_ticks_within_it(low, factor):
    scale = curves.chart("A", [curves.Line("a", "train", [(0, low), (1, low * factor)])]).up
    assert scale.log
    assert 1 <= len(scale.ticks) <= curves.MOST_TICKS
    assert all(-1e-6 <= scale.place(value) <= 1 + 1e-6 for value in (*scale.ticks, low, low * factor))


@pytest.mark.parametrize(("value", "text"), [
    (0.0, "0"), (0.001, "0.001"), (1.5e-5, "1.5e-5"), (2e-7, "2e-7"), (20.0, "20"), (300000.0, "3e5"), (0.25, "0.25"),
])  # fmt: skip
def test_numbers_of_a_scale_are_short(value, text):
    assert curves.shown(value) == text


# --- the picture ---


def rows(epochs: int = 4, *, every: int = 10, accuracy: bool = True, rates=(), validations: int = 1) -> list[dict]:
    """A history: losses fall, accuracies rise, and a validation or several an epoch."""
    history = []
    for epoch in range(1, epochs + 1):
        means = {"loss": 1 / epoch} | ({"accuracy": 1 - 0.5 / epoch} if accuracy else {})
        rate = {"learning_rate": rates[epoch - 1]} if len(rates) else {}
        history.append({"step": epoch * every, "epoch": epoch, "split": "train", **means, **rate})
        history += [
            {"step": epoch * every - k * every // validations, "epoch": epoch, "split": "validation", **means}
            for k in range(validations)
        ]
    return history


def drawn(history: list[dict], **options) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(curves.draw(history, **options))).convert("RGB"))


def count(image: np.ndarray, colour: np.ndarray) -> int:
    return int((image == colour).all(-1).sum())


def test_loss_and_accuracy_are_drawn_side_by_side_in_two_colours():
    image = drawn(rows())
    left, right = np.array_split(image[:-40], 2, axis=1)
    assert image.shape == (360, 840, 3)
    assert min(count(half, colour) for half in (left, right) for colour in (BLUE, ORANGE)) > 50


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
    assert count(drawn(rows(validations=5), best=8), ORANGE) > 50
    assert count(drawn([row for row in rows(epochs=1) if row["split"] == "validation"]), ORANGE) > 10


def test_losses_far_apart_are_drawn_on_a_logarithmic_scale():
    near = rows()
    far = [row | {"loss": row["loss"] ** 6} for row in near]
    zero = [row | {"loss": 0.0} for row in far]
    for history in (near, far, zero):
        assert count(drawn(history), BLUE) > 50


def test_the_title_is_no_formula_and_the_same_history_gives_the_same_bytes():
    first, second = (curves.draw(rows(), best=20, title="runs/$x_1 {") for _ in range(2))
    assert first == second


def test_nothing_to_draw_is_refused():
    with pytest.raises(DataError, match="there is nothing to draw yet: no epoch has ended"):
        curves.draw([])
