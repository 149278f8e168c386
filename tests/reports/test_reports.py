"""Writing the page: the same bytes for the same run, in one step."""

from __future__ import annotations

import shutil

import pytest

from tfxfer import reports


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(finished, tmp_path):
    elsewhere = tmp_path / "deep" / "er" / finished.name
    shutil.copytree(finished, elsewhere)
    first = reports.report(finished).write(tmp_path / "first.html")
    second = reports.report(elsewhere).write()
    assert second == elsewhere / "report.html"
    assert first.read_bytes() == second.read_bytes()
    # The page is not made of itself.
    assert reports.report(elsewhere).write().read_bytes() == first.read_bytes()


def test_a_page_that_cannot_be_written_leaves_the_old_one(finished, tmp_path):
    with pytest.raises(FileNotFoundError):
        reports.report(finished).write(tmp_path / "nowhere" / "page.html")
