"""test_examples.csv: what is written is read, whatever the names, and what is damaged is refused by name."""

from __future__ import annotations

import re

import pytest

from tests.made_runs import NASTY
from tfxfer.errors import RunError
from tfxfer.runs import test_examples
from tfxfer.runs.test_examples import ExampleResult

STRANGE = [
    ExampleResult(index, bool(index % 2), name, "line\nbreak, and comma", 0.1 + index / 7, "ab" * 32, name)
    for index, name in enumerate(NASTY)
]


def test_what_is_written_is_read(tmp_path):
    (tmp_path / test_examples.FILE).write_bytes(test_examples.to_csv(STRANGE))
    assert test_examples.read(tmp_path) == STRANGE


def test_an_example_without_a_file_is_called_by_its_number():
    assert STRANGE[1]._replace(path="").name == "example 1"
    assert STRANGE[2].name == NASTY[2]


@pytest.mark.parametrize("text", [b"", b"a,b\n1,2\n", b"x" * 300_000])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / test_examples.FILE).write_bytes(text)
    with pytest.raises(RunError, match=r"test_examples.csv is damaged: .*; `tfxfer evaluate .*` tests the run"):
        test_examples.read(tmp_path)


@pytest.mark.parametrize(("before", "after"), [("0,0,", "0,2,"), ("1,1,", "x,1,"), (",0.1,", ",?,"), ("ab,", "ab")])
def test_a_damaged_line_is_refused(tmp_path, before, after):
    text = test_examples.to_csv(STRANGE).decode("utf-8", "surrogateescape").replace(before, after, 1)
    (tmp_path / test_examples.FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match="damaged"):
        test_examples.read(tmp_path)


def test_a_run_that_was_not_tested_says_how_to_test_it(tmp_path):
    with pytest.raises(RunError, match=re.escape(f"`tfxfer evaluate {tmp_path}` tests the run and writes it")):
        test_examples.read(tmp_path)
