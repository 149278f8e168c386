"""The power law through accuracies, and its uncertainty; SciPy and planted curves are the oracles."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.optimize import curve_fit

from tfxfer.errors import DataError
from tfxfer.statistics import learning_curve
from tfxfer.statistics.learning_curve import LearningCurve, fit

SIZES = [100, 200, 400, 700, 1000]


def planted(limit=0.9, factor=0.05, exponent=0.6, seeds=5, examples=2000, seed=0) -> list[np.ndarray]:
    """Whether classifiers are right whose accuracy follows a power law."""
    generator = np.random.default_rng(seed)
    hard = generator.random(examples)
    shares = [limit - factor * (size / 1000) ** -exponent for size in SIZES]
    return [np.stack([hard + generator.normal(0, 0.01, examples) < share for _ in range(seeds)]) for share in shares]


@pytest.fixture
def fewer_draws(monkeypatch):
    """A quarter of the bootstrap's draws, which is enough for what is shown here."""
    monkeypatch.setattr(learning_curve, "DRAWS", 50)


@functools.cache
def made(**options) -> LearningCurve:
    return fit(planted(**options), SIZES, classifier="logistic regression", head=0.86)


def test_a_planted_curve_is_found_and_lies_in_its_interval():
    curve = made(examples=20_000)
    for place in curve.places:
        true = 0.9 - 0.05 * (place.examples / 1000) ** -0.6
        assert place.accuracy == pytest.approx(true, abs=0.01)
        assert place.low <= place.accuracy <= place.high
    gain = 0.05 * (1 - 2**-0.6)
    assert curve.gain[0] == pytest.approx(gain, abs=0.006)
    assert curve.gain[1] <= gain <= curve.gain[2]
    assert (curve.places[0].examples, curve.places[-1].examples) == (pytest.approx(100), pytest.approx(4000))
    assert curve.examples == 1000


@pytest.mark.usefixtures("fewer_draws")
def test_the_fit_is_scipys():
    right = planted()
    means = [rows.mean() for rows in right]
    curve = made()
    wanted, _ = curve_fit(
        lambda share, a, b, c: a - b * share**-c,
        np.array(SIZES) / 1000,
        means,
        p0=[0.85, 0.1, 0.4],
        bounds=([0, 0, 0.05], [1, 1, 2]),
    )
    values = wanted[0] - wanted[1] * (np.array([p.examples for p in curve.places]) / 1000) ** -wanted[2]
    np.testing.assert_allclose([place.accuracy for place in curve.places], values, atol=2e-3)
    assert [point.accuracies for point in curve.points] == [tuple(rows.mean(axis=1)) for rows in right]


@pytest.mark.usefixtures("fewer_draws")
def test_fewer_validation_examples_are_less_sure():
    widths = [curve.places[-1].high - curve.places[-1].low for curve in (made(examples=60), made())]
    assert widths[0] > 2 * widths[1]


@pytest.mark.usefixtures("fewer_draws")
def test_a_flat_curve_promises_nothing():
    right = [np.ones((3, 50), bool)] * 5
    curve = fit(right, SIZES, classifier="x")
    assert curve.gain == pytest.approx((0, 0, 0), abs=1e-3)
    assert "not told from none" in str(curve)
    noisy = fit(planted(factor=0.0, limit=0.7, examples=60), SIZES, classifier="x")
    assert noisy.gain[0] < 0.03


def test_too_little_is_refused():
    with pytest.raises(DataError, match="a learning curve needs 3 sizes and validation examples; there are 2 and 2000"):
        fit(planted()[:2], SIZES[:2], classifier="x")
    with pytest.raises(DataError, match="there are 5 and 0"):
        fit([np.ones((5, 0), bool)] * 5, SIZES, classifier="x")


def test_what_is_kept_is_read_and_the_same_numbers_give_the_same_bytes():
    curve = made()
    assert LearningCurve.from_json(curve.to_json()) == curve
    assert learning_curve.to_bytes(curve) == learning_curve.to_bytes(made())


@pytest.mark.parametrize("change", [
    {"points": []}, {"places": []}, {"limit": True}, {"limit": float("nan")}, {"gain": [1]},
    {"points": [{"examples": 0, "accuracies": [1]}]}, {"points": [{"examples": 5, "accuracies": []}]},
])  # fmt: skip
def test_a_damaged_file_is_refused(change):
    with pytest.raises(ValueError, match=r"it has no points|is not a number|not enough values"):
        LearningCurve.from_json({**made().to_json(), **change})
