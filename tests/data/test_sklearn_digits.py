"""The embedded default: scikit-learn's digits at 28x28."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

import tfxfer.data
from tfxfer.data.sklearn_digits import digits, enlarge
from tfxfer.data.splits import check
from tfxfer.errors import DataError


@pytest.fixture(scope="module")
def data():
    return digits()


def test_the_digits_come_as_bytes_and_int64_in_three_splits(data):
    check(data)
    for split, n in [(data.train, 1257), (data.validation, 180), (data.test, 360)]:
        assert split.images.shape == (n, 28, 28, 1)
        assert split.images.dtype == np.uint8
        assert split.labels.shape == (n,)
        assert split.labels.dtype == np.int64
    assert data.class_names == tuple("0123456789")


def test_every_digit_is_in_each_split_at_its_share(data):
    share = np.bincount(load_digits().target) / 1797
    for split in (data.train, data.validation, data.test):
        assert np.all(np.abs(np.bincount(split.labels) - share * len(split)) <= 1)


def test_the_splits_together_are_the_source_and_no_picture_is_lost(data):
    splits = (data.train, data.validation, data.test)
    ours = sorted((int(y), x.tobytes()) for split in splits for x, y in zip(split.images, split.labels, strict=True))
    source = load_digits()
    pictures = enlarge(source.images.astype(np.int64))
    assert ours == sorted((int(y), x.tobytes()) for x, y in zip(pictures, source.target, strict=True))


def test_the_pictures_use_the_full_range(data):
    assert data.train.images.min() == 0
    assert data.train.images.max() == 255


def test_the_seed_decides_the_split(data):
    assert np.array_equal(digits(seed=0).test.images, data.test.images)
    assert not np.array_equal(digits(seed=1).test.images, data.test.images)
    with pytest.raises(DataError, match="`seed=-1` is out of range"):
        digits(seed=-1)


@pytest.mark.parametrize("size", [1, 2, 8, 28, 40])
def test_enlarging_is_bilinear_with_aligned_centres_as_numpy_interpolates(size):
    images = np.random.default_rng(size).integers(0, 17, (5, size, size))
    centres = (np.arange(28) + 0.5) * size / 28 - 0.5

    def along(axis, values):
        return np.apply_along_axis(lambda line: np.interp(centres, np.arange(size), line), axis, values)

    expected = along(2, along(1, images.astype(np.float64))) * 255 / 16
    assert np.abs(enlarge(images)[..., 0] - expected).max() <= 0.5 + 1e-9


def test_data_gives_the_functions_and_loads_neither_scikit_learn_nor_tensorflow():
    assert tfxfer.data.digits is digits
    code = "import sys, tfxfer.data; sys.exit(bool({'sklearn', 'scipy', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
