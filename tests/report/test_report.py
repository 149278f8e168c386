"""The page of a run: what it shows, that it refers to nothing outside, and that no file can spoil it."""

from __future__ import annotations

import base64
import copy
import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

from tests import made_runs
from tests.made_runs import NASTY, make, outcome
from tfxfer import report
from tfxfer.errors import RunError
from tfxfer.plots.png import png
from tfxfer.report import confusion, curves, examples, filters, restore_table, summary_section, training_curves
from tfxfer.report.markup import Markup, escape, join, tag
from tfxfer.runs.frozen import FrozenRecord


class Parsed(HTMLParser):
    """A page as a browser takes it apart: its tags with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == name]

    def values(self, attribute: str) -> list[str | None]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def shown(run: Path, command: str | None = None) -> Parsed:
    return Parsed(report.document(report.read(run), command))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("runs") / "finished", NASTY)


# --- markup ---


@given(st.text())
def test_any_text_comes_out_as_it_went_in_and_makes_no_tag(text):
    parsed = Parsed(tag("p", text, title=text))
    assert [name for name, _ in parsed.tags] == ["p"]
    legal = str(escape(text))
    assert "".join(parsed.texts) == "".join(Parsed(legal).texts)
    legal.encode()  # no lone surrogate is left
    if text.isalnum() and text.isascii():
        assert ("".join(parsed.texts), parsed.all("p")[0]["title"]) == (text, text)


def test_what_html_cannot_hold_becomes_a_replacement_character():
    assert escape("a\x00b\udce9c\x85d\uffff") == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert escape("tab\tline\n\N{SUNFLOWER}") == "tab\tline\n\N{SUNFLOWER}"


def test_markup_is_not_escaped_again_and_nothing_else_escapes_escaping():
    inner = tag("b", "<i>", hidden=True, title=None, open=False)
    assert inner == "<b hidden>&lt;i&gt;</b>"
    assert join([inner, (part for part in ("<", None, 1)), Markup("<br>")]) == f"{inner}&lt;1<br>"
    assert tag("img", alt="\"x\" 'y' <&>") == '<img alt="&quot;x&quot; &#x27;y&#x27; &lt;&amp;&gt;"/>'


# --- the page as a whole ---


def test_the_page_has_every_part_of_a_finished_run(finished):
    parsed = shown(finished, "tfxfer train --x")
    ids = [value for value in parsed.values("id") if value != "content"]
    assert ids == ["curves", "confusion", "classes", "mistakes", "filters", "plan", "frozen", "settings",
                   "environment", "repeat"]  # fmt: skip
    right, every = 102, 140
    said = [f"{right} of {every} right", "best: epoch 4", "conv1/kernel: 16 filters of 5x5, grey", "70 examples/s",
            "Restored: 4 of 5 variables", "4 variables, bit-identical", "tfxfer train --x"]  # fmt: skip
    for one in said:
        assert one in parsed.text
    assert "banner" not in parsed.values("class")


def test_the_page_refers_to_nothing_outside_itself_and_runs_no_script(finished):
    text = report.document(report.read(finished))
    parsed = Parsed(text)
    assert not parsed.all("script")
    assert not parsed.all("link")
    assert not parsed.all("iframe")
    assert all(value.startswith("data:image/png;base64,") for value in parsed.values("src"))
    assert {value.lstrip("#") for value in parsed.values("href")} <= set(parsed.values("id"))
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    [policy] = [meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_names_of_classes_are_text_wherever_they_stand(finished):
    parsed = shown(finished)
    for name in NASTY:
        assert str(escape(name)) == name.translate({0: "\ufffd", 0xDCE9: "\ufffd"}) or "<" in name or '"' in name
        # In the matrix (twice), in the table of classes, and wherever it was confused.
        assert sum(text == Parsed(escape(name)).text for text in parsed.texts) >= 3
    assert not parsed.all("script")


def test_every_picture_says_what_it_shows_and_ids_are_there_once(finished):
    parsed = shown(finished)
    assert all(attributes.get("alt") for attributes in parsed.all("img"))
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden") == "true" for attributes in parsed.all("svg")
    )
    assert any("taken for" in str(attributes["alt"]) for attributes in parsed.all("img"))
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(finished, tmp_path):
    elsewhere = tmp_path / "deep" / "er" / finished.name
    shutil.copytree(finished, elsewhere)
    first = report.write(report.read(finished), tmp_path / "first.html")
    second = report.write(report.read(elsewhere))
    assert second == elsewhere / "report.html"
    assert first.read_bytes() == second.read_bytes()
    # The page itself is no part of what it is made of.
    assert report.write(report.read(elsewhere)).read_bytes() == first.read_bytes()


def test_a_page_that_cannot_be_written_leaves_the_old_one(finished, tmp_path):
    with pytest.raises(FileNotFoundError):
        report.write(report.read(finished), tmp_path / "nowhere" / "page.html")


# --- what is not there ---


def test_a_run_without_any_epoch_has_a_page_that_says_so(tmp_path):
    made_runs.write(tmp_path, "settings.json", made_runs.SETTINGS)
    parsed = shown(tmp_path)
    assert "No epoch has ended yet" in parsed.text
    assert "It was not tested" in parsed.text
    assert [value for value in parsed.values("id") if value != "content"] == ["settings", "repeat"]


def test_a_run_that_is_going_on_shows_how_far_it_is(tmp_path):
    make(tmp_path / "run", rows=made_runs.history(3), epochs=20)
    (tmp_path / "run/test.json").unlink()
    made_runs.write(tmp_path / "run", "frozen.json", FrozenRecord("SHA-256", {"a": "0"}).to_json())
    parsed = shown(tmp_path / "run")
    assert "Training has come to epoch 3 of 20" in parsed.text
    assert "Not to move: 1 variable. They have not been compared" in parsed.text
    assert "curves" in parsed.values("id")
    assert "confusion" not in parsed.values("id")
    assert report.result_line(report.read(tmp_path / "run")) == "validation accuracy 0.7792"


def test_the_last_checkpoint_tells_the_history(tmp_path):
    make(tmp_path / "run")
    made_runs.write(tmp_path / "run", "model.ckpt-40.state.json", made_runs.state(made_runs.history(1)))
    assert len(report.read(tmp_path / "run").rows("train")) == 6
    (tmp_path / "run/model.ckpt-240.state.json").write_text("{")
    run = report.read(tmp_path / "run")
    assert len(run.rows("train")) == 1
    assert len(run.faults) == 1
    assert run.faults[0].startswith("model.ckpt-240.state.json cannot be used: it is not JSON (Expecting")


def test_a_directory_without_a_run_is_refused_with_what_is_there(tmp_path):
    with pytest.raises(RunError, match="missing is not there; give a run directory, what `logdir` was"):
        report.read(tmp_path / "missing")
    with pytest.raises(RunError, match="is not a run directory: it is empty"):
        report.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file is a file; give a run directory"):
        report.read(tmp_path / "file")
    with pytest.raises(
        RunError, match=r"is not a run directory: it has no settings.json, but file; give what `logdir`"
    ):
        report.read(tmp_path)
    make(tmp_path / "one")
    make(tmp_path / "two")
    with pytest.raises(RunError, match="holds runs and is not one itself; give one or more of them: one, two; "):
        report.read(tmp_path)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "settings.json is damaged: it is not JSON"),
    ("[]", "settings.json is damaged: it is not a JSON object"),
    ("[" * 100_000, "settings.json is damaged: it is nested too deeply"),
])  # fmt: skip
def test_settings_that_cannot_be_read_are_refused(tmp_path, text, message):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(RunError, match=message):
        report.read(tmp_path)


@pytest.mark.parametrize("name", ["plan.json", "frozen.json", "test.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"a": 1}', "[" * 100_000, '"\\ud800"'])
def test_a_damaged_file_leaves_its_part_out_and_is_named(tmp_path, name, text):
    make(tmp_path / "run")
    (tmp_path / "run" / name).write_text(text)
    run = report.read(tmp_path / "run")
    assert [fault.split()[0] for fault in run.faults] == [name]
    parsed = shown(tmp_path / "run")
    assert f"{name} cannot be used" in parsed.text
    assert {"plan.json": "plan", "frozen.json": "frozen", "test.json": "confusion"}[name] not in parsed.values("id")


WRONG = st.sampled_from([None, True, -1, 10**400, math.nan, math.inf, "", "<b>x", "\udc00", [], [[]], {}, {"a": [1]}])


@st.composite
def spoilt(draw, value: Any) -> Any:
    """A value in which one part, at any depth, is something else."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        changed = copy.copy(value)
        changed[place] = draw(spoilt(value[place]))
        return changed
    return draw(WRONG)


