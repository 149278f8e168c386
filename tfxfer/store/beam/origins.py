"""Where the pictures of a job on Apache Beam are: found and read through Beam's file systems, local or not.

Paths travel as bytes, since a file name need not be UTF-8.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.io import ReadFromText, WriteToText, fileio
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from tfxfer.data import decoding
from tfxfer.data.decoding import BYTES_A_PIXEL, MOST_PIXELS
from tfxfer.data.folders import SUFFIXES, is_hidden
from tfxfer.data.listings import LINE
from tfxfer.errors import DataError

NAMESPACE = "tfxfer"  # of the metrics
EXTRAS = {"gs": "gcp", "s3": "aws", "azfs": "azure", "hdfs": "hadoop"}


class Origin(NamedTuple):
    """Some pictures.

    Attributes:
      kind: `folder`, `listing` or `pattern`.
      where: the folder, the file of lines `path label`, or the pattern with `*`, `**` and `?`.
      root: what the paths of a listing are relative to, and must not leave.
    """

    kind: str
    where: str
    root: str = ""


def absolute(path: str) -> str:
    """Return a path that is the same on all workers; what has a scheme, as gs://, is so already."""
    return path if "://" in path else os.path.abspath(path)


def check(origin: Origin) -> None:
    """See that there is something, before any worker is started.

    Raises:
      DataError: the file system is not installed or does not answer, or there is nothing.
    """
    try:
        FileSystems.get_filesystem(origin.where)
        files = FileSystems.match([_pattern(origin)], [1])[0].metadata_list
    except ValueError:
        scheme = origin.where.partition("://")[0]
        raise DataError(
            f"{origin.where}: Apache Beam has no file system for {scheme}:// here; pip install "
            f"'apache-beam[{EXTRAS.get(scheme, '...')}]' on this machine and on the workers"
        ) from None
    except BeamIOError as error:
        raise DataError(f"{origin.where} cannot be listed: {error}") from None
    if not files:
        cure = {
            "folder": "give the folder that has one subfolder of pictures for each class",
            "listing": "give a file of lines `path label`",
            "pattern": "in it, * stands for anything but /, and ** for anything",
        }
        raise DataError(f"{origin.where} matches no file; {cure[origin.kind]}")


def paths(pipeline: beam.Pipeline, origin: Origin) -> tuple[Any, list[Any]]:
    """Return a collection of paths, spread over the workers, and of lines of JSON that say which lines name no path."""
    if origin.kind == "listing":
        lines = pipeline | "Read listing" >> ReadFromText(origin.where, coder=BytesCoder(), validate=False)
        parsed = lines | "Parse" >> beam.FlatMap(functools.partial(_parsed, origin.root)).with_outputs("bad", main="ok")
        return parsed.ok | "Once each" >> beam.Distinct(), [parsed.bad]
    matches = (
        pipeline
        | beam.Create([_pattern(origin)])
        | fileio.MatchAll(fileio.EmptyMatchTreatment.DISALLOW)
        | "Choose" >> beam.FlatMap(functools.partial(_chosen, origin))
    )
    return matches | "Spread" >> beam.Reshuffle(), []


def _pattern(origin: Origin) -> str:
    escaped = re.sub(r"([*?\[])", r"[\1]", origin.where)
    return {"folder": FileSystems.join(escaped, "*", "**"), "listing": escaped, "pattern": origin.where}[origin.kind]


def _chosen(origin: Origin, match: Any) -> Iterator[bytes]:
    """Yield a path that was matched; of a folder, only where the name is that of a picture."""
    below = match.path.removeprefix(origin.where).replace(os.sep, "/").split("/")
    hidden = any(map(is_hidden, below))
    if origin.kind != "folder" or (not hidden and os.path.splitext(match.path)[1].lower() in SUFFIXES):
        yield os.fsencode(match.path)


def _parsed(root: str, line: bytes) -> Iterator[Any]:
    text = line.decode("utf-8-sig", "surrogateescape").strip("\r \t")
    if not text or text.startswith("#"):
        return
    match = LINE.fullmatch(text)
    if match is None or os.path.splitext(match["label"])[1].lower() in SUFFIXES:
        yield _bad(text, "has no label; write `path label`")
        return
    path = match["path"] if "://" in match["path"] else FileSystems.join(root, match["path"])
    path = path if "://" in path else os.path.normpath(path)
    top = root.rstrip("/") + "/"
    if not path.startswith(top) or ".." in path.split("/"):
        yield _bad(match["path"], f"is outside of {root}; name another `data_dir`")
    else:
        yield os.fsencode(path)


def _bad(path: str, reason: str) -> Any:
    for name in ("pictures", "failures"):
        Metrics.counter(NAMESPACE, name).inc()
    return beam.pvalue.TaggedOutput("bad", bad_line(os.fsencode(path), reason))


def read(path: str) -> bytes:
    """Read a file that begins as a picture does and is not larger than a picture can be.

    Raises:
      DataError: it is none, is too large, is not there, or cannot be read.
      BeamIOError: a file system that is not local failed, perhaps for a moment: the runner tries again.
    """
    if "://" not in path:
        return decoding.read_file(path)
    most = BYTES_A_PIXEL * MOST_PIXELS
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise DataError("is not there") from None
    decoding.check_kind(data[:32])
    if len(data) > most:
        raise DataError(f"has more than {most:,} bytes, too many for {MOST_PIXELS:,} pixels")
    return data


def bad_line(path: bytes, reason: str) -> str:
    """Return a line of JSON; bytes of a path that are not UTF-8 are escaped."""
    return json.dumps({"path": path.decode("utf-8", "backslashreplace"), "reason": reason})


def write_lines(collections: Sequence[Any], path: str) -> None:
    """Write lines of text to one file."""
    lines = tuple(collections) | "Gather bad" >> beam.Flatten()
    lines | "Write bad" >> WriteToText(path, num_shards=1, shard_name_template="")
