"""Averages of weights, against numpy."""

from __future__ import annotations

from pathlib import Path

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.input_spec import InputSpec
from tfxfer.weight_tools.average_weights import last_of, plan
from tfxfer.weights import Weights, open_weights, streams, writers

RNG = np.random.default_rng(0)
INPUT_SPEC = InputSpec("vgg16", "here", (224, 224), "RGB", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0))


def opened(path: Path, named: dict[str, np.ndarray]) -> Weights:
    writers.write(path, {name: streams.held(array) for name, array in named.items()})
    return open_weights(path)


@pytest.fixture
def make(tmp_path):
    def make(*files: dict[str, np.ndarray], suffixes=(".npz", "", ".safetensors", ".h5")) -> list[Weights]:
        return [opened(tmp_path / f"f{i}{suffixes[i % len(suffixes)]}", named) for i, named in enumerate(files)]

    return make


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("coefficients", [[], [1, 2, 0, 5.5], [1, 1, 1, -1]])
def test_floats_are_averaged_in_float64_and_keep_their_dtype(make, monkeypatch, dtype, coefficients):
    monkeypatch.setattr(buffers, "CACHED", 1000)  # so that the files come in pieces of different lengths
    named = [{"w": RNG.normal(size=(31, 17)).astype(dtype), "0d": np.array(i, dtype)} for i in range(4)]
    average = plan(make(*named), coefficients)
    weights = np.array(coefficients or [1] * 4) / sum(coefficients or [1] * 4)
    for name in ("w", "0d"):
        expected = sum(w * each[name].astype(np.float64) for w, each in zip(weights, named, strict=True))
        found = average.tensors[name].read()
        assert (found.dtype, found.shape) == (dtype, named[0][name].shape)
        np.testing.assert_array_equal(found, expected.astype(dtype))


@given(
    arrays.arrays(
        st.sampled_from(["float16", "float32"]), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    ),
    st.integers(2, 7),
)
def test_the_average_of_one_thing_is_that_thing(tmp_path_factory, array, count):
    array = np.where(np.isfinite(array), array, 0).astype(array.dtype)
    weights = opened(tmp_path_factory.mktemp("same") / "a", {"w": array})
    np.testing.assert_array_equal(plan([weights] * count).tensors["w"].read(), array)


def test_bfloat16_is_averaged_too(make):
    named = [{"w": np.array([i, 1], ml_dtypes.bfloat16)} for i in (1, 2)]
    found = plan(make(*named, suffixes=("",))).tensors["w"].read()
    assert (found.dtype, found.astype(float).tolist()) == (ml_dtypes.bfloat16, [1.5, 1])


def test_an_average_is_rounded_once_to_bfloat16(make):
    named = [{"w": np.array([value], ml_dtypes.bfloat16)} for value in (1, 1 + 2**-7)]
    found = plan(make(*named, suffixes=("",)), [1, 1 + 2**-30]).tensors["w"].read()
    assert found.astype(float) == 1 + 2**-7  # a little above the middle, which float32 does not tell from it


def test_what_is_no_float_comes_from_the_last_file_and_slots_from_none(make):
    named = [
        {
            "w": np.full(2, i, np.float32),
            "w/Adam": np.full(2, i, np.float32),
            "global_step": np.array(i),
            "flag": np.array(i == 2),
            "text": np.array([b"%d" % i], object),
        }
        for i in (1, 2)
    ]
    del named[0]["w/Adam"]
    files = make(*named, suffixes=("",))
    average = plan(files)
    assert {name: tensor.read().tolist() for name, tensor in average.tensors.items()} == {
        "flag": True,
        "global_step": 2,
        "text": [b"2"],
        "w": [1.5, 1.5],
    }
    assert average.notes == [
        f"not averaged but as in {files[-1].path}: flag, global_step, text",
        "1 optimizer slots left out",
    ]


def test_a_weight_below_the_name_of_another_one_is_averaged_too(make):
    named = [{"emb": np.full((2, 3), i, np.float32), "emb/proj": np.full((3, 3), i, np.float32)} for i in (1, 2)]
    average = plan(make(*named))
    assert {name: tensor.read().mean() for name, tensor in average.tensors.items()} == {"emb": 1.5, "emb/proj": 1.5}
    assert average.notes == []