@pytest.mark.parametrize(
    "name", ["settings.json", "plan.json", "frozen.json", "test.json", "model.ckpt-240.state.json"]
)
def test_no_content_of_a_file_breaks_the_page(name, tmp_path):
    run = make(tmp_path / "run")
    whole = json.loads((run / name).read_text())

    @settings(max_examples=60)
    @given(spoilt(whole))
    def check(value):
        (run / name).write_text(json.dumps(value))
        try:
            text = report.document(report.read(run), "tfxfer train")
        except RunError:
            return
        assert text.encode()
        assert "<b>x" not in text

    check()


# --- figures ---


@pytest.mark.parametrize(("right", "every"), [(0, 10), (51, 60), (10, 10), (1, 1), (350, 360)])
def test_the_interval_is_wilsons(right, every):
    wanted = binomtest(right, every).proportion_ci(0.95, method="wilson")
    assert summary_section.interval(right, every) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
    assert summary_section.interval(0, 0) == (0.0, 1.0)


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_figures_of_classes_are_those_of_scikit_learn(classes, seed):
    generator = np.random.default_rng(seed)
    true, taken = generator.integers(0, classes, (2, 30))
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (true, taken), 1)
    wanted = precision_recall_fscore_support(true, taken, labels=range(classes), zero_division=0.0)
    for found, column in zip(examples.per_class(matrix).values(), wanted, strict=True):
        assert found == pytest.approx(column)


