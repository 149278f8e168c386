"""The flags that say which examples there are, and the examples."""

from __future__ import annotations

from typing import Any

from absl import flags

from tfxfer import data
from tfxfer.contract import Contract
from tfxfer.errors import DataError
from tfxfer.run.store import Store
from tfxfer.tools import _flags

DATASETS = ("digits", "mnist", "folder", "listing")
PICTURES = ("folder", "listing")
NEEDS = {
    "mnist": ("data_dir", "the directory of its four idx files"),
    "folder": ("data_dir", "a directory with a subfolder of pictures for each class"),
    "listing": ("listing", "a file of lines `path label`, as `tfxfer make_listing` writes it"),
}


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
            "File of lines `path label`, to validate and test on; --listing is split unless told.",
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
            "Train on so many examples, each class at its share; all unless told.",
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


def define_augment(values: flags.FlagValues) -> None:
    """Define the flag that puts random crops in the place of the training pictures."""
    with _flags.group(values, "examples"):
        flags.DEFINE_integer(
            "augment",
            None,
            "So many random crops of each training picture, one in two mirrored, take its place; --seed decides which. "
            "The picture itself unless told.",
            1,
            flag_values=values,
        )


def augmented(examples: data.Data, settings: Any) -> data.Data:
    """Return the examples with as many crops of each training picture as --augment asks for.

    Raises:
      DataError: the examples are no pictures in files.
    """
    if not settings.augment:
        return examples
    if settings.dataset not in PICTURES:
        raise DataError(
            f"--augment={settings.augment} takes crops of pictures in files, and --dataset={settings.dataset} has "
            f"none; leave it out, or take --dataset={' or '.join(PICTURES)}"
        )
    return examples.augmented(settings.augment, settings.seed)


def load(settings: Any, contract: Contract | None = None) -> data.Data:
    """Return the examples that the flags, or a run's stored settings, name.

    Args:
      settings: the flags' values, as attributes.
      contract: to what size, and how, pictures are brought.

    Raises:
      DataError: there are none there, or they cannot be used.
    """
    flag, what = NEEDS.get(settings.dataset, ("", ""))
    if flag and not getattr(settings, flag):
        raise DataError(f"--dataset={settings.dataset} needs --{flag}, {what}")
    if settings.dataset in PICTURES:
        examples = _pictures(settings, contract)
    elif settings.dataset == "mnist":
        examples = data.mnist(settings.data_dir, seed=settings.seed)
    else:
        examples = data.digits(seed=settings.seed)
    return examples.few(settings.train_examples, settings.seed) if settings.train_examples else examples


def _pictures(settings: Any, contract: Contract | None) -> data.Data:
    if contract is None:
        raise DataError(f"--dataset={settings.dataset} has RGB pictures, which --model={settings.model} does not take")
    if settings.store:
        Store(settings.store)  # Made, or refused, before all pictures are looked at.
    options = {
        "size": contract.size,
        "resize": contract.resize,
        "seed": settings.seed,
        "split": settings.split,
        "most_bad": settings.most_bad,
        "index": f"{settings.store}/pictures.json" if settings.store else None,
    }
    if settings.dataset == "folder":
        return data.folder(settings.data_dir, **options)
    return data.listing(settings.listing, settings.validation_listing, root=settings.data_dir, **options)
