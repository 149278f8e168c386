"""The mapping itself: names, sources, refusals."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tests.weights.test_bundle import save
from tfxfer.errors import SelectionError, WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.weights import Tensor, Weights, open_weights, streams, writers


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


WRITERS = {
    "npz": lambda path, size: np.savez(path, a=np.ones(size, np.float32)),
    "compressed.npz": lambda path, size: np.savez_compressed(path, a=np.random.default_rng(0).normal(size=size)),
    "npy": lambda path, size: np.save(path, np.ones(size, np.float32)),
    "pickled.npy": lambda path, size: np.save(path, np.array({"a": np.ones(size, np.float32)}, object)),
    "safetensors": lambda path, size: safetensors.numpy.save_file({"a": np.ones(size, np.float32)}, path),
    "h5": lambda path, size: _h5(path, size, {}),
    "chunks.h5": lambda path, size: _h5(path, size, {"chunks": (min(size, 1000),), "compression": "gzip"}),
}


def _h5(path, size, options):
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.random.default_rng(0).normal(size=size), **options)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("how", ["cut", "written anew", "touched"])
def test_a_file_that_changes_after_it_was_opened_is_refused_and_kills_nothing(tmp_path, kind, how):
    path = tmp_path / f"a.{kind}"
    WRITERS[kind](path, 300_000)
    weights = open_weights(path)
    [name] = weights
    read = weights[name]
    expected = read.copy()
    if how == "cut":
        os.truncate(path, 1000)
    elif how == "written anew":
        # In place, as numpy does it: h5py and others refuse to, or rename.
        WRITERS[kind](tmp_path / f"b.{kind}", 3)
        path.write_bytes((tmp_path / f"b.{kind}").read_bytes())
    else:
        os.utime(path, ns=(0, os.stat(path).st_mtime_ns + 1))
    for look in (lambda: weights[name], lambda: list(streams.pieces(weights.tensor(name)))):
        with pytest.raises(WeightsError, match=r"has changed since it was opened"):
            look()
    assert np.array_equal(read, expected)  # what was read before is in memory of its own


def test_a_checkpoint_that_is_cut_after_it_was_opened_is_refused(tmp_path):
    tensors = {"a": streams.held(np.ones(300_000, np.float32)), "b": streams.held(np.ones(3, np.float32))}
    writers.write(tmp_path / "model.ckpt", tensors)
    weights = open_weights(tmp_path / "model.ckpt")
    os.truncate(tmp_path / "model.ckpt.data-00000-of-00001", 1000)
    for name in weights:
        with pytest.raises(WeightsError, match=r"data-00000-of-00001 has changed since it was opened"):
            weights[name]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_is_replaced_by_a_rename_is_read_as_it_was_opened(tmp_path, kind):
    path, other = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    WRITERS[kind](path, 3000)
    WRITERS[kind](other, 3)
    weights = open_weights(path)
    [name] = weights
    os.replace(other, path)
    assert weights.shape(name) == weights[name].shape == (3000,)
    assert open_weights(path)[name].shape == (3,)


@pytest.mark.parametrize("suffix", ["npz", "npy", "safetensors", "ckpt"])
def test_names_lose_the_number_of_an_output_and_a_slash_before_them_unless_that_makes_two_of_one(tmp_path, suffix):
    table = {"/conv1/kernel": 1, "conv1/bias:0": 2, "a": 3, "a:0": 4, "/b": 5, "b:0": 6, "c:1": 7}
    arrays = {name: np.float32([value]) for name, value in table.items()}
    path = tmp_path / f"w.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)
    elif suffix == "npy":
        np.save(path, np.array(arrays, object))
    elif suffix == "safetensors":
        safetensors.numpy.save_file(arrays, path)
    else:
        writers.write(path, {name: streams.held(array) for name, array in arrays.items()})
    weights = open_weights(path)
    found = {name: (float(weights[name][0]), weights.source(name)) for name in weights}
    assert found == {
        "conv1/kernel": (1, "/conv1/kernel"),
        "conv1/bias": (2, "conv1/bias:0"),
        "a": (3, "a"),
        "a:0": (4, "a:0"),
        "/b": (5, "/b"),
        "b:0": (6, "b:0"),
        "c:1": (7, "c:1"),
    }


@given(st.lists(st.text("ab:0/", min_size=1, max_size=5), min_size=1, max_size=6, unique=True))
def test_no_array_is_lost_whatever_names_become(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("names") / "w.npy"
    np.save(path, np.array({text: np.float64(place) for place, text in enumerate(texts)}, object))
    weights = open_weights(path)
    assert sorted(float(weights[name]) for name in weights) == list(range(len(texts)))
    assert {weights.source(name) for name in weights} == set(texts)


def test_averages_take_the_place_of_their_variables_as_the_refusal_says(tmp_path):
    average = "fc/kernel/ExponentialMovingAverage"
    np.savez(tmp_path / "w.npz", **{"fc/kernel": np.zeros(2), average: np.ones(2)})
    rules, weights = [("/ExponentialMovingAverage$", "")], open_weights(tmp_path / "w.npz")
    with pytest.raises(SelectionError, match=r"choose the ones that are wanted first, as by weights\.only\(chosen\)"):
        weights.renamed(rules)
    chosen = weights.only(name for name in weights if name.endswith("Average")).renamed(rules)
    assert {name: chosen[name].tolist() for name in chosen} == {"fc/kernel": [1, 1]}


def test_the_input_spec_beside_a_file_is_read(tmp_path):
    grey = InputSpec("net", "a test", (8, 8), "grey", (0,), (1,))
    save(tmp_path / "m", {"a": np.zeros(1)})
    np.savez(tmp_path / "m.npz", a=np.zeros(1))
    for name in ("m", "m.npz"):
        assert open_weights(tmp_path / name).input_spec() is None
        grey.save(tmp_path / name)
        weights = open_weights(tmp_path / name)
        assert weights.input_spec() == weights.only(["a"]).renamed([("a", "b")]).input_spec() == grey
        assert weights.input_spec_path == tmp_path / f"{name}.input_spec.json"
        weights.input_spec_path.write_text("{}")
        with pytest.raises(WeightsError, match=r"input_spec\.json has 8 faults"):
            weights.input_spec()