def test_a_run_without_labels_shows_its_loss(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "accuracy"} for row in made_runs.history()]
    made_runs.write(tmp_path / "run", "settings.json", made_runs.SETTINGS)
    state = {**made_runs.state(made_runs.history()), "history": rows, "best": [{"step": 120, "loss": 0.5}]}
    made_runs.write(tmp_path / "run", "model.ckpt-240.state.json", state)
    parsed = shown(tmp_path / "run")
    assert "Best validation loss 0.5000 at epoch 3 of 6" in parsed.text
    assert "Accuracy" not in parsed.text
    assert report.result_line(report.read(tmp_path / "run")) == "validation loss 0.5000"


# --- curves ---


@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e6), st.integers(3, 9))
@example(1.0, 400_001.0, 3)
def test_steps_of_a_scale_are_round_and_few(low, wide, most):
    found = curves.steps(low, low + wide, most)
    assert 1 <= len(found) <= most
    assert all(low - wide * 1e-6 <= value <= low + wide * (1 + 1e-6) for value in found)
    apart = np.diff(found)
    assert len(apart) == 0 or np.allclose(apart, apart[0], rtol=1e-3)


@pytest.mark.parametrize(("value", "text"), [
    (0.0, "0"), (0.001, "0.001"), (1.5e-5, "1.5e-5"), (2e-7, "2e-7"), (20.0, "20"), (300000.0, "3e5"), (0.25, "0.25"),
])  # fmt: skip
def test_numbers_of_a_scale_are_short(value, text):
    assert curves.shown(value) == text