def test_slots_that_their_place_alone_gives_away_are_named(make):
    named = {name: np.ones(2, np.float32) for name in ("v", "v/mine", "w", "w/mine")} | {"global_step": np.array(1)}
    files = make(named, named, suffixes=("",))
    assert set(plan(files).tensors) == {"v", "w", "global_step"}
    note = f"taken for slots of {files[1].path}, by their place below a variable: v/mine, w/mine"
    assert plan(files).notes[1:] == ["2 optimizer slots left out", note]


def test_everything_that_differs_is_listed(make):
    one = {"w": np.ones(2, np.float32), "v": np.ones(2, np.float32), "u": np.ones(2), "t": np.ones(2)}
    two = {**one, "v": np.ones(3, np.float32), "u": np.ones(2, np.float16), "s": np.ones(1)}
    del two["t"]
    with pytest.raises(WeightsError) as caught:
        plan(make(one, one, two, suffixes=(".npz",)))
    text = str(caught.value)
    assert text.startswith("4 tensors are not the same in all 3 files:\n")
    for line in (
        r"v: float32 \(2,\) in .*f0.npz, .*f1.npz, float32 \(3,\) in .*f2.npz",
        r"u: float64 \(2,\) in .*, float16 \(2,\) in .*f2.npz",
        r"t: float64 \(2,\) in .*, missing in .*f2.npz",
        r"s: missing in .*f0.npz, .*f1.npz, float64 \(1,\) in .*f2.npz",
    ):
        assert caught.match(line)


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ([1], r"the coefficients 1 do not fit: there must be 2, one for each file, and their sum above 0"),
        ([1, -1], r"the coefficients 1, -1 do not fit"),
        ([1, float("nan")], r"do not fit"),
        ([1, float("inf")], r"do not fit"),
    ],
)
def test_coefficients_that_do_not_fit_are_refused(make, coefficients, message):
    with pytest.raises(WeightsError, match=message):
        plan(make(*[{"w": np.ones(1)}] * 2), coefficients)


def test_a_sum_that_the_dtype_cannot_hold_is_refused(make):
    files = make(*[{"w": np.full(2, value, np.float16)} for value in (60000, -60000)])
    with pytest.raises(WeightsError, match="w: float16 does not reach to the sum that these coefficients give"):
        plan(files, [3, -1]).tensors["w"].read()


def test_one_file_has_no_average(make):
    with pytest.raises(WeightsError, match="1 file has no average; give two or more"):
        plan(make({"w": np.ones(1)}))


def test_a_damaged_file_is_told_while_it_is_averaged(make, tmp_path):
    files = make(*[{"w": np.full(1000, i, np.float32)} for i in range(2)], suffixes=("",))
    data = tmp_path / "f1.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match="w fails its checksum"):
        writers.write(tmp_path / "out", plan([files[0], open_weights(tmp_path / "f1")]).tensors)
    assert not list(tmp_path.glob("*out*"))


def test_the_input_spec_travels_where_all_files_say_the_same(make):
    files = make(*[{"w": np.ones(1)}] * 2)
    for weights in files:
        assert plan(files).input_spec is None
        INPUT_SPEC.save(weights.checkpoint or weights.path)
    assert plan(files).input_spec == INPUT_SPEC


# --- the last of a directory ---


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"{name}.index").touch()
    return folder


def test_the_last_checkpoints_go_by_their_numbers(tmp_path):
    touch(tmp_path, "m.ckpt-90", "m.ckpt-1000", "m.ckpt-200")
    assert [path.name for path in last_of(tmp_path, 2)] == ["m.ckpt-200", "m.ckpt-1000"]


def test_too_few_checkpoints_or_such_of_several_forms_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"holds 0 checkpoints, not 2$"):
        last_of(tmp_path, 2)
    touch(tmp_path, "m-1", "m-2")
    with pytest.raises(WeightsError, match="holds 2 checkpoints, not 3: m-1, m-2"):
        last_of(tmp_path, 3)
    with pytest.raises(WeightsError, match="holds checkpoints of several forms: m-1, m-2, n-1; name those to average"):
        last_of(touch(tmp_path, "n-1"), 2)
    (tmp_path / "n-1.index").unlink()
    with pytest.raises(WeightsError, match="of several forms: last, m-1, m-2"):
        last_of(touch(tmp_path, "last"), 2)
