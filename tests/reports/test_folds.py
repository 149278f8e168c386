"""The section of the page that has the accuracies of all folds."""

from __future__ import annotations

from tests.made_runs import make
from tests.reports.pages import shown
from tests.statistics.test_folds import FOLDS
from tfxfer import files
from tfxfer.reports.folds import fold_name
from tfxfer.statistics.folds import FILE


def test_a_run_of_a_fold_shows_all_folds_and_marks_its_own(tmp_path):
    run = make(tmp_path / "fold-2")
    files.write_json(run / FILE, FOLDS.to_json())
    parsed = shown(run)
    assert "folds" in parsed.values("id")
    assert "Mean 0.7519, standard deviation 0.1772; 22 of 29 right in all, 95 % interval 0.579 to 0.878" in parsed.text
    assert "This page is of fold-2." in parsed.text
    assert "fold-1 0.9000 9 of 10 fold-2 0.8000 8 of 10" in parsed.text


def test_a_run_of_its_own_has_no_section_and_a_damaged_file_is_named(tmp_path):
    run = make(tmp_path / "run")
    assert "folds" not in shown(run).values("id")
    (run / FILE).write_text('{"folds": []}')
    parsed = shown(run)
    assert "folds" not in parsed.values("id")
    assert "folds.json cannot be used" in parsed.text


def test_the_name_of_a_fold_is_in_its_settings():
    assert fold_name({"fold": 2, "folds": 5}) == "fold 2 of 5"
    assert fold_name({"folds": None}) == fold_name({"epochs": 3}) == ""