def places(chart: str) -> list[list[tuple[float, float]]]:
    """Return the points of each line of a chart."""
    paths = [
        attributes["d"] for name, attributes in Parsed(chart).tags if "line" in str(attributes.get("class")).split()
    ]
    drawn = [path for path in paths if path != "M1 5H29"]
    return [
        [tuple(map(float, place.split())) for place in path.strip("M").replace("M", "L").split("L")] for path in drawn
    ]


def test_a_line_lies_where_its_numbers_are():
    lines = [curves.Line("a", "train", [(0, 0.0), (5, 0.5), (10, 1.0)])]
    [[first, middle, last]] = places(curves.chart("A", lines, describe="a", last=10, share=True))
    assert (first[0], last[0]) == (curves.LEFT, curves.WIDTH - curves.RIGHT)
    assert (first[1], last[1]) == (curves.HEIGHT - curves.BOTTOM, curves.TOP)
    assert middle == pytest.approx(np.mean([first, last], axis=0))


def test_numbers_far_apart_get_a_logarithmic_scale():
    chart = curves.chart("Loss", [curves.Line("a", "train", [(0, 10.0), (1, 1.0), (2, 0.1)])], describe="a", last=2)
    assert "(logarithmic scale)" in Parsed(chart).text
    [[(_, top), (_, middle), (_, bottom)]] = places(chart)
    assert middle == pytest.approx((top + bottom) / 2)


def test_gaps_and_long_lines_are_drawn():
    values = [(step, math.nan if step == 300 else math.sin(step / 50)) for step in range(5000)]
    chart = curves.chart("A", [curves.Line("a", "train", values, True)], describe="a", last=5000)
    assert "nan" not in chart.replace("dominant", "")
    assert len(chart) < 12_000
    assert not Parsed(chart).all("circle")
    assert Parsed(curves.chart("A", [curves.Line("a", "train", [(1, 2.0)])], describe="a")).all("circle")


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0], [-3.0, 4.0], [1e-30, 2e-30], [1e300, -1e300]])
def test_any_numbers_have_a_scale(values):
    line = curves.Line("a", "train", list(enumerate(values)))
    for _, y in places(curves.chart("A", [line], describe="a", last=1))[0]:
        assert curves.TOP - 1e-6 <= y <= curves.HEIGHT - curves.BOTTOM + 1e-6


