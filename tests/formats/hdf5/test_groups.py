"""What a group holds, and links that lead to somewhere else."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tests.formats.hdf5.test_hdf5 import VERSIONS, check, same
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ordered", [False, True])
def test_hdf5_reader_agrees_with_h5py_on_groups_of_any_size(tmp_path, version, ordered):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=version, track_order=ordered) as file:
        for count in (1, 8, 9, 70, 700):
            for i in range(count):
                file[f"g{count}/a_rather_long_name_of_a_layer_{i}"] = np.float32(i)
        file["deep/er/and/deeper/x"] = np.arange(3)
        file.create_group("nothing")
    check(path)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("link", "message"),
    [
        (
            h5py.ExternalLink("/etc/passwd", "/x"),
            "evil is a link to another file; only what the file itself holds is read",
        ),
        (h5py.SoftLink("/elsewhere"), "evil is a soft link to another place; only what the file itself holds is read"),
    ],
)
def test_links_that_lead_away_are_listed_and_not_followed(tmp_path, version, link, message):
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["w"] = np.ones(3)
        file["group/evil"] = link
        for index in range(20):  # so many that the newer format keeps them in a heap
            file[f"group/w{index}"] = np.ones(2)
    weights = open_weights(tmp_path / "a.h5")
    assert set(weights) == {"w", *(f"group/w{index}" for index in range(20))}
    assert list(weights.skipped) == ["group/evil"]
    with pytest.raises(WeightsError, match=f"a.h5: group/{message}"):
        weights["group/evil"]


def test_a_file_of_links_alone_holds_no_arrays(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["model_weights"] = h5py.SoftLink("/elsewhere")
    with pytest.raises(WeightsError, match=r"holds no arrays:\n.*model_weights is a soft link to another place"):
        open_weights(tmp_path / "a.h5")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_with_two_names_is_read_under_both(tmp_path, version):
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["a/b/x"] = np.arange(3)
        file["c"], file["d/e"] = file["a"], file["a/b/x"]
    weights = open_weights(tmp_path / "a.h5")
    assert sorted(weights) == ["a/b/x", "c/b/x", "d/e"]
    assert all(same(weights[name], np.arange(3)) for name in weights)
