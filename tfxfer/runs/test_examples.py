"""test_examples.csv: what the last test of a run said of each example. Two runs are compared by it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tfxfer.errors import RunError

FILE = "test_examples.csv"


class ExampleResult(NamedTuple):
    """One line of the file, which has these names as its first.

    Attributes:
      example: which example of the split it is, from 0.
      right: whether it was taken for its class; 1 or 0 in the file.
      true, predicted: names of classes; `predicted` is empty where a probability is not a number (NaN).
      probability: of the predicted class.
      digest: SHA-256 in hex of the picture's file, or of the array's bytes; empty where it could not be read.
      path: of the file; empty for arrays.
    """

    example: int
    right: bool
    true: str
    predicted: str
    probability: float
    digest: str
    path: str

    @property
    def name(self) -> str:
        """What messages call it: its path, or which example it is."""
        return self.path or f"example {self.example}"


def to_csv(examples: Iterable[ExampleResult]) -> bytes:
    """Return the file's bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ExampleResult._fields)
    writer.writerows((example[0], int(example.right), *example[2:]) for example in examples)
    return text.getvalue().encode("utf-8", "surrogateescape")


def read(run: Path) -> list[ExampleResult]:
    """Return what the last test of a run said of each example.

    Raises:
      RunError: the run was not tested, or only by a version that did not keep it; or the file is damaged.
    """
    path = run / FILE
    cure = f"`tfxfer evaluate {run}` tests the run and writes it"
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}; {cure}") from None
    try:
        head, *rows = csv.reader(io.StringIO(text, newline=""))
        if tuple(head) != ExampleResult._fields:
            raise ValueError("its first line is another")
        return [_example(*row) for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise RunError(f"{path} is damaged: {error}; {cure}") from None


def _example(
    example: str, right: str, true: str, predicted: str, probability: str, digest: str, path: str
) -> ExampleResult:
    if right not in ("0", "1"):
        raise ValueError(f"right is {right!r}, and not 0 or 1")
    return ExampleResult(int(example), right == "1", true, predicted, float(probability), digest, path)
