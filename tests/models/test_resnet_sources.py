"""The form in which weights of ResNet circulate; `test_normalised_sources` has its names and shapes."""

from __future__ import annotations

import pytest

from tfxfer.models.resnet_sources import SOURCES, blocks
from tfxfer.models.sources import named


def test_the_first_block_of_a_stage_has_a_shortcut_where_its_shape_changes():
    with_shortcut = {model: [b.name for b in blocks(model) if b.shortens] for model in ("resnet34", "resnet50")}
    assert with_shortcut == {
        "resnet34": ["block2_1", "block3_1", "block4_1"],
        "resnet50": ["block1_1", "block2_1", "block3_1", "block4_1"],
    }


@pytest.mark.parametrize(("theirs", "ours"), [
    ("conv1.weight", "stem/kernel"),
    ("bn1.running_mean", "stem_bn/moving_mean"),
    ("layer1.0.conv1.weight", "block1_1/conv1/kernel"),
    ("layer1.0.downsample.0.weight", "block1_1/shortcut/kernel"),
    ("layer3.22.bn3.bias", "block3_23/conv3_bn/beta"),
    ("layer4.0.downsample.1.running_var", "block4_1/shortcut_bn/moving_variance"),
    ("layer4.1.downsample.0.weight", None),
    ("layer3.23.conv1.weight", None),
    ("fc.weight", "fc/kernel"),
])  # fmt: skip
def test_the_names_of_torchvision_become_ours(theirs, ours):
    assert named(SOURCES, "resnet101_torchvision").ours(theirs) == ours


def test_only_an_unbroken_row_of_blocks_is_a_part_of_a_resnet():
    # timm's resnet26 has the names and shapes of a resnet50 without some blocks of every stage.
    assert all(source.unbroken for source in SOURCES)