def run_of(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> report.Run:
    return report.read(make(tmp_path / "run", rows=rows, **settings))


def test_training_and_validation_part_at_the_lowest_validation_loss(tmp_path):
    assert training_curves.parting(run_of(tmp_path, made_runs.history())) == 4
    assert "From epoch 4 on (shaded) the two part" in shown(tmp_path / "run").text
    assert "apart" in shown(tmp_path / "run").values("class")


def test_a_training_that_does_not_part_is_not_shaded(tmp_path):
    assert training_curves.parting(run_of(tmp_path, made_runs.history(part=False))) is None
    assert "The two do not part." in shown(tmp_path / "run").text
    assert "apart" not in shown(tmp_path / "run").values("class")


def test_a_validation_within_an_epoch_lies_within_it(tmp_path):
    rows = made_runs.history()
    half = {"step": 20, "epoch": 1, "split": "validation", "loss": 2.0, "accuracy": 0.1}
    [_, validation] = training_curves.lines(run_of(tmp_path, [half, *rows]), "loss")
    assert [x for x, _ in validation.points] == [0.5, 1, 2, 3, 4, 5, 6]


def test_each_factor_of_the_learning_rate_has_a_line(tmp_path):
    stages = [{"epoch": 0, "train": ["fc1/kernel", "fc1/bias"]},
              {"epoch": 2, "train": ["fc1/kernel", "fc1/bias", "conv2/kernel"]}]  # fmt: skip
    more = {"stages": stages, "lr_multipliers": {"fc1/bias": 0.5}, "unfreeze": [[2, "conv2/.*", 0.01]]}
    run_of(tmp_path, made_runs.history(), **more)
    text = shown(tmp_path / "run").text
    for key in ("learning rate", "learning rate, times 0.5", "learning rate, times 0.01, from epoch 3"):
        assert key in text
    assert "trained from epoch 3" in text


def test_a_learning_rate_that_stays_is_said_and_not_drawn(tmp_path):
    rows = [{**row, "learning_rate": 0.01} if row["split"] == "train" else row for row in made_runs.history()]
    run_of(tmp_path, rows)
    parsed = shown(tmp_path / "run")
    assert "The learning rate was 0.01 throughout." in parsed.text
    assert len([one for one in parsed.all("svg") if one.get("class") == "chart"]) == 2


# --- confusion ---


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_blocks_keep_every_example(classes, most, seed):
    matrix = np.random.default_rng(seed).integers(0, 9, (classes, classes))
    found, size = confusion.blocks(matrix, most)
    assert (found.sum(), len(found) <= most) == (matrix.sum(), True)
    assert found[0, -1] == matrix[:size, (len(found) - 1) * size :].sum()


def test_the_most_confused_pairs_come_first():
    matrix = np.array([[9, 1, 0], [4, 5, 2], [0, 0, 7]])
    assert confusion.pairs(matrix) == [(1, 0, 4), (1, 2, 2), (0, 1, 1)]
    assert confusion.pairs(np.diag([3, 4])) == []


def test_few_classes_have_a_table_of_numbers(tmp_path):
    run = make(tmp_path / "run", ("cat", "dog"))
    wanted = np.array(json.loads((run / "test.json").read_text())["confusion"])
    text = report.document(report.read(run))
    titles = [value for value in Parsed(text).values("title") if value and "taken for" in value and ":" in value]
    [cats, _] = wanted
    assert titles[:2] == [f"cat taken for cat: {cats[0]} ({cats[0] / 20:.0%})",
                          f"cat taken for dog: {cats[1]} ({cats[1] / 20:.0%})"]  # fmt: skip


def test_a_thousand_classes_have_a_map_and_the_worst_of_them_in_front(tmp_path):
    run = make(tmp_path / "run", [f"class {number}" for number in range(1000)])
    text = report.document(report.read(run))
    assert len(text) < 600_000
    parsed = Parsed(text)
    assert "Confusion matrix of 1,000 classes, 10 classes to a row and column in their order." in parsed.values(
        "aria-label"
    )
    figures = examples.per_class(report.read(run).test.confusion)
    weakest = int(np.argsort(figures["f1-score"], kind="stable")[0])
    assert parsed.texts[parsed.texts.index("Class by class") :].index(f"class {weakest}") < 30


def test_classes_without_examples_and_a_test_without_mistakes_are_shown(tmp_path):
    run = make(tmp_path / "run", ("cat", "dog", "owl"))
    test = outcome(("cat", "dog", "owl"))
    made_runs.write(run, "test.json", {**test, "confusion": np.diag([4, 3, 0]).tolist(), "mistakes": []})
    text = shown(run).text
    assert "7 of 7 right" in text
    assert "No class was taken for another." in text
    assert "The worst mistakes There is none." in text


# --- mistakes ---


def pictures(parsed: Parsed) -> list[bytes]:
    cards = [one for one in parsed.all("img") if str(one["alt"]).startswith("Picture of")]
    return [base64.b64decode(str(one["src"]).partition(",")[2]) for one in cards]


def test_mistakes_have_their_pictures_in_the_page(finished):
    files = sorted((finished / "mistakes").iterdir())
    assert pictures(shown(finished)) == [file.read_bytes() for file in files]
    assert "The 5 of 38" in shown(finished).text
    assert "with 98.0%" in shown(finished).text


@pytest.mark.parametrize("spoil", [
    lambda path: path.unlink(),
    lambda path: path.write_bytes(b"GIF89a"),
    lambda path: path.write_bytes(png(np.zeros((1, 1, 3), np.uint8)) + bytes(1 << 20)),
    lambda path: (path.unlink(), path.mkdir()),
    lambda path: (path.rename(path.parent / "other.png"), path.symlink_to(path.parent / "other.png")),
])  # fmt: skip
def test_a_picture_that_is_missing_or_none_leaves_a_place(tmp_path, spoil):
    run = make(tmp_path / "run")
    first, *_ = sorted((run / "mistakes").iterdir())
    spoil(first)
    parsed = shown(run)
    assert len(pictures(parsed)) == 4
    assert sum(str(label).startswith("Missing picture: ") for label in parsed.values("aria-label")) == 1


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "mistakes/../../secret.png", 7, "a\x00b", "x" * 5000]
)
def test_no_file_but_the_runs_own_pictures_gets_into_the_page(tmp_path, name):
    run = make(tmp_path / "run")
    made_runs.picture(tmp_path / "secret.png", 9)
    made_runs.picture(run / "secret.png", 9)
    test = json.loads((run / "test.json").read_text())
    test["mistakes"] = [{**test["mistakes"][0], "picture": name}]
    made_runs.write(run, "test.json", test)
    assert pictures(shown(run)) == []


