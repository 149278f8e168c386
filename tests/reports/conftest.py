"""What the tests of the page share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.made_runs import NASTY, make


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A finished and tested run whose classes have strange names."""
    return make(tmp_path_factory.mktemp("runs") / "finished", NASTY)
