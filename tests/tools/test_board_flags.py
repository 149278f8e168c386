"""The flags of tools/_board.py: what they make of a training, and what is said of those that cannot be used."""

from __future__ import annotations

import pytest
from absl import flags
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.test_main_job import run
from tfxfer.graph.summary_options import DEFAULT, SHOWN
from tfxfer.runs.settings import read_settings
from tfxfer.tools import _board, _flags, train

SMALL = ["--restore=none", "--epochs=1", "--train_examples=100", "--hidden=none"]


def parsed(*given: str) -> flags.FlagValues:
    values = flags.FlagValues()
    _board.define(values)
    _flags.parse(values, ["train", *given], None)
    return values


@pytest.mark.parametrize(("given", "value"), [
    ([], list(DEFAULT)), (["--summaries=all"], list(SHOWN)), (["--summaries=none"], []), (["--summaries="], []),
    (["--summaries=graph, trace"], ["graph", "trace"]),
])  # fmt: skip
def test_summaries_are_names_or_all_or_none(given, value):
    assert parsed(*given).summaries == value


def test_endpoints_and_places_are_lists():
    values = parsed("--activations=conv1,fire9:mean", "--shown=5,0")
    assert (values.activations, values.shown) == (["conv1", "fire9:mean"], [5, 0])


@pytest.mark.parametrize(("given", "message"), [
    ("--summaries=graphs", r"'graphs' is not known \(did you mean graph\?\); write all, none, or some of graph, text"),
    ("--shown=-1", "write integers from 0 on, as in 0,1,2,3"),
    ("--shown=", "write integers from 0 on"),
])  # fmt: skip
def test_what_cannot_be_shown_is_bad_usage(given, message):
    with pytest.raises(_flags.UsageError, match=message):
        parsed(given)


def test_help_says_what_each_name_shows():
    values = flags.FlagValues()
    _board.define(values)
    text = " ".join(_flags.help_text(values, "").split())
    assert all(f"{name}: {what}" in text for name, what in SHOWN.items())
    assert "NAME,...|all|none" in text


def tags(run_directory, name: str) -> dict:
    events = EventAccumulator(str(run_directory / name))
    events.Reload()
    return events.Tags()


def test_an_endpoint_that_is_not_there_is_named_with_those_that_are(tmp_path, capsys):
    assert run(train, *SMALL, f"--logdir={tmp_path / 'run'}", "--activations=conv1,pool9") == 1
    said = capsys.readouterr().err
    assert "GraphError: --activations: the network has no endpoint pool9; it has input, conv1, conv2, flatten" in said
    assert not (tmp_path / "run").exists()


def test_all_of_a_network_without_pooling_is_shown_by_its_first_and_last_convolution(tmp_path):
    assert run(train, *SMALL, f"--logdir={tmp_path / 'run'}", "--summaries=all", "--shown=3") == 0
    found = tags(tmp_path / "run", "train")
    assert {"activations/conv1", "activations/conv2"} <= set(found["histograms"])
    assert "input_image/image" in str(found["images"])
    assert 'tensor_name: "conv2"' in (tmp_path / "run/train/projector_config.pbtxt").read_text()
    assert sorted(tags(tmp_path / "run", "results")["images"]) == ["confusion", "mistakes", "reliability"]
    assert "test/accuracy" in tags(tmp_path / "run", "results")["scalars"]
    assert "summaries" not in read_settings(tmp_path / "run").by_name()


def test_nothing_but_scalars_on_request_and_more_when_the_run_goes_on(tmp_path, capsys):
    given = [*SMALL, f"--logdir={tmp_path / 'run'}"]
    assert run(train, *given, "--summaries=none") == 0
    assert not (tmp_path / "run/results").exists()
    assert tags(tmp_path / "run", "train")["histograms"] == []
    alone = capsys.readouterr().out.strip().splitlines()[-1]
    assert run(train, *given, "--summaries=results") == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == alone
    assert "test/accuracy" in tags(tmp_path / "run", "results")["scalars"]


def test_of_a_network_with_pooling_the_first_and_the_last_pooling_layer_are_shown():
    class End:
        def __init__(self, rank):
            self.shape = type("Shape", (), {"rank": rank})

    ends = {name: End(4) for name in ("input", "conv1", "pool1", "fire2", "pool4", "pool8", "fire9")} | {
        "pool10": End(2)
    }
    values = parsed("--summaries=projector")
    assert list(_board.step(values, ends)["activations"]) == ["pool1", "pool8"]
    assert _board.step(parsed(), ends)["activations"] == {}
    assert list(_board.step(parsed("--activations=fire2"), ends)["activations"]) == ["fire2"]