# --- filters, plan, proof ---


def test_frozen_filters_are_said_to_be_the_same_only_if_they_are(tmp_path):
    run = make(tmp_path / "run")
    assert "Frozen: they are the same, bit for bit" in shown(run).text
    proof = json.loads((run / "frozen.json").read_text())
    proof["variables"]["conv1/kernel"] = "0" * 64
    made_runs.write(run, "frozen.json", proof)
    assert "bit for bit, at" not in shown(run).text


def test_trained_filters_are_shown_before_and_after(tmp_path):
    stages = [{"epoch": 0, "train": ["conv1/kernel"]}]
    run = make(tmp_path / "run", stages=stages)
    proof = json.loads((run / "frozen.json").read_text())
    del proof["variables"]["conv1/kernel"]
    made_runs.write(run, "frozen.json", proof)
    parsed = shown(run)
    assert "On average a weight has moved by 0.0% of its size." in parsed.text
    tiles = [one["src"] for one in parsed.all("img") if "filters" in str(one["alt"])]
    assert len(tiles) == 2
    assert tiles[0] == tiles[1]
    plan = json.loads((run / "plan.json").read_text())
    plan[0]["weights"] = str(tmp_path / "gone")
    made_runs.write(run, "plan.json", plan)
    assert "which cannot be shown here" in shown(run).text


def test_a_broken_checkpoint_leaves_a_note(tmp_path):
    run = make(tmp_path / "run")
    (run / "best/model.ckpt-120.index").write_bytes(b"broken")
    assert "They cannot be shown: " in shown(run).text


def test_filters_are_drawn_around_grey_and_blue_last_becomes_first():
    kernel = np.zeros((2, 2, 3, 2), np.float32)
    kernel[..., 0, 0], kernel[..., 2, 1] = 2, -0.5
    tiles = filters._tiles(kernel, bgr=False)
    assert tiles.shape == (2, 5, 4)
    assert tiles[0, 0].tolist() == [255, 128, 128, 255]
    assert tiles[0, 3].tolist() == [128, 128, 0, 255]
    assert tiles[0, 2].tolist() == [0, 0, 0, 0]
    assert filters._tiles(kernel, bgr=True)[0, 0].tolist() == [128, 128, 255, 255]
    kernel[0, 0, 0, 0] = np.nan
    assert filters._tiles(kernel, bgr=False)[0, 0, 3] == 255


def test_a_variable_that_several_plans_name_is_that_of_the_plan_which_restored_it():
    new = {"variable": "a", "status": "initialised", "shape": [2, 3]}
    restored = {"variable": "a", "status": "restored", "shape": [2, 3], "source": "b"}
    for plans in ([new], [restored]), ([restored], [new]):
        assert restore_table.merged([{"variables": rows} for rows in plans]) == [restored]
    assert restore_table.parameters(new) == 6


