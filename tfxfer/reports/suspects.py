"""What is suspicious in a data set, with pictures: a section of a run's page, and a page of its own."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfxfer._version import __version__
from tfxfer.markup import Markup, data_uri, join, section, soft, tag
from tfxfer.plots.png import SIGNATURE
from tfxfer.reports.style import head
from tfxfer.reports.tables import MOST_AT_ONCE, named, row, table
from tfxfer.runs import files

Row = dict[str, Any]
# The kinds of findings, in order: what each is called, and what it means.
KINDS = {
    "unreadable": ("Unreadable", "These files cannot be decoded."),
    "exact": ("The same file twice", "Their bytes are equal. Copies in two classes come first, then in two splits."),
    "near": ("The same picture in two files", "They look alike, and so do their features. Copies in two classes come "
             "first, then in two splits."),
    "label": ("Doubtful labels", "Classifiers that have not seen the picture find another class more probable; the "
              "least probable label comes first. Not all of these labels are wrong: look at them."),
    "outlier": ("Far from all others", "Their nearest neighbours, by features, are far away."),
    "tiny": ("Tiny", "They have few pixels."),
    "one-coloured": ("Of one colour", "Nothing can be seen."),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Suspects:
    """What a check of a data set found.

    Attributes:
      examples: how many there are.
      counts: how many findings of each kind there are.
      accuracy: the share of labels that are the most probable; None if they were not checked.
      notes: what was not checked.
      findings: the first ones of each kind.
      overlaps: of pairs of `classes`, how many of how many `examples` were `confused`.
      pictures: PNG files, by the row of an example.
    """

    examples: int
    counts: Mapping[str, int]
    accuracy: float | None
    notes: Sequence[str]
    findings: Sequence[Row]
    overlaps: Sequence[Row]
    pictures: Mapping[int, bytes]

    @classmethod
    def from_json(cls, value: Any) -> Suspects:
        """Take what `tfxfer.data_checks.record.with_pictures` returned.

        Raises:
          ValueError, TypeError, LookupError, AttributeError: it is something else.
        """
        accuracy = value["accuracy"]
        return cls(
            examples=_count(value["examples"]),
            counts={kind: _count(value["counts"].get(kind, 0)) for kind in KINDS},
            accuracy=None if accuracy is None else float(accuracy),
            notes=[str(note) for note in value["notes"]],
            findings=[_finding(each) for each in value["findings"]],
            overlaps=[_overlap(each) for each in value["overlaps"]],
            pictures={int(index): data for index, text in value["pictures"].items() if (data := _png(text))},
        )  # fmt: skip


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= files.LARGEST:
        raise ValueError(f"it has {value!r} where a number of something should be"[:200])
    return value


def _finding(value: Row) -> Row:
    texts = ("kind", "path", "label", "split", "other", "other_label", "other_split", "suggested", "reason")
    numbers = {name: int(value[name]) for name in ("index", "other_index")}
    return {name: str(value[name]) for name in texts} | numbers


def _overlap(value: Row) -> Row:
    left, right = map(str, value["classes"])
    return {"classes": (left, right), **{name: _count(value[name]) for name in ("confused", "examples")}}


def _png(text: object) -> bytes | None:
    """Return a PNG file; None for anything else, so that no other file can be drawn into a page."""
    try:
        data = base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if data.startswith(SIGNATURE) else None


def suspects_section(suspects: Suspects) -> Markup:
    """Return the section of a run's page."""
    parts = [(tag("h3", title), *parts) for _, title, parts in _parts(suspects)]
    return section("suspects", "Suspects in the data", soft(_summary(suspects)), _notes(suspects), parts)


