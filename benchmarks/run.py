"""Measure tfxfer side by side with what a user would pick instead, on the same work, in the same run.

    python benchmarks/run.py                          # everything; takes more than two hours
    python benchmarks/run.py --list                   # the cases and how large they are
    python benchmarks/run.py --case=restore --case=inspect --pairs=7
    python benchmarks/run.py --quick                  # everything, small: to see that it runs
    python benchmarks/run.py --case=extract_vgg16 --size=pictures=64
    python benchmarks/run.py --write_readme           # only writes the figures into benchmarks/README.md

Every side of a case runs in a fresh process, in turn: once to warm up, then --pairs rounds. The figures are kept in a
JSON file; a case that runs again replaces its figures there. Inputs, virtual environments of peers and the JSON are in
.bench/, which may be deleted. The exit status is 1 if a side failed, or the results of sides disagree; a missed target
is not an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import environments, figures, machine, measuring, page, tables  # noqa: E402
from benchmarks.case import Case, Side  # noqa: E402
from benchmarks.cases import CASES  # noqa: E402

README = Path(__file__).with_name("README.md")
QUICK_PAIRS, PAIRS = 2, 5


def parser() -> argparse.ArgumentParser:
    """Return the flags."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--case", action="append", default=[], metavar="NAME", help="a case to run; may be repeated (default: all)"
    )
    made.add_argument("--list", action="store_true", help="print the cases and stop")
    made.add_argument("--quick", action="store_true", help=f"small sizes and {QUICK_PAIRS} pairs")
    made.add_argument("--pairs", type=int, metavar="N", help=f"rounds that count (default: {PAIRS})")
    made.add_argument("--size", action="append", default=[], metavar="NAME=N",
                      help="another size than a case has; may be repeated")  # fmt: skip
    made.add_argument("--json", type=Path, metavar="OUT", help="file of the figures (default: .bench/results.json)")
    made.add_argument("--folder", type=Path, default=ROOT / ".bench", help="inputs and environments (default: .bench)")
    made.add_argument("--most_seconds", type=float, default=1800, help="limit for one process (default: 1800)")
    made.add_argument("--write_readme", action="store_true", help="write the figures into README.md and stop")
    return made


def main(argv: Sequence[str] | None = None, cases: Sequence[Case] = CASES) -> int:
    """Run the chosen cases; return the exit status."""
    options = parser().parse_args(argv)
    options.folder = options.folder.absolute()
    options.json = options.json or options.folder / "results.json"
    show = tables.Shown()
    if options.list:
        show.cases(cases)
        return 0
    if options.write_readme:
        README.write_text(page.with_figures(README.read_text("utf-8"), json.loads(options.json.read_bytes())), "utf-8")
        return 0
    chosen = [_sized(case, options) for case in _chosen(cases, options.case)]
    document = _document(options.json)
    for case, sizes in chosen:
        record = measure(case, sizes, options, show)
        document["cases"][case.name] = record
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=1))
        show.case(record)
    done = {case.name: document["cases"][case.name] for case, _ in chosen}
    show.summary(done, options.json)
    return 1 if any(figures.faults(record) or tables.failures(record) for record in done.values()) else 0


