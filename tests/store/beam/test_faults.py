"""What workers of Apache Beam refuse comes back as it was raised there."""

from __future__ import annotations

import pytest

from tfxfer.errors import DataError, RunError
from tfxfer.store.beam import faults


def test_what_a_worker_refused_is_raised_as_it_was_raised_there():
    text = "Traceback ...\ntfxfer.errors.DataError: the disk is full;\n  mend it [while running 'Extract']\n\nmore"
    with pytest.raises(DataError, match=r"^the disk is full;\n  mend it$"), faults.translated():
        raise RuntimeError(text)
    with pytest.raises(RunError, match=r"^gone$"), faults.translated():
        raise RunError("gone [while running 'Extract']")
    with pytest.raises(RuntimeError, match="not ours"), faults.translated():
        raise RuntimeError("not ours")