def document(suspects: Suspects, name: str) -> str:
    """Return a page of its own.

    Args:
      suspects: what was found.
      name: of the data set.
    """
    parts = _parts(suspects)
    links = [tag("li", tag("a", title, href=f"#{kind}")) for kind, title, _ in parts]
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag(
            "header",
            tag("p", "tfxfer data check", class_="kicker"),
            tag("h1", name),
            tag("p", _summary(suspects), class_="lead"),
            _notes(suspects),
        ),
        tag(
            "main",
            tag("nav", tag("ul", links), aria_label="Sections"),
            [section(kind, title, *rest) for kind, title, rest in parts],
            id="content",
        ),
        tag("footer", tag("p", f"Written by tfxfer {__version__}.")),
    )
    return f"<!DOCTYPE html>\n{tag('html', head(f'{name}: data check'), body, lang='en')}\n"


def _summary(suspects: Suspects) -> str:
    counts = [f"{KINDS[kind][0].lower()}: {count:,}" for kind, count in suspects.counts.items() if count]
    right = ""
    if suspects.accuracy is not None:
        right = f" Classifiers that had not seen them agree with {suspects.accuracy:.1%} of the labels."
    return f"{suspects.examples:,} examples; {'; '.join(counts) or 'nothing was found'}.{right}"


def _notes(suspects: Suspects) -> Markup | None:
    lines = [tag("li", note) for note in suspects.notes]
    return tag("div", tag("ul", lines), class_="banner", role="note") if lines else None


def _parts(suspects: Suspects) -> list[tuple[str, str, tuple[Markup, ...]]]:
    """Return name, title and contents of each part that has something."""
    parts: list[tuple[str, str, tuple[Markup, ...]]] = []
    for kind, (title, meaning) in KINDS.items():
        shown = [finding for finding in suspects.findings if finding["kind"] == kind]
        if shown:
            count = suspects.counts[kind]
            of = f"The first {len(shown)} of {count:,}. " if len(shown) < count else ""
            cards = tag("div", [_card(finding, suspects) for finding in shown], class_="cards", role="list")
            parts.append((kind, title, (soft(of + meaning), cards)))
    if suspects.overlaps:
        parts.append(("overlaps", "Classes that overlap", _overlaps(suspects)))
    return parts


def _overlaps(suspects: Suspects) -> tuple[Markup, ...]:
    rows = [
        row(
            join(named(each["classes"][0]), " and ", named(each["classes"][1])),
            (),
            numbers=(f"{each['confused']:,}", f"{each['confused'] / max(each['examples'], 1):.1%}"),
        )
        for each in suspects.overlaps
    ]
    columns = ("classes", "confused", "share of both")
    tall = len(rows) > MOST_AT_ONCE
    text = "How many examples of either were taken for the other, by classifiers that had not seen them."
    return soft(text), table(columns, rows, label="Classes that overlap", numbers=columns[1:], tall=tall)


def _card(finding: Row, suspects: Suspects) -> Markup:
    ends = [(finding["index"], finding["path"], finding["label"])]
    if finding["other"]:
        ends.append((finding["other_index"], finding["other"], finding["other_label"]))
    pictures = [_picture(suspects.pictures.get(index), path, label) for index, path, label in ends]
    labels = [label for _, _, label in ends]
    lines = [
        tag("p", tag("b", named(labels[0]))) if len(set(labels)) == 1 and labels[0] else None,
        tag("p", named(labels[0]), " and ", tag("b", named(labels[1]), class_="taken"))
        if len(set(labels)) > 1
        else None,
        tag("p", "rather ", tag("b", named(finding["suggested"]), class_="taken")) if finding["suggested"] else None,
        tag("p", finding["reason"]) if finding["reason"] else None,
        *(tag("p", named(_short(path)), class_="path", title=path) for _, path, _ in ends),
    ]
    look = "pair" if len(pictures) > 1 else None
    return tag(
        "div", tag("div", pictures, class_=look), tag("div", lines, class_="said"), class_="card", role="listitem"
    )


def _picture(data: bytes | None, path: str, label: str) -> Markup:
    text = f"{label} ({_short(path)})" if label else _short(path)
    if data is None:
        return tag("div", "no picture", class_="missing", role="img", aria_label=f"Missing picture: {text}")
    return tag("img", src=data_uri(data), alt=f"Picture of {text}")


def _short(path: str) -> str:
    """Return the last two parts of a path: the file and its folder."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])
