"""frozen.json: which digests hold in which epoch, and what is refused."""

from __future__ import annotations

import pytest

from tests.train.test_fit import Small, two_classes
from tfxfer.errors import RunError


def test_a_lost_frozen_json_is_an_error(tmp_path):
    Small().fit(two_classes(), tmp_path / "run")
    (tmp_path / "run/frozen.json").unlink()
    with pytest.raises(RunError, match=r"has lost its frozen\.json"):
        Small().fit(two_classes(), tmp_path / "run")
