"""frozen.json: which digests hold in which epoch, and what is refused."""

from __future__ import annotations

import pytest

from tests.train.test_fit import Small, two_classes
from tfxfer.errors import RunError
from tfxfer.runs.frozen import FrozenRecord


def test_a_lost_frozen_json_is_an_error(tmp_path):
    Small().fit(two_classes(), tmp_path / "run")
    (tmp_path / "run/frozen.json").unlink()
    with pytest.raises(RunError, match=r"has lost its frozen\.json"):
        Small().fit(two_classes(), tmp_path / "run")


def test_what_a_later_stage_writes_is_not_compared_from_its_epoch_on():
    record = FrozenRecord("SHA-256", {"a": "0", "b": "1", "c": "2"}, stages=[(2, ["b"]), (5, ["c"])])
    assert [sorted(record.at(epoch)) for epoch in (0, 1, 2, 4, 5)] == [[*"abc"], [*"abc"], [*"ac"], [*"ac"], ["a"]]
    assert FrozenRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize("changes", [
    {"method": None}, {"variables": {"a": 1}}, {"stages": [{"epoch": "x", "writes": []}]},
    {"stages": [{"epoch": 1, "writes": [3]}]}, {"checks": [{"step": 1}]}, {"checks": None},
])  # fmt: skip
def test_a_record_of_another_form_is_refused(changes):
    value = FrozenRecord("SHA-256", {"a": "0"}, checks=[{"step": 1, "when": "now", "unchanged": 1}]).to_json()
    assert FrozenRecord.from_json(value).to_json() == value
    with pytest.raises(ValueError, match="it does not hold digests by name and what was checked"):
        FrozenRecord.from_json({**value, **changes})