def test_a_run_that_restored_nothing_says_so(tmp_path):
    run = make(tmp_path / "run")
    made_runs.write(run, "plan.json", [])
    assert "Nothing was restored: every variable began with new values." in shown(run).text


def test_the_version_of_tensorflow_is_read_from_the_graph(tmp_path):
    run = make(tmp_path / "run")
    info = b"\x2a\x062.21.0"
    (run / "best/model.ckpt-120.meta").write_bytes(b"\x0a" + bytes([len(info)]) + info)
    assert "TensorFlow 2.21.0" in shown(run).text
    (run / "best/model.ckpt-120.meta").write_bytes(b"\xff\xff\xff")
    assert "TensorFlow 2.21.0" not in shown(run).text


# --- what a page cannot know ---


def own(folder: Path, **settings) -> Path:
    """Make a run as a program of somebody's own makes it: its settings are those that `fit` stores by itself."""
    run = make(folder)
    kept = {name: made_runs.SETTINGS[name] for name in ("stages", "epochs", "batch_size", "seed", "training_examples")}
    made_runs.write(run, "settings.json", {**kept, **settings})
    return run


def test_of_a_session_without_a_plan_it_is_not_known_what_was_restored(tmp_path):
    run = own(tmp_path / "run")
    made_runs.write(run, "plan.json", [])
    text = shown(run).text
    assert "Not known: the session that was trained in had no restore plan." in text
    assert "othing was restored" not in text


def test_what_has_no_digest_is_not_said_to_be_proved(tmp_path):
    run = make(tmp_path / "run")
    kept = json.loads((run / "frozen.json").read_text())
    del kept["variables"]["conv1/kernel"]
    made_runs.write(run, "frozen.json", kept)
    text = shown(run).text
    assert "conv1/kernel restored not trained" in text
    assert "conv2/kernel restored frozen, proved" in text


def test_without_stages_it_is_not_known_what_was_trained(tmp_path):
    run = make(tmp_path / "run", stages=None)
    text = shown(run).text
    assert "What was trained is not known: the settings do not say." in text
    assert "parameters are trained" not in text


def test_a_stage_that_did_not_begin_is_not_said_to_have_trained(tmp_path):
    stages = [*made_runs.SETTINGS["stages"], {"epoch": 6, "train": ["conv2/kernel"]}]
    text = shown(make(tmp_path / "run", stages=stages, epochs=9)).text
    assert "to be trained from epoch 7" in text
    assert "trained from epoch 7" not in text.replace("to be trained", "")


def test_a_comparison_before_the_last_step_is_no_proof_of_what_came_later(tmp_path):
    run = make(tmp_path / "run")
    kept = json.loads((run / "frozen.json").read_text())
    kept["checks"][-1]["step"] = 80
    made_runs.write(run, "frozen.json", kept)
    assert "bit-identical to the start at step 80; not compared since" in shown(run).text


def test_a_loss_of_somebodys_own_is_not_called_cross_entropy(tmp_path):
    assert "mean cross-entropy" not in shown(own(tmp_path / "own")).text
    assert "mean cross-entropy of an example, in nats" in shown(make(tmp_path / "run", loss="softmax")).text


def test_a_rate_that_is_noted_once_an_epoch_is_not_known_in_between(tmp_path):
    rows = [{**row, "learning_rate": 0.01} if row["split"] == "train" else row for row in made_runs.history()]
    run = own(tmp_path / "run")
    made_runs.write(run, "model.ckpt-240.state.json", made_runs.state(rows))
    assert "The learning rate was 0.01 at the end of each epoch." in shown(run).text


def test_the_test_says_of_which_checkpoint_it_is(tmp_path):
    assert "of best/model.ckpt-120" in shown(make(tmp_path / "run")).text


def test_the_cure_of_a_missing_test_is_one_that_works_for_such_a_run(tmp_path):
    run = own(tmp_path / "run")
    (run / "test.json").unlink()
    assert "It was not tested: `tfxfer.evaluation.test_results.record` of a test's result adds" in shown(run).text
