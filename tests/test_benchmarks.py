"""The benchmarks' driver, its arithmetic and its page. What is fast is not asserted anywhere."""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import environments, figures, machine, measuring, page, run, tables, work  # noqa: E402
from benchmarks.case import Agreement, Case, Comparison, Side, module  # noqa: E402
from benchmarks.cases import CASES  # noqa: E402
from benchmarks.cases import jobs as cases_of_jobs  # noqa: E402
from benchmarks.inputs import jobs, once, photographs  # noqa: E402
from tfxfer.data.batches import order  # noqa: E402

HERE = {"processor": "Abacus 9", "cores": 2, "bfloat16": False, "python": "3.11.7", "tensorflow": "2.21.0",
        "keras": "3.1", "scikit-learn": "1.9", "numpy": "2.4"}  # fmt: skip


def runs(*seconds: float, **figures: float) -> dict[str, list[dict]]:
    return {
        "runs": [{"seconds": each, "wall": each + 2, "cpu": 1.5 * each, "peak": 640.0, **figures} for each in seconds]
    }


def record(sides: dict, *comparisons: Comparison, agreements: tuple[Agreement, ...] = (), **more) -> dict:
    """Return what is kept of a case."""
    return {
        "title": "a case",
        "date": "2026-11-22",
        "quick": False,
        "pairs": 5,
        "sizes": {"side": 1224},
        "count": "",
        "notes": [],
        "sides": sides,
        "comparisons": [vars(one) for one in comparisons],
        "agreements": [vars(one) for one in agreements],
        **more,
    }


# --- arithmetic ---


def test_a_ratio_is_made_pair_by_pair_and_above_one_where_the_side_is_faster():
    ours, peer = runs(1.0, 2.0, 4.0), runs(40.0, 90.0, 152.0)
    [row] = figures.rows(record({"us": ours, "them": peer}, Comparison("us", "them", target=40)))
    assert (row.words, row.value) == ("us against them", figures.Spread(40.0, 38.0, 45.0))
    assert tables.verdict(row) == "target 40, got 40 (38-45)"
    assert row.met is True


@pytest.mark.parametrize(("comparison", "value", "met"), [
    (Comparison("us", "them", target=2.1), 2.0, False),
    (Comparison("us", "them", by="peak"), 1.0, None),
    (Comparison("us", by="wall", at_most=3.0, words="whole"), 3.0, True),
    (Comparison("us", by="wall", at_most=2.9), 3.0, False),
    (Comparison("us", "them", by="wall", at_most=-1.0), -1.0, True),
    (Comparison("us", "them", by="wall", at_most=-1.1), -1.0, False),
])  # fmt: skip
def test_a_target_is_reached_by_the_median(comparison, value, met):
    [row] = figures.rows(record({"us": runs(1.0, 1.0, 8.0), "them": runs(2.0, 2.0, 2.0)}, comparison))
    assert (row.value.median, row.met) == (value, met)
    assert row.words == (comparison.words or ("us against them" if comparison.peer else "us"))


def test_a_comparison_with_a_side_that_did_not_run_is_left_out():
    sides = {"us": runs(1.0), "half": {"left_out": "no units"}, "broken": {"runs": [], "failed": "it fell"}}
    comparisons = [Comparison("us", "half"), Comparison("us", "broken"), Comparison("half", by="wall", at_most=1)]
    assert figures.rows(record(sides, *comparisons)) == []
    assert tables.failures(record(sides)) == ["broken failed: it fell"]


@pytest.mark.parametrize(("values", "expected", "off"), [
    (2.0, 2.0, 0.0),
    (2.2, 2.0, 0.1),
    ([3.0, 4.0], [3.0, 4.5], 0.5 / math.hypot(3.0, 4.5)),
    ([0.0], [0.0], 0.0),
    ([1.0], [0.0], math.inf),
    ([1.0, 2.0], [1.0], math.inf),
    ([math.nan], [1.0], math.inf),
])  # fmt: skip
def test_how_far_results_are_apart_is_a_share_of_what_is_expected(values, expected, off):
    assert figures.apart(values, expected) == pytest.approx(off)


