"""Look after stores: list, verify, merge, compact, gc and export what extraction has computed.

    tfxfer store list STORE                  what each table holds, and what computes it
    tfxfer store verify STORE                read all of it; exit 1 if a file is damaged
    tfxfer store merge STORE OTHER...        copy what others hold into STORE, which is made if it is not there
    tfxfer store compact STORE               join small shards, and drop rows that are held twice
    tfxfer store gc STORE --older_than_days=30 --dry_run
    tfxfer store export STORE OUT.npy --address=48be6e

A table is named by its address, of which the first digits will do. list, verify, merge and export may run beside
anything. compact and gc take files away: a training that reads the same table meanwhile stops with a message, and goes
on when it is started again; a table that was written to in the last 10 minutes is left alone. Compact no table that a
job of extract_beam is still filling.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer import names
from tfxfer.errors import DataError
from tfxfer.store import maintenance
from tfxfer.store.precision_names import HOW
from tfxfer.store.store import Store
from tfxfer.tools import _flags, _pager


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_list(
        "address", [], "Tables whose addresses begin so, by commas, for compact, gc and export.", flag_values=values
    )
    flags.DEFINE_float(
        "older_than_days",
        None,
        "Tables to which nothing was written for so many days go, by gc.",
        0,
        flag_values=values,
    )
    flags.DEFINE_bool("dry_run", False, "Say what gc would remove, and remove nothing.", flag_values=values)
    flags.DEFINE_integer("full_mb", 32, "Size of a shard that compact writes, in MiB.", 1, flag_values=values)
    flags.DEFINE_bool("json", False, "List as JSON.", flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    settings = define_flags()
    verb, first, *rest = _flags.parse(settings, argv, __doc__, at_least=2)
    if verb not in VERBS:
        nearest = names.did_you_mean(verb, VERBS)
        raise _flags.UsageError(f"{verb} is none of {', '.join(VERBS)}{nearest}; see --help")
    unused = [name for name, verbs in USED_BY.items() if settings[name].present and verb not in verbs]
    if unused:
        each = "; ".join(f"--{name} is for {' and '.join(USED_BY[name])}" for name in unused)
        raise _flags.UsageError(f"{each}, and not for {verb}; leave it out")
    run, fewest, most = VERBS[verb]
    if not fewest <= len(rest) <= most:
        raise _flags.UsageError(f"{verb} takes {WANTED[verb]}; see --help")
    store = Store(first).path if verb == "merge" else maintenance.open_existing(first)
    return run(settings, store, rest)


def _list(settings: Any, store: Path, rest: list[str]) -> int:
    tables = maintenance.list_tables(store)
    if settings.json:
        print(json.dumps([{**table._asdict(), "path": str(table.path)} for table in tables], indent=1))
        return 0
    for table in tables:
        _pager.say(f"{table.path.name[:12]}  {_describe(table.about)}")
        doubled = f" and {table.doubled:,} of them again" if table.doubled else ""
        age = (time.time() - table.changed) / 86400
        _pager.say(
            f"    {table.rows:,} rows{doubled} in {table.shards:,} shards, {_size(table.size)}, {age:.1f} days old"
        )
    size = _size(sum(table.size for table in tables))
    _pager.say(f"{store}: {len(tables)} tables, {sum(table.rows for table in tables):,} rows, {size}")
    return 0


def _describe(about: dict[str, Any]) -> str:
    shape = "x".join(map(str, about.get("row_shape", [])))
    return (
        f"{about.get('tensor')} {about['dtype']} {shape}{_computed(about)}, of images {about.get('images')}, "
        f"{about.get('batch_size')} at once, TensorFlow {about.get('tensorflow')}"
    )


def _computed(about: dict[str, Any]) -> str:
    """Say in which precision and with which weights rows were computed, as far as that was noted."""
    if "precision" not in about:
        return ""
    precision = str(about["precision"])
    how = HOW.get(precision, f"in {precision}")
    weights = [names.printable(path) for path in about.get("weights", [])]
    return f", computed {how} with {names.listed(weights) if weights else 'weights of no file'}"


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"


def _verify(settings: Any, store: Path, rest: list[str]) -> int:
    problems = list(maintenance.verify(store))
    if problems:
        raise DataError("\n  ".join([f"{store}: {len(problems):,} files are damaged:", *problems]))
    tables = maintenance.list_tables(store)
    rows, shards = sum(table.rows for table in tables), sum(table.shards for table in tables)
    _pager.say(f"{store}: {rows:,} rows in {shards:,} shards are whole")
    return 0


def _merge(settings: Any, store: Path, rest: list[str]) -> int:
    new = maintenance.merge(store, [maintenance.open_existing(other) for other in rest])
    _pager.say(f"{store}: {new:,} new rows from {names.listed(rest)}")
    return 0


def _compact(settings: Any, store: Path, rest: list[str]) -> int:
    named = [maintenance.find_table(store, prefix) for prefix in settings.address]
    for table in named or maintenance.list_tables(store):
        if time.time() - table.changed < maintenance.QUIET_SECONDS:
            _pager.say(f"kept {table.path.name[:12]}: written to in the last 10 minutes; try again later")
            continue
        before, after = maintenance.compact(table, settings.full_mb << 20)
        _pager.say(f"{table.path.name[:12]}: {before:,} shards, now {after:,}; {table.doubled:,} doubled rows dropped")
    return 0


def _gc(settings: Any, store: Path, rest: list[str]) -> int:
    lines = maintenance.collect_garbage(store, settings.address, settings.older_than_days, dry_run=settings.dry_run)
    _pager.say("\n".join(lines) if lines else f"{store}: nothing to remove")
    return 0


def _export(settings: Any, store: Path, rest: list[str]) -> int:
    if len(settings.address) > 1:
        raise _flags.UsageError("export takes one --address; see --help")
    table = maintenance.find_table(store, *settings.address or [None])
    count = maintenance.export(table.path, Path(rest[0]))
    _pager.say(f"{rest[0]}: {count:,} rows of {table.about.get('tensor')}, by key")
    return 0


# Which of them use which flag.
USED_BY = {
    "address": ("compact", "gc", "export"),
    "older_than_days": ("gc",),
    "dry_run": ("gc",),
    "full_mb": ("compact",),
    "json": ("list",),
}
Verb = Callable[[Any, Path, list[str]], int]
# What does it, and how many arguments it takes behind STORE.
VERBS: dict[str, tuple[Verb, int, float]] = {
    "list": (_list, 0, 0),
    "verify": (_verify, 0, 0),
    "merge": (_merge, 1, float("inf")),
    "compact": (_compact, 0, 0),
    "gc": (_gc, 0, 0),
    "export": (_export, 1, 1),
}
WANTED = {
    **dict.fromkeys(VERBS, "one STORE"),
    "merge": "STORE and one other store or more",
    "export": "STORE and the file to write",
}

if __name__ == "__main__":
    sys.exit(_flags.run(main))
