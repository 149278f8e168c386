"""The forms in which weights of MobileNetV2 circulate; `test_normalised_sources` has their names and shapes."""

from __future__ import annotations

import pytest

import tfxfer as tx
from tfxfer.errors import WeightsError
from tfxfer.models.mobilenet_v2_sources import BLOCKS, SOURCES, convolutions, in_timm
from tfxfer.models.sources import named


def test_a_block_that_does_not_expand_has_two_convolutions():
    assert [layer.name for layer in BLOCKS[0].convolutions()] == ["block1_1/depthwise", "block1_1/project"]
    assert [layer.name for layer in BLOCKS[1].convolutions()] == [
        f"block2_1/{kind}" for kind in ("expand", "depthwise", "project")
    ]
    assert len(list(convolutions(BLOCKS))) == 52


def test_timm_counts_from_0_within_each_stage():
    theirs = in_timm(BLOCKS)
    assert theirs["block1_1/project"] == ("blocks.0.0.conv_pw", "blocks.0.0.bn2")
    assert theirs["block4_3/expand"] == ("blocks.3.2.conv_pw", "blocks.3.2.bn1")
    assert theirs["block4_3/project"] == ("blocks.3.2.conv_pwl", "blocks.3.2.bn3")


def test_torchvision_counts_blocks_through_and_layers_within_them():
    ours = named(SOURCES, "mobilenet_v2_torchvision").ours
    assert ours("features.1.conv.0.0.weight") == "block1_1/depthwise/depthwise_kernel"
    assert ours("features.1.conv.1.weight") == "block1_1/project/kernel"
    assert ours("features.2.conv.2.weight") == "block2_1/project/kernel"
    assert ours("features.17.conv.3.running_var") == "block7_1/project_bn/moving_variance"
    assert ours("features.18.0.weight") == "head/kernel"
    assert ours("features.18.conv.0.0.weight") is None


def test_kerass_mobilenet_v2_is_not_taken_for_it(real_data):
    with pytest.raises(WeightsError, match="is none of the"):
        tx.recognise(real_data("weights/mobilenet_v2_1_0_224_notop.h5"))
