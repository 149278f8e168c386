"""The filters of the first layer, before and after."""

from __future__ import annotations

import dataclasses
import json

from tests import made_runs
from tests.made_runs import make
from tests.reports.pages import shown
from tfxfer.input_spec import InputSpec
from tfxfer.markup import data_uri
from tfxfer.plots import tiles
from tfxfer.plots.png import png
from tfxfer.weights import open_weights


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


def test_filters_over_bgr_are_drawn_in_their_colours(tmp_path):
    run, mean = make(tmp_path / "run"), (0.0, 0.0, 0.0)
    spec = InputSpec("vgg16", "x", (224, 224), "RGB", mean=mean, scale=(1.0, 1.0, 1.0))
    drawn = []
    for channels in ("RGB", "BGR"):
        dataclasses.replace(spec, channels=channels).save(run / "best/model.ckpt-120")
        drawn.append(next(img["src"] for img in shown(run).all("img") if "filters" in str(img["alt"])))
    kernel = open_weights(run / "best")["conv1/kernel"]
    assert drawn == [data_uri(png(tiles.filters(kernel, bgr=bgr))) for bgr in (False, True)]


def test_a_broken_checkpoint_leaves_a_note(tmp_path):
    run = make(tmp_path / "run")
    (run / "best/model.ckpt-120.index").write_bytes(b"broken")
    assert "They cannot be shown: " in shown(run).text
