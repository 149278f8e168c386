"""The end of a run in TensorBoard: what it holds, and that an earlier end leaves nothing behind."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata

from tests.evaluation.test_test_results import guessed
from tfxfer.errors import RunError
from tfxfer.tensorboard import results

SETTINGS = {"epochs": 3, "model": "vgg16", "keep": 5}
FROZEN = {
    "method": "SHA-256",
    "variables": {"conv1/kernel": "ab12", "conv1/bias": "cd34"},
    "checks": [{"step": 9, "when": "by the end of the run", "unchanged": 2}],
}
STATE = {
    "step": 9,
    "best": [{"step": 6, "loss": 0.25, "accuracy": 0.75}],
    "history": [
        {"step": 9, "epoch": 3, "split": "train", "loss": 0.5, "accuracy": 0.625, "learning_rate": 0.1},
        {"step": 9, "epoch": 3, "split": "validation", "loss": 0.3, "accuracy": 0.7},
    ],
}


def read(run) -> EventAccumulator:
    events = EventAccumulator(str(run / "results"))
    events.Reload()
    return events


def scalars(run) -> dict[str, list[tuple[int, float]]]:
    events = read(run)
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_final_metrics_are_those_of_the_best_validation_and_the_last_epoch(tmp_path):
    results.trained(tmp_path, SETTINGS, FROZEN, STATE)
    assert scalars(tmp_path) == {
        "validation/loss": [(9, 0.25)],
        "validation/accuracy": [(9, 0.75)],
        "train/loss": [(9, 0.5)],
        "train/accuracy": [(9, 0.625)],
    }


def test_settings_are_hyperparameters(tmp_path):
    results.trained(tmp_path, SETTINGS, FROZEN, STATE)
    content = read(tmp_path).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = hparams_metadata.parse_session_start_info_plugin_data(content).hparams
    assert {name: value.number_value or value.string_value for name, value in found.items()} == {
        "epochs": 3,
        "model": "vgg16",
    }


def test_the_proof_names_each_frozen_variable_and_each_check(tmp_path):
    results.trained(tmp_path, SETTINGS, FROZEN, STATE)
    text = read(tmp_path).Tensors("frozen")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("2 variables were frozen when the run began.")
    assert "| by the end of the run | 9 | 2 unchanged |" in text
    assert re.search(r"\| conv1/kernel \| ab12 \|", text)
    assert results.proof({"variables": {}, "checks": [], "method": ""}) == (
        "Nothing is frozen: all variables are trained."
    )


def test_a_test_adds_what_it_gave_and_a_second_one_takes_its_place(tmp_path):
    results.trained(tmp_path, SETTINGS, FROZEN, STATE)
    for seed in (0, 1):
        result, split = guessed(seed=seed)
        results.tested(tmp_path, result, split, 9)
    found = scalars(tmp_path)
    assert found["test/accuracy"] == [(9, pytest.approx(result.accuracy))]
    assert found["validation/accuracy"] == [(9, 0.75)]
    events = read(tmp_path)
    assert sorted(events.Tags()["images"]) == ["confusion", "mistakes"]
    assert len(events.Images("confusion")) == len(events.Images("mistakes")) == 1
    assert sum(tag.startswith("class/") for tag in events.Tags()["tensors"]) == 3
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_a_run_that_went_on_has_the_test_of_its_earlier_end_no_more(tmp_path):
    result, split = guessed()
    results.trained(tmp_path, SETTINGS, FROZEN, STATE)
    results.tested(tmp_path, result, split, 9)
    (tmp_path / "results" / "mine.txt").write_text("stays")
    results.trained(tmp_path, {**SETTINGS, "epochs": 4}, FROZEN, {**STATE, "step": 12})
    found = scalars(tmp_path)
    assert "test/accuracy" not in found
    assert found["validation/accuracy"] == [(12, 0.75)]
    assert (tmp_path / "results" / "mine.txt").read_text() == "stays"


def test_examples_that_are_no_pictures_and_a_model_without_mistakes_are_no_error(tmp_path):
    result, split = guessed(images=np.zeros((40, 5), np.float32))
    results.tested(tmp_path, result, split, 1)
    assert read(tmp_path).Tags()["images"] == ["confusion"]
    result.probabilities[:] = np.eye(3)[result.labels]
    results.tested(tmp_path, *guessed()[:1], split, 1)
    _, pictures = guessed()
    results.tested(tmp_path, result, pictures, 1)
    assert read(tmp_path).Tags()["images"] == ["confusion"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "results").write_text("a file")
    result, split = guessed()
    with pytest.raises(RunError, match=r"cannot write the test for TensorBoard in .*: "):
        results.tested(tmp_path, result, split, 1)
