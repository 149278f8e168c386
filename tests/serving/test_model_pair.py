"""Two models beside each other: what paths are, and which pictures both are shown. The tool's tests compare more."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from tests.tools.test_compare_outputs import arrays
from tfxfer.errors import DataError, WeightsError
from tfxfer.serving.model_pair import FileOptions, open_pair, random_pictures, running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files of the same weights under our names."""
    top = tmp_path_factory.mktemp("files")
    for name in ("a.npz", "b.npz"):
        np.savez(top / name, **arrays())
    return [str(top / "a.npz"), str(top / "b.npz")]


def test_two_files_are_shown_the_same_pictures(files):
    options = FileOptions(model="squeezenet1_1", image_size=24)
    pair = open_pair(files, endpoint="pool1", options=options)
    assert [(side.path, side.model) for side in pair] == [(path, "squeezenet1_1") for path in files]
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(running(side)) for side in pair]
        assert [(side.shape, side.takes_files) for side in sides] == [((24, 24, 3), False)] * 2
        a, b = (side.run(pixels) for side, pixels in zip(sides, random_pictures(sides, 2, 0), strict=True))
    assert list(a) == list(b) == ["pixels", "input", "conv1", "pool1"]
    np.testing.assert_array_equal(a["pool1"], b["pool1"])


def test_what_cannot_be_compared_is_refused(files, tmp_path):
    np.savez(tmp_path / "odd.npz", x=np.zeros(3))
    with pytest.raises(WeightsError, match=r"odd.npz does not show which network it is of; name it by `model`"):
        open_pair([str(tmp_path / "odd.npz")] * 2)
    sizes = [open_pair(files, options=FileOptions("squeezenet1_1", image_size=side))[0] for side in (24, 32)]
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(running(side)) for side in sizes]
        with pytest.raises(DataError, match=r"a.npz takes 24x24x3 and .* takes 32x32x3: they cannot be shown the same"):
            random_pictures(sides, 1, 0)
