"""The examples that the settings of a run name: digits, MNIST, a folder of pictures or a listing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tfxfer.data.folders import folder
from tfxfer.data.listings import listing
from tfxfer.data.mnist_files import mnist
from tfxfer.data.sklearn_digits import digits
from tfxfer.data.splits import Data
from tfxfer.errors import DataError
from tfxfer.input_spec import InputSpec

DATASETS = ("digits", "mnist", "folder", "listing")
PICTURES = ("folder", "listing")
# The settings that say where the files of a data set are.
PATHS = {"mnist": ("data_dir",), "folder": ("data_dir",), "listing": ("data_dir", "listing", "validation_listing")}
_NEEDS = {
    "mnist": ("data_dir", "the directory of its four idx files"),
    "folder": ("data_dir", "a directory with a subfolder of pictures for each class"),
    "listing": ("listing", "a file of lines `path label`, as `tfxfer make_listing` writes it"),
}


def load_dataset(settings: Mapping[str, Any], input_spec: InputSpec | None = None, *, index: str | None = None) -> Data:
    """Return the examples that settings name, in three splits.

    Args:
      settings: `dataset`, and what it needs of `data_dir`, `listing`, `validation_listing`, `split`, `most_bad`,
        `seed`, `train_examples`, `folds` and `fold`, as `tfxfer train` stores them.
      input_spec: to what size, and how, pictures are brought; None where there are none.
      index: as `folder` takes it.

    Raises:
      DataError: the folder or file has no examples, or they cannot be used.
    """
    dataset, seed = settings.get("dataset"), settings.get("seed", 0)
    if dataset not in DATASETS:
        raise DataError(f"{dataset!r} is not a data set; the data sets are {', '.join(DATASETS)}")
    name, meaning = _NEEDS.get(dataset, ("", ""))
    if name and not settings.get(name):
        raise DataError(f"`dataset={dataset}` needs `{name}`, {meaning}")
    if dataset in PICTURES:
        examples = _pictures(settings, input_spec, index)
    else:
        examples = mnist(settings["data_dir"], seed=seed) if dataset == "mnist" else digits(seed=seed)
    return select_examples(examples, settings)


def select_examples(examples: Data, settings: Mapping[str, Any]) -> Data:
    """Return what settings choose of a data set: the `fold`, counted from 1, of `folds`, and `train_examples` of it.

    Raises:
      DataError: the fold does not exist, or there are not so many examples.
    """
    seed, few = settings.get("seed", 0), settings.get("train_examples")
    fold, folds = settings.get("fold"), settings.get("folds")
    if fold is not None:
        if not isinstance(fold, int) or not isinstance(folds, int) or not 1 <= fold <= folds:
            raise DataError(f"`fold={fold}` of `folds={folds}` is not a fold; they are counted from 1")
        examples = examples.folds(folds, seed)[fold - 1]
    return examples.few(few, seed) if few else examples


def check_there(settings: Mapping[str, Any], run: object) -> None:
    """Refuse examples of a run that have moved.

    Args:
      settings: the run's.
      run: its directory, for the message.

    Raises:
      DataError: files or folders are not there; the message names the settings that say where they are.
    """
    paths = {name: settings.get(name) for name in PATHS.get(settings.get("dataset", ""), ())}
    gone = {name: path for name, path in paths.items() if path and not os.path.exists(path)}
    if gone:
        cure = " ".join(f"`{name}=...`" for name in gone)
        raise DataError(
            f"{run} was trained on {' and '.join(gone.values())}, which is not there; say where it is now by {cure}"
        )


def _pictures(settings: Mapping[str, Any], input_spec: InputSpec | None, index: str | None) -> Data:
    dataset, model = settings["dataset"], settings.get("model")
    if input_spec is None:
        raise DataError(
            f"`dataset={dataset}` has RGB pictures, which `model={model}` does not take; take a model that does, as "
            "`model=squeezenet1_1`"
        )
    options: dict[str, Any] = {
        "size": input_spec.size,
        "resize": input_spec.resize,
        "seed": settings.get("seed", 0),
        "split": settings.get("split", "shuffle"),
        "most_bad": settings.get("most_bad", 0.1),
        "index": index,
        "decode": input_spec.decode,
    }
    if dataset == "folder":
        return folder(settings["data_dir"], **options)
    return listing(settings["listing"], settings.get("validation_listing"), root=settings.get("data_dir"), **options)
