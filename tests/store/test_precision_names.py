"""The names of precisions, and which of them the processor can do."""

from __future__ import annotations

import pytest

from tfxfer import processor
from tfxfer.errors import DataError
from tfxfer.store import precision_names


@pytest.fixture
def units(monkeypatch):
    return lambda *features: monkeypatch.setattr(processor, "features", lambda: set(features))


def test_what_the_processor_can_do_is_taken(units):
    units("avx512_bf16")
    for name in precision_names.PRECISIONS:
        precision_names.check(name)
    units("avx2")
    for name in ("auto", "float32", "folded"):
        precision_names.check(name)


def test_bfloat16_is_refused_without_units(units):
    units("avx2", "avx512f")
    said = r"`precision=bfloat16`: .*none of amx_bf16, avx512_bf16, and would be 0\.4 times.*leave `precision` out"
    with pytest.raises(DataError, match=said):
        precision_names.check("bfloat16")


def test_bfloat16_is_refused_where_onednn_is_switched_off(units, monkeypatch):
    units("amx_bf16")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    said = r"`precision=bfloat16`: with TF_ENABLE_ONEDNN_OPTS=0 .* without oneDNN.*leave `precision` out"
    with pytest.raises(DataError, match=said):
        precision_names.check("bfloat16")
    precision_names.check("folded")


def test_only_bfloat16_needs_units(units):
    units("avx2")
    assert [name for name in precision_names.HOW if precision_names.is_possible(name)] == ["float32", "folded"]
    units("amx_bf16")
    assert all(map(precision_names.is_possible, precision_names.HOW))


def test_another_name_is_refused():
    with pytest.raises(DataError, match="`precision=int8`: it is one of auto, bfloat16, float32, folded"):
        precision_names.check("int8")


def test_each_is_described_but_auto():
    assert {"auto", *precision_names.HOW} == set(precision_names.PRECISIONS)
