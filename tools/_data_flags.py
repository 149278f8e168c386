"""The flags that say which examples there are, and the examples."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer import data
from tfxfer.data.dataset import DATASETS, PICTURES, load_dataset
from tfxfer.data.folders import is_hidden, splits_of
from tfxfer.data.mnist_files import has_files
from tfxfer.errors import DataError, RunError
from tfxfer.input_spec import DECODES, InputSpec
from tfxfer.runs.files import SETTINGS
from tfxfer.runs.settings import read_settings
from tfxfer.store.store import Store
from tfxfer.tools import _flags


def define(values: flags.FlagValues) -> None:
    """Define the flags that say which examples there are."""
    with _flags.group(values, "examples"):
        flags.DEFINE_enum(
            "dataset",
            "digits",
            DATASETS,
            "digits: 1,797 handwritten digits that come with scikit-learn; mnist: the four idx files in --data_dir; "
            "folder: pictures, a subfolder of --data_dir for each class; listing: the pictures that --listing names.",
            flag_values=values,
        )
        flags.DEFINE_string("data_dir", None, "Directory of the data set's files.", flag_values=values)
        flags.DEFINE_string("listing", None, "File of lines `path label`, to train on.", flag_values=values)
        flags.DEFINE_string(
            "validation_listing",
            None,
            "File of lines `path label`, to validate and test on; default: a part of --listing.",
            flag_values=values,
        )
        flags.DEFINE_enum(
            "split",
            "shuffle",
            ("shuffle", "digest"),
            "Pictures go 8:1:1 to training, validation and test: shuffle, by chance, each class at its share; digest, "
            "by their contents alone, so that they stay where they are as others are added.",
            flag_values=values,
        )
        define_decode(values)
        flags.DEFINE_float(
            "most_bad",
            0.1,
            "Share of the pictures that may be unreadable before it is an error.",
            0,
            1,
            flag_values=values,
        )
        flags.DEFINE_integer(
            "train_examples",
            None,
            "Train on so many examples, each class at its share; default: all.",
            1,
            flag_values=values,
        )
        flags.DEFINE_integer(
            "seed",
            0,
            "Seed of splits, random crops, initial values, dropout and the order of examples.",
            0,
            2**32 - 1,
            flag_values=values,
        )


def define_decode(values: flags.FlagValues) -> None:
    """Define the flag that says how JPEGs are decoded."""
    flags.DEFINE_enum(
        "decode",
        "scaled",
        DECODES,
        "scaled: JPEGs of twice the network's size and more are decoded at a half, a quarter or an eighth of theirs, "
        "which is faster; exact: all their pixels are, before and when they are used. A run goes on as it began.",
        flag_values=values,
    )


def define_augment(values: flags.FlagValues) -> None:
    """Define the flag that puts random crops in the place of the training pictures."""
    with _flags.group(values, "examples"):
        flags.DEFINE_integer(
            "augment",
            None,
            "So many random crops of each training picture, one in two mirrored, take its place; --seed decides which. "
            "Default: the picture itself.",
            1,
            flag_values=values,
        )


LISTINGS = ("train.txt", "val.txt")  # as make_listing writes them


def imply(settings: Any) -> None:
    """Let --listing, or what lies in --data_dir, say what --dataset is where nobody does; print what was implied.

    Raises:
      DataError: --data_dir does not show of which kind its files are.
      UsageError: --split is given, and the folder is divided already.
    """
    _imply_decode(settings)
    if not settings["dataset"].present and (settings.listing or settings.data_dir):
        if settings.listing:
            settings.dataset, why = "listing", f"--listing={settings.listing}"
        else:
            settings.dataset, why = _kind_of(settings)
        print(f"--dataset={settings.dataset}, by {why}", flush=True)
    if settings["split"].present and settings.dataset == "folder" and settings.data_dir:
        divided = splits_of(settings.data_dir)
        if {"train", "validation"} <= set(divided):
            raise _flags.UsageError(
                f"--split={settings.split}: {settings.data_dir} is divided already, into "
                f"{' and '.join(divided.values())}; leave --split out"
            )


def _imply_decode(settings: Any) -> None:
    """Let a run that goes on decode as it began: one of before --decode has exact pixels, and no such setting."""
    logdir = Path(settings.logdir) if "logdir" in settings and settings.logdir and not settings.overwrite else None
    if logdir is None or not (logdir / SETTINGS).exists():
        return
    with contextlib.suppress(RunError):  # It is told when the run is opened, and what is not a run too.
        before = read_settings(logdir).settings.get("decode")
        if not settings["decode"].present or settings.decode == (before or "exact"):
            settings["decode"].value = before


def _kind_of(settings: Any) -> tuple[str, str]:
    """Return the data set that --data_dir holds, and how that shows; of a listing, set --listing too."""
    folder = Path(settings.data_dir)
    if folder.is_file():
        raise DataError(f"--data_dir={folder} is a file; a file of lines `path label` is for --listing")
    if not folder.is_dir():
        raise DataError(f"--data_dir={folder} is not there; give the directory of the data set's files")
    listings = [folder / name for name in LISTINGS if (folder / name).is_file()]
    pictures = any(entry.is_dir() and not is_hidden(entry.name) for entry in folder.iterdir())
    kinds = {"mnist": has_files(folder), "listing": bool(listings), "folder": pictures}
    likely = [kind for kind, there in kinds.items() if there]
    if likely == ["listing"]:
        settings.listing, *rest = map(str, listings)
        settings.validation_listing = settings.validation_listing or (rest[0] if rest else None)
        return "listing", " and ".join(map(str, listings))
    if len(likely) != 1:
        has = f"may be {' or '.join(likely)}" if likely else "has neither idx files, nor a listing, nor subfolders"
        raise DataError(f"--data_dir={folder} {has}; name the kind by --dataset={'|'.join(likely or DATASETS[1:])}")
    return likely[0], {"mnist": f"the idx files in {folder}", "folder": f"the subfolders of {folder}"}[likely[0]]


PATHS = {
    "data_dir": "Directory of the data set's files",
    "listing": "File of lines `path label`, to train on",
    "validation_listing": "File of lines `path label`, to validate and test on",
}


def find_from_anywhere(settings: Any) -> None:
    """Make the paths of the examples absolute: a run that stores them finds its examples from any directory."""
    for name in PATHS:
        if settings[name].value:
            settings[name].value = os.path.abspath(settings[name].value)


def augmented(examples: data.Data, settings: Any) -> data.Data:
    """Return the examples with as many crops of each training picture as --augment asks for.

    Raises:
      DataError: the examples are not pictures in files.
    """
    if not settings.augment:
        return examples
    if settings.dataset not in PICTURES:
        raise DataError(
            f"--augment={settings.augment} takes crops of pictures in files, and --dataset={settings.dataset} has "
            f"none; leave it out, or take --dataset={' or '.join(PICTURES)}"
        )
    return examples.augmented(settings.augment, settings.seed)


def load(settings: Any, input_spec: InputSpec | None = None, *, whole: bool = False) -> data.Data:
    """Return the examples that the flags name.

    Args:
      settings: the flags' values, as attributes.
      input_spec: to what size, and how, pictures are brought.
      whole: whether --train_examples is left for later.

    Raises:
      DataError: there are none there, or they cannot be used.
    """
    store = settings.store if settings.dataset in PICTURES and input_spec is not None else None
    store = None if store == "none" else store
    if store:
        Store(store)  # Made, or refused, before all pictures are looked at.
    stored = {name: settings[name].value for name in settings if not (whole and name == "train_examples")}
    return load_dataset(stored, input_spec, index=f"{store}/pictures.json" if store else None)
