"""The pipeline on Apache Beam: another network, another store and bundles that are tried again."""
# ruff: noqa: F811  # imported fixtures are taken by their names

from __future__ import annotations

import re

import pytest

from tests.tools.test_extract_beam import HERE, alone, flags, needs_beam, pictures, pytestmark, rows  # noqa: F401
from tests.tools.test_predict import run
from tfxfer.errors import DataError
from tfxfer.store import store
from tfxfer.tools import extract_beam


@needs_beam
def test_a_worker_with_other_weights_or_another_store_is_refused(pictures, tmp_path, capsys, monkeypatch):
    from tfxfer.store.beam import pipeline

    here = pipeline._here
    monkeypatch.setattr(pipeline, "_here", lambda job: _elsewhere(here(job)))
    assert run(extract_beam, tmp_path / "s", *flags(pictures), "--", HERE) == 1
    assert re.search(
        r"RunError: \S+ would compute something else \(address \w{12}, TensorFlow .*\) than .*address 000000000000",
        capsys.readouterr().err,
    )
    monkeypatch.undo()
    job = pipeline.Job(None, str(tmp_path / "s"), ".beam-of-another", (32, 32), "crop", 4, "float32")
    with pytest.raises(DataError, match=r"is not that of the machine that started the job; give `store` a directory"):
        pipeline._check_shared(job)


def _elsewhere(table: store.Table) -> store.Table:
    table.path = table.path.with_name("0" * 64)
    return table


@needs_beam
def test_a_bundle_that_the_runner_tries_again_doubles_nothing(pictures, tmp_path, monkeypatch, capsys):
    from tfxfer.store.beam import pipeline

    calls = []
    compute = pipeline.Extract.compute

    def flaky(self):
        calls.append(len(calls))
        if len(calls) in (3, 9):
            raise RuntimeError("this attempt fails")
        compute(self)

    monkeypatch.setattr(pipeline.Extract, "compute", flaky)
    monkeypatch.setattr(pipeline.Extract, "seconds", 0.0)
    again = "--runner=apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"
    wanted = alone(tmp_path, *flags(pictures, "--batch_size=4"))
    assert run(extract_beam, tmp_path / "s", *flags(pictures, "--batch_size=4"), "--", again) == 0
    assert len(calls) > 15
    assert rows(tmp_path / "s") == (wanted, len(wanted))
