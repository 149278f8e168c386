"""The mapping itself: names, sources, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from tfxfer.errors import SelectionError, WeightsError
from tfxfer.weights import Tensor, Weights, open_weights


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "a.npz", conv1_W=np.ones((3, 3), np.float32), conv1_b=np.zeros(3))
    return tmp_path / "a.npz"


def test_weights_are_a_mapping_that_reads_when_it_is_asked(path):
    weights = open_weights(path)
    assert list(weights) == ["conv1_W", "conv1_b"]
    assert len(weights) == 2
    assert "conv1_W" in weights
    assert "conv2_W" not in weights
    assert weights["conv1_W"].tolist() == np.ones((3, 3)).tolist()
    assert (weights.shape("conv1_W"), weights.dtype("conv1_W")) == ((3, 3), np.float32)
    assert (weights.path, weights.kind, weights.checkpoint) == (str(path), "NumPy .npz archive", None)
    assert repr(weights) == f"<Weights {path}: NumPy .npz archive, 2 tensors>"
    assert weights.tensor("conv1_b").nbytes == 24
    assert not weights.transformed("conv1_W")


def test_paths_may_be_texts_or_paths(path):
    assert list(open_weights(str(path))) == list(open_weights(path))


def test_names_that_are_not_there_are_answered_with_the_nearest(path):
    weights = open_weights(path)
    for call in (
        weights.__getitem__,
        weights.tensor,
        weights.shape,
        weights.dtype,
        weights.source,
        weights.transformed,
    ):
        with pytest.raises(KeyError, match=r"conv1_WW is not in .*a\.npz \(did you mean conv1_W\?\)"):
            call("conv1_WW")


def test_renamed_weights_know_the_names_in_the_file(path):
    weights = open_weights(path, rename=[("_W$", "/kernel"), ("_b$", "/bias")])
    assert list(weights) == ["conv1/kernel", "conv1/bias"]
    assert weights.source("conv1/kernel") == "conv1_W"
    assert weights.renamed(lambda name: f"net/{name}").source("net/conv1/bias") == "conv1_b"
    assert open_weights(path, rename=str.upper).source("CONV1_W") == "conv1_W"


def test_rename_rules_for_nothing_and_names_that_fall_together_are_refused(path):
    with pytest.raises(SelectionError, match="the rename rule 'conv9' matches none of the 2 names; nearest: conv1_"):
        open_weights(path, rename=[("conv9", "x")])
    with pytest.raises(SelectionError, match="make one name of several"):
        open_weights(path, rename=[("_[Wb]", "")])


def test_what_announces_too_much_is_refused(path):
    with pytest.raises(WeightsError, match=r"a\.npz announces 60 bytes of tensors, more than max_bytes=59"):
        open_weights(path, max_bytes=59)
    assert len(open_weights(path, max_bytes=60)) == 2


def test_what_does_not_fit_into_memory_is_refused_when_it_is_read():
    def read() -> np.ndarray:
        raise MemoryError

    weights = Weights("a", "made by hand", {"w": Tensor((1 << 20, 1 << 20), np.dtype("f4"), read)})
    with pytest.raises(WeightsError, match="a: w takes 4,398,046,511,104 bytes, more than there is memory"):
        weights["w"]


def test_sizes_of_scalars_and_of_empty_arrays():
    def read() -> np.ndarray:
        raise NotImplementedError

    assert Tensor((), np.dtype("f8"), read).size == 1
    assert Tensor((0, 5), np.dtype("f8"), read).nbytes == 0
