"""Features with their labels and splits: in a folder, as `tfxfer extract` writes it, or in a table of a store."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer import files, names
from tfxfer.data.batches import chunks
from tfxfer.data.pictures import Pictures
from tfxfer.data.splits import Images, Split
from tfxfer.errors import DataError
from tfxfer.input_spec import DECODES, RESIZES
from tfxfer.store.examples import keys_of
from tfxfer.store.store import SHARD_ROWS, Rows, Store, open_table, read_about


@dataclasses.dataclass(frozen=True)
class Features:
    """Rows of numbers, with the labels and splits of the examples that they were computed from.

    Attributes:
      name: what they are, for a title.
      rows: float [n, ...], which may lie on disk.
      labels: int64 [n], numbers of classes; None where they are not known.
      class_names: the name of each class.
      splits: the split of each row; empty where they are not known.
    """

    name: str
    rows: Any
    labels: np.ndarray | None
    class_names: Sequence[str]
    splits: Sequence[str]

    def only(self, split: str) -> np.ndarray:
        """Return the numbers of the rows of a split, or of all.

        Raises:
          DataError: there are none, or the splits are not known.
        """
        if split == "all":
            return np.arange(len(self.rows))
        rows = np.flatnonzero(np.array(self.splits) == split)
        if not len(rows):
            there = f"it has {names.listed(dict.fromkeys(self.splits))}" if self.splits else "its splits are not known"
            raise DataError(f"{self.name} has no rows of the split {split}; {there}")
        return rows


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


def write(out: Path, rows: Sequence[Images], splits: Mapping[str, Split], class_names: Sequence[str]) -> Path | None:
    """Write a folder that `read` opens; it is complete or not there.

    It holds codes.npy, labels.npy, classes.txt, paths.txt and splits.txt, and, for programs that read no `.npy`, the
    numbers of codes.npy alone as `codes` and the names of the rows' classes as `labels`, csv.

    Args:
      out: the folder; what is there already is moved aside, but for an empty folder.
      rows: the rows of each split, each [n, ...]; written as float32.
      splits: the examples, by name, in the order of `rows`; they have labels.
      class_names: the name of each class.

    Returns:
      Where what was at `out` lies now; None if nothing was there.

    Raises:
      OSError: the disk is full, or the folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=files.PART, dir=out.absolute().parent) as beside:
        folder = Path(beside, out.name or "out")
        folder.mkdir()
        _write_codes(folder, rows)
        _write_labels(folder, splits, class_names)
        for path in [*folder.iterdir(), folder]:
            files.sync(path)
        if out.is_dir() and not out.is_symlink() and not any(out.iterdir()):
            out.rmdir()
        aside = files.move_aside(out) if os.path.lexists(out) else None
        folder.rename(out)
        files.sync_folder(out.absolute().parent)
    return aside


def _write_codes(folder: Path, rows: Sequence[Images]) -> None:
    """Write the rows of all splits, a few at a time, however many there are."""
    shape = (sum(map(len, rows)), *rows[0].shape[1:])
    codes = np.lib.format.open_memmap(folder / "codes.npy", mode="w+", dtype=np.float32, shape=shape)
    start = 0
    for part in rows:
        for indices in chunks(len(part), SHARD_ROWS):
            codes[start + indices] = part[indices]
        start += len(part)
    codes.flush()
    codes.tofile(folder / "codes")


def _write_labels(folder: Path, splits: Mapping[str, Split], class_names: Sequence[str]) -> None:
    labels = np.concatenate([np.asarray(split.labels, np.int64) for split in splits.values()])
    np.save(folder / "labels.npy", labels)
    lines = {
        "classes.txt": class_names,
        "paths.txt": [path for name, split in splits.items() for path in _paths(name, split)],
        "splits.txt": [name for name, split in splits.items() for _ in range(len(split))],
    }
    for name, texts in lines.items():
        text = "".join(f"{line}\n" for line in texts)
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([class_names[label]] for label in labels)
    (folder / "labels").write_bytes(table.getvalue().encode("utf-8", "surrogateescape"))


def _paths(name: str, split: Split) -> Sequence[str]:
    images = split.images
    return images.paths if isinstance(images, Pictures) else [f"{name}/{number}" for number in range(len(images))]


# --- folders of `write` ---


def _codes(folder: Path) -> Features:
    rows = _load(folder / "codes.npy", mmap_mode="r")
    if rows.dtype.kind != "f" or rows.ndim < 2:
        raise DataError(f"{folder}/codes.npy is {rows.dtype} {rows.shape}; rows of floats [n, ...] are needed")
    labels = _load(folder / "labels.npy") if (folder / "labels.npy").exists() else None
    classes, splits = _lines(folder / "classes.txt"), _lines(folder / "splits.txt")
    counts = {"labels.npy": labels, "splits.txt": splits or None}
    wrong = [
        f"{name} has {len(column)}"
        for name, column in counts.items()
        if column is not None and len(column) != len(rows)
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
        ways = [
            Pictures(rows, sides, resize, digests=digests, decode=decode) for resize in RESIZES for decode in DECODES
        ]
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
