"""Pictures that lie in files and are decoded, cut and resized when they are asked for, several at a time."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tfxfer.data import crops, decoding, picture_index
from tfxfer.data.batches import check_seed
from tfxfer.data.decoding import MOST_PIXELS
from tfxfer.errors import DataError
from tfxfer.input_spec import DECODES, MAX_SIDE, RESIZES

T = TypeVar("T")


class Pictures:
    """Pictures in files, of one size and RGB, like an array uint8 [n, height, width, 3] that takes no memory.

    Indexing decodes. Grey pictures get three equal channels, CMYK becomes RGB, transparency is left out, of 16 bits
    the upper 8 are taken, of a GIF the first frame, and a JPEG is turned upright as its EXIF tag says. Resizing is
    bilinear, as Pillow and torchvision do it: where a picture shrinks, all its pixels count. It rounds half to even.
    The same file gives the same bytes, whatever the number of threads.

    Attributes:
      paths: of the files, in order.
      size: height and width that every picture is brought to.
      resize: `crop`, the largest centred part of the same proportions; `plain`, the whole, whatever its proportions.
      decode: `exact`, all pixels of a JPEG are decoded and count; `scaled`, where it shrinks to a half or less, libjpeg
        decodes it at a half, a quarter or an eighth of its size, never below `size`, which is faster and takes
        averages over 2, 4 or 8 pixels.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        size: tuple[int, int] = (224, 224),
        resize: str = "crop",
        *,
        digests: Sequence[str] = (),
        crops: Sequence[tuple[int, int]] = (),
        most_pixels: int = MOST_PIXELS,
        decode: str = "exact",
        index: str | None = None,
    ) -> None:
        """Take note of the files; none is opened.

        Args:
          paths: of the files.
          size: height and width.
          resize: `crop` or `plain`.
          digests: SHA-256 of each file, in hex, if known: then a file that has changed since is refused.
          crops: seed and number of a random crop a picture, if they are to be cropped so; see `augmented`.
          most_pixels: pictures of more are refused, before they are decoded. Those that are decoded at one time have
            together no more than this or `MOST_PIXELS`, the greater of both.
          decode: `exact` or `scaled`.
          index: the file in which it is remembered what `scan` saw of them: those that looked well and cannot be
            decoded are noted there, to be set aside the next time.

        Raises:
          DataError: size, resize or decode is out of range, or there is not one digest or crop for each path.
        """
        self.paths = tuple(os.fspath(path) for path in paths)
        self.size, self.resize, self.most_pixels = (int(size[0]), int(size[1])), resize, most_pixels
        self.decode, self.index = decode, index
        self._digests, self._crops = tuple(digests), tuple((seed, number) for seed, number in crops)
        if not all(1 <= side <= MAX_SIDE for side in self.size):
            raise DataError(f"size is {size}; give height and width, each from 1 to {MAX_SIDE}")
        for name, way, ways in (("resize", resize, RESIZES), ("decode", decode, DECODES)):
            if way not in ways:
                raise DataError(f"{name} is {way!r}; take one of {', '.join(map(repr, ways))}")
        for name, values in (("digests", self._digests), ("crops", self._crops)):
            if values and len(values) != len(self.paths):
                raise DataError(f"there are {len(values):,} {name} for {len(self.paths):,} pictures")

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, height, width, 3]."""
        return (len(self.paths), *self.size, 3)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        kind = "random crops of pictures" if self._crops else "pictures"
        return f"<{len(self):,} {kind} at {self.size[0]}x{self.size[1]} by {self.resize!r}>"

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """Decode pictures, in parallel.

        Args:
          indices: whatever indexes the first dimension of an array: integers [m], a slice, one integer.

        Returns:
          uint8 [m, height, width, 3], or [height, width, 3] for one integer.

        Raises:
          DataError: some cannot be decoded, or have changed; all of these are listed.
          IndexError: there are not so many.
        """
        places = np.arange(len(self))[indices]
        out = np.empty((places.size, *self.size, 3), np.uint8)
        faults = in_parallel(self._decode_into, zip(out, places.ravel(), strict=True))
        bad = {int(place): fault for place, fault in zip(places.ravel(), faults, strict=True) if fault}
        if bad:
            lines = shortened([f"{self.paths[place]} {fault.reason}" for place, fault in bad.items()])
            head = f"cannot decode {len(bad)} of {places.size} pictures:"
            raise DataError("\n  ".join([head, *lines]) + self._set_aside(bad))
        return out.reshape(*places.shape, *self.size, 3)

    def _set_aside(self, bad: Mapping[int, _Fault]) -> str:
        """Note in the index which pictures are damaged though they looked well, and return what to do about them."""
        damaged = {place: fault.reason for place, fault in bad.items() if fault.damaged and self._digests}
        if not damaged:
            return ""
        reasons = {(self.paths[place], self._digests[place]): reason for place, reason in damaged.items()}
        if self.index and picture_index.set_aside(Path(self.index), self.most_pixels, reasons):
            return "\nstart again: what is damaged is noted, and is set aside before the pictures are divided"
        cure = "mend or remove what is damaged, and start again"
        if self.decode == "exact":
            return f"\n{cure}"
        return f"\n{cure}; in a new run, `decode=exact` takes it as far as it can be decoded, or sets it aside"

    def _decode_into(self, item: tuple[np.ndarray, int]) -> _Fault | None:
        """Return why it cannot be decoded, if it cannot."""
        out, place = item
        damaged = False
        try:
            data = decoding.read_file(self.paths[place], self.most_pixels)
            digest = decoding.sha256(data) if self._digests or self._crops else ""
            if self._digests and digest != self._digests[place]:
                raise DataError("has changed since it was looked through; start again")
            damaged = True
            drawn = crops.draw(digest, *self._crops[place]) if self._crops else None
            out[:] = decoding.decode(data, self.size, self.resize, self.most_pixels, drawn, way=self.decode)
        except DataError as error:
            return _Fault(str(error), damaged)
        return None

    def digest(self, index: int) -> str:
        """Return the SHA-256 of a file's bytes, in hex: as it was found at first, if it was looked through.

        Raises:
          DataError: the file cannot be read.
        """
        if self._digests:
            return self._digests[index]
        try:
            return decoding.sha256(decoding.read_file(self.paths[index], self.most_pixels))
        except DataError as error:
            raise DataError(f"{self.paths[index]} {error}") from None

    def how(self, index: int) -> str:
        """Say how a file is brought to pixels: two rows of the same digest and this text are the same."""
        way = f"{self.size} {self.resize}{' scaled' if self.decode == 'scaled' else ''}"
        return f"{way} {crops.text(*self._crops[index])}" if self._crops else way

    def subset(self, indices: np.ndarray) -> Pictures:
        """Return some of the pictures (integers [m]), in that order, still not decoded."""
        chosen = np.arange(len(self))[indices]
        return Pictures(
            [self.paths[place] for place in chosen],
            self.size,
            self.resize,
            digests=[self._digests[place] for place in chosen] if self._digests else (),
            crops=[self._crops[place] for place in chosen] if self._crops else (),
            most_pixels=self.most_pixels,
            decode=self.decode,
            index=self.index,
        )

    @staticmethod
    def joined(parts: Sequence[Pictures]) -> Pictures:
        """Return the pictures of several parts of one data set behind each other, still not decoded."""
        first = parts[0]
        return Pictures(
            [path for part in parts for path in part.paths],
            first.size,
            first.resize,
            digests=[digest for part in parts for digest in part._digests],
            crops=[crop for part in parts for crop in part._crops],
            most_pixels=first.most_pixels,
            decode=first.decode,
            index=first.index,
        )

    def augmented(self, count: int, seed: int) -> Pictures:
        """Return `count` random crops of each picture, one in two mirrored, in place of it; still not decoded.

        A crop is as large as VGG's were: 224/512 to 224/256 of the largest part that has the proportions of `size`, or
        of the picture where `resize` is `plain`. Which part it is depends on the file's bytes, the seed and the crop's
        number alone: with a larger `count`, the first ones stay what they are.

        Args:
          count: crops a picture, 1 or more.
          seed: 0 to 2**32 - 1.

        Returns:
          `count` rows for the first picture, then as many for the second, and so on.

        Raises:
          DataError: count or seed is out of range, or these are random crops already.
        """
        check_seed(seed)
        if count < 1:
            raise DataError(f"{count} random crops of each picture: take 1 or more")
        if self._crops:
            raise DataError("these pictures are random crops already; augment those that they were made from")
        repeated = self.subset(np.repeat(np.arange(len(self)), count))
        repeated._crops = tuple((seed, number) for _ in range(len(self)) for number in range(count))
        return repeated

    def to_json(self) -> dict[str, Any]:
        """Return what the pictures are, as JSON has it: `Pictures(**...)` makes the same of it."""
        names = ("paths", "size", "resize", "most_pixels", "decode", "index")
        kept = {name: getattr(self, name) for name in names}
        return {**kept, "digests": self._digests, "crops": self._crops}


class _Fault(NamedTuple):
    """Why a picture cannot be decoded, and whether that lies in the bytes that it had when it was looked through."""

    reason: str
    damaged: bool


class Files:
    """The bytes of files, like an array of objects [n] that takes no memory: for models that decode pictures."""

    dtype = np.dtype(object)

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """Take note of the files; none is opened."""
        self.paths = tuple(os.fspath(path) for path in paths)

    @property
    def shape(self) -> tuple[int]:
        """[n]."""
        return (len(self.paths),)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """Read some of the files (integers [m], or a slice); objects [m], each the bytes of one."""
        data = [Path(self.paths[place]).read_bytes() for place in np.arange(len(self))[indices]]
        out = np.empty(len(data), object)
        out[:] = data
        return out


def ahead(load: Callable[[np.ndarray], T], indices: Iterable[np.ndarray], depth: int = 2) -> Generator[T, None, None]:
    """Yield `load(each)` for each of `indices`, in order, while the next ones are made in the background.

        for batch in ahead(split.take, batches(seed, len(split), 32)):

    Results are made at most `depth` ahead of the one that is being used. What `load` raises is raised here when its
    turn comes. After the last result, an error, or `close()`, no thread of it is left running.

    Args:
      load: makes a batch of indices.
      indices: may be endless; gone through, as `load` is called, in a thread of its own.
      depth: 1 or more.
    """
    # Queues in C, since the result of a small batch is there before a lock in Python is taken.
    made: SimpleQueue[tuple[T, ...]] = SimpleQueue()
    wanted: SimpleQueue[bool] = SimpleQueue()
    for _ in range(depth):
        wanted.put(True)
    with ThreadPoolExecutor(1, "tfxfer-ahead") as pool:
        making = pool.submit(_make, load, indices, wanted, made)
        try:
            while result := made.get():
                wanted.put(True)
                yield result[0]
            making.result()
        finally:
            wanted.put(False)


def _make(load: Callable[[Any], T], indices: Iterable[Any], wanted: SimpleQueue[bool], made: SimpleQueue) -> None:
    """Load items on demand into the queue `made`; `()` marks the end."""
    coming = iter(indices)
    try:
        while wanted.get() and (each := next(coming, None)) is not None:
            made.put((load(each),))
    finally:
        made.put(())


def in_parallel(function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """Return `function(item)` for each item, in order, computed by as many threads as there are processors.

    The function must not call this in its turn.
    """
    decoding.warm_up()
    return list(_pool().map(function, items))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(processors, "tfxfer-pictures")


def example_name(images: Any, place: int) -> str:
    """Return what messages call an example: the path of its picture, or its number."""
    return images.paths[place] if isinstance(images, Pictures) else f"example {place}"


def shortened(lines: Sequence[str], limit: int = 20) -> list[str]:
    """Return lines fit to be shown: the first, and how many more there are; bytes that are not UTF-8 are escaped."""
    first = [line.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for line in lines[:limit]]
    return first if len(lines) <= limit else [*first, f"and {len(lines) - limit:,} more"]
