"""Write train.txt and val.txt, lines of a path and a label, from a folder of pictures; and classes.txt, their names.

    tfxfer make_listing flowers listings
    tfxfer make_listing --labels=name cats_dogs/train listings

DIR has one subfolder a class, or pictures whose names begin with it: with --labels=name, a label is the name up to the
first digit, dot or underscore, as `cat` in cat.12.jpg and cat_12.jpg. Labels are numbers, the lines of classes.txt
counted from 0. Paths are relative to DIR, which is the root to name where the listings are read. Pictures are found by
their names and not opened; what cannot be decoded is set aside when a listing is read.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
from absl import flags

from tfxfer.data.folders import find, passed_over, splits_of, walk
from tfxfer.data.labelled import Labelled, check_classes, number
from tfxfer.data.listings import CLASSES, format_line
from tfxfer.data.pictures import shortened
from tfxfer.data.splits import stratified
from tfxfer.errors import DataError
from tfxfer.tools import _flags, _overwrite, _pager

TRAIN, VALIDATION = "train.txt", "val.txt"
LABEL = re.compile(r"[^0-9._]+")


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_float(
        "validation", 0.15, "Share of each class that goes to val.txt, from 0 to 1.", 0.0, 1.0, flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "Seed of the split.", 0, 2**32 - 1, flag_values=values)
    flags.DEFINE_enum(
        "labels", "folder", ("folder", "name"), "Whether a label is a subfolder or begins a name.", flag_values=values
    )
    flags.DEFINE_bool(
        "overwrite", False, "Write though there are such files in OUT_DIR, and move these aside.", flag_values=values
    )
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    directory, out = map(Path, _flags.parse(values, argv, __doc__, at_least=2, at_most=2))
    pictures = find(directory) if values.labels == "folder" else _named(directory)
    if pictures.parts is not None:
        raise DataError(
            f"{directory} is divided already, into {' and '.join(splits_of(directory).values())}: "
            f"`tfxfer train --dataset=folder --data_dir={directory}` takes it as it is; or list one of these by itself"
        )
    check_classes(pictures, 2)
    class_of = np.array(pictures.class_names)[pictures.labels]
    train, validation = stratified(class_of, (1 - values.validation, values.validation), values.seed)
    lines = _lines(pictures, directory)
    texts = {
        out / TRAIN: "".join(lines[place] for place in train),
        out / VALIDATION: "".join(lines[place] for place in validation),
        out / CLASSES: "".join(f"{name}\n" for name in pictures.class_names),
    }
    _overwrite.refuse_existing(texts, values.overwrite)
    _overwrite.write_texts(texts)
    for note in pictures.notes:
        _pager.say(note)
    counts = f"{len(train):,} and {len(validation):,} pictures of {len(pictures.class_names):,} classes"
    _pager.say(f"{counts} in {out / TRAIN} and {out / VALIDATION}; their root is {directory}")
    return 0


def _named(directory: Path) -> Labelled:
    """Find pictures whose names begin with their labels."""
    if not directory.is_dir():
        raise DataError(f"{directory} is not there, or is not a folder; give the folder that has the pictures")
    [paths], passed = walk([directory])
    labels = {path: match[0].strip(" -") for path in paths if (match := LABEL.match(Path(path).name))}
    without = [path for path in paths if not labels.get(path)]
    if without or not paths:
        problem = (
            f"{len(without):,} of {len(paths):,} pictures have no label in their names" if paths else "no pictures"
        )
        raise DataError("\n  ".join([f"{directory}: {problem}", *shortened(without)]))
    numbers, class_names = number([labels[path] for path in paths])
    return Labelled(str(directory), paths, numbers, class_names, notes=tuple(passed_over(passed)))


def _lines(pictures: Labelled, directory: Path) -> list[str]:
    lines, problems = [], []
    for path, label in zip(pictures.paths, pictures.labels, strict=True):
        try:
            lines.append(format_line(str(Path(path).relative_to(directory)), int(label)))
        except DataError as error:
            problems.append(str(error))
    problems += [f"{name!r} cannot be a line of {CLASSES}" for name in pictures.class_names if name.strip() != name]
    if problems:
        raise DataError("\n  ".join([f"{directory}: rename what cannot be in a line:", *shortened(problems)]))
    return lines


if __name__ == "__main__":
    sys.exit(_flags.run(main))
