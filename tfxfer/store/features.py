"""Stored features and what is known of each row: a folder that `tfxfer extract` wrote, or a table of a store."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer import names
from tfxfer.data.pictures import Pictures
from tfxfer.errors import DataError
from tfxfer.input_spec import RESIZES
from tfxfer.store.examples import keys_of
from tfxfer.store.store import Rows, Store, open_table, read_about


@dataclasses.dataclass(frozen=True)
class Features:
    """Rows of numbers, with what is known of each.

    Attributes:
      name: what they are, for a title.
      rows: float [n, ...], which may lie on disk.
      labels: int64 [n], numbers of classes; None where nobody knows them.
      class_names: one a class.
      splits: the split of each; empty where nobody knows them.
    """

    name: str
    rows: Any
    labels: np.ndarray | None
    class_names: Sequence[str]
    splits: Sequence[str]

    def only(self, split: str) -> np.ndarray:
        """Return the numbers of the rows of a split, or of all.

        Raises:
          DataError: there are none, or nobody knows the splits.
        """
        if split == "all":
            return np.arange(len(self.rows))
        found = np.flatnonzero(np.array(self.splits) == split)
        if not len(found):
            there = f"it has {names.listed(dict.fromkeys(self.splits))}" if self.splits else "its splits are not known"
            raise DataError(f"{self.name} has no rows of the split {split}; {there}")
        return found


def read(path: str | os.PathLike[str]) -> Features:
    """Open a folder that `tfxfer extract` wrote, a store that has one table, or a table of a store.

    Raises:
      DataError: it is none of these, or its files do not fit together.
    """
    folder = Path(path)
    if (folder / "codes.npy").is_file():
        return _codes(folder)
    if (folder / "store.json").is_file():
        return _table(_only_table(folder))
    if (folder / "about.json").is_file() and (folder.parent / "store.json").is_file():
        return _table(folder)
    raise DataError(
        f"{path} holds no features; give a folder that `tfxfer extract` wrote (with codes.npy), a store, or a table "
        "of one"
    )


# --- what extract wrote ---


def _codes(folder: Path) -> Features:
    rows = _load(folder / "codes.npy", mmap_mode="r")
    if rows.dtype.kind != "f" or rows.ndim < 2:
        raise DataError(f"{folder}/codes.npy is {rows.dtype} {rows.shape}; rows of floats [n, ...] are needed")
    labels = _load(folder / "labels.npy") if (folder / "labels.npy").exists() else None
    classes, splits = _lines(folder / "classes.txt"), _lines(folder / "splits.txt")
    counts = {"labels.npy": labels, "splits.txt": splits or None}
    wrong = [
        f"{name} has {len(found)}" for name, found in counts.items() if found is not None and len(found) != len(rows)
    ]
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        wrong.append(f"labels.npy is {labels.dtype} {labels.shape}")
    elif labels is not None and len(labels) and not 0 <= labels.min() <= labels.max() < max(len(classes), 1):
        wrong.append(f"labels.npy goes from {labels.min()} to {labels.max()}, and classes.txt has {len(classes)} names")
    if wrong:
        raise DataError(f"{folder} does not fit together: codes.npy has {len(rows)} rows, but {'; '.join(wrong)}")
    return Features(folder.resolve().name, rows, labels, classes, splits)


def _load(path: Path, **options: Any) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False, **options)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return []


# --- a store ---


def _only_table(store: Path) -> Path:
    tables = sorted(about.parent for about in store.glob("*/about.json"))
    if len(tables) == 1:
        return tables[0]
    if not tables:
        raise DataError(f"the store {store} is empty")
    listed = "\n".join(f"  {table}  {read_about(table).get('tensor', '')}" for table in tables)
    raise DataError(f"the store {store} has {len(tables)} tables; give one of them:\n{listed}")


def _table(folder: Path) -> Features:
    Store(folder.parent)  # Refused, if another version wrote it.
    table = open_table(folder)
    keys = list(table)
    if not keys:
        raise DataError(f"{folder} has no rows yet")
    classes = _folders(folder.parent, str(table.about.get("images")))
    labels, class_names = _numbered([classes.get(key, "") for key in keys])
    name = f"{folder.resolve().parent.name}: {table.about.get('tensor', folder.name)}"
    return Features(name, Rows(table, keys, np.dtype(np.float32)), labels, class_names, ())


def _folders(store: Path, images: str) -> dict[str, str]:
    """Return the folder in which each picture lies, by its key in the store, where the store's index tells."""
    size = re.fullmatch(r"uint8 \((\d+), (\d+), 3\)", images)
    try:
        rows = json.loads((store / "pictures.json").read_bytes())["pictures"]
        digests = [str(row[2]) for row in rows.values()]
        sides = int(size[1]), int(size[2])  # type: ignore[index]
        ways = [Pictures(rows, sides, resize, digests=digests) for resize in RESIZES]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    folders = [Path(path).parent.name for path in rows]
    return {key: name for pictures in ways for key, name in zip(keys_of(pictures), folders, strict=True)}


def _numbered(classes: Sequence[str]) -> tuple[np.ndarray | None, list[str]]:
    known = sorted(set(classes) - {""})
    if not known:
        return None, []
    order = [*known, ""] if "" in classes else known
    places = {name: number for number, name in enumerate(order)}
    return np.array([places[name] for name in classes], np.int64), [name or "not known" for name in order]
