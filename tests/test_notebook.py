"""What Jupyter shows of each type: tables with every name escaped, bounded, without colours of their own."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from IPython.core.formatters import HTMLFormatter

import tfxfer as tx
from tests.made_runs import NASTY, make
from tests.reports.pages import Parsed
from tests.test_layout import loaded_after
from tfxfer import notebook
from tfxfer.data_checks.findings import DataCheck, Finding
from tfxfer.formats.tensors import Tensor
from tfxfer.tuning.trials import Trial
from tfxfer.tuning.tune import Result, Tuning

EVIL = NASTY[0]


def shown(item: object) -> Parsed:
    """Return what IPython asks an object to show of itself."""
    return Parsed(HTMLFormatter()(item))


def rows(parsed: Parsed) -> int:
    return len(parsed.all("tr"))


def weights(folder, count: int = 3, name: str = "fc/kernel") -> tx.Weights:
    np.savez(folder / "weights.npz", **{f"{name}{n}": np.zeros((2, n + 1), np.float32) for n in range(count)})
    return tx.open_weights(folder / "weights.npz")


def many_weights(count: int) -> tx.Weights:
    tensors = {f"layer{n}/kernel": Tensor((2, 3), np.dtype(np.float32), lambda: np.zeros((2, 3))) for n in range(count)}
    return tx.Weights("many.npz", "NumPy .npz archive", tensors)


def plan_of(folder, count: int = 3) -> tx.Plan:
    values = weights(folder, count, "scope/kernel")
    with tf.Graph().as_default():
        variables = [tf.get_variable(name, values.shape(name)) for name in values]
        return tx.plan([variables[0]], values)


def evaluation(class_names: tuple[str, ...]) -> tx.Evaluation:
    labels = np.arange(3 * len(class_names)) % len(class_names)
    probabilities = np.eye(len(class_names), dtype=np.float32)[labels]
    probabilities[0] = np.roll(probabilities[0], 1)
    right = 1 - 1 / len(labels)
    return tx.Evaluation({"loss": 0.25, "accuracy": right}, probabilities, labels, class_names)


def fitted(epochs: int = 2, best: str = "runs/a/best/model.ckpt-80") -> tx.Fitted:
    history = []
    for epoch in range(1, epochs + 1):
        of_epoch = {"step": 40 * epoch, "epoch": epoch, "loss": 1 / epoch, "accuracy": 0.5}
        history += [{**of_epoch, "split": "train", "learning_rate": 1e-3}, {**of_epoch, "split": "validation"}]
    last = f"runs/a/model.ckpt-{40 * epochs}"
    return tx.Fitted(40 * epochs, epochs, last, best, tuple(history), stopped_early=False, frozen=4, exact_resume=True)


def tuning(endpoint: str = "pool", trials: int = 2) -> Tuning:
    results = [
        Result(f"trial-{n:02}", endpoint, Trial(endpoint=endpoint, hidden=n), (0.9, 0.8), (0.3, 0.4), epochs=5)
        for n in range(trials)
    ]
    return Tuning(tuple(results), (Result("nearest centroid", endpoint, None, (0.7, 0.6)),))


def data_check(path: str = "a.jpg", count: int = 1) -> DataCheck:
    finding = Finding("label", path, 3, label="cat", suggested="dog", score=0.01, reason="1.0% probable")
    return DataCheck(50, (finding,) * count, notes=("labels were checked",))


# --- what is shown ---


def test_weights_show_names_shapes_and_how_much_there_is_without_tensorflow(tmp_path):
    text = shown(weights(tmp_path)).text
    assert "weights.npz (NumPy .npz archive): 3 arrays, 12 numbers" in text
    assert "name shape dtype numbers fc/kernel0 (2, 1) float32 2 fc/kernel1 (2, 2) float32 4" in text
    code = f"import tfxfer as tx; tx.open_weights({str(tmp_path / 'weights.npz')!r})._repr_html_()"
    assert loaded_after(code).isdisjoint({"tensorflow", "IPython"})


def test_weights_name_what_is_not_read(tmp_path):
    np.savez(tmp_path / "mixed.npz", kernel=np.zeros(2), when=np.array(["2026-11-29T00"], "datetime64[h]"))
    mixed = tx.open_weights(tmp_path / "mixed.npz")
    assert list(mixed.skipped) == ["when"]
    assert shown(mixed).text.endswith("not read: when")


def test_a_plan_shows_every_variable_and_what_is_left(tmp_path):
    plan = plan_of(tmp_path)
    text = shown(plan).text
    assert text.startswith("restore plan: 1 of 3 variables from")
    assert "scope/kernel0 (2, 1) float32 restored scope/kernel0 (by feed)" in text
    assert text.endswith("2 tensors of the file are not used: scope/kernel1, scope/kernel2")
    assert all(line.split() == line.split() and line.split()[0] in text for line in plan.report().splitlines())


def test_an_evaluation_shows_each_class_and_what_it_is_taken_for():
    text = shown(evaluation(("cat", "dog", "owl"))).text
    assert "accuracy 0.8889: 8 of 9 right; 95 % interval 0.565 to 0.980 of the accuracy" in text
    assert "class examples right recall precision most often taken for" in text
    assert "cat 3 2 0.667 1.000 dog (1) dog 3 3 1.000 0.750 owl 3 3 1.000 1.000" in text


def test_an_evaluation_shows_classes_of_one_name_and_classes_without_examples():
    result = evaluation(("crane", "crane", "owl"))
    none = tx.Evaluation(result.metrics, result.probabilities[:1], result.labels[:1], result.class_names)
    assert "crane 3 2 0.667 1.000 crane (1) crane 3 3" in shown(result).text
    assert "crane 1 0 0.000 - crane (1) crane 0 0 - 0.000 owl 0 0 - -" in shown(none).text


def test_a_training_shows_both_splits_of_each_epoch_in_one_row():
    text = shown(fitted()).text
    assert text.startswith("2 epochs, 80 steps; the best by validation is runs/a/best/model.ckpt-80")
    assert "epoch step train loss train accuracy validation loss validation accuracy" in text
    assert "1 40 1.0000 0.5000 1.0000 0.5000 2 80 0.5000 0.5000 0.5000 0.5000 best" in text
    assert text.endswith("4 frozen variables are bit-identical to the start")


def test_a_search_shows_heads_and_baselines_and_which_are_close_to_the_best():
    text = shown(tuning()).text
    assert text.startswith("2 heads and 1 baselines, each on 2 folds")
    assert "trial-00 pool none 0.8500* 0.0707 0.3500 0 0.0 0.001 0.0 trial-01" in text
    assert "nearest centroid pool 0.6500 0.0707 *" in text


def test_a_look_at_the_data_shows_its_findings():
    text = shown(data_check()).text
    assert text.startswith(
        "50 examples: label 1 kind example class suggested or copy of score reason label a.jpg cat dog 0.010"
    )
    assert text.endswith("label: another label is more probable labels were checked")
    assert "nothing found" in shown(DataCheck(5, ())).text


# --- whatever the names are ---


def with_evil_names(folder) -> dict[str, object]:
    np.savez(folder / "evil.npz", **{EVIL.replace("/", "_"): np.zeros(2)})
    evil = tx.open_weights(folder / "evil.npz")
    with tf.Graph().as_default():
        plan = tx.plan([tf.get_variable("fc", [2])], _as("fc", evil))
    return {
        "Weights": evil,
        "Plan": plan,
        "Evaluation": evaluation((EVIL, *NASTY[1:])),
        "Fitted": fitted(best=f"{EVIL}-80"),
        "Tuning": tuning(EVIL),
        "DataCheck": data_check(EVIL),
    }


def _as(name: str, values: tx.Weights) -> tx.Weights:
    np.savez(values.path, **{name: np.zeros(2, np.float32), "<script>": np.zeros(1)})
    return tx.open_weights(values.path)


@pytest.mark.parametrize("kind", ["Weights", "Plan", "Evaluation", "Fitted", "Tuning", "DataCheck"])
def test_no_name_becomes_markup(kind, tmp_path):
    parsed = shown(with_evil_names(tmp_path)[kind])
    assert "<script>" in parsed.text
    assert {name for name, _ in parsed.tags} <= {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("kind", ["Weights", "Plan", "Evaluation", "Fitted", "Tuning", "DataCheck"])
def test_of_many_rows_the_first_and_the_last_are_shown_and_how_many_are_left_out(kind, tmp_path):
    many = {
        "Weights": lambda: many_weights(10_000),
        "Plan": lambda: plan_of(tmp_path, 200),
        "Evaluation": lambda: evaluation(tuple(f"class {n}" for n in range(1000))),
        "Fitted": lambda: fitted(200),
        "Tuning": lambda: tuning(trials=150),
        "DataCheck": lambda: data_check(count=5000),
    }[kind]()
    parsed = shown(many)
    assert rows(parsed) == 1 + notebook.FIRST + 1 + notebook.LAST
    count = {"Weights": 10_000, "Plan": 200, "Evaluation": 1000, "Fitted": 200, "Tuning": 151, "DataCheck": 5000}[kind]
    assert f"\N{VERTICAL ELLIPSIS} {count - notebook.FIRST - notebook.LAST:,} more" in parsed.text
    assert len(parsed.text) < 10_000


@pytest.mark.parametrize(("count", "wanted"), [(0, 1), (1, 2), (31, 32), (32, 32)])
def test_a_row_is_not_left_out_for_a_line_that_says_so(count, wanted):
    table = Parsed(notebook.table(["a", "n"], range(count), lambda n: [n, n], numbers=["n"]))
    assert rows(table) == wanted
    assert ("more" in table.text) == (count == 32)


def test_text_has_the_colours_of_the_notebook_and_numbers_stand_to_the_right():
    parsed = Parsed(notebook.described("title", notebook.table(["a", "n"], [1], lambda n: ["x", n], numbers=["n"])))
    styles = [style for style in parsed.values("style") if style]
    assert not any(re.search("(^|;)(color|background)", style) for style in styles)
    sides = [re.search("text-align:(.*)", style)[1] for style in styles if "text-align" in style]
    assert sides == ["left", "right"] * 2


# --- the page ---


def test_a_report_is_shown_as_a_page_of_its_own_in_which_no_script_runs(tmp_path):
    report = tx.report(make(tmp_path / "run", NASTY))
    parsed = shown(report)
    [(name, attributes)] = parsed.tags
    assert name == "iframe"
    assert attributes["srcdoc"].replace('<base href="about:srcdoc"/>', "", 1) == report.html
    assert attributes["sandbox"] is None  # which forbids scripts, forms, and to reach the notebook
    assert attributes["title"] == f"run: {report}"


def test_nothing_of_jupyter_is_loaded_outside_of_it(tmp_path):
    assert not notebook.is_running()
    code = "import tfxfer as tx; assert not tx.notebook.is_running()"
    assert "IPython" not in loaded_after(code)


def test_a_report_is_the_same_of_a_path_and_of_an_opened_run(tmp_path):
    run = make(tmp_path / "run")
    opened = tx.open_run(run)
    assert tx.report(opened).html == tx.report(run).html
    assert repr(tx.report(opened)) == f"<Report {run}: {tx.report(run)}>"
    assert json.loads((run / "settings.json").read_text())
