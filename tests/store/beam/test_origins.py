"""Pictures of a job on Apache Beam: in folders, listings and patterns; what is bad; what is not there."""
# ruff: noqa: F811  # imported fixtures are taken by their names

from __future__ import annotations

import json
import os
import re

import pytest

from tests.tools.test_extract_beam import HERE, NETWORK, alone, flags, needs_beam, pictures, pytestmark, rows  # noqa: F401
from tests.tools.test_predict import run
from tfxfer.tools import extract_beam, make_listing


@needs_beam
def test_a_folder_a_listing_and_a_pattern_give_the_rows_of_one_machine(pictures, tmp_path, capsys):
    wanted = alone(tmp_path, *flags(pictures))
    assert run(make_listing, pictures, tmp_path / "lists") == 0
    text = "".join((tmp_path / "lists" / name).read_text() for name in ("train.txt", "val.txt"))
    listing = tmp_path / "list.txt"
    listing.write_text(f"# twice\n{text}{text}no-label.png\n../outside.png 1\ngone.png 1\n")
    for name, kind in (
        ("a", ["--dataset=folder", f"--data_dir={pictures}"]),
        ("b", ["--dataset=listing", f"--listing={listing}", f"--data_dir={pictures}"]),
        ("c", ["--dataset=pattern", f"--pattern={pictures}/**.png"]),
    ):
        assert run(extract_beam, tmp_path / name, *NETWORK, *kind, "--", HERE) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith(f"{tmp_path / name}: conv1:mean of 6")
        assert rows(tmp_path / name) == (wanted, len(wanted))
        assert run(extract_beam, tmp_path / name, *NETWORK, *kind, "--", HERE) == 0
        assert "0 computed, 60 there before" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "b/bad-pictures.jsonl").read_text().splitlines()]
    assert {os.path.basename(line["path"]): line["reason"].split(";")[0] for line in lines} == {
        "no-label.png": "has no label",
        "outside.png": f"is outside of {pictures}",
        "gone.png": "is not there",
    }


@needs_beam
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--dataset=pattern", "--pattern=/nowhere/**.jpg"], "matches no file; in it, \\* stands for"),
        (["--dataset=folder", "--data_dir=/nowhere"], "matches no file; give the folder that has one subfolder"),
        (["--dataset=listing", "--listing=abc://b/list.txt"], "has no file system for abc:// here; pip install"),
    ],
)
def test_pictures_that_are_not_there_are_refused_before_a_worker_is_started(given, message, tmp_path, capsys):
    assert run(extract_beam, tmp_path / "s", *NETWORK, *given, "--", HERE) == 1
    assert re.search(message, capsys.readouterr().err)
