"""data_checks/duplicates.py: the same bytes, the same picture, and different pictures that look alike."""

from __future__ import annotations

import hashlib

import numpy as np

from tfxfer.data import Pictures
from tfxfer.data_checks import duplicates
from tfxfer.data_checks.neighbours import nearest
from tfxfer.data_checks.unit_rows import UnitRows


def near(features: np.ndarray, images: object = None) -> list[tuple[int, int]]:
    pairs = duplicates.near(*nearest(UnitRows(features, str), 6), images)
    return [(copy, first) for copy, first, _ in pairs]


def blobs(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(1, 1, (count, 64)).astype(np.float32)


def test_digests_are_those_of_files_and_of_pixels(tmp_path):
    for name, data in (("a.png", b"\x89PNG\r\n\x1a\n1"), ("b.png", b"\x89PNG\r\n\x1a\n2")):
        (tmp_path / name).write_bytes(data)
    expected = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a.png", "b.png")]
    assert duplicates.digests(Pictures([tmp_path / "a.png", tmp_path / "b.png"])) == expected
    one, two, three = duplicates.digests(np.array([[[[1]]], [[[2]]], [[[1]]]], np.uint8))
    assert one == three != two


def test_each_later_copy_names_the_first_of_its_bytes():
    assert duplicates.exact("abacca") == [(2, 0, 0.0), (4, 3, 0.0), (5, 0, 0.0)]


def test_copies_with_a_bit_of_noise_are_near_and_others_are_not():
    features = blobs(200)
    copies = features[:20] + np.random.default_rng(1).normal(0, 0.1, (20, 64)).astype(np.float32)
    assert sorted(near(np.vstack([features, copies]))) == [(200 + number, number) for number in range(20)]
    assert near(features) == []


def test_a_group_of_more_copies_than_neighbours_names_its_first():
    features = blobs(100)
    copies = np.repeat(features[:1], 12, axis=0) + np.random.default_rng(1).normal(0, 0.05, (12, 64))
    assert sorted(near(np.vstack([features, copies]))) == [(100 + number, 0) for number in range(12)]


def test_pixels_decide_where_features_do_not():
    features = blobs(100)
    features[1] = features[0] + np.random.default_rng(1).normal(0, 0.8, 64)
    features[3] = features[2] + np.random.default_rng(2).normal(0, 0.8, 64)
    images = np.random.default_rng(0).integers(0, 255, (100, 32, 32, 3)).astype(np.uint8)
    images[1] = images[0, :, ::-1]  # mirrored; 2 and 3 stay different
    assert near(features, images) == [(1, 0)]


def test_very_few_examples_are_never_near():
    assert near(np.ones((2, 3))) == []
