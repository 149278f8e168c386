"""Temperature and expected calibration error; SciPy and scikit-learn are the oracles."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from tfxfer.errors import DataError
from tfxfer.statistics import calibration
from tfxfer.statistics.calibration import Calibration, cross_entropy, fit_temperature, measure


def drawn(count=4000, classes=5, times=3.0, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too large by a factor, and labels drawn by the true probabilities."""
    generator = np.random.default_rng(seed)
    true = generator.normal(0, 2, (count, classes))
    labels = np.array([generator.choice(classes, p=row) for row in softmax(true, axis=1)])
    return (true * times).astype(np.float32), labels


@pytest.mark.parametrize("times", [0.3, 1.0, 3.0, 12.0])
def test_the_temperature_undoes_the_factor_by_which_logits_are_too_large(times):
    temperature, at_bound = fit_temperature(*drawn(times=times))
    assert temperature == pytest.approx(times, rel=0.06)
    assert not at_bound


def test_the_temperature_is_the_one_that_scipy_finds_with_scikit_learns_loss():
    logits, labels = drawn(500)

    def loss(log_temperature: np.ndarray) -> float:
        return log_loss(labels, softmax(logits / np.exp(log_temperature[0]), axis=1), labels=range(5))

    wanted = math.exp(minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x[0])
    assert fit_temperature(logits, labels)[0] == pytest.approx(wanted, rel=1e-4)
    assert cross_entropy(logits, labels) == pytest.approx(log_loss(labels, softmax(logits, axis=1)), rel=1e-5)


def test_one_logit_is_that_of_the_second_of_two_classes():
    generator = np.random.default_rng(1)
    true = generator.normal(0, 1.5, (5000, 1))
    labels = (generator.random(5000) < expit(true[:, 0])).astype(int)
    logits = 4 * true
    assert fit_temperature(logits, labels)[0] == pytest.approx(4, rel=0.06)
    assert cross_entropy(logits, labels) == pytest.approx(log_loss(labels, expit(logits[:, 0])), rel=1e-6)
    both = np.concatenate([np.zeros_like(logits), logits], axis=1)
    assert measure(logits, labels, 2.0) == measure(both, labels, 2.0)


def test_the_error_is_that_of_the_paper_and_the_bins_are_scikit_learns():
    logits, labels = drawn(700)
    measured = measure(logits, labels, 1.5)
    probabilities = softmax(logits.astype(np.float64) / 1.5, axis=1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error, edges = 0.0, np.linspace(0, 1, 16)
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert measured.ece == pytest.approx(error, abs=1e-12)
    accuracies, confidences = calibration_curve(right, confidence, n_bins=15)
    shown = [part for part in measured.bins if part.examples]
    np.testing.assert_allclose([part.accuracy for part in shown], accuracies, rtol=1e-9)
    np.testing.assert_allclose([part.confidence for part in shown], confidences, rtol=1e-9)
    assert sum(part.examples for part in measured.bins) == measured.examples == 700
    assert measured.loss == pytest.approx(-log_softmax(logits / 1.5, axis=1)[np.arange(700), labels].mean(), rel=1e-5)


def test_the_temperature_lowers_the_error_and_changes_no_prediction():
    logits, labels = drawn()
    temperature, _ = fit_temperature(logits, labels)
    before, after = measure(logits, labels), measure(logits, labels, temperature)
    assert after.ece < 0.2 * before.ece
    assert sum(part.examples * part.accuracy for part in before.bins) == pytest.approx(
        sum(part.examples * part.accuracy for part in after.bins)
    )


@pytest.mark.parametrize(("label", "bound", "why"), [
    (0, calibration.LOWEST, "nearly all of these are right"),
    (2, calibration.HIGHEST, "hardly better than by chance"),
])  # fmt: skip
def test_where_no_temperature_is_the_best_it_stands_at_a_bound_and_says_why(label, bound, why):
    logits = np.float32([[3, 1, 0]])
    temperature, at_bound = fit_temperature(logits, np.array([label]))
    assert (temperature, at_bound) == (pytest.approx(bound), True)
    pair = measure(logits, np.array([label])), measure(logits, np.array([label]), temperature)
    assert why in str(Calibration(temperature, at_bound, False, "best", pair))


def test_without_examples_and_with_logits_that_are_not_finite_there_is_none():
    with pytest.raises(DataError, match="a temperature needs validation examples, and there are none"):
        fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, int))
    with pytest.raises(DataError, match="1 of 2 validation examples have logits that are not finite"):
        fit_temperature(np.float32([[1, 2], [np.nan, 0]]), np.array([0, 1]))


def made() -> Calibration:
    logits, labels = drawn(200)
    temperature, at_bound = fit_temperature(logits, labels)
    pair = measure(logits, labels), measure(logits, labels, temperature)
    return Calibration(temperature, at_bound, True, "best/model.ckpt-120", pair, pair)


def test_what_is_kept_is_read(tmp_path):
    assert calibration.read(tmp_path) is None
    (tmp_path / calibration.FILE).write_bytes(calibration.to_bytes(made()))
    assert calibration.read(tmp_path) == made()
    assert json.loads((tmp_path / calibration.FILE).read_text())["test"][0]["ece"] == made().test[0].ece


@pytest.mark.parametrize("change", [
    {"temperature": 0}, {"temperature": 1e9}, {"temperature": float("nan")}, {"used": 1}, {"validation": None},
    {"validation": [{"examples": 1, "loss": 1, "bins": [[1, 0.5, 2.0]]}] * 2},
    {"validation": [{"examples": 2, "loss": 1, "bins": [[1, 0.5, 1.0]]}] * 2},
    {"test": [{"examples": 1, "loss": 1, "bins": [[1, 0.5, 1.0]] + [[0, 0, 0]] * n} for n in (1, 2)]},
])  # fmt: skip
def test_a_damaged_file_is_refused(change):
    with pytest.raises((ValueError, TypeError)):
        Calibration.from_json({**made().to_json(), **change})
