"""Small pictures side by side: every filter, map and example where it should be."""

from __future__ import annotations

import numpy as np
import pytest

from tfxfer.data.pictures import Pictures
from tfxfer.plots import tiles
from tfxfer.plots.figures import CARD
from tfxfer.plots.palette import VIRIDIS


def seen(grid: np.ndarray) -> np.ndarray:
    """Return the part of a grid that is not clear."""
    rows, columns = (grid[..., 3].any(axis=axis) for axis in (1, 0))
    return grid[rows][:, columns]


def test_a_filter_is_grey_where_it_is_zero_and_as_dark_as_light():
    kernel = np.zeros((1, 3, 1, 1))
    kernel[0, :, 0, 0] = -2, 0, 2
    [row] = seen(tiles.filters(kernel))[:1]
    values = row[:, 0]
    assert list(dict.fromkeys(values.tolist())) == [0, 128, 255]
    assert (np.diff(np.flatnonzero(np.diff(values.astype(int)))) == len(values) // 3).all(), "of one width"


def test_each_filter_is_on_its_own_scale_with_a_clear_line_between():
    kernel = np.zeros((3, 3, 3, 4))
    for number in range(4):
        kernel[..., number] = 10.0**number
    grid = tiles.filters(kernel)
    solid = grid[grid[..., 3] == 255]
    assert (solid[:, :3] == 255).all()
    columns = grid[0, :, 3]
    assert (np.diff((columns == 255).astype(int)) == 1).sum() + (columns[0] == 255) > 1


def test_filters_of_blue_green_and_red_are_drawn_in_their_colours():
    kernel = np.zeros((2, 2, 3, 1))
    kernel[:, :, 0] = 1
    assert seen(tiles.filters(kernel))[0, 0, :3].tolist() == [255, 128, 128]
    assert seen(tiles.filters(kernel, bgr=True))[0, 0, :3].tolist() == [128, 128, 255]


@pytest.mark.parametrize(("shape", "drawable"), [
    ((3, 3, 3, 64), True), ((5, 1, 1, 2), True), ((1, 1, 3, 64), False), ((3, 3, 16, 8), False), ((3, 3, 1, 1), False),
    ((64, 10), False), ((), False),
])  # fmt: skip
def test_filters_are_those_of_a_convolution_over_grey_or_rgb(shape, drawable):
    assert tiles.has_filters(shape) == drawable
    assert not tiles.has_filters(shape, [4])


@pytest.mark.parametrize(
    "shape", [(3, 3, 1, 1), (11, 11, 3, 96), (7, 7, 3, 64), (5, 5, 1, 16), (3, 3, 3, 1000), (2, 9, 1, 5)]
)
def test_filters_of_any_size_fill_a_card_and_no_more(shape):
    grid = tiles.filters(np.random.default_rng(0).normal(size=shape))
    assert grid.dtype == np.uint8
    assert CARD <= grid.shape[1] < 2 * CARD
    assert grid.shape[0] <= 2 * CARD


def test_what_is_not_finite_is_drawn_as_zero():
    kernel = np.full((2, 2, 1, 1), np.nan)
    assert (seen(tiles.filters(kernel))[..., 0] == 128).all()
    maps = tiles.feature_maps(np.full((4, 4, 2), np.inf, np.float32))
    assert (seen(maps)[..., :3][seen(maps)[..., 3] == 255] == VIRIDIS[0]).all()


def test_a_map_goes_from_dark_to_light_on_its_own_scale():
    values = np.zeros((2, 2, 2))
    values[0, 0, 0], values[1, 1, 1] = 1, 1000
    grid = tiles.feature_maps(values)
    colours = {tuple(colour) for colour in grid[grid[..., 3] == 255][:, :3].tolist()}
    assert colours == {tuple(VIRIDIS[0].astype(int)), tuple(VIRIDIS[-1].astype(int))}
    assert tuple(grid[0, 0, :3]) == tuple(VIRIDIS[-1])


@pytest.mark.parametrize("shape", [(224, 224, 64), (7, 7, 512), (1, 1, 5), (14, 14, 16), (300, 2, 3)])
def test_maps_of_any_size_are_drawn(shape):
    grid = tiles.feature_maps(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    assert max(grid.shape[:2]) <= 1200
    assert grid.shape[1] >= CARD
    assert grid[..., 3].any()


# --- thumbnails ---


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_thumbnails_of_arrays_are_squares_of_their_pixels(channels):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, channels)).astype(np.uint8)
    found = tiles.thumbnails(images, [3, 1], 16)
    assert (found.shape, found.dtype) == ((2, 16, 16, 3), np.uint8)
    colours = np.repeat(images, 3, axis=3)[..., :3] if channels == 1 else images[..., :3]
    assert np.array_equal(found[:, ::2, ::2], colours[[3, 1]])
    assert tiles.thumbnails(images, [0], 3).shape == (1, 3, 3, 3)


def test_thumbnails_of_numbers_go_from_black_to_white():
    images = np.linspace(-3, 5, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    found = tiles.thumbnails(images, [0], 4)
    assert (found.min(), found.max()) == (0, 255)


def test_a_picture_that_is_gone_is_grey_and_the_others_are_there(tmp_path):
    from PIL import Image

    for name, colour in (("a.png", (250, 0, 0)), ("b.png", (0, 250, 0)), ("c.png", (0, 0, 250))):
        Image.new("RGB", (40, 30), colour).save(tmp_path / name)
    pictures = Pictures([tmp_path / name for name in ("a.png", "b.png", "c.png")], (20, 20))
    (tmp_path / "b.png").unlink()
    found = tiles.thumbnails(pictures, np.array([2, 1, 0]), 8)
    assert found[:, 4, 4].tolist() == [[0, 0, 250], [128, 128, 128], [250, 0, 0]]
    assert pictures.size == (20, 20)
