"""settings.json: what is shown of its parts, what may change when a run goes on, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import types

import pytest

from tfxfer.errors import RunError
from tfxfer.runs.settings import RunSettings, compare, merged, read_settings

BEGUN = RunSettings(
    steps_per_epoch=7,
    fit={"epochs": 2, "batch_size": 8, "keep": 5, "patience": None},
    training={"graph": "a", "update": "b", "learning_rate": {"schedule": "c"}, "restored": None, "l2": None},
    settings={"weights": "w", "learning_rate": 0.1},
)


def changed(**parts: dict) -> RunSettings:
    return dataclasses.replace(BEGUN, **{name: {**getattr(BEGUN, name), **part} for name, part in parts.items()})


def test_settings_are_read_as_they_were_written(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps(BEGUN.to_json()))
    assert read_settings(tmp_path) == BEGUN


def test_what_the_caller_says_is_shown_before_what_was_worked_out_and_numbers_of_fit_before_both():
    shown = changed(settings={"epochs": "many"}).by_name()
    assert (shown["learning_rate"], shown["epochs"], shown["settings.epochs"]) == (0.1, 2, "many")


def test_nothing_of_the_callers_takes_the_place_of_what_a_network_is_imported_by():
    tensors = {"images": "images:0"}
    shown = changed(training={"tensors": tensors}, settings={"tensors": "many", "eval_feeds": "x=1"}).by_name()
    assert (shown["tensors"], shown["settings.tensors"], shown["settings.eval_feeds"]) == (tensors, "many", "x=1")
    assert "eval_feeds" not in shown


@pytest.mark.parametrize(("parts", "refused"), [
    ({"fit": {"batch_size": 9}}, ["`batch_size`: was 8, now 9"]),
    ({"fit": {"epochs": 1}}, ["`epochs`: was 2, now 1"]),
    ({"settings": {"weights": "v"}}, ['`weights`: was "w", now "v"']),
    ({"settings": {"keep": 1}}, ['`settings["keep"]`: was not set, now 1']),
    ({"training": {"l2": 0.5}, "fit": {"batch_size": 9}}, ["`l2`: was not set, now 0.5", "`batch_size`: was 8, now 9"]),
    ({"training": {"learning_rate": {"schedule": "d"}}},
     ['`learning_rate`: was {"schedule": "c"}, now {"schedule": "d"}']),
    # A flag tells of a schedule in words.
    ({"training": {"learning_rate": {"schedule": "d"}}, "settings": {"learning_rate": 1}},
     ["`learning_rate`: was 0.1, now 1"]),
])  # fmt: skip
def test_each_setting_that_may_not_change_is_refused_in_words(parts, refused):
    assert compare(BEGUN, changed(**parts)).refused == refused


@pytest.mark.parametrize(("parts", "may_change", "notes"), [
    ({"fit": {"epochs": 3}}, (), []),
    ({"fit": {"keep": 1}}, (), ["`keep`: was 5, now 1"]),
    ({"settings": {"weights": "v"}}, ("weights",), ['`weights`: was "w", now "v"']),
    ({"training": {"restored": "d"}}, (), ["restored: cannot be compared with what the run began with"]),
    ({"training": {"optimizer": "x"}}, (), ["optimizer: cannot be compared with what the run began with"]),
    ({"fit": {"epochs": 3}, "training": {"learning_rate": {"schedule": "d"}}}, (),
     ['`learning_rate`: was {"schedule": "c"}, now {"schedule": "d"}']),
])  # fmt: skip
def test_what_may_change_is_noted(parts, may_change, notes):
    differences = compare(BEGUN, changed(**parts), may_change)
    assert (differences.refused, differences.notes) == ([], notes)


def test_digests_of_the_graph_are_told_apart():
    differences = compare(BEGUN, changed(training={"graph": "x"}))
    assert differences.refused == []
    assert [line.partition(":")[0] for line in differences.of_graph] == ["graph"]


def test_what_is_stored_of_a_run_that_goes_on_keeps_what_is_not_said_again():
    now = changed(fit={"epochs": 3, "patience": None}, training={"restored": "r"})
    stored = merged(changed(settings={"old": 1}, fit={"patience": 4}), now)
    assert stored.settings == {"weights": "w", "learning_rate": 0.1, "old": 1}
    assert (stored.fit["epochs"], stored.fit["patience"], stored.training["restored"]) == (3, None, "r")


def test_what_may_change_and_is_not_set_any_more_is_noted_once():
    now = changed(settings={"weights": None})
    stored = merged(BEGUN, now, ["weights"])
    assert stored.settings == {"weights": None, "learning_rate": 0.1}
    assert compare(stored, now, ["weights"]).notes == []


def test_settings_are_any_mapping():
    own = types.MappingProxyType({"weights": "w", "learning_rate": 0.1})
    assert dataclasses.replace(BEGUN, settings=own).to_json() == BEGUN.to_json()


@pytest.mark.parametrize(("text", "why"), [
    ("{", "it is not JSON"),
    ("[" * 100_000, "it is nested too deeply"),
    ("[]", "it is not a JSON object"),
    ("{}", r"it does not say how many steps an epoch has \(steps_per_epoch\)"),
    ('{"steps_per_epoch": 0, "fit": {}}', "it does not say how many steps"),
    ('{"steps_per_epoch": 7, "fit": {}}', "it has no training and no settings"),
])  # fmt: skip
def test_damaged_settings_are_refused_with_the_cure(tmp_path, text, why):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(RunError, match=rf"settings\.json is damaged: {why}.*put it back, or begin anew"):
        read_settings(tmp_path)
