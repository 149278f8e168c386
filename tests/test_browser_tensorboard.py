"""A run in TensorBoard as somebody sees it who opens it in a browser: every page shows what the run left for it."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests import browsing, screens
from tests.browsing import Browser, board, is_blank, wait
from tests.test_main_job import run
from tfxfer.graph.summary_options import SHOWN
from tfxfer.models import autoencoder, heads
from tfxfer.runs import state
from tfxfer.tensorboard import results
from tfxfer.tools import train

CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "digits_autoencoder"
EPOCHS, EVERY, SUMMARY_STEPS = 3, 40, 10
TAKEN = "window.pwned = 1"
NASTY = (
    f"<img src=x onerror='{TAKEN}' id=pwned>", f"<script id=pwned>{TAKEN}</script>", "\"quoted\" & <b id=pwned>",
    "\N{SUNFLOWER} flower", f"[link](javascript:{TAKEN})", "{{" + TAKEN + "}}", "a/b/c", "x" * 200, "plain", "$x_1$ |",
)  # fmt: skip


def digits(logdir: Path) -> None:
    """The main job on the digits, one layer unfrozen on the way, everything shown."""
    flags = [f"--weights={CHECKPOINT}", f"--logdir={logdir}", f"--epochs={EPOCHS}", "--summaries=all", "--dropout=0.5",
             f"--summary_steps={SUMMARY_STEPS}", "--unfreeze=2:conv2.*=0.1"]  # fmt: skip
    assert run(train, *flags) == 0


def nasty(logdir: Path) -> None:
    """The same for an epoch, with names of classes that want to be more than names, and no layer frozen."""
    data = dataclasses.replace(tx.data.digits().few(300, 0), class_names=NASTY)
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 28, 28, 1], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        ends = autoencoder.encoder(images)
        logits = heads.classifier(ends["flatten"], classes=10)
        step = tx.train_step(images, labels, logits, train=tx.select(".*"), summaries=tuple(SHOWN),
                             activations={"conv1": ends["conv1"]})  # fmt: skip
        with tx.session() as sess:
            fitted = tx.fit(sess, step, data, epochs=1, logdir=logdir, settings={"note": NASTY[0], "batch": 32})
            result = tx.evaluate(sess, step, data.test, class_names=NASTY)
            results.tested(logdir, result, data.test, fitted.steps)


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Any:
    """The address of a TensorBoard that shows two runs."""
    if reason := browsing.why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("runs")
    digits(folder / "digits")
    nasty(folder / "nasty")
    with board(folder) as address:
        yield address


@pytest.fixture(scope="module")
def url_of_one(url) -> Any:
    """The address of a TensorBoard that shows the first run alone."""
    with board(folder_of(url) / "digits") as address:
        yield address


@pytest.fixture(scope="module")
def url_of_nasty(url) -> Any:
    """The address of a TensorBoard that shows the second run alone."""
    with board(folder_of(url) / "nasty") as address:
        yield address


def folder_of(url: str) -> Path:
    """Return the folder that a TensorBoard shows."""
    return Path(get(url, "data/environment")["data_location"])


def get(url: str, path: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url + path, timeout=browsing.SECONDS) as answer:
        return json.load(answer)


def settled(shown: Browser, name: str, *, rests: bool = True) -> None:
    """Keep a screenshot, and see that nothing went wrong on the way to it."""
    if rests:
        screens.at_rest(shown)
    shown.screenshot(f"tensorboard_{name}")
    assert shown.errors() == []
    assert shown.run("return window.pwned || null") is None
    assert shown.find("#pwned") == []


def history(url_folder: Path, split: str) -> list[dict]:
    return [row for row in state.history(url_folder / "digits")[0] if row["split"] == split]


def with_both(shown: Browser) -> list[dict[str, list[int]]]:
    """Return the steps of training and validation in each chart that has both."""
    names = ("digits/train", "digits/validation")
    found = [chart for chart in screens.charts(shown) if set(names) <= set(chart)]
    return [{name: [step for step, _ in chart[name]] for name in names} for chart in found]


def test_charts_have_training_and_validation_with_every_point(browser: Browser, url):
    shown = screens.scalars(browser, url)
    every = {
        tag: get(url, f"data/plugin/scalars/scalars?run=digits/{name}&tag={tag}")
        for name, tag in (("train", "loss"), ("train", "epoch/loss"), ("validation", "epoch/accuracy"))
    }
    batches = [*range(SUMMARY_STEPS, EPOCHS * EVERY + 1, SUMMARY_STEPS)]
    ends = [EVERY * epoch for epoch in range(1, EPOCHS + 1)]
    assert [step for _, step, _ in every["loss"]] == batches
    assert [step for _, step, _ in every["epoch/loss"]] == ends
    assert [value for *_, value in every["epoch/accuracy"]] == [
        pytest.approx(row["accuracy"]) for row in history(folder_of(url), "validation")
    ]
    of_batches = {"digits/train": batches, "digits/validation": ends}
    of_epochs = {"digits/train": ends, "digits/validation": ends}
    # The page asks for each run apart, and draws a chart as soon as it has one of them.
    wait(lambda: with_both(shown).count(of_batches) == 2, "loss and accuracy of batches")
    wait(lambda: with_both(shown).count(of_epochs) == 2, "loss and accuracy of epochs")
    assert any(
        [value for _, value in chart.get("digits/validation", ())]
        == [pytest.approx(row["loss"]) for row in history(folder_of(url), "validation")]
        for chart in screens.charts(shown)
    )
    settled(shown, "scalars")


@pytest.mark.slow
def test_the_first_page_has_a_card_for_each_curve_with_both_runs(browser: Browser, url):
    shown = screens.open_page(browser, url, "timeseries")
    wait(lambda: any("digits/validation" in text for text in shown.texts("card-view")), "cards")
    [accuracy] = [text for text in shown.texts("card-view") if text.startswith("accuracy")]
    last = history(folder_of(url), "validation")[-1]
    assert re.search(rf"digits/validation\s+\S+\s+{last['accuracy']:.4g}\d*\s+{EPOCHS * EVERY}\s", accuracy), accuracy
    assert "digits/train" in accuracy
    wait(lambda: not is_blank(shown.pixels(shown.find("scalar-card")[0])), "lines in a chart")
    settled(shown, "timeseries")


@pytest.mark.slow
def test_the_layout_puts_training_and_validation_on_one_chart(browser: Browser, url):
    shown = screens.scalars(browser, url, "custom_scalars")
    both = {"epoch/loss (digits/train)", "epoch/loss (digits/validation)"}
    wait(lambda: both <= set(screens.charts(shown)[0]), "both runs in one chart")
    titles = " ".join(shown.texts("tf-category-paginated-view, .heading"))
    assert "training and validation, by epoch" in titles
    assert "norms by layer" in titles
    settled(shown, "custom_scalars")


def test_pictures_are_there_and_not_blank(browser: Browser, url):
    shown = screens.images(browser, url, height=1200)
    tags = {run: set(found) for run, found in get(url, "data/plugin/images/tags").items()}
    assert {"filters/conv1/kernel", "feature_maps/conv1", "feature_maps/conv2"} <= tags["digits/train"]
    assert tags["digits/results"] == {"confusion", "mistakes", "reliability"}
    assert {"confusion", "mistakes"} <= tags["digits/validation"]
    wait(lambda: len(screens.pictures(shown)) >= 10, "ten pictures")
    found = screens.pictures(shown)
    for picture in found:
        shown.run("arguments[0].scrollIntoView()", picture)
        assert not is_blank(shown.pixels(picture)), picture.get_attribute("src")
    samples = get(url, "data/plugin/images/images?run=digits/validation&tag=confusion&sample=0")
    assert [sample["step"] for sample in samples] == [EVERY * epoch for epoch in range(1, EPOCHS + 1)]
    shown.run("arguments[0].scrollIntoView()", found[0])
    settled(shown, "images")


def test_the_graph_has_inputs_below_and_a_box_for_each_part(browser: Browser, url_of_one):
    shown = screens.graph(browser, url_of_one)
    names = set(screens.nodes(shown))
    assert names == {"images", "labels", "FROZEN", "EPOCH_2", "TRAINED", "LOSS", "SOLVER", "SAVE", "SUMMARY"}
    screens.at_rest(shown)
    height = {name: node.location["y"] for name, node in screens.nodes(shown).items()}
    order = ["LOSS", "TRAINED", "EPOCH_2", "FROZEN", "images"]
    assert [height[name] for name in order] == sorted(height[name] for name in order)
    screens.choose(shown, "device")
    wait(lambda: {"FROZEN:0", "TRAINED:0"} <= set(shown.texts("tf-graph-legend *, td, .legend-item, div")), "colours")
    settled(shown, "graph")


@pytest.mark.slow
def test_a_box_opens_and_has_the_scopes_and_layers_of_the_model(browser: Browser, url_of_one):
    shown = screens.graph(browser, url_of_one, "FROZEN", "FROZEN/ENCODER")
    assert {"FROZEN/ENCODER/PREPROCESS", "FROZEN/ENCODER/conv1"} <= set(screens.nodes(shown))
    settled(shown, "graph_opened")


@pytest.mark.slow
def test_time_and_memory_of_a_step_fit_the_graph(browser: Browser, url):
    info = get(url, "data/plugin/graphs/info")["digits/train"]
    assert info["tags"]["step_10"]["profile"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    read = lambda path: opener.open(url + path, timeout=browsing.SECONDS).read().decode()  # noqa: E731
    shown = set(re.findall(r'^  name: "(.*)"', read("data/plugin/graphs/graph?run=digits/train"), re.MULTILINE))
    timed = re.findall(r'node_name: "(.*)"', read("data/plugin/graphs/run_metadata?run=digits/train&tag=step_10"))
    assert len(timed) > 50
    assert set(timed) <= shown


@pytest.mark.slow
def test_histograms_and_distributions_are_drawn(browser: Browser, url):
    for page, drawn in (("histograms", "vz-histogram-timeseries"), ("distributions", "vz-distribution-chart")):
        shown = screens.open_page(browser, url, page)
        wait(lambda shown=shown, drawn=drawn: shown.find(drawn), page)
        screens.at_rest(shown)
        assert not any(is_blank(shown.pixels(chart)) for chart in shown.find(drawn)[:2])
        settled(shown, page)


@pytest.mark.slow
def test_the_projector_lists_the_tensors_with_labels(browser: Browser, url_of_one):
    shown = screens.projector(browser, url_of_one)
    items = {" ".join(text.split()) for text in shown.texts("paper-item")}
    assert {"train", "conv1 1797x784", "conv2 1797x512", "class 10 colors", "split 3 colors"} <= items
    assert shown.texts(".numDataPoints") == ["1797"]
    settled(shown, "projector", rests=False)
    assert not is_blank(shown.screenshot("tensorboard_projector")[100:800, 400:900])


@pytest.mark.slow
def test_every_class_has_its_precision_and_recall(browser: Browser, url):
    tags = get(url, "data/plugin/pr_curves/tags")
    assert len(tags["digits/validation"]) == len(tags["digits/results"]) == len(tags["nasty/results"]) == 10
    shown = screens.scalars(browser, url, "pr_curves")
    drawn = [chart for chart in screens.charts(shown) if {"digits/validation", "digits/results"} <= set(chart)]
    assert len(drawn) >= 5
    assert all(len(points) > 50 for chart in drawn for points in chart.values())
    settled(shown, "pr_curves")


@pytest.mark.slow
def test_the_table_compares_the_runs_by_settings_and_final_metrics(browser: Browser, url):
    shown = screens.hparams(browser, url, width=2400)
    wait(lambda: "nasty/results" in shown.texts("vaadin-grid-cell-content"), "both runs in the table")
    cells = shown.texts("vaadin-grid-cell-content")
    assert {"epochs", "test/accuracy", "test/loss", "validation/accuracy", "digits/results"} <= set(cells)
    test = json.loads((folder_of(url) / "digits/test.json").read_text())
    assert f"{test['accuracy']:.5f}" in cells
    settled(shown, "hparams")


def test_hyperparameters_are_numbers_where_they_are_numbers(url):
    asked = {"allowedStatuses": ["STATUS_SUCCESS"], "colParams": [], "startIndex": 0, "sliceSize": 10}
    request = urllib.request.Request(f"{url}data/plugin/hparams/session_groups", json.dumps(asked).encode())  # noqa: S310
    request.add_header("Content-Type", "application/json")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        groups = {group["sessions"][0]["name"]: group for group in json.load(answer)["sessionGroups"]}
    found = groups["digits/results"]["hparams"]
    assert (found["learning_rate"], found["epochs"], found["dropout"]) == (0.001, EPOCHS, 0.5)
    assert found["trained"] == "fc1, logits; from epoch 2: conv2"
    assert found["weights"] == "digits_autoencoder"
    assert groups["nasty/results"]["hparams"]["note"] == NASTY[0]
    metrics = {metric["name"]["tag"]: metric["value"] for metric in groups["digits/results"]["metricValues"]}
    assert set(metrics) == {
        f"{split}/{name}" for split in ("train", "validation", "test") for name in ("loss", "accuracy")
    }


@pytest.mark.slow
def test_texts_tell_what_was_restored_frozen_and_set(browser: Browser, url):
    shown = screens.texts(browser, url, height=1600)
    cells = shown.texts("td")
    assert {"conv1/kernel", "by the end of the run", "learning_rate", "tensorflow", "processors"} <= set(cells)
    assert " ".join(NASTY[0].split()) in cells, "as it stands"
    assert any("restore plan: 4 of 8 variables from digits_autoencoder" in text for text in shown.texts("pre"))
    settled(shown, "text")


@pytest.mark.slow
def test_names_of_classes_are_text_wherever_tensorboard_shows_them(browser: Browser, url_of_nasty):
    for name, page in (("images", screens.images), ("text", screens.texts), ("hparams", screens.hparams)):
        settled(page(browser, url_of_nasty), f"{name}_nasty")
    shown = screens.scalars(browser, url_of_nasty, "pr_curves")
    assert f"class/0 {NASTY[0]}" in shown.texts(".heading-label")
    settled(shown, "pr_curves_nasty")
    shown = screens.projector(browser, url_of_nasty)
    assert "class 10 colors" in [" ".join(text.split()) for text in shown.texts("paper-item")]
    settled(shown, "projector_nasty", rests=False)