def test_sides_that_come_to_other_results_or_fail_are_named_on_the_page_too():
    results = (("us", [1.0, 2.0], 0.99), ("near", [1.0, 2.01], 0.98), ("far", [2.0, 1.0], 0.9))
    sides = {name: {"runs": [{"results": {"codes": codes, "accuracy": right}}]} for name, codes, right in results}
    sides["other"] = {"runs": [{"results": {}}]}
    agreements = (Agreement("codes", 0.02), Agreement("accuracy", 0.05, ("us", "near"), at_least=0.985))
    case = record({**sides, "broken": {"runs": [], "failed": "it fell"}}, agreements=agreements)
    faults = [
        "codes: that of far differs from that of us by 6.3e-01, more than 0.02",
        "accuracy: near reached 0.9800 and not 0.985",
    ]
    assert figures.faults(case) == faults
    shown = page.with_figures(PAGE, {"machine": HERE, "cases": {"case": case}})
    assert all(f"**{fault}**" in shown for fault in [*faults, "broken failed: it fell"])


@pytest.mark.parametrize(
    ("value", "shown"), [(0.12345, "0.123"), (12.345, "12.3"), (99.94, "99.9"), (99.96, "100"), (1234.5, "1,234")]
)
def test_numbers_have_three_digits(value, shown):
    assert tables.number(value) == shown


def test_a_side_has_a_column_for_each_figure_that_is_compared_and_its_rate():
    sides = {"us": runs(2.0, 4.0, epoch=0.5), "them": runs(8.0, gflops=90.0), "broken": {"runs": []}}
    case = record(sides, Comparison("us", "them", by="epoch"), Comparison("us", by="other"), sizes={"pictures": 30})
    titles, lines = figures.table({**case, "count": "pictures"})
    assert titles == ["work, s", "process, s", "CPU, s", "peak, MiB", "epoch, s", "GFLOP/s", "pictures/s"]
    assert lines == [
        ("us", [3.0, 5.0, 4.5, 640.0, 0.5, None, 10.0]),
        ("them", [8.0, 10.0, 12.0, 640.0, None, 90.0, 3.75]),
        ("broken", "failed"),
    ]


def test_sides_that_are_left_out_are_named_by_their_reason_and_not_in_the_table():
    sides = {"us": runs(2.0), **{name: {"left_out": "no units"} for name in ("half", "theirs")}}
    case = record({**sides, "other": {"left_out": "no network"}})
    assert [name for name, _ in figures.table(case)[1]] == ["us"]
    assert figures.left_out(case) == ["Not measured: half; theirs: no units.", "Not measured: other: no network."]


# --- the page ---

PAGE = f"# Benchmarks\n\n{page.BEGIN}\nold\n{page.END}\n\nThe end.\n"
DOCUMENT = {
    "machine": HERE,
    "cases": {
        "restore": record(
            {"us": runs(0.5, 0.7), "them": runs(21.0, 28.0), "half": {"left_out": "no units"}},
            Comparison("us", "them", target=41.5),
            Comparison("us", "them", by="wall"),
            notes=["All did it."],
        ),
        "start": record({"help": {"runs": [{"wall": 0.2, "cpu": 0.1, "peak": 22.0}]}},
                        Comparison("help", by="wall", at_most=0.3), sizes={}, date="2026-11-21"),
    },
}  # fmt: skip
WHERE = (
    "on Abacus 9, 2 cores without units for bfloat16; Python 3.11.7, tensorflow 2.21.0, keras 3.1, scikit-learn 1.9."
)
FIGURES = f"""
### `restore`: a case

Measured 2026-11-22 {WHERE}
5 pairs; side 1,224.
All did it.

| side | work, s | process, s | CPU, s | peak, MiB |
|---|---|---|---|---|
| us | 0.6 | 2.6 | 0.9 | 640 |
| them | 24.5 | 26.5 | 36.8 | 640 |

Not measured: half: no units.

| compared | by | result |
|---|---|---|
| us against them | work | target 41.5, got 41 (40-42) (missed) |
| us against them | process | got 10.2 (9.2-11.1) |

### `start`: a case

Measured 2026-11-21 {WHERE}
5 pairs.

| side | process, s | CPU, s | peak, MiB |
|---|---|---|---|
| help | 0.2 | 0.1 | 22 |

| compared | by | result |
|---|---|---|
| help | process | at most 0.3, got 0.2 (0.2-0.2) |

"""


