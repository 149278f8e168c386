"""What is listed of a file of weights: rows, orders, sums, the tree, one array."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests.weights.test_bundle import save
from tfxfer.errors import WeightsError
from tfxfer.weight_tools import inspect_weights as inspecting
from tfxfer.weight_tools.inspect_weights import Total, as_table, as_tree, by_role, by_scope, rows, total
from tfxfer.weights import Weights, npz, open_weights
from tfxfer.weights.streams import held


def weights(**shapes: tuple[int, ...]) -> Weights:
    return of({name.replace("__", "/"): np.zeros(shape, np.float32) for name, shape in shapes.items()})


def of(arrays: dict[str, np.ndarray]) -> Weights:
    return Weights("net.npz", "NumPy .npz archive", {name: held(array) for name, array in arrays.items()})


def listed(file: Weights, **options) -> list[inspecting.Row]:
    return rows(file, list(file), **options)


TRAINED = weights(
    conv10__kernel=(2, 2, 1, 3),
    conv10__bias=(3,),
    conv2__kernel=(1, 1, 3, 2),
    conv2__kernel__Adam=(1, 1, 3, 2),
    norm__moving_mean=(3,),
    norm__gamma=(3,),
    global_step=(),
)


def test_a_row_tells_shape_dtype_parameters_bytes_and_role():
    found = {row.name: row for row in listed(TRAINED)}
    kernel = found["conv10/kernel"]
    assert (kernel.shape, kernel.dtype, kernel.parameters, kernel.bytes) == ((2, 2, 1, 3), "float32", 12, 48)
    assert {row.name: row.role for row in found.values()} == {
        "conv10/kernel": "kernel",
        "conv10/bias": "bias",
        "conv2/kernel": "kernel",
        "conv2/kernel/Adam": "optimizer slot",
        "norm/moving_mean": "batch-norm statistic",
        "norm/gamma": "batch-norm parameter",
        "global_step": "step",
    }
    assert kernel.stats is None


def test_nothing_is_read_unless_statistics_are_asked_for():
    def refuse():
        raise AssertionError("read")

    file = of({"a": np.arange(4, dtype=np.float32)})
    unread = Weights("x", "y", {name: dataclasses.replace(file.tensor(name), read=refuse) for name in file})
    assert [row.name for row in listed(unread)] == ["a"]
    assert listed(file, stats=True)[0].stats.mean == 1.5


def test_orders():
    assert [row.name for row in listed(TRAINED)] == list(TRAINED)
    assert [row.name for row in listed(TRAINED, sort="name")] == [
        "conv2/kernel", "conv2/kernel/Adam", "conv10/bias", "conv10/kernel", "global_step", "norm/gamma",
        "norm/moving_mean",
    ]  # fmt: skip
    sizes = [row.bytes for row in listed(TRAINED, sort="size")]
    assert sizes == sorted(sizes, reverse=True)


def test_sums_by_scope_and_by_role():
    found = listed(TRAINED)
    assert total(found) == Total("", 7, 12 + 3 + 6 + 6 + 3 + 3 + 1, 4 * 34)
    assert by_scope(found) == [
        Total("conv10", 2, 15, 60),
        Total("conv2", 2, 12, 48),
        Total("norm", 2, 6, 24),
        Total("", 1, 1, 4),
    ]
    assert [(one.name, one.tensors) for one in by_role(found)] == [
        ("kernel", 2), ("bias", 1), ("batch-norm parameter", 1), ("batch-norm statistic", 1), ("optimizer slot", 1),
        ("step", 1),
    ]  # fmt: skip


def test_a_variable_is_in_one_scope_with_the_slots_below_its_name():
    found = listed(weights(Variable=(2,), Variable__Adam=(2,), beta1_power=()))
    assert [(one.name, one.tensors) for one in by_scope(found)] == [("Variable", 2), ("", 1)]


def test_where_no_name_has_a_slash_dots_part_scopes():
    arrays = {name: np.zeros(1, np.float32) for name in ("0.weight", "0.bias", "2.weight")}
    assert [(one.name, one.tensors) for one in by_scope(listed(of(arrays)))] == [("0", 2), ("2", 1)]
    assert as_tree(listed(of(arrays)))[1].startswith("0. ")


def test_the_tree_shows_sums_of_scopes_and_slots_below_their_variable():
    lines = [line.split() for line in as_tree(listed(TRAINED))]
    assert [line[0] for line in lines] == [
        "name", "conv10/", "kernel", "bias", "conv2/", "kernel", "Adam", "norm/", "moving_mean", "gamma", "global_step",
    ]  # fmt: skip
    assert lines[1] == ["conv10/", "15", "60"]
    assert as_tree(listed(TRAINED))[6].startswith("    Adam ")


def test_a_tree_goes_down_no_deeper_than_it_has_to():
    found = listed(of({"/".join("a" * 5000): np.zeros(1, np.float32), "/": np.zeros(1, np.float32)}))
    assert len(as_tree(found)) < 40


def test_the_table_has_a_line_for_each_array_with_its_whole_name():
    lines = as_table(listed(TRAINED))
    assert [line.split()[0] for line in lines[1:]] == list(TRAINED)
    assert "mean" not in lines[0]
    assert "mean" in as_table(listed(TRAINED, stats=True), stats=True)[0]


def test_names_that_a_terminal_would_obey_are_shown_and_not_obeyed():
    names = ["\x1b]0;title\x07", "a\nb", "\u202egnp", "[bold]x[/]", "ü"]
    file = of({name: np.zeros(1, np.float32) for name in names})
    for show in (as_table, as_tree):
        text = "\n".join(show(listed(file)))
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        assert r"\x1b]0;title\x07" in text
        assert r"a\nb" in text
        assert r"\u202egnp" in text
        assert "ü" in text
    assert "[bold]x[/]" in "\n".join(as_table(listed(file)))


def test_strings_of_a_checkpoint_have_no_size_before_they_are_read(tmp_path):
    save(tmp_path / "m", {"text": np.array([b"a", b"bc"], object), "number": np.float32(1)})
    file = open_weights(tmp_path / "m")
    row = next(row for row in listed(file, stats=True) if row.name == "text")
    assert (row.dtype, row.bytes, row.stats) == ("string", None, None)
    assert total(listed(file)).bytes == 4
    assert as_table(listed(file, stats=True), stats=True)[2].split()[4:] == ["-", "other", *"-------"]


def test_json_has_everything_of_a_row():
    [row] = listed(of({"a": np.array([0, np.nan], ml_dtypes.bfloat16)}), stats=True)
    assert row.to_json(stats=True) == {
        "name": "a", "shape": [2], "dtype": "bfloat16", "parameters": 2, "bytes": 4, "role": "other",
        "stats": {"mean": 0, "std": 0, "min": 0, "max": 0, "zeros": 1, "nan": 1, "inf": 0},
    }  # fmt: skip
    assert "stats" not in row.to_json(stats=False)


# --- one array ---


@pytest.mark.parametrize("array", [
    np.arange(6, dtype=np.float32).reshape(2, 3), np.int64(7), np.zeros((0, 3)), np.array([True]),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
])  # fmt: skip
def test_a_saved_array_is_the_array(array, tmp_path):
    out = tmp_path / "x.npy"
    assert inspecting.save_array(of({"a": np.asarray(array)}), "a", out)[-1].startswith("wrote a ")
    found = np.load(out)
    assert (found.dtype, found.shape) == (np.asarray(array).dtype, np.shape(array))
    np.testing.assert_array_equal(found, array)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(("dtype", "wider"), [
    (ml_dtypes.bfloat16, np.float32), (ml_dtypes.float8_e5m2, np.float32), (ml_dtypes.int4, np.int8),
    (ml_dtypes.uint4, np.uint8),
])  # fmt: skip
def test_what_numpy_has_no_dtype_for_is_saved_in_one_that_holds_it(dtype, wider, tmp_path):
    array = np.array([1, 2, 3], dtype)
    said = inspecting.save_array(of({"a": array}), "a", tmp_path / "x.npy")
    assert said[-1].endswith(f", as {np.dtype(wider)}, for .npy has no {np.dtype(dtype).name}")
    found = np.load(tmp_path / "x.npy")
    assert found.dtype == wider
    np.testing.assert_array_equal(found, [1, 2, 3])


def test_a_file_that_is_there_is_not_written_over_but_moved_aside_if_told(tmp_path):
    out = tmp_path / "x.npy"
    out.write_text("mine")
    file = of({"a": np.zeros(2)})
    with pytest.raises(
        WeightsError, match=r"x\.npy exists; take another name, or `overwrite=True`, which moves it aside"
    ):
        inspecting.save_array(file, "a", out)
    assert out.read_text() == "mine"
    said = inspecting.save_array(file, "a", out, overwrite=True)
    assert said[0] == f"moved {out} to {out}.old-1"
    assert Path(f"{out}.old-1").read_text() == "mine"
    assert np.load(out).shape == (2,)


def test_a_damaged_array_leaves_what_was_there(tmp_path):
    def damaged():
        raise WeightsError("fails its checksum")

    out = tmp_path / "x.npy"
    out.write_text("mine")
    file = Weights("x", "y", {"a": dataclasses.replace(held(np.zeros(2)), read=damaged)})
    with pytest.raises(WeightsError, match="fails its checksum"):
        inspecting.save_array(file, "a", out, overwrite=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_strings_are_printed_and_not_saved(tmp_path):
    file = of({"a": np.array([b"\x1b[31m"], object)})
    assert inspecting.array_text(file, "a") == "a  (1,)  object\n[b'\\x1b[31m']"
    with pytest.raises(WeightsError, match=r"a holds strings, which a \.npy file keeps as a pickle only"):
        inspecting.save_array(file, "a", tmp_path / "x.npy")
    assert not list(tmp_path.iterdir())


def test_statistics_that_take_too_much_memory_are_refused_by_name(tmp_path, monkeypatch):
    def too_large(*_: object) -> None:
        raise MemoryError

    np.savez_compressed(tmp_path / "a.npz", w=np.ones(3))
    monkeypatch.setattr(npz, "_values", too_large)
    weights = open_weights(tmp_path / "a.npz")
    with pytest.raises(
        WeightsError, match=r"a\.npz: w: an array of the shape \(3,\) takes 24 bytes.*leave `stats` out"
    ):
        rows(weights, ["w"], stats=True)