def _chosen(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    known = {case.name: case for case in cases}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
    return [case for case in cases if not names or case.name in names]


def _sized(case: Case, options: argparse.Namespace) -> tuple[Case, dict[str, int]]:
    sizes = {**case.sizes, **(case.quick if options.quick else {})}
    for text in options.size:
        name, _, number = text.partition("=")
        if name not in sizes or not number.isdecimal():
            raise SystemExit(f"--size={text}: {case.name} has {tables.listed(sizes) or 'none'}")
        sizes[name] = int(number)
    return case, sizes


def _document(path: Path) -> dict[str, Any]:
    """Return the figures that were measured before on this machine; new cases are added to them."""
    here = machine.describe()
    if not path.exists():
        return {"machine": here, "cases": {}}
    document = json.loads(path.read_bytes())
    if document["machine"] != here:
        raise SystemExit(f"{path} was measured on another machine or with other versions; give another --json")
    return document


def measure(case: Case, sizes: dict[str, int], options: argparse.Namespace, show: tables.Shown) -> dict[str, Any]:
    """Make a case's inputs, run its sides in turn, and return the record of their figures."""
    show.begin(case, sizes)
    pairs = options.pairs or (QUICK_PAIRS if options.quick else PAIRS)
    loose: dict[str, Any] = {"at_least": None} if options.quick else {}  # small work does not reach it
    record = {
        "title": case.title,
        "date": machine.today(),
        "quick": options.quick,
        "pairs": pairs,
        "sizes": sizes,
        "count": case.count,
        "comparisons": [dataclasses.asdict(comparison) for comparison in case.comparisons],
        "agreements": [{**dataclasses.asdict(agreement), **loose} for agreement in case.agreements],
        "notes": list(case.notes),
        "sides": {side.name: {"left_out": side.left_out} if side.left_out else {"runs": []} for side in case.sides},
    }
    try:
        _prepare(case, sizes, options)
    except measuring.SideError as error:
        raise SystemExit(f"{case.name}: its inputs cannot be made: {error}") from None
    runners = {side.name: _runner(side, case, sizes, options, record) for side in case.sides if not side.left_out}
    ready = [name for name, runner in runners.items() if runner]
    for number, name, outcome in measuring.rounds(ready, pairs, lambda side, warm: runners[side](warm)):
        if isinstance(outcome, measuring.LeftOutError):
            record["sides"][name] = {"left_out": str(outcome)}
        elif isinstance(outcome, measuring.SideError):
            record["sides"][name]["failed"] = str(outcome)
        elif number:
            record["sides"][name]["runs"].append(outcome)
        show.run(number, pairs, name, outcome)
    return record


def _prepare(case: Case, sizes: dict[str, int], options: argparse.Namespace) -> None:
    # In a process of its own: a child's peak of memory starts with that of its parent, the driver.
    if not case.prepare:
        return
    place, _, name = case.prepare.rpartition(".")
    code = f"from benchmarks.inputs.{place} import {name} as make; import json, pathlib, sys; "
    code += "make(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]))"
    inputs = options.folder / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    for each in (sizes, {**sizes, **_warm(case, sizes)}):
        measuring.run([sys.executable, "-c", code, str(inputs), json.dumps(each)], _environment(options), 3600)


def _warm(case: Case, sizes: dict[str, int]) -> dict[str, int]:
    return {name: min(number, sizes[name]) for name, number in case.warm.items()}


def _runner(side: Side, case: Case, sizes: dict[str, int], options: argparse.Namespace, record: dict[str, Any]) -> Any:
    """Return a function that runs a side, or None if its environment cannot be made."""
    try:
        python = environments.python_of(side.environment, options.folder)
    except environments.UnavailableError as error:
        record["sides"][side.name] = {"left_out": f"its environment cannot be made: {error}"}
        return None

    def run(warm: bool) -> dict[str, Any]:
        own_sizes = {**sizes, **(_warm(case, sizes) if warm else {})}
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=options.folder) as scratch:
            command = _command(python, side, own_sizes, options, scratch)
            done = measuring.run(command, _environment(options), options.most_seconds)
        try:
            figures_of_side = side.read(done.stdout)
        except (ValueError, LookupError):
            raise measuring.SideError(f"its output cannot be read: {done.stdout[-300:]!r}") from None
        if "left_out" in figures_of_side:
            raise measuring.LeftOutError(figures_of_side["left_out"])
        return {"wall": done.wall, "cpu": done.cpu, "peak": done.peak, **figures_of_side}

    return run


def _command(python: str, side: Side, sizes: dict[str, int], options: argparse.Namespace, scratch: str) -> list[str]:
    flags = [f"--folder={options.folder / 'inputs'}", *(f"--{name}={number}" for name, number in sizes.items())]
    places = {"bench": options.folder, "scratch": scratch, "root": ROOT, "bin": Path(sys.executable).parent, **sizes}
    words = [[*flags] if word == "{sizes}" else [word.format(**places)] for word in side.words]
    flat = [word for group in words for word in group]
    return flat if os.path.isabs(flat[0]) else [python, *flat]


def _environment(options: argparse.Namespace) -> dict[str, str]:
    # Otherwise Keras writes to the user's home.
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR", "PYTHONWARNINGS": "ignore"}
    return {**quiet, "KERAS_HOME": str(options.folder / "keras"), "KERAS_BACKEND": "tensorflow"}


if __name__ == "__main__":
    sys.exit(main())
