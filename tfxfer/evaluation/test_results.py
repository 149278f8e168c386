"""What a run leaves behind of its test: how good it is, and its worst mistakes with small pictures of them.

    test.json                   one object; see `record`
    test_examples.csv           a line for each example: what it was taken for; see `tfxfer.runs.test_examples`
    mistakes/01-<digest>.png    at most 160 pixels high and wide

The pictures have names of their contents, and those of an earlier test go only after `test.json` was replaced: what it
names is always there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer import files
from tfxfer.data.pictures import Pictures
from tfxfer.data.splits import Images, Split
from tfxfer.errors import DataError, RunError
from tfxfer.evaluation.evaluate import Evaluation
from tfxfer.plots.png import png
from tfxfer.runs import test_examples
from tfxfer.runs.test_examples import ExampleResult

FILE, FOLDER = "test.json", "mistakes"
SIDE = 160
OURS = re.compile(r"\d{2,}-[0-9a-f]{12}\.png")


def record(
    run: str | os.PathLike[str], result: Evaluation, split: Split, checkpoint: str, *, most: int = 25
) -> dict[str, Any]:
    """Write `test.json`, `test_examples.csv` and pictures of the mistakes, in place of those of an earlier test.

    One picture is in memory at a time.

    Args:
      run: the run directory.
      result: what `tfxfer.evaluate` said of the test split.
      split: the test split itself.
      checkpoint: the prefix of the checkpoint that was evaluated.
      most: how many mistakes to keep.

    Returns:
      What `test.json` holds: `checkpoint`, relative to the run; `loss` and `accuracy`, means over the `examples` (their
      number); `accuracy_interval`, Wilson's 95 % interval; `top_k`, number (as text) to the share of examples whose
      true class is among so many; `class_names`, the name of each class at the place of its number; `confusion`, how
      many examples of each true class (row) were taken for each class (column); `per_class`, by name `precision`,
      `recall`, `f1-score` and `support` (its examples); and `mistakes`, a list of objects, the one of highest
      `probability` first. Each of these has the names of the `true` and the `predicted` class, the `probability` of
      either (`probability_of_true`), the `index` in the split, the `path` of the file (null for images that lie in
      none) and the `picture` of it, relative to the run (null where it can no longer be read, or is not a picture).

    Raises:
      RunError: it cannot be written.
    """
    run = Path(run)
    try:
        (run / FOLDER).mkdir(exist_ok=True)
        with _locked(run / FOLDER):
            mistakes = [
                _mistake(result, split, int(index)) | {"picture": _picture(run, rank, split.images, int(index))}
                for rank, index in enumerate(result.mistakes(most), 1)
            ]
            test = {"checkpoint": os.path.relpath(checkpoint, run), **result.to_json(), "mistakes": mistakes}
            files.write_bytes(run / test_examples.FILE, test_examples.to_csv(_tested(result, split)))
            files.write_bytes(run / FILE, _lines(test).encode())
            _clear(run / FOLDER, {Path(mistake["picture"]).name for mistake in mistakes if mistake["picture"]})
    except OSError as error:
        raise RunError(f"cannot write {FILE} and {FOLDER}/ in {run}: {error.strerror or error}") from None
    return test


def _tested(result: Evaluation, split: Split) -> Iterator[ExampleResult]:
    """Yield what each example was taken for."""
    names = (*result.class_names, "")  # -1: taken for none
    paths = split.images.paths if isinstance(split.images, Pictures) else [""] * len(result.labels)
    columns = zip(paths, result.labels, result.predictions, result.right, strict=True)
    for index, (path, true, predicted, right) in enumerate(columns):
        probability = float(result.probabilities[index, predicted])
        digest = _digest(split.images, index)
        yield ExampleResult(index, bool(right), names[true], names[predicted], probability, digest, path)


def _digest(images: Images, index: int) -> str:
    """Return the SHA-256 of a picture's file, or of an array's row; nothing where it cannot be read any more."""
    if not isinstance(images, Pictures):
        return hashlib.sha256(np.ascontiguousarray(images[np.array([index])][0]).tobytes()).hexdigest()
    with contextlib.suppress(DataError):
        return images.digest(index)
    return ""


def _mistake(result: Evaluation, split: Split, index: int) -> dict[str, Any]:
    true, predicted = int(result.labels[index]), int(result.predictions[index])
    return {
        "true": result.class_names[true],
        "predicted": result.class_names[predicted],
        "probability": float(result.probabilities[index, predicted]),
        "probability_of_true": float(result.probabilities[index, true]),
        "index": index,
        "path": split.images.paths[index] if isinstance(split.images, Pictures) else None,
    }


def _lines(value: dict[str, Any]) -> str:
    """Show an object as JSON with a key a line, or a line for each part of what has parts: to be read, and not long."""
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {_parts(part)}" for key, part in value.items()) + "\n}\n"


def _parts(value: Any) -> str:
    if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()):
        return "{\n  " + ",\n  ".join(f"{json.dumps(key)}: {json.dumps(part)}" for key, part in value.items()) + "\n }"
    if isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
    return json.dumps(value)


# --- pictures ---


def _picture(run: Path, rank: int, images: Images, index: int) -> str | None:
    """Write a small picture of an example; return its path in the run, or None if there can be none."""
    pixels = _small(images, index)
    if pixels is None:
        return None
    data = png(pixels)
    name = f"{rank:02}-{hashlib.sha256(data).hexdigest()[:12]}.png"
    files.write_bytes(run / FOLDER / name, data)
    return f"{FOLDER}/{name}"


def _small(images: Images, index: int) -> np.ndarray | None:
    """Return an example with no side above `SIDE`, uint8 [height, width, 3 or 4]; None if it is not a picture."""
    if len(images.shape) != 4:
        return None
    sides = images.shape[1:3]
    height, width = (max(1, round(side * min(1, SIDE / max(sides)))) for side in sides)
    if isinstance(images, Pictures):
        picture = images.subset(np.array([index]))
        picture.size = (height, width)
        try:
            return picture[0]
        except DataError:
            return None
    pixels = np.asarray(images[np.array([index])][0])
    if pixels.dtype != np.uint8 or pixels.shape[-1] not in (1, 3, 4):
        return None
    # Images in arrays are seldom larger; then rows and columns are sampled evenly.
    rows = np.linspace(0, sides[0] - 1, height).round().astype(int)
    columns = np.linspace(0, sides[1] - 1, width).round().astype(int)
    small = pixels[rows][:, columns]
    return np.repeat(small, 3, axis=-1) if small.shape[-1] == 1 else small


def _clear(folder: Path, kept: set[str]) -> None:
    """Delete the pictures of earlier tests, and what a killed process had begun to write."""
    for path in folder.iterdir():
        stale = OURS.fullmatch(path.name) and path.name not in kept
        if stale or (path.name.startswith(".") and path.name.endswith(files.PART)):
            path.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write here: else one would clear away what another is about to name."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