def test_a_case_of_which_no_side_runs_here_has_no_table_on_the_page():
    case = record({name: {"left_out": "no units"} for name in ("us", "them")}, Comparison("us", "them"), notes=[])
    written = page.with_figures(PAGE, {**DOCUMENT, "cases": {"half": case}})
    assert written.count("|") == 0
    assert "5 pairs; side 1,224.\n\nNot measured: us; them: no units.\n" in written


def test_the_page_is_made_from_the_json_and_keeps_what_is_around():
    assert page.with_figures(PAGE, DOCUMENT) == f"# Benchmarks\n\n{page.BEGIN}\n{FIGURES}{page.END}\n\nThe end.\n"
    again = page.with_figures(page.with_figures(PAGE, DOCUMENT), DOCUMENT)
    assert again == page.with_figures(PAGE, DOCUMENT)


def test_a_case_that_was_not_measured_again_keeps_its_figures_and_its_machine():
    other = {"machine": {**HERE, "processor": "Loom 3"}, "cases": {"start": {**DOCUMENT["cases"]["start"], "pairs": 7}}}
    text = page.with_figures(page.with_figures(PAGE, DOCUMENT), other)
    assert text == page.with_figures(PAGE, DOCUMENT).replace(
        f"Measured 2026-11-21 {WHERE}\n5 pairs.", f"Measured 2026-11-21 {WHERE}\n7 pairs.".replace("Abacus 9", "Loom 3")
    )


def test_what_was_measured_quickly_is_not_published():
    quick = {"machine": HERE, "cases": {"restore": {**DOCUMENT["cases"]["restore"], "quick": True}}}
    with pytest.raises(SystemExit, match="restore: measured with --quick, which does not measure"):
        page.with_figures(PAGE, quick)


def test_the_readme_has_the_marks_and_a_page_without_them_is_refused():
    assert page.with_figures((ROOT / "benchmarks/README.md").read_text(), DOCUMENT).count("Abacus 9") == 2
    with pytest.raises(SystemExit, match="the page has not both <!-- figures: begin -->"):
        page.with_figures("# Benchmarks\n", DOCUMENT)


# --- processes ---


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_system_says_what_a_process_took_in_the_checkout_and_in_its_environment():
    busy = "import os, time\nblock = b'x' * (100 << 20)\nwhile time.process_time() < 0.5: pass\n"
    busy += "print(os.environ['COLOUR'], os.getcwd())"
    # Measured by a small process, as the driver is one: a child begins with its parent's peak of memory.
    driver = f"from benchmarks import measuring; print(tuple(measuring.run({python(busy)!r}, {{'COLOUR': 'red'}}, 60)))"
    output = subprocess.run(python(driver), capture_output=True, text=True, cwd=ROOT, check=True).stdout
    done = measuring.Done(*ast.literal_eval(output))
    assert done.stdout.split() == ["red", str(ROOT)]
    assert done.cpu >= 0.5
    assert done.wall >= 0.4
    assert 100 < done.peak < 400


@pytest.mark.parametrize(("command", "error"), [
    (python("raise ValueError('no such file')"), r"ended with status 1\n(?s:.*)ValueError: no such file"),
    (["/nowhere/python"], "/nowhere/python cannot be started: No such file or directory"),
])  # fmt: skip
def test_a_process_that_fails_says_why(command, error):
    with pytest.raises(measuring.SideError, match=error):
        measuring.run(command, {}, 60)


def test_a_process_that_takes_too_long_is_stopped():
    with pytest.raises(measuring.SideError, match=r"ended with status -9 \(stopped after 0 s\)"):
        measuring.run(python("import time; time.sleep(3600)"), {}, 0.3)


