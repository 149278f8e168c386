"""Names of classes from files in the forms in which they are found."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfxfer.data.pictures import shortened
from tfxfer.errors import DataError

SYNSET = re.compile(r"n\d{8}\s+(?P<names>\S.*)")
FORMS = (
    'imagenet_class_index.json, {"0": ["n01440764", "tench"], ...}; synset_words.txt, lines of `n01440764 tench, Tinca '
    "tinca`; or one name a line"
)


def class_names(path: str | os.PathLike[str], classes: int | None = None) -> tuple[str, ...]:
    """Read the names of classes, at the places of their numbers.

    The form is told by the contents: the JSON object of Keras' `imagenet_class_index.json`, the lines of Caffe's
    `synset_words.txt`, or lines of one name each. Of several names, the first is taken; `_` in JSON's becomes a blank.

    Args:
      path: of the file, UTF-8.
      classes: how many names there must be; default: any number.

    Raises:
      DataError: the file cannot be read, is in none of these forms, or has another number of names.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}; names of classes are in one of {FORMS}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    names = _of_json(text, path) if text.lstrip()[:1] in ("{", "[") else _of_lines(text.splitlines(), path)
    if classes is not None and len(names) != classes:
        raise DataError(f"{path} has {len(names):,} names of classes, and the model has {classes:,} classes")
    return names


def _of_json(text: str, path: str | os.PathLike[str]) -> tuple[str, ...]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    if isinstance(value, dict):
        missing = [str(number) for number in range(len(value)) if str(number) not in value]
        if missing:
            raise DataError(f"{path}: the keys must be the numbers 0 to {len(value) - 1}; {missing[0]} is not there")
        value = [value[str(number)] for number in range(len(value))]
    return tuple(_name(entry, number, path) for number, entry in enumerate(value))


def _name(entry: Any, number: int, path: str | os.PathLike[str]) -> str:
    name = entry[-1] if isinstance(entry, list) and len(entry) == 2 else entry
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{path}: class {number} is {json.dumps(entry)[:60]}, and not a name; the forms are {FORMS}")
    return name.replace("_", " ") if isinstance(entry, list) else name


def _of_lines(lines: Sequence[str], path: str | os.PathLike[str]) -> tuple[str, ...]:
    empty = [f"line {number} is empty" for number, line in enumerate(lines, 1) if not line.strip()]
    if empty or not lines:
        raise DataError("\n  ".join([f"{path} does not name a class on every line:", *shortened(empty or ["no line"])]))
    synsets = [SYNSET.fullmatch(line.strip()) for line in lines]
    if all(synsets):
        return tuple(found["names"].partition(",")[0].strip() for found in synsets if found)
    return tuple(line.strip() for line in lines)
