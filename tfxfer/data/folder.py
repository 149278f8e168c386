"""Pictures in a folder that has one subfolder a class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfxfer import names
from tfxfer.data.labelled import Labelled, examples, number
from tfxfer.data.pictures import shortened
from tfxfer.data.splits import Data
from tfxfer.errors import DataError

# What is taken for a picture by its name; those of the second row are set aside, where everybody sees it.
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif"}
SUFFIXES |= {".webp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl"}
LOOK_SPLIT = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"}
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
) -> Data:
    """Read a folder of pictures: each subfolder is a class, by its name, and may have subfolders of its own.

    All pictures are decoded once, to set bad ones aside; after that, they are decoded when they are asked for. Names
    decide what is looked at (`.jpg`, `.png`, ..., not hidden), contents what it is. Classes are numbered in the order
    of their names, in which capitals come before small letters.

    Args:
      directory: the folder.
      size: height and width that pictures are brought to.
      resize: `crop`, the largest centred part of the same proportions and then bilinearly; `plain`, bilinearly only.
      seed: of the split `shuffle`, 0 to 2**32 - 1.
      split: `shuffle`, by scikit-learn's StratifiedShuffleSplit, each class at its share; `digest`, by the contents of
        each picture alone, so that it stays in its split as others are added, and no identical ones are parted.
      proportions: of train, validation and test.
      most_bad: the share of pictures that may be set aside, 0 to 1.
      index: a file in which it is remembered what the pictures are, so that the next time only those are decoded that
        are new or have changed.

    Returns:
      Images uint8 [n, height, width, 3] that are decoded when asked for, labels int64 [n]. `notes` tells what was set
      aside or passed over, which classes a split lacks, and which identical pictures are in two splits or classes.

    Raises:
      DataError: the folder cannot be used: not there, not listed, no subfolders, pictures or two classes; a class has
        fewer pictures than there are splits; a split would be empty; or more than `most_bad` are bad.
    """
    return examples(
        find(directory),
        size=size,
        resize=resize,
        seed=seed,
        split=split,
        proportions=proportions,
        most_bad=most_bad,
        index=index,
    )


def find(directory: str | os.PathLike[str]) -> Labelled:
    """Return the pictures in the subfolders of a folder, by class and then by path; none is opened.

    Raises:
      DataError: there is no such folder, a folder cannot be listed, or there are no subfolders or no pictures.
    """
    top = Path(directory)
    subfolders, beside = _inside(top)
    if subfolders and {name.lower() for name in subfolders} <= LOOK_SPLIT:
        raise DataError(
            f"{top} has the subfolders {names.listed(subfolders)}, which look like splits and not like classes; "
            f"give one of them, as {top / subfolders[0]}, or move their subfolders together"
        )
    found, passed = walk([top / name for name in subfolders])
    if not any(found):
        raise DataError(f"{top} has {_what(subfolders, beside, passed)}; {CURE}")
    pairs = [(path, name) for name, paths in zip(subfolders, found, strict=True) for path in paths]
    labels, class_names = number([name for _, name in pairs], subfolders)
    notes = (*passed_over(passed), *_beside_note(beside))
    return Labelled(str(top), [path for path, _ in pairs], labels, class_names, notes=notes)


def walk(folders: Sequence[Path]) -> tuple[list[list[str]], Counter[str]]:
    """Find the pictures below each of some folders, by their names; links to folders inside are not followed.

    Returns:
      The sorted paths a folder, and how many files of which kind were passed over.

    Raises:
      DataError: folders cannot be listed; all of these are named.
    """
    passed: Counter[str] = Counter()
    errors: list[OSError] = []
    found = [sorted(_below(folder, passed, errors)) for folder in folders]
    if errors:
        raise DataError("\n  ".join(["folders cannot be listed:", *shortened([*map(_unlisted, errors)])]))
    return found, passed


def _below(folder: Path, passed: Counter[str], errors: list[OSError]) -> Iterator[str]:
    for top, folders, entries in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for name in entries:
            suffix = os.path.splitext(name)[1].lower()
            if _is_hidden(name):
                passed["hidden"] += 1
            elif suffix not in SUFFIXES:
                passed[suffix or "without a suffix"] += 1
            else:
                yield os.path.join(top, name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _unlisted(error: OSError) -> str:
    return f"{error.filename} ({error.strerror})"


def _inside(top: Path) -> tuple[list[str], int]:
    """Return the sorted names of the subfolders, and how many pictures lie beside them."""
    try:
        entries = [entry for entry in os.scandir(top) if not _is_hidden(entry.name)]
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


def _what(subfolders: Sequence[str], beside: int, passed: Counter[str]) -> str:
    if beside and not subfolders:
        return (
            f"{beside:,} pictures and no subfolders (if their names tell the class, as in cat.12.jpg, "
            "`tfxfer make_listing --labels=name` makes a listing of them)"
        )
    held = f"no pictures in {len(subfolders):,} subfolders" if subfolders else "neither subfolders nor pictures"
    return f"{held}, but {_counted(passed)}" if passed else held


def passed_over(passed: Counter[str]) -> list[str]:
    """Return a note of the files that were passed over, if any were."""
    return [f"passed over, as their names are not those of pictures: {_counted(passed)}"] if passed else []


def _beside_note(beside: int) -> list[str]:
    return [f"{beside:,} pictures beside the subfolders belong to no class and are left out"] if beside else []


def _counted(passed: Counter[str]) -> str:
    return names.listed(f"{count:,} {kind}" for kind, count in passed.most_common())