def test_sides_run_in_turn_after_a_round_that_does_not_count():
    rounds = list(measuring.rounds("AB", 3, lambda side, warm: {"warm": warm}))
    order = [(0, "A"), (0, "B"), (1, "A"), (1, "B"), (2, "B"), (2, "A"), (3, "A"), (3, "B")]
    assert [(number, side) for number, side, _ in rounds] == order
    assert [figures["warm"] for _, _, figures in rounds] == [True] * 2 + [False] * 6


def test_a_side_that_fails_does_not_run_again():
    def measure(side: str, warm: bool) -> dict:
        if side == "B" and not warm:
            raise measuring.SideError("it fell")
        return {}

    seen = [(number, side, str(found)) for number, side, found in measuring.rounds("ABC", 2, measure)]
    assert seen[3:] == [(1, "A", "{}"), (1, "B", "it fell"), (1, "C", "{}"), (2, "C", "{}"), (2, "A", "{}")]


# --- environments ---


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, ...]]:
    made: list[tuple[str, ...]] = []

    def call(*command: str) -> None:
        made.append(command)
        if command[1:3] == ("-m", "venv"):
            Path(command[3]).mkdir(parents=True)
        if "bad" in command:
            raise environments.UnavailableError("ERROR: No matching distribution found for bad")

    monkeypatch.setattr(environments, "_call", call)
    monkeypatch.setattr(environments, "ENVIRONMENTS", {"good": lambda: ["one==1"], "bad": lambda: ["bad"]})
    environments.python_of.cache_clear()
    yield made
    environments.python_of.cache_clear()


def test_an_environment_is_made_once_and_anew_when_it_is_to_hold_something_else(calls, tmp_path, monkeypatch):
    python = str(tmp_path / "environments/good/bin/python")
    for _ in range(2):
        assert environments.python_of("good", tmp_path) == python
        environments.python_of.cache_clear()
    assert [command[-1] for command in calls] == [str(tmp_path / "environments/good"), "one==1"]
    monkeypatch.setattr(environments, "ENVIRONMENTS", {"good": lambda: ["one==2"]})
    environments.python_of("good", tmp_path)
    assert [command[-1] for command in calls[2:]] == [str(tmp_path / "environments/good"), "one==2"]
    assert environments.python_of("", tmp_path) == sys.executable


def test_an_environment_that_cannot_be_made_leaves_its_side_out_with_the_reason(calls, tmp_path, capsys):
    other = Side("them", ("-c", "print('{}')"), environment="bad")
    case = Case("fake", "a fake", (speaks("us", 1.0), other), (Comparison("us", "them"),))
    assert run.main(["--quick", f"--folder={tmp_path}"], [case]) == 0
    kept = json.loads((tmp_path / "results.json").read_text())["cases"]["fake"]["sides"]
    assert kept["them"] == {"left_out": "its environment cannot be made: ERROR: No matching distribution found for bad"}
    assert "No matching distribution found for bad" in capsys.readouterr().out


# --- the driver ---


def speaks(name: str, seconds: float, **results: object) -> Side:
    """Return a side that claims to have taken so long."""
    said = json.dumps({"seconds": seconds, "results": results})
    return Side(
        name, ("-c", "import sys; print('noise'); print(sys.argv[1])", said.replace("{", "{{").replace("}", "}}"))
    )


def fake(*sides: Side, **more) -> Case:
    comparisons = (Comparison("us", "them", target=3),)
    return Case("fake", "a fake", sides, comparisons, (Agreement("n", 0.1, at_least=5),), **more)


def test_the_driver_measures_prints_and_keeps(tmp_path, capsys):
    case = fake(speaks("us", 0.25, n=1), speaks("them", 1.0, n=1), sizes={"side": 7}, quick={"side": 2})
    assert run.main(["--quick", f"--folder={tmp_path}"], [case]) == 0
    shown = capsys.readouterr().out
    assert "fake: a fake (side=2)" in shown
    assert "us against them: target 3, got 4 (4-4)" in shown
    assert "1 of 1 targets reached" in shown
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["machine"] == machine.describe()
    assert set(kept["machine"]) == set(HERE)  # and nothing that names the machine
    record = kept["cases"]["fake"]
    assert (record["quick"], record["pairs"], record["sizes"]) == (True, 2, {"side": 2})
    assert [len(side["runs"]) for side in record["sides"].values()] == [2, 2]
    assert set(record["sides"]["us"]["runs"][0]) == {"wall", "cpu", "peak", "seconds", "results"}


