"""The examples that settings name, and what is said where they are not there."""

from __future__ import annotations

import pytest

from tests.tools.test_predict import COLOURS, coloured
from tfxfer.data.dataset import check_there, load_dataset
from tfxfer.errors import DataError
from tfxfer.input_spec import InputSpec

SPEC = InputSpec("net", "made", (8, 8), "RGB", (0, 0, 0), (1, 1, 1))


def test_settings_name_digits_and_pictures(tmp_path):
    assert len(load_dataset({"dataset": "digits", "train_examples": 20}).train) == 20
    examples = load_dataset({"dataset": "folder", "data_dir": str(coloured(tmp_path / "pictures"))}, SPEC)
    assert examples.class_names == tuple(COLOURS)
    assert examples.train.images.shape == (48, 8, 8, 3)


def test_a_fold_is_the_one_that_data_folds_gives_and_fewer_examples_are_of_its_training():
    wanted = load_dataset({"dataset": "digits", "seed": 3}).folds(4, 3)[1]
    examples = load_dataset({"dataset": "digits", "seed": 3, "folds": 4, "fold": 2, "train_examples": 50})
    assert examples.test.images.tobytes() == wanted.test.images.tobytes()
    assert (len(examples.train), len(examples.validation)) == (50, len(wanted.validation))
    for fold in (0, 5, "a"):
        with pytest.raises(DataError, match=f"`fold={fold}` of `folds=4` is not a fold; they are counted from 1"):
            load_dataset({"dataset": "digits", "folds": 4, "fold": fold})


@pytest.mark.parametrize(("settings", "message"), [
    ({"dataset": "cifar"}, "'cifar' is not a data set; the data sets are digits, mnist, folder, listing"),
    ({"dataset": "mnist"}, "`dataset=mnist` needs `data_dir`, the directory of its four idx files"),
    ({"dataset": "listing"}, "`dataset=listing` needs `listing`, a file of lines"),
    ({"dataset": "folder", "data_dir": "x", "model": "autoencoder"}, "which `model=autoencoder` does not take; take a"),
])  # fmt: skip
def test_what_is_missing_is_said(settings, message):
    with pytest.raises(DataError, match=message):
        load_dataset(settings)


def test_examples_that_have_moved_are_asked_for(tmp_path):
    settings = {"dataset": "folder", "data_dir": str(tmp_path / "gone"), "listing": "not used"}
    with pytest.raises(DataError, match=r"run was trained on .*gone, which is not there; say .* by `data_dir=...`"):
        check_there(settings, "run")
    check_there({**settings, "data_dir": str(tmp_path)}, "run")
