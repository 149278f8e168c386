"""Pictures named by lines `path label` of a text file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfxfer import names
from tfxfer.data.folders import SUFFIXES
from tfxfer.data.labelled import Division, Labelled, make_data, number
from tfxfer.data.pictures import shortened
from tfxfer.data.splits import Data
from tfxfer.errors import DataError

CLASSES = "classes.txt"
# The label is what follows the last blank, since a path may have blanks too.
LINE = re.compile(r"[ \t]*(?P<path>[^ \t](?:.*[^ \t])?)[ \t]+(?P<label>[^ \t]+)[ \t]*")
INTEGER = re.compile(r"[0-9]{1,9}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


class Line(NamedTuple):
    """One picture of a listing.

    Attributes:
      at: the file and the number of the line, for messages.
      path: joined to the root.
      label: an integer, if it is written as one.
    """

    at: str
    path: str
    label: int | str


def listing(
    file: str | os.PathLike[str],
    validation: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | None = None,
    size: tuple[int, int] = (224, 224),
    resize: str = "crop",
    seed: int = 0,
    split: str = "shuffle",
    proportions: Sequence[float] = (8, 1, 1),
    most_bad: float = 0.1,
    index: str | os.PathLike[str] | None = None,
    decode: str = "exact",
) -> Data:
    """Read listings of pictures, as `tfxfer make_listing` writes them.

    A line is a path, blanks and a label; paths may have blanks, labels may not. Empty lines and those that begin with
    `#` are passed over. Labels are all integers, 0 or more, or all names. Integers are numbers of classes if the names
    of these are known; else those that occur are numbered in their order, and each class is called by its integer.

    Args:
      file: the listing of all pictures, or of those to train on if there is another.
      validation: the listing of the validation split; without it, `file` is divided as `folder` does it.
      test: the listing of the test split; without it, the validation split serves as test too, and a note says so.
      root: the folder that paths are relative to, and that they must not leave; default: the folder of each listing.
      classes: a file of the names of the classes, one a line; default: the `classes.txt` beside `file`, if it is there
        and labels are integers.
      size, resize, seed, split, proportions, most_bad, index, decode: as `folder` takes them.

    Returns:
      What `folder` returns.

    Raises:
      DataError: a listing cannot be read, or lines of it cannot be used (all of them are named by their numbers): no
        label, a path outside of root, labels of two kinds or unknown, two labels for one path. Or see `folder`: a file
        that is not there is a bad picture.
    """
    pictures = find(file, validation, test, root=root, classes=classes)
    division = Division(split, proportions, seed)
    return make_data(pictures, division, size=size, resize=resize, most_bad=most_bad, index=index, decode=decode)


def find(
    file: str | os.PathLike[str],
    validation: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | None = None,
) -> Labelled:
    """Return the pictures of one listing or more, as `listing` takes them; none is opened."""
    if test is not None and validation is None:
        raise DataError("a listing of the test split needs one of the validation split too")
    files = [Path(each) for each in (file, validation, test) if each is not None]
    problems: list[str] = []
    parts = [read(each, Path(root or each.parent), problems) for each in files]
    lines = [line for part in parts for line in part]
    known = _class_names(files[0], classes, lines)
    problems += [*_label_problems(lines, known), *_conflicts(lines)]
    if problems:
        head = f"{names.listed(files)}: {len(problems):,} lines cannot be used:"
        raise DataError("\n  ".join([head, *shortened(problems)]))
    labels, class_names = _numbered([line.label for line in lines], known)
    homes = np.repeat(np.arange(len(parts)), [len(part) for part in parts]) if len(parts) > 1 else None
    notes = ("a listing of a test split is missing: the validation split serves as test too",) * (len(parts) == 2)
    return Labelled(names.listed(files), [line.path for line in lines], labels, class_names, homes, notes)


def read(file: Path, root: Path, problems: list[str]) -> list[Line]:
    """Split the lines of a listing into paths and labels.

    Args:
      file: the listing.
      root: the folder that paths are relative to and must not leave.
      problems: gets what is wrong with which line.

    Returns:
      The other lines.

    Raises:
      DataError: the file cannot be read, is not text, or has no lines.
    """
    lines, before = [], len(problems)
    for row, text in enumerate(_text(file).split("\n"), 1):
        at, stripped = f"{file.name}:{row}:", text.strip("\r \t")
        if not stripped or stripped.startswith("#"):
            continue
        match = LINE.fullmatch(stripped)
        if match is None or os.path.splitext(match["label"])[1].lower() in SUFFIXES:
            problems.append(f"{at} {_cut(stripped)} has no label; write `path label`")
        elif not _is_inside(path := os.path.normpath(root / match["path"]), root):
            problems.append(f"{at} {_cut(match['path'])} is outside of {root}; name another root")
        else:
            lines.append(Line(at, path, _label(match["label"])))
    if not lines and len(problems) == before:
        raise DataError(f"{file} has no lines `path label`")
    return lines


def format_line(path: str, label: int) -> str:
    """Return the line that `read` reads as this path and label.

    Raises:
      DataError: there is none, for the path has a line break, begins or ends with a blank, or begins with `#`.
    """
    if re.search(r"[\n\r]|^[ \t#]|[ \t]$", path) or not path:
        raise DataError(f"{path!r} cannot be a path of a listing: it begins or ends with a blank, or begins with #")
    return f"{path} {label}\n"


def _text(file: Path) -> str:
    try:
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); give a file of lines `path label`") from None
    if "\0" in text:
        raise DataError(f"{file} is not a text; give a file of lines `path label`, in UTF-8")
    return text


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _is_inside(path: str, root: Path) -> bool:
    # By their names: where a link inside leads to is the business of whoever made it.
    top = os.path.abspath(root)
    return os.path.commonpath([os.path.abspath(path), top]) == top


# --- labels ---


def _label(text: str) -> int | str:
    return int(text) if INTEGER.fullmatch(text) else text


def _label_problems(lines: Sequence[Line], known: Sequence[str] | None) -> Iterator[str]:
    integers = sum(isinstance(line.label, int) for line in lines)
    for line in lines:
        problem = _label_problem(line.label, integers, len(lines), known)
        if problem:
            yield f"{line.at} the label {_cut(str(line.label))} {problem}"


def _label_problem(label: int | str, integers: int, total: int, known: Sequence[str] | None) -> str:
    """Return what is wrong, or the empty string; of two kinds of labels, the rarer is wrong."""
    if isinstance(label, str) and NUMBER.fullmatch(label):
        return "is neither a name nor an integer from 0 to 999,999,999"
    if isinstance(label, int) and 2 * integers < total:
        return f"is an integer, but {total - integers:,} others are names"
    if isinstance(label, str) and 2 * integers >= total and integers:
        return f"is a name, but {integers:,} others are integers"
    if known is None:
        return ""
    if isinstance(label, int):
        return "" if label < len(known) else f"is beyond the {len(known):,} classes that have names"
    return "" if label in known else f"is none of the {len(known):,} classes{names.did_you_mean(label, known)}"


def _conflicts(lines: Sequence[Line]) -> Iterator[str]:
    first: dict[str, Line] = {}
    for line in lines:
        other = first.setdefault(line.path, line)
        if other.label != line.label:
            yield f"{line.at} {line.path} has the label {line.label}, but {other.label} in {other.at.rstrip(':')}"


def _numbered(labels: Sequence[int | str], known: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    if known is None:
        return number(labels)
    places = {name: place for place, name in enumerate(known)}
    numbers = [label if isinstance(label, int) else places[label] for label in labels]
    return np.array(numbers, np.int64), tuple(known)


def _class_names(file: Path, classes: str | os.PathLike[str] | None, lines: Sequence[Line]) -> list[str] | None:
    beside = file.parent / CLASSES
    if classes is None and not (beside.is_file() and lines and all(isinstance(line.label, int) for line in lines)):
        return None
    path = beside if classes is None else Path(classes)
    class_names = [line.strip() for line in _text(path).split("\n") if line.strip()]
    twice = [name for name in dict.fromkeys(class_names) if class_names.count(name) > 1]
    if twice or not class_names:
        listed = f"{names.listed(twice)} more than once" if twice else "none"
        raise DataError(f"{path} must name each class once, one a line, and names {listed}")
    return class_names
