import os

import pytest

from tfxfer import processor


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="only Linux tells what its processor can do")
def test_the_processor_is_read_from_where_linux_tells():
    assert "fpu" in processor.features()


@pytest.mark.parametrize(
    ("features", "expected"), [({"avx2", "amx_bf16"}, True), ({"avx2", "avx512f"}, False), (set(), False)]
)
def test_units_for_bfloat16_are_those_of_amx_or_avx512(monkeypatch, features, expected):
    monkeypatch.delenv(processor.SWITCH, raising=False)
    monkeypatch.setattr(processor, "features", lambda: features)
    assert processor.has_units() == expected


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("False", False), ("1", True), ("", True)])
def test_without_onednn_the_units_are_not_used(monkeypatch, value, expected):
    monkeypatch.setattr(processor, "features", lambda: {"amx_bf16"})
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
    assert processor.has_units() == expected
    assert ("TF_ENABLE_ONEDNN_OPTS" in processor.without_units()) != expected