def test_a_side_gets_the_sizes_and_small_ones_to_warm_up(tmp_path):
    echo = Side("us", ("-c", "import sys, json; open(sys.argv[1], 'a').write(sys.argv[2] + ' '); print('{{}}')",
                       f"{tmp_path}/said", "{pictures}x{side}"))  # fmt: skip
    case = Case("fake", "a fake", (echo,), (), sizes={"pictures": 50, "side": 7}, warm={"pictures": 20})
    assert run.main(["--pairs=1", "--size=side=9", f"--folder={tmp_path}"], [case]) == 0
    assert run.main(["--pairs=1", "--size=pictures=3", f"--folder={tmp_path}"], [case]) == 0
    assert (tmp_path / "said").read_text().split() == ["20x9", "50x9", "3x7", "3x7"]


def test_sides_that_disagree_or_fail_end_in_status_one(tmp_path, capsys):
    assert run.main(["--quick", f"--folder={tmp_path}"], [fake(speaks("us", 1.0, n=1), speaks("them", 1.0, n=2))]) == 1
    assert "n: that of them differs from that of us by 1.0e+00, more than 0.1" in capsys.readouterr().out
    broken = Side("them", ("-c", "raise ValueError('gone')"))
    assert run.main(["--quick", f"--folder={tmp_path}"], [fake(speaks("us", 1.0), broken)]) == 1
    assert "ValueError: gone" in capsys.readouterr().out
    silent = Side("them", ("-c", "print('no JSON')"))
    assert run.main(["--quick", f"--folder={tmp_path}"], [fake(speaks("us", 1.0), silent)]) == 1
    assert r"its output cannot be read: 'no JSON\n'" in capsys.readouterr().out


def test_a_side_that_says_why_it_cannot_run_is_left_out_and_did_not_fail(tmp_path, capsys):
    words = "from benchmarks import work; work.option(print, 'precision', 'bfloat16', usual='float32')"
    case = fake(speaks("us", 1.0), Side("them", ("-c", words)))
    assert run.main(["--quick", f"--folder={tmp_path}"], [case]) == 0
    assert "Not measured: them: print has no option `precision`." in capsys.readouterr().out
    kept = json.loads((tmp_path / "results.json").read_text())["cases"]["fake"]["sides"]
    assert kept["them"] == {"left_out": "print has no option `precision`"}
    assert work.option(print, "sep", "x", usual="float32") == {"sep": "x"}
    assert work.option(print, "precision", "float32", usual="float32") == {}


def test_each_run_has_an_empty_folder_that_is_removed(tmp_path):
    code = "import os, sys, json; where = sys.argv[1]; new = not os.listdir(where); open(where + '/x', 'w').close(); "
    code += "print(json.dumps(dict(seconds=1, results=dict(new=new, where=where))))"
    case = Case("fake", "a fake", (Side("us", ("-c", code, "{scratch}")),), ())
    assert run.main(["--quick", f"--folder={tmp_path}"], [case]) == 0
    runs = json.loads((tmp_path / "results.json").read_text())["cases"]["fake"]["sides"]["us"]["runs"]
    assert [each["results"]["new"] for each in runs] == [True, True]
    assert not any(Path(each["results"]["where"]).exists() for each in runs)


def test_a_result_that_is_too_low_counts_only_at_full_size(tmp_path, capsys):
    case = fake(speaks("us", 1.0, n=4), speaks("them", 1.0, n=4))
    assert run.main(["--pairs=1", f"--folder={tmp_path}"], [case]) == 1
    assert "n: us reached 4.0000 and not 5" in capsys.readouterr().out
    assert run.main(["--quick", f"--folder={tmp_path}"], [case]) == 0


