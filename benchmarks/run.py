"""Measure tfxfer side by side with what a user would pick instead, on the same work, in the same run.

    python benchmarks/run.py                          # everything; takes more than an hour
    python benchmarks/run.py --list                   # the cases and how large they are
    python benchmarks/run.py --case=restore --case=inspect --pairs=7
    python benchmarks/run.py --quick                  # everything, small: to see that it runs
    python benchmarks/run.py --case=extract_vgg16 --size=pictures=64
    python benchmarks/run.py --write_readme           # only puts what was measured into benchmarks/README.md

Every side of a case runs in a fresh process, in turn: once to warm up, then as many rounds as there are to be pairs.
What was measured is kept in a JSON file; a case that is run again takes the place of what it had there. Inputs, virtual
environments of peers and the JSON are in .bench/, which may be deleted. Exit status 1 if a side failed, or sides did
not come to the same result; a target that is missed is not an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
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
    made.add_argument("--case", action="append", default=[], metavar="NAME", help="a case to run; may be repeated; all")
    made.add_argument("--list", action="store_true", help="print the cases and stop")
    made.add_argument("--quick", action="store_true", help=f"small sizes and {QUICK_PAIRS} pairs")
    made.add_argument("--pairs", type=int, metavar="N", help=f"rounds that count (default: {PAIRS})")
    made.add_argument("--size", action="append", default=[], metavar="NAME=N",
                      help="another size than a case has; may be repeated")  # fmt: skip
    made.add_argument("--json", type=Path, metavar="OUT", help="what was measured (default: .bench/results.json)")
    made.add_argument("--folder", type=Path, default=ROOT / ".bench", help="inputs and environments (default: .bench)")
    made.add_argument("--most_seconds", type=float, default=1800, help="that one process may take (default: 1800)")
    made.add_argument("--write_readme", action="store_true", help="put what was measured into README.md and stop")
    return made


def main(argv: Sequence[str] | None = None, cases: Sequence[Case] = CASES) -> int:
    """Run the cases that are asked for; return the exit status."""
    asked = parser().parse_args(argv)
    asked.folder = asked.folder.absolute()
    asked.json = asked.json or asked.folder / "results.json"
    show = tables.Shown()
    if asked.list:
        show.cases(cases)
        return 0
    if asked.write_readme:
        README.write_text(page.with_figures(README.read_text("utf-8"), json.loads(asked.json.read_bytes())), "utf-8")
        return 0
    chosen = [_sized(case, asked) for case in _chosen(cases, asked.case)]
    document = _document(asked.json)
    for case, sizes in chosen:
        found = measure(case, sizes, asked, show)
        document["cases"][case.name] = found
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(document, indent=1))
        show.case(found)
    done = {case.name: document["cases"][case.name] for case, _ in chosen}
    show.summary(done, asked.json)
    return 1 if any(figures.faults(one) or tables.failures(one) for one in done.values()) else 0


def _chosen(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    known = {case.name: case for case in cases}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
    return [case for case in cases if not names or case.name in names]


def _sized(case: Case, asked: argparse.Namespace) -> tuple[Case, dict[str, int]]:
    sizes = {**case.sizes, **(case.quick if asked.quick else {})}
    for text in asked.size:
        name, _, number = text.partition("=")
        if name not in sizes or not number.isdecimal():
            raise SystemExit(f"--size={text}: {case.name} has {tables.listed(sizes) or 'none'}")
        sizes[name] = int(number)
    return case, sizes


def _document(path: Path) -> dict[str, Any]:
    """Return what was measured before on this machine, for further cases to join."""
    here = machine.describe()
    if not path.exists():
        return {"machine": here, "cases": {}}
    document = json.loads(path.read_bytes())
    if document["machine"] != here:
        raise SystemExit(f"{path} was measured on another machine or with other versions; give another --json")
    return document


def measure(case: Case, sizes: dict[str, int], asked: argparse.Namespace, show: tables.Shown) -> dict[str, Any]:
    """Make a case's inputs, run its sides in turn, and return what is kept of them."""
    show.begin(case, sizes)
    pairs = asked.pairs or (QUICK_PAIRS if asked.quick else PAIRS)
    loose: dict[str, Any] = {"at_least": None} if asked.quick else {}  # small work does not get so far
    record = {
        "title": case.title,
        "date": machine.today(),
        "quick": asked.quick,
        "pairs": pairs,
        "sizes": sizes,
        "count": case.count,
        "comparisons": [dataclasses.asdict(one) for one in case.comparisons],
        "agreements": [{**dataclasses.asdict(one), **loose} for one in case.agreements],
        "notes": list(case.notes),
        "sides": {side.name: {"left_out": side.left_out} if side.left_out else {"runs": []} for side in case.sides},
    }
    try:
        _prepare(case, sizes, asked)
    except measuring.SideError as error:
        raise SystemExit(f"{case.name}: its inputs cannot be made: {error}") from None
    runners = {side.name: _runner(side, case, sizes, asked, record) for side in case.sides if not side.left_out}
    ready = [name for name, runner in runners.items() if runner]
    for number, name, found in measuring.rounds(ready, pairs, lambda side, warm: runners[side](warm)):
        if isinstance(found, measuring.SideError):
            record["sides"][name]["failed"] = str(found)
        elif number:
            record["sides"][name]["runs"].append(found)
        show.run(number, pairs, name, found)
    return record


