"""Say what is wrong with a data set: duplicates, labels that are likely wrong, outliers, empty and unreadable pictures.

    tfxfer check_data flowers --out=check
    tfxfer check_data --run=runs/flowers

DIR is a folder with a subfolder for each class, a folder with the listing train.txt (and val.txt), or a listing. What
is found is printed, worst first: pictures that are unreadable, tiny or of one colour; the same picture twice, as it is
or re-encoded, in two classes or two splits first; labels that classifiers find improbable which have not seen the
picture; pictures far from all others; classes that overlap. With --out, a folder gets index.html with small pictures,
findings.csv and findings.json.

Pictures are compared by the features of a network, which --store keeps for the next check and for `tfxfer train`. With
--run, network, pictures and splits are those of a run of `tfxfer train`, and its next report shows what was found.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from tfxfer import files
from tfxfer.data import Data, Pictures, listings
from tfxfer.data.dataset import PICTURES, check_there, load_dataset
from tfxfer.data.folders import find
from tfxfer.data.labelled import SPLITS, Labelled
from tfxfer.data.scan import scan
from tfxfer.errors import DataError, RunError
from tfxfer.runs import files as run_files
from tfxfer.store.store import Store
from tfxfer.tools import (
    _data_flags,
    _flags,
    _model_flags,
    _overwrite,
    _packaged,
    _pager,
    _report,
    _store,
    _training_flags,
)

MOST_LINES = 10  # of a kind that are printed
LEFT_OUT = ("unreadable", "exact", "near")
OF_RUN = ("model", "weights", "source", "rename", "image_size", "input", "feed", "tags", "signature", "moving_averages",
          "input_spec", "mean", "scale", "bgr", "seed", "endpoint")  # fmt: skip
USES = (_flags.Use("listing", "run", what="the run whose listing it is"),)


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string(
        "out", None, "Folder to write index.html, findings.csv and findings.json to.", flag_values=values
    )
    flags.DEFINE_string(
        "write_listing",
        None,
        "Listing to write without the pictures that --leave_out names; classes.txt goes beside it, and where the "
        "pictures are divided, NAME.validation.txt and NAME.test.txt.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "leave_out",
        list(LEFT_OUT),
        "Kinds that --write_listing leaves out: unreadable, exact, near, label, outlier, tiny, one-coloured. Of copies "
        "the first stays, of copies under several labels none.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "folds", 5, "Parts of the pictures, for the check of labels; 0 leaves it out.", 0, flag_values=values
    )
    flags.DEFINE_bool("overwrite", False, "Move files aside that --out or --write_listing writes.", flag_values=values)
    _flags.DEFINE_json(values)
    flags.DEFINE_string("run", None, "Run of `tfxfer train` whose data is checked.", flag_values=values)
    _store.define_extraction(values)
    _model_flags.define_model(values)
    _model_flags.define_endpoint(values)
    _store.define(values, "a temporary one")
    for name, what in _data_flags.PATHS.items():
        flags.DEFINE_string(name, None, f"{what}, where it is not where it was in training.", flag_values=values)
    values["data_dir"].help = (
        "Folder that the paths of a listing are relative to; default: that of each listing. With --run: the folder of "
        "its pictures, where it is not where it was in training."
    )
    _data_flags.define_decode(values)
    flags.DEFINE_integer("seed", 0, "Seed of the folds, and of a random baseline.", 0, 2**32 - 1, flag_values=values)
    _flags.define_session(values)
    return values


class Examples(NamedTuple):
    """What is checked.

    Attributes:
      name: of the data set.
      root: the folder that paths of a listing are relative to.
      images: all that can be decoded.
      labels: int64 [n].
      splits: the name of each one's split; empty where they are not divided.
      class_names: the name of each class.
      unreadable: why the other files cannot be decoded, by path.
    """

    name: str
    root: str
    images: Any
    labels: np.ndarray
    splits: Sequence[str]
    class_names: tuple[str, ...]
    unreadable: dict[str, str]


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    settings = define_flags()
    directory = _flags.parse(settings, argv, __doc__, at_most=1, uses=USES)
    if bool(directory) == bool(settings.run):
        raise _flags.UsageError("give either DIR, the pictures to check, or --run, whose pictures they are")
    _check_out(settings)
    with contextlib.redirect_stdout(sys.stderr) if settings.json else contextlib.nullcontext():
        check, examples = _checked(settings, directory[0] if directory else None)
        if not settings.json:
            _show(check)
        _write(settings, check, examples)
    if settings.json:
        print(json.dumps(check.to_json()))
    return 0


def _checked(settings: Any, directory: str | None) -> tuple[Any, Examples]:
    stored = {} if directory else _take_run(settings)
    _packaged.imply(settings, pictures=bool(directory) or stored["dataset"] in PICTURES)
    opened = _model_flags.open_model(settings)
    examples = _of_folder(settings, opened, directory) if directory else _of_run(settings, opened, stored)
    _check_listings(settings, examples)
    features = _features(settings, opened, examples)

    import tfxfer as tx

    options = {"splits": examples.splits, "class_names": examples.class_names, "folds": settings.folds}
    check = tx.check_data(features, examples.labels, examples.images, seed=settings.seed, **options)
    return check.with_unreadable(examples.unreadable), examples


# --- what is checked ---


def _take_run(settings: Any) -> dict[str, Any]:
    """Let the settings of the run be those of flags that are not given; return all, with the paths that are."""
    from tfxfer.runs.settings import read_settings

    run = run_files.find_run(settings.run)
    stored = read_settings(run).by_name()
    if not {"model", "dataset"} <= stored.keys():
        raise RunError(f"{run} was made by a program of its own: its settings do not name a model and a data set")
    for name in OF_RUN:
        if stored.get(name) is not None and not settings[name].present:
            settings[name].value = stored[name]
            settings[name].present = 1
    if not settings["decode"].present:
        settings.decode = stored.get("decode") or "exact"
    if stored.get("restore") == ["none"] and not settings["restore"].present:
        settings.restore = ["none"]
    moved = {name: settings[name].value for name in _data_flags.PATHS if settings[name].present}
    check_there(stored | moved, run)
    return stored | moved


def _of_run(settings: Any, opened: Any, stored: dict[str, Any]) -> Examples:
    """Return the examples of a run, in its splits."""
    if settings.store and stored["dataset"] in PICTURES:
        Store(settings.store)
    data = load_dataset(stored, opened.input_spec, index=_index(settings) if stored["dataset"] in PICTURES else None)
    parts = _parts(data)
    images = [part.images for part in parts.values()]
    return Examples(
        name=str(settings.run),
        root=str(stored.get("data_dir") or Path(stored.get("listing") or "x").parent),
        images=getattr(images[0], "joined", np.concatenate)(images),
        labels=np.concatenate([part.labels for part in parts.values()]),
        splits=[name for name, part in parts.items() for _ in range(len(part))],
        class_names=data.class_names,
        unreadable=dict(data.set_aside),
    )


def _parts(data: Data) -> dict[str, Any]:
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return parts if data.test is not data.validation else {name: parts[name] for name in SPLITS[:2]}


def _of_folder(settings: Any, opened: Any, directory: str) -> Examples:
    """Return the pictures of DIR, in splits where they are divided."""
    spec = opened.input_spec
    if spec is None:
        raise DataError(f"--model={settings.model} takes no RGB pictures; take another, as --model=squeezenet1_1")
    listed, root = _labelled(settings, Path(directory))
    if settings.store:
        Store(settings.store)  # Made, or refused, before all pictures are looked at.
    scanned = scan(listed.paths, index=_index(settings), way=spec.decode)
    good = np.array([place for place, result in enumerate(scanned) if result.digest], np.int64)
    kept = listed.only(good)
    if not len(good):
        raise DataError(f"{directory}: none of the {len(listed.paths):,} pictures can be decoded")
    digests = [scanned[place].digest for place in good]
    return Examples(
        name=directory,
        root=root,
        images=Pictures(kept.paths, spec.size, spec.resize, digests=digests, decode=spec.decode),
        labels=kept.labels,
        splits=[] if kept.parts is None else [SPLITS[part] for part in kept.parts],
        class_names=kept.class_names,
        unreadable={path: each.reason for path, each in zip(listed.paths, scanned, strict=True) if each.reason},
    )


def _index(settings: Any) -> str | None:
    return f"{settings.store}/pictures.json" if settings.store else None


def _labelled(settings: Any, path: Path) -> tuple[Labelled, str]:
    """Return the pictures of a folder, or of its listing, or of a listing; and the root of their paths."""
    train, validation = (path / name for name in _data_flags.LISTINGS)
    if path.is_file():
        listing, second = path, settings.validation_listing
    elif train.is_file():
        listing, second = train, str(validation) if validation.is_file() else None
    else:
        return find(path), str(path)
    root = settings.data_dir or str(listing.parent)
    return listings.find(listing, second, root=root), root


# --- features ---


def _features(settings: Any, opened: Any, examples: Examples) -> Any:
    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.store.extraction import extract

    with tf.Graph().as_default(), contextlib.ExitStack() as stack:
        tf.set_random_seed(settings.seed)
        images = tf.placeholder(tf.uint8, [None, *examples.images.shape[1:]], name=opened.free_name("images"))
        ends = _model_flags.endpoints(opened, images)
        plans = _model_flags.plans(settings, opened.weights, [".*"], ends)
        sess = stack.enter_context(tx.session(*plans, **_training_flags.session_options(settings)))
        store = settings.store or stack.enter_context(tempfile.TemporaryDirectory(suffix=".store"))
        stack.enter_context(_report.logging())
        options = {"batch_size": settings.batch_size, **_store.options(settings)}
        [[rows]] = extract(sess, images, [ends[opened.endpoint]], [examples.images], store, **options)
        return rows if settings.store else rows[np.arange(len(rows))]


# --- what is written ---


def _check_out(settings: Any) -> None:
    """Refuse at the start what needs no data to be known."""
    there = [Path(settings.write_listing)] if settings.write_listing else []
    if settings.out and os.path.isdir(settings.out):
        there += [Path(settings.out)] * bool(os.listdir(settings.out))
    elif settings.out and os.path.lexists(settings.out):
        raise DataError(f"--out={settings.out} is not a folder; give another name")
    _overwrite.refuse_existing(there, settings.overwrite)


def _check_listings(settings: Any, examples: Examples) -> None:
    """Refuse listings that cannot or must not be written, before anything is computed."""
    if not settings.write_listing:
        return
    if not isinstance(examples.images, Pictures):
        raise DataError("--write_listing names pictures in files, and these examples lie in none")
    paths = [*_classes(settings, examples), *_listings(settings, examples).values()]
    _overwrite.refuse_existing(paths, settings.overwrite)


def _listings(settings: Any, examples: Examples) -> dict[str, Path]:
    """Return the listing of each split, by its name; what is not divided is all for training."""
    out = Path(settings.write_listing)
    others = sorted({*examples.splits} - {"train"})
    return {"train": out, **{split: out.with_name(f"{out.stem}.{split}{out.suffix}") for split in others}}


def _classes(settings: Any, examples: Examples) -> dict[Path, str]:
    """Return the file of the names of the classes, with its text; nothing if that is what is there already."""
    path = Path(settings.write_listing).with_name(listings.CLASSES)
    text = "".join(f"{name}\n" for name in examples.class_names)
    same = path.is_file() and path.read_bytes() == text.encode("utf-8", "surrogateescape")
    return {} if same else {path: text}


def _write(settings: Any, check: Any, examples: Examples) -> None:
    from tfxfer.data_checks import record
    from tfxfer.reports import suspects

    if settings.out or settings.run:
        shown = record.with_pictures(check, examples.images)
    if settings.out:
        out = Path(settings.out)
        page = suspects.document(suspects.Suspects.from_json(shown), Path(examples.name).resolve().name)
        findings = json.dumps(check.to_json(), indent=1) + "\n"
        texts = {"index.html": page, "findings.csv": check.csv(), "findings.json": findings}
        _overwrite.write_texts({out / name: text for name, text in texts.items()})
        _pager.say(f"written: {out / 'index.html'}, findings.csv, findings.json")
    if settings.run:
        files.write_json(Path(settings.run) / record.FILE, shown)
        _pager.say(f"written: {Path(settings.run) / record.FILE}; `tfxfer report {settings.run}` shows it")
    if settings.write_listing:
        _write_listing(settings, check, examples)


def _write_listing(settings: Any, check: Any, examples: Examples) -> None:
    """Write a listing for each split, and the names of the classes."""
    kept = np.setdiff1d(np.arange(len(examples.labels)), check.left_out(settings.leave_out))
    paths = _listings(settings, examples)
    texts = {**_classes(settings, examples), **dict.fromkeys(paths.values(), "")}
    for place in kept:
        path = paths[examples.splits[place] if examples.splits else "train"]
        relative = os.path.relpath(examples.images.paths[place], examples.root)
        texts[path] += listings.format_line(relative, int(examples.labels[place]))
    _overwrite.write_texts(texts)
    counts = f"{len(kept):,} of {len(examples.labels):,} pictures"
    _pager.say(f"written: {settings.write_listing} with {counts}; their root is {examples.root}")


# --- what is printed ---


def _show(check: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    from tfxfer.data_checks.findings import KINDS
    from tfxfer.names import printable

    console = Console()

    def say(line: str) -> None:
        console.print(Text(printable(line)), soft_wrap=True)

    for kind, line in _lines(check, KINDS):
        say(kind or f"  {line}")
    for note in check.notes:
        say(_flags.in_flags(note))
    counts = [f"{kind} {count:,}" for kind, count in check.counts().items() if count]
    say(f"{check.examples:,} pictures: {', '.join(counts) or 'nothing was found'}")


def _lines(check: Any, kinds: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a heading, or nothing and a line."""
    for kind, meaning in kinds.items():
        found = check.of_kind(kind)
        if found:
            yield f"{kind} ({len(found):,}): {meaning}", ""
        yield from (("", _line(finding)) for finding in found[:MOST_LINES])
        if len(found) > MOST_LINES:
            yield "", f"and {len(found) - MOST_LINES:,} more"
    if check.overlaps:
        yield "classes that overlap", ""
    for overlap in check.overlaps[:MOST_LINES]:
        share = overlap.confused / overlap.examples
        yield "", f"{overlap.classes[0]} and {overlap.classes[1]}: {overlap.confused} confused, {share:.1%} of both"


def _line(finding: Any) -> str:
    text = f"{finding.path} = {finding.other}" if finding.other else finding.path
    if finding.suggested:
        text += f": {finding.label}, rather {finding.suggested}"
    return f"{text} ({finding.reason})" if finding.reason else text


if __name__ == "__main__":
    sys.exit(_flags.run(main))
