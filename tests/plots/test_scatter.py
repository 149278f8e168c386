"""Points in a plane: what PCA and t-SNE make of rows, and that every class is to be seen."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from tests.store.test_features import codes
from tfxfer.errors import DataError
from tfxfer.plots import scatter
from tfxfer.plots.palette import CLASSES, rgb
from tfxfer.store import features
from tfxfer.store.features import Features


def of(rows: np.ndarray, labels: np.ndarray | None = None, names: tuple[str, ...] = ()) -> Features:
    return Features("some", rows, labels, names, ())


def projected(table: Features, method: str = "pca", seed: int = 0) -> tuple[np.ndarray, str]:
    return scatter.project(table, np.arange(len(table.rows)), method, seed)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_pca_is_the_plane_of_the_largest_variance():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(50, 3, 2)).astype(np.float32) * np.array([1, 2, 3])[:, None]
    points, how = projected(of(rows))
    flat = rows.reshape(50, 6).astype(np.float64)
    _, strengths, directions = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    wanted = (flat - flat.mean(axis=0)) @ directions[:2].T
    assert np.allclose(np.abs(points), np.abs(wanted), atol=1e-3)
    first, second = (strengths**2 / (strengths**2).sum())[:2]
    assert how == f"PCA of 50 rows of 6 numbers: across and up, {first:.1%} and {second:.1%} of the variance"


@pytest.mark.parametrize("method", scatter.METHODS)
def test_classes_that_lie_apart_stay_apart_and_the_same_seed_gives_the_same_points(tmp_path, method):
    from sklearn.neighbors import KNeighborsClassifier

    table = features.read(codes(tmp_path, 60, shape=(80,)))
    points, _ = projected(table, method)
    assert KNeighborsClassifier(3).fit(points, table.labels).score(points, table.labels) == 1
    assert np.array_equal(points, projected(table, method)[0])


@pytest.mark.parametrize("method", scatter.METHODS)
@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (4, 200)])
def test_few_and_short_rows_are_projected(method, shape):
    points, _ = projected(of(np.random.default_rng(0).normal(size=shape).astype(np.float32)), method)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


def test_rows_that_make_no_picture_are_refused():
    with pytest.raises(DataError, match="some has 2 rows to draw; at least 3 are needed"):
        scatter.chosen(of(np.zeros((2, 4), np.float32)), "all", 10, 0)
    rows = np.ones((5, 4), np.float32)
    with pytest.raises(DataError, match="all 5 rows are alike"):
        projected(of(rows))
    rows[1, 2] = np.nan
    with pytest.raises(DataError, match="1 of 5 rows hold NaN or infinity"):
        projected(of(rows))
    large = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (5000, 1 << 20), (0, 0))
    with pytest.raises(DataError, match=r"5,000 rows of 1,048,576 numbers are too many for memory; draw fewer"):
        projected(of(large))


def test_of_many_rows_some_are_taken_by_chance_in_their_order():
    table = of(np.zeros((100, 1), np.float32))
    taken = scatter.chosen(table, "all", 10, 0)
    assert len(set(taken.tolist())) == 10
    assert sorted(taken) == taken.tolist()
    assert np.array_equal(taken, scatter.chosen(table, "all", 10, 0))
    assert not np.array_equal(taken, scatter.chosen(table, "all", 10, 1))
    assert scatter.chosen(table, "all", 100, 0).tolist() == list(range(100))


def test_every_class_of_a_hundred_has_a_look_of_its_own():
    looks = [scatter.look(place) for place in range(100)]
    assert len(set(looks)) == 100
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in itertools.pairwise(looks))


@pytest.mark.parametrize("classes", [2, 12, 13, 100, 300])
def test_two_and_hundreds_of_classes_are_drawn(classes):
    generator = np.random.default_rng(0)
    labels = np.arange(2 * classes) % classes
    names = [f"class {number} $\\frac$" for number in range(classes)]
    first = scatter.draw(generator.normal(size=(len(labels), 2)), labels, names, "title", "how")
    picture = pixels(first)
    assert picture.shape[0] > 700
    assert picture.shape[1] < 1800
    assert picture.std() > 10
    if classes == 2:
        for colour in CLASSES[:2]:
            assert (np.abs(picture - rgb(colour)).sum(axis=-1) < 130).sum() > 50


def test_names_that_cannot_be_drawn_and_rows_without_classes_are_no_obstacle():
    points = np.random.default_rng(0).normal(size=(6, 2))
    names = ["\N{SUNFLOWER} \u05d5\u05e8\u05d3", "broken\udce9\x00\n$x", "<b>" * 40]
    data = scatter.draw(points, np.array([0, 1, 2] * 2), names, "t\udce9", "how")
    assert data == scatter.draw(points, np.array([0, 1, 2] * 2), names, "t\udce9", "how")
    assert pixels(scatter.draw(points, None, [], "title", "how")).std() > 5