def _prepare(case: Case, sizes: dict[str, int], asked: argparse.Namespace) -> None:
    # In a process of its own: what it loads would count as the peak of all that are started later.
    if not case.prepare:
        return
    place, _, name = case.prepare.rpartition(".")
    code = f"from benchmarks.inputs.{place} import {name} as make; import json, pathlib, sys; "
    code += "make(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]))"
    inputs = asked.folder / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    for each in (sizes, {**sizes, **_warm(case, sizes)}):
        measuring.run([sys.executable, "-c", code, str(inputs), json.dumps(each)], _environment(asked), 3600)


def _warm(case: Case, sizes: dict[str, int]) -> dict[str, int]:
    return {name: min(number, sizes[name]) for name, number in case.warm.items()}


def _runner(side: Side, case: Case, sizes: dict[str, int], asked: argparse.Namespace, record: dict[str, Any]) -> Any:
    """Return a function that runs a side, or None where its environment cannot be had."""
    try:
        python = environments.python_of(side.environment, asked.folder)
    except environments.UnavailableError as error:
        record["sides"][side.name] = {"left_out": f"its environment cannot be made: {error}"}
        return None

    def run(warm: bool) -> dict[str, Any]:
        given = {**sizes, **(_warm(case, sizes) if warm else {})}
        done = measuring.run(_command(python, side, given, asked), _environment(asked), asked.most_seconds)
        try:
            said = side.read(done.stdout)
        except (ValueError, LookupError):
            raise measuring.SideError(f"its output cannot be read: {done.stdout[-300:]!r}") from None
        return {"wall": done.wall, "cpu": done.cpu, "peak": done.peak, **said}

    return run


def _command(python: str, side: Side, sizes: dict[str, int], asked: argparse.Namespace) -> list[str]:
    flags = [f"--folder={asked.folder / 'inputs'}", *(f"--{name}={number}" for name, number in sizes.items())]
    places = {"bench": asked.folder, "root": ROOT, "bin": Path(sys.executable).parent, **sizes}
    words = [[*flags] if word == "{sizes}" else [word.format(**places)] for word in side.words]
    flat = [word for group in words for word in group]
    return flat if os.path.isabs(flat[0]) else [python, *flat]


def _environment(asked: argparse.Namespace) -> dict[str, str]:
    # Keras would write to the user's home.
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR", "PYTHONWARNINGS": "ignore"}
    return {**quiet, "KERAS_HOME": str(asked.folder / "keras"), "KERAS_BACKEND": "tensorflow"}


if __name__ == "__main__":
    sys.exit(main())
