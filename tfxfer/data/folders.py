"""Pictures in a folder that has one subfolder a class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tfxfer import names
from tfxfer.data.labelled import NO_TEST, SPLITS, Division, Labelled, make_data, number
from tfxfer.data.pictures import shortened
from tfxfer.data.splits import Data
from tfxfer.errors import DataError

# What is taken for a picture by its name; those of the second row are set aside, where everybody sees it.
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
SUFFIXES |= {".heic", ".heif", ".avif", ".jp2", ".jxl"}
# Subfolders that divide the pictures into splits, as Keras and torchvision want them, by the split.
SPLIT_FOLDERS = {
    "train": {"train", "training"},
    "validation": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing", "eval"},
}
# What systems leave in folders of pictures, beside names that begin with a dot.
LEFT_BY_SYSTEMS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__"}
CURE = "give the folder that has one subfolder of pictures for each class"


def folder(
    directory: str | os.PathLike[str],
    *,
    size: tuple[int, int] = (224, 224),
    resize: str = "crop",
    seed: int = 0,
    split: str = "shuffle",
    proportions: Sequence[float] = (8, 1, 1),
    most_bad: float = 0.1,
    index: str | os.PathLike[str] | None = None,
    decode: str = "exact",
) -> Data:
    """Read a folder of pictures: each subfolder is a class, by its name, and may have subfolders of its own.

    Or the folder has subfolders `train` and `val` (or `valid`, `validation`), `test`, or all three, and these have a
    subfolder for each class: then the pictures are divided as they lie. Without `val`, a part of `train` is held out
    for validation, as large as `proportions` has it beside the rest; without `test`, the validation split serves as
    test too; a `test` without subfolders has no labels and is left out. Notes say so. A class that `train` lacks is an
    error.

    All pictures are looked at once, to set bad ones aside; after that, they are decoded when they are asked for. Names
    decide what is looked at (`.jpg`, `.png`, ..., not hidden), contents what it is. Classes are numbered in the order
    of their names, in which capitals come before small letters.

    Args:
      directory: the folder.
      size: height and width that pictures are brought to.
      resize: `crop`, the largest centred part of the same proportions and then bilinearly; `plain`, bilinearly only.
      seed: of the split `shuffle`, 0 to 2**32 - 1.
      split: how pictures are divided that no subfolders divide: `shuffle`, by scikit-learn's StratifiedShuffleSplit,
        each class at its share; `digest`, by the contents of each picture alone, so that it stays in its split as
        others are added, and no identical ones are parted.
      proportions: of train, validation and test.
      most_bad: the share of pictures that may be set aside, 0 to 1.
      index: a file in which it is remembered what the pictures are, so that the next time only those are looked at that
        are new or have changed.
      decode: how a JPEG comes to pixels. `exact`: all of its pixels are decoded, and once before the pictures are
        divided, so that none is set aside later. `scaled`: where it shrinks to a half or less, at a half, a quarter or
        an eighth of its size, and for the look its header is read and the markers to its end. One whose damage shows
        in its pixels alone then ends the work by its name when it is decoded, and with an `index` it is set aside, as
        all bad ones, the next time.

    Returns:
      Images uint8 [n, height, width, 3] that are decoded when asked for, labels int64 [n]. `notes` tells what was set
      aside or passed over, which classes a split lacks, and which identical pictures are in two splits or classes.

    Raises:
      DataError: the folder cannot be used: not there, not listed, no subfolders, pictures or two classes; a class has
        fewer pictures than there are splits; a split would be empty; more than `most_bad` are bad; or subfolders look
        like splits and do not divide the pictures as said above.
    """
    pictures = find(directory)
    division = Division(split, proportions, seed)
    return make_data(pictures, division, size=size, resize=resize, most_bad=most_bad, index=index, decode=decode)


def find(directory: str | os.PathLike[str]) -> Labelled:
    """Return the pictures in the subfolders of a folder, by class and then by path; none is opened.

    Raises:
      DataError: the folder does not exist, a folder cannot be listed, subfolders or pictures are missing, or
        subfolders that look like splits do not divide the pictures.
    """
    top = Path(directory)
    subfolders, beside = _inside(top)
    divided = _divided(top, subfolders)
    if divided:
        return _find_divided(top, divided, beside)
    paths, passed = walk([top / name for name in subfolders])
    if not any(paths):
        raise DataError(f"{top} has {_contents(subfolders, beside, passed)}; {CURE}")
    pairs = [(path, name) for name, inside in zip(subfolders, paths, strict=True) for path in inside]
    labels, class_names = number([name for _, name in pairs], subfolders)
    notes = (*passed_over(passed), *_beside_note(beside))
    return Labelled(str(top), [path for path, _ in pairs], labels, class_names, notes=notes)


# --- subfolders that are splits ---


def splits_of(directory: str | os.PathLike[str]) -> dict[str, str]:
    """Return the subfolder of each split, by `train`, `validation` and `test`, where subfolders divide the pictures.

    Raises:
      DataError: the folder cannot be listed, or subfolders look like splits and do not divide the pictures.
    """
    top = Path(directory)
    return _divided(top, _inside(top)[0])


def _divided(top: Path, subfolders: Sequence[str]) -> dict[str, str]:
    named = {split: [name for name in subfolders if name.lower() in known] for split, known in SPLIT_FOLDERS.items()}
    alike = [name for names_of_split in named.values() for name in names_of_split]
    inside = {name: _inside(top / name) for name in alike}
    if not alike or (set(alike) < set(subfolders) and not (len(alike) > 1 and any(inside[name][0] for name in alike))):
        return {}  # Classes of these names beside others.
    problem = _why_not_splits(named, [name for name in subfolders if name not in alike], inside)
    if problem:
        raise DataError(
            f"{top} has the subfolders {names.listed(alike)}, which look like splits and not like classes, but "
            f"{problem}; give one of them, as {top / alike[0]}, or train and val (and test, if there is one), with "
            "one subfolder for each class in each"
        )
    # Pictures of a test without labels cannot be tested on.
    return {split: alike[0] for split, alike in named.items() if alike and (split != "test" or inside[alike[0]][0])}


def _why_not_splits(
    named: Mapping[str, Sequence[str]], others: Sequence[str], inside: Mapping[str, tuple[Sequence[str], int]]
) -> str:
    """Return why subfolders do not divide the pictures; the empty string if they do."""
    twice = [alike for alike in named.values() if len(alike) > 1]
    bare = [name for split in ("train", "validation") for name in named[split] if not inside[name][0]]
    if twice:
        return f"{names.listed(twice[0])} are names of one split"
    if others:
        return f"beside them is {names.listed(others)}"
    if not named["train"]:
        return "none of them is train"
    if not (named["validation"] or named["test"]):
        return "there is neither val nor test"
    return f"{names.listed(bare)} has no subfolder for each class" if bare else ""


def _find_divided(top: Path, divided: Mapping[str, str], beside: int) -> Labelled:
    """Return the pictures of a folder whose subfolders are splits, by split, class and path."""
    classes = {split: _inside(top / folder)[0] for split, folder in divided.items()}
    unknown = {split: sorted(set(in_split) - set(classes["train"])) for split, in_split in classes.items()}
    lacking = [f"{divided[split]}: {names.listed(in_split)}" for split, in_split in unknown.items() if in_split]
    if lacking:
        raise DataError(
            f"{top}: {divided['train']} lacks classes that other splits have ({'; '.join(lacking)}), and what is not "
            "trained cannot be recognised; add their pictures, or take these subfolders out"
        )
    rows = [(split, name) for split, in_split in classes.items() for name in in_split]
    paths, passed = walk([top / divided[split] / name for split, name in rows])
    pictures = [
        (path, name, SPLITS.index(split)) for (split, name), inside in zip(rows, paths, strict=True) for path in inside
    ]
    if not pictures:
        raise DataError(f"{top} has {_contents([name for _, name in rows], beside, passed)}; {CURE}")
    labels, class_names = number([name for _, name, _ in pictures], classes["train"])
    parts = np.array([part for _, _, part in pictures], np.int64)
    notes = (*passed_over(passed), *_beside_note(beside), *_split_notes(top, divided))
    return Labelled(str(top), [path for path, _, _ in pictures], labels, class_names, parts, notes)


def _split_notes(top: Path, divided: Mapping[str, str]) -> Iterator[str]:
    unlabelled = [name for name in _inside(top)[0] if name not in divided.values()]
    if unlabelled:
        yield f"{names.listed(unlabelled)} has no subfolder for each class, and so no labels: it is left out"
    if "validation" not in divided:
        yield f"a validation split is missing: a part of {divided['train']} is held out for it"
    if "test" not in divided:
        yield NO_TEST


# --- walking ---


def walk(folders: Sequence[Path]) -> tuple[list[list[str]], Counter[str]]:
    """Find the pictures below each of some folders, by their names; links to folders inside are not followed.

    Returns:
      The sorted paths a folder, and how many files of which kind were passed over.

    Raises:
      DataError: folders cannot be listed; all of these are named.
    """
    passed: Counter[str] = Counter()
    errors: list[OSError] = []
    paths = [sorted(_below(folder, passed, errors)) for folder in folders]
    if errors:
        raise DataError("\n  ".join(["folders cannot be listed:", *shortened([*map(_unlisted, errors)])]))
    return paths, passed


def _below(folder: Path, passed: Counter[str], errors: list[OSError]) -> Iterator[str]:
    for top, folders, entries in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in entries:
            suffix = os.path.splitext(name)[1].lower()
            if is_hidden(name):
                passed["hidden"] += 1
            elif suffix not in SUFFIXES:
                passed[suffix or "without a suffix"] += 1
            else:
                yield os.path.join(top, name)


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is one that a system left there, and not the user."""
    return name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS


def _unlisted(error: OSError) -> str:
    return f"{error.filename} ({error.strerror})"


def _inside(top: Path) -> tuple[list[str], int]:
    """Return the sorted names of the subfolders, and how many pictures lie beside them."""
    try:
        entries = [entry for entry in os.scandir(top) if not is_hidden(entry.name)]
    except FileNotFoundError:
        raise DataError(f"{top} is not there{_near(top)}; {CURE}") from None
    except NotADirectoryError:
        raise DataError(f"{top} is a file; {CURE} (a file of lines `path label` is for `listing`)") from None
    except OSError as error:
        raise DataError(f"{top} cannot be listed ({error.strerror})") from None
    subfolders = sorted(entry.name for entry in entries if entry.is_dir())
    return subfolders, sum(entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES for entry in entries)


def _near(top: Path) -> str:
    try:
        return names.did_you_mean(top.name, [entry.name for entry in top.parent.iterdir()])
    except OSError:
        return ""


def _contents(subfolders: Sequence[str], beside: int, passed: Counter[str]) -> str:
    if beside and not subfolders:
        return (
            f"{beside:,} pictures and no subfolders (if their names tell the class, as in cat.12.jpg, "
            "`tfxfer make_listing` can make a listing of them by their names)"
        )
    contents = f"no pictures in {len(subfolders):,} subfolders" if subfolders else "neither subfolders nor pictures"
    return f"{contents}, but {_counted(passed)}" if passed else contents


def passed_over(passed: Counter[str]) -> list[str]:
    """Return a note of the files that were passed over, if there are any."""
    return [f"passed over, as their names are not those of pictures: {_counted(passed)}"] if passed else []


def _beside_note(beside: int) -> list[str]:
    return [f"{beside:,} pictures beside the subfolders belong to no class and are left out"] if beside else []


def _counted(passed: Counter[str]) -> str:
    return names.listed(f"{count:,} {kind}" for kind, count in passed.most_common())
