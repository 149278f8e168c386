"""Statistics in batches against numpy on all rows at once, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler, normalize

from tfxfer.data.normalization import SHARE, FeatureStatistics, normalized


def statistics(rows, size):
    found = FeatureStatistics()
    for start in range(0, len(rows), size):
        found.add(rows[start : start + size])
    return found.mean_and_scale()


@pytest.fixture
def rows():
    return (np.random.default_rng(0).normal(size=(101, 5)) * [1, 2, 3, 2, 1] + [1e4, 0, -7, 3, 200]).astype(np.float32)


@pytest.mark.parametrize("size", [1, 7, 101])
def test_batches_of_any_size_give_the_statistics_of_all_rows(rows, size):
    mean, scale = statistics(rows, size)
    variance = rows.astype(np.float64).var(axis=0)
    np.testing.assert_allclose(mean, rows.astype(np.float64).mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(scale, 1 / np.sqrt(variance + SHARE * variance.mean()), rtol=1e-6)
    assert (mean.dtype, scale.dtype) == (np.float32, np.float32)


def test_standard_is_what_scikit_learn_makes_of_features_of_a_like_spread(rows):
    ours = normalized(rows, "standard", *statistics(rows, 10))
    np.testing.assert_allclose(ours, StandardScaler().fit_transform(rows.astype(np.float64)), atol=1e-2)


def test_l2_is_what_scikit_learn_makes_and_leaves_zeros_as_they_are(rows):
    rows[3] = 0
    np.testing.assert_allclose(normalized(rows, "l2"), normalize(rows), rtol=1e-6)
    assert normalized(rows, "none") is rows


def test_sqrt_is_the_root_of_each_with_its_sign_of_length_1(rows):
    rows[3], rows[4, 0] = 0, 0
    wanted = normalize(np.sign(rows) * np.sqrt(np.abs(rows.astype(np.float64))))
    np.testing.assert_allclose(normalized(rows, "sqrt"), wanted, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(normalized(rows * np.float32(1e4), "sqrt"), wanted, rtol=1e-5, atol=1e-7)
    positive = np.abs(rows)
    np.testing.assert_allclose(np.square(normalized(positive, "sqrt")), normalize(positive, norm="l1"), rtol=1e-5)


def test_a_feature_that_is_constant_gets_a_bounded_scale(rows):
    rows[:, 1] = 235.0
    mean, scale = statistics(rows, 16)
    assert mean[1] == 235.0
    assert scale[1] == pytest.approx(1 / np.sqrt(SHARE * np.var(rows.astype(np.float64), axis=0).mean()), rel=1e-4)
    assert not normalized(rows, "standard", mean, scale)[:, 1].any()
    assert statistics(np.full((4, 3), 7, np.float32), 2)[1].tolist() == [1, 1, 1]


def test_statistics_are_of_each_channel_over_all_positions(rows):
    images = rows[:100].reshape(10, 2, 5, 5)
    for ours, expected in zip(statistics(images, 3), statistics(rows[:100], 100), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
