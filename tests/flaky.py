"""Extraction on Apache Beam whose batches fail at random, or whose worker is killed; started as a user starts a tool.

    python tests/flaky.py fail:RATE|kill:FILE STORE FLAGS... -- BEAM OPTIONS...

Workers import this module by its name, so that its folder must be on their PYTHONPATH.
"""

from __future__ import annotations

import os
import random
import signal
import sys

from tfxfer.store.beam import pipeline
from tfxfer.tools import _flags, extract_beam


class Flaky(pipeline.Extract):
    """Fails before a batch is computed; what is computed is written after each."""

    seconds = 0.0

    def compute(self) -> None:
        kind, _, what = os.environ["TFXFER_TEST_FLAKY"].partition(":")
        if kind == "fail" and random.SystemRandom().random() < float(what):
            raise RuntimeError("this attempt fails")
        super().compute()
        if kind == "kill":
            try:
                os.close(os.open(what, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


def main(kind: str, *args: str) -> int:
    os.environ["TFXFER_TEST_FLAKY"] = kind
    pipeline.Extract = Flaky
    return _flags.run(extract_beam.main, ["tfxfer extract_beam", *args])


if __name__ == "__main__":
    import flaky

    sys.exit(flaky.main(*sys.argv[1:]))