def test_cases_join_what_was_measured_before_on_the_same_machine(tmp_path):
    out = tmp_path / "out.json"
    one, other = (Case(name, "a fake", (speaks("us", 1.0),), ()) for name in ("one", "other"))
    flags = ["--quick", f"--folder={tmp_path}", f"--json={out}"]
    assert run.main([*flags, "--case=one"], [one, other]) == 0
    assert run.main([*flags, "--case=other"], [one, other]) == 0
    kept = json.loads(out.read_text())
    assert set(kept["cases"]) == {"one", "other"}
    out.write_text(json.dumps({**kept, "machine": HERE}))
    with pytest.raises(SystemExit, match="was measured on another machine or with other versions; give another --json"):
        run.main(flags, [one])


@pytest.mark.parametrize(("flag", "error"), [
    ("--case=restor", "no case restor; there are fake"),
    ("--size=pictures=3", "--size=pictures=3: fake has side=7"),
    ("--size=side=x", "--size=side=x: fake has side=7"),
])  # fmt: skip
def test_what_cannot_be_asked_for_is_refused(flag, error, tmp_path):
    with pytest.raises(SystemExit, match=error):
        run.main([flag, f"--folder={tmp_path}"], [fake(sizes={"side": 7})])
    assert list(tmp_path.iterdir()) == []


def test_the_driver_stays_small_so_that_no_side_counts_its_memory():
    code = "import sys; from benchmarks import run; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(python(code), capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert set(loaded).isdisjoint({"numpy", "tensorflow", "tfxfer", "keras", "absl"})


@pytest.mark.slow
def test_a_real_case_runs_as_a_user_runs_it(tmp_path):
    flags = ["--case=inspect", "--quick", "--pairs=1", "--size=variables=40", f"--folder={tmp_path}"]
    done = subprocess.run([sys.executable, ROOT / "benchmarks/run.py", *flags], capture_output=True, text=True,
                          cwd=tmp_path, env=os.environ)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tfxfer inspect_weights against tf.train.list_variables: got" in done.stdout
    sides = json.loads((tmp_path / "results.json").read_text())["cases"]["inspect"]["sides"]
    assert {run["results"]["variables"] for side in sides.values() for run in side["runs"]} == {40}


# --- the cases ---


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_has_a_name_and_sides_of_its_own_and_its_modules_are_there(case):
    assert [other.name for other in CASES].count(case.name) == 1
    names = [side.name for side in case.sides]
    assert len(set(names)) == len(names)
    spoken = {name for one in case.comparisons for name in (one.side, one.peer) if name}
    assert spoken | {name for one in case.agreements for name in one.sides} <= set(names)
    assert set(case.quick) | set(case.warm) <= set(case.sizes)
    assert {side.environment for side in case.sides} <= {"", *environments.ENVIRONMENTS}
    for side in case.sides:
        where = [word for word in side.words if word.startswith("benchmarks.")]
        assert all((ROOT / word.replace(".", "/")).with_suffix(".py").exists() for word in where)
    place, _, function = case.prepare.rpartition(".")
    if case.prepare:
        made = ast.parse((ROOT / "benchmarks/inputs" / f"{place}.py").read_text()).body
        assert function in {node.name for node in made if isinstance(node, ast.FunctionDef)}


def test_no_peer_imports_tfxfer():
    for path in (ROOT / "benchmarks/peers").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "tfxfer" for name in names), path
            assert not any(name.startswith(("benchmarks.ours", "benchmarks.inputs")) for name in names), path


def test_peers_go_through_the_examples_in_our_order():
    for seed, epoch, n in ((0, 0, 1), (0, 3, 1000), (7, 1, 33)):
        np.testing.assert_array_equal(work.order(seed, epoch, n), order(seed, epoch, n))


def test_a_sample_is_of_the_same_places_whatever_the_array():
    values = np.arange(24.0).reshape(2, 3, 4)
    assert work.sample(values, count=3) == [0.0, 5.0, 11.0, 12.0, 17.0, 23.0]
    assert work.sample(values[0, 0], rows=(0, -1)) == [0.0, 3.0]


