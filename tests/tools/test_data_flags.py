"""The flags that say which examples there are: a run goes on as it decoded its pictures before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.test_pictures import encoded, photo
from tfxfer.input_spec import InputSpec
from tfxfer.tools import _data_flags, train


def settings_of(tmp_path: Path, *flags: str):
    """Parse flags of a run on two classes of JPEGs."""
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
        for number in range(10):
            data = encoded(photo(90, 90, number), "JPEG")
            (tmp_path / "pets" / name / f"{number}.jpg").write_bytes(data)
    settings = train.define_flags()
    settings(["train", f"--logdir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'pets'}", "--store=none", *flags])
    _data_flags.imply(settings)
    return settings


@pytest.mark.parametrize(
    ("before", "flags", "decode"),
    [
        (None, [], "scaled"),
        (None, ["--decode=exact"], "exact"),
        ({}, [], None),
        ({}, ["--decode=exact"], None),
        ({}, ["--decode=scaled"], "scaled"),
        ({}, ["--overwrite"], "scaled"),
        ({"decode": "exact"}, [], "exact"),
        ({"decode": "scaled"}, [], "scaled"),
    ],
)
def test_a_run_goes_on_as_it_decoded_its_pictures_and_one_of_before_exactly(tmp_path, before, flags, decode):
    if before is not None:
        (tmp_path / "run").mkdir()
        stored = {"steps_per_epoch": 1, "fit": {}, "training": {}, "settings": before}
        (tmp_path / "run" / "settings.json").write_text(json.dumps(stored))
    assert settings_of(tmp_path, *flags).decode == decode


def test_pictures_are_decoded_as_the_input_spec_says(tmp_path):
    spec = InputSpec("tiny", "my own", (32, 32), "RGB", (0, 0, 0), (1, 1, 1), decode="scaled")
    assert _data_flags.load(settings_of(tmp_path), spec).train.images.decode == "scaled"


def test_settings_of_another_program_are_left_to_whoever_opens_the_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text('{"editor.tabSize": 4}')
    assert settings_of(tmp_path).decode == "scaled"
