"""The examples that features are computed from: each once, with a key, and on disk for other processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfxfer.data.batches import chunks
from tfxfer.data.pictures import Pictures
from tfxfer.data.splits import Images
from tfxfer.errors import DataError

ROWS = 256  # read at once


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Some examples.

    Attributes:
      parts: arrays or pictures that hold them; pictures have the digests that the keys were made of.
      places: int64 [n, 2], the part of each example and where in it.
      keys: a digest of each example.
    """

    parts: Sequence[Images]
    places: np.ndarray
    keys: Sequence[str]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the images of some examples (integers [m]).

        Raises:
          DataError: some are not what their keys were made of: a file was replaced, or indexing gives something new.
        """
        numbers, places = self.places[indices].T
        first = self.parts[0]
        out = np.empty((len(indices), *first.shape[1:]), first.dtype)
        for number in np.unique(numbers):
            mine = numbers == number
            out[mine] = self.parts[number][places[mine]]
            if not isinstance(self.parts[number], Pictures):  # which compare digests themselves
                self._check(indices[mine], out[mine])
        return out

    def _check(self, indices: np.ndarray, images: np.ndarray) -> None:
        changed = [index for index, key in zip(indices, _digests(images), strict=True) if key != self.keys[index]]
        if changed:
            raise DataError(
                f"{len(changed)} of {len(indices)} images are not what they were when they were first looked at, the "
                f"first of them at {self.places[changed[0]].tolist()} (part, place): computed once, their rows would "
                "not be theirs; give images that do not change, or train from the images"
            )


def distinct(parts: Sequence[Images]) -> tuple[Source, list[list[str]]]:
    """Return each different example of all parts once, and the keys of each part in its order."""
    parts = [pinned(part) for part in parts]
    by_part = [keys_of(part) for part in parts]
    places = {key: (number, index) for number, keys in enumerate(by_part) for index, key in enumerate(keys)}
    return Source(parts, np.array(list(places.values())), list(places)), by_part


def pinned(images: Images) -> Images:
    """Return pictures with the digests of their files as they are now, so that one that is replaced later is refused.

    Raises:
      DataError: a file cannot be read.
    """
    if not isinstance(images, Pictures) or images.to_json()["digests"]:
        return images
    return Pictures(**{**images.to_json(), "digests": [images.digest(index) for index in range(len(images))]})


def keys_of(images: Images) -> list[str]:
    """Return the key of each example: a digest of its pixels, or of a picture's file and how it is brought to size.

    Raises:
      DataError: a file whose digest is not known cannot be read.
    """
    if isinstance(images, Pictures):
        ways = (f"picture {images.digest(index)} {images.how(index)}" for index in range(len(images)))
        return [hashlib.sha256(way.encode()).hexdigest() for way in ways]
    return [key for chunk in (chunks(len(images), ROWS) if len(images) else ()) for key in _digests(images[chunk])]


def _digests(pixels: np.ndarray) -> list[str]:
    head = hashlib.sha256(f"{pixels.dtype} {tuple(pixels.shape[1:])} ".encode())
    digests = []
    for image in np.ascontiguousarray(pixels):
        digest = head.copy()
        digest.update(image)
        digests.append(digest.hexdigest())
    return digests


def save(source: Source, indices: np.ndarray, folder: Path) -> None:
    """Write some examples (integers [m], in that order) to a folder, from which `load` makes a source of them.

    Of pictures, where they lie is written; of anything else, the pixels, a few rows at a time.

    Raises:
      OSError: the disk is full, or the folder cannot be written.
    """
    places = source.places[indices]
    for number, part in enumerate(source.parts):
        mine = places[:, 0] == number
        chosen = places[mine, 1]
        places[mine, 1] = np.arange(len(chosen))
        if isinstance(part, Pictures):
            (folder / f"part-{number}.json").write_text(json.dumps(part.subset(chosen).to_json()))
        else:
            _save_rows(part, chosen, folder / f"part-{number}.npy")
    np.save(folder / "places.npy", places)
    np.save(folder / "keys.npy", np.array([source.keys[index] for index in indices], "S"))


def _save_rows(part: Images, chosen: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:
        rows = np.empty((0, *part.shape[1:]), part.dtype)
        header = np.lib.format.header_data_from_array_1_0(rows)
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (len(chosen), *part.shape[1:])})
        for chunk in chunks(len(chosen), ROWS) if len(chosen) else ():
            file.write(np.ascontiguousarray(part[chosen[chunk]]).data)


def load(folder: Path, parts: int) -> Source:
    """Return the examples that `save` wrote; pixels stay on disk until they are taken."""
    keys = [key.decode() for key in np.load(folder / "keys.npy").tolist()]
    return Source(
        [_load_part(folder / f"part-{number}") for number in range(parts)], _load_rows(folder / "places.npy"), keys
    )


def _load_part(stem: Path) -> Images:
    listed = stem.with_suffix(".json")
    return Pictures(**json.loads(listed.read_text())) if listed.exists() else _load_rows(stem.with_suffix(".npy"))


def _load_rows(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)