def test_flags_of_a_side_are_numbers_where_they_can_be(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--side=224", "--part=all"])
    assert vars(work.options()) == {"side": 224, "part": "all"}


def test_a_side_reports_in_its_last_line(capsys):
    work.report(1.5, {"n": [1.0]}, later=0.5)
    assert module("us", "ours.x").read("noise\n" + capsys.readouterr().out) == {
        "seconds": 1.5, "later": 0.5, "results": {"n": [1.0]},
    }  # fmt: skip


# --- inputs ---


def test_inputs_are_whole_or_not_there(tmp_path):
    def fill(good: bool) -> bool:
        with once(tmp_path / "x") as folder:
            if folder:
                (folder / "file").write_text("whole")
                if not good:
                    raise ValueError("killed")
            return folder is not None

    with pytest.raises(ValueError, match="killed"):
        fill(False)
    assert not (tmp_path / "x").exists()
    assert (fill(True), fill(True)) == (True, False)
    assert (tmp_path / "x/file").read_text() == "whole"


def test_pictures_are_the_same_in_every_run(tmp_path):
    for name in ("a", "b"):
        photographs.small(tmp_path / name, 4, 32)
    first, second = (sorted((tmp_path / name).rglob("*.jpg")) for name in ("a", "b"))
    assert [path.parent.name for path in first] == ["cats", "cats", "dogs", "dogs"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len({path.read_bytes() for path in first}) == 4


@pytest.mark.parametrize(("options", "products"), [
    # 15.3 thousand million, https://arxiv.org/abs/1512.03385, table 6 of those with fully connected layers.
    ({"network": "vgg16"}, 15.35e9),
    # 569 million, https://arxiv.org/abs/1704.04861, table 6; a million of them the classifier's.
    ({"network": "mobilenet", "alpha": 100}, 568e6),
])  # fmt: skip
def test_networks_take_as_many_operations_as_their_authors_say(options, products):
    from benchmarks.peers import gemm

    assert gemm.operations(SimpleNamespace(side=224, **options)) == pytest.approx(2 * products, rel=0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_mobilenet_is_that_of_keras(tmp_path):
    import tensorflow.compat.v1 as tf

    from benchmarks.inputs import networks
    from benchmarks.peers import keras_networks, tf_networks

    networks.mobilenet(tmp_path, {"alpha": 25})
    options = SimpleNamespace(folder=tmp_path, network="mobilenet", side=64, alpha=25)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, 64, 64, 3])
        codes = tf_networks.codes(options, images)
        tf_networks.load(sess, work.arrays(options))
        computed = sess.run(codes, {images: pixels})
    expected = keras_networks.codes(options).predict_on_batch(pixels)
    assert expected.std() > 0.01  # the network is alive
    np.testing.assert_allclose(computed, expected, rtol=1e-3, atol=1e-4)


def test_pictures_of_whole_jobs_are_divided_with_each_class_at_its_share(tmp_path):
    jobs.pictures(tmp_path, 50)
    [folder] = tmp_path.iterdir()
    counts = {split: [len(list(each.iterdir())) for each in (folder / split).iterdir()] for split in jobs.SPLITS}
    assert counts == {"train": [8] * 5, "validation": [1] * 5, "test": [1] * 5}
    assert len({path.read_bytes() for path in folder.rglob("*.jpg")}) == 50


def test_too_few_pictures_of_a_class_are_said(tmp_path):
    with pytest.raises(ValueError, match="has 2 pictures of rose; take --size=pictures=10"):
        jobs._divide(tmp_path, "rose", iter([b"1", b"2"]), 10, np.random.default_rng(0))


def test_what_tools_print_is_read():
    assert cases_of_jobs.tested("epoch 1\ntest accuracy 0.5\n...\ntest accuracy 0.9333\n") == {
        "results": {"accuracy": 0.9333}
    }
    top = [{"name": "rose", "probability": 0.75}, {"name": "tulip", "probability": 0.25}]
    said = json.dumps({"model": "x", "predictions": [{"path": "a.jpg", "top": top}], "set_aside": {}})
    assert cases_of_jobs.said(said) == {"results": {"probability": 0.75}}
