"""Where the variables came from, and what is proved of those that are frozen."""

from __future__ import annotations

import json

from tests import made_runs
from tests.made_runs import make
from tests.reports.pages import own, shown
from tfxfer.reports import restore_table


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
