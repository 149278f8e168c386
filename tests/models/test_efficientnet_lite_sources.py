"""The forms in which weights of EfficientNet-Lite circulate."""

from __future__ import annotations

import numpy as np
import pytest

import tfxfer as tx
from tfxfer.errors import WeightsError
from tfxfer.models.efficientnet_lite_sources import VERSIONS, blocks, variables

# Of the second block, as tensorflow/tpu's efficientnet_model.py calls it in a checkpoint, and ours.
SECOND = {
    "conv2d/kernel": "expand/kernel",
    "tpu_batch_normalization/gamma": "expand_bn/gamma",
    "depthwise_conv2d/depthwise_kernel": "depthwise/depthwise_kernel",
    "tpu_batch_normalization_1/moving_mean": "depthwise_bn/moving_mean",
    "conv2d_1/kernel": "project/kernel",
    "tpu_batch_normalization_2/beta": "project_bn/beta",
}
REST = {
    "stem/conv2d/kernel": "stem/kernel",
    "stem/tpu_batch_normalization/moving_variance": "stem_bn/moving_variance",
    "blocks_0/depthwise_conv2d/depthwise_kernel": "block1_1/depthwise/depthwise_kernel",
    "blocks_0/conv2d/kernel": "block1_1/project/kernel",
    "blocks_0/tpu_batch_normalization_1/gamma": "block1_1/project_bn/gamma",
    "head/conv2d/kernel": "head/kernel",
    "head/dense/kernel": "fc/kernel",
    "head/dense/bias": "fc/bias",
}
AVERAGE = "/ExponentialMovingAverage"


def checkpoint(path, model: str, *ends: str) -> dict[str, str]:
    """Save the arrays above under TensorFlow's names with these ends, the values by their end; return our names."""
    table = REST | {f"blocks_1/{theirs}": f"block2_1/{ours}" for theirs, ours in SECOND.items()}
    arrays = {"global_step": np.array(5, np.int64)}
    for theirs, ours in table.items():
        shape = [2 if side is None else side for side in variables(model)[ours]]
        for value, end in enumerate(ends):
            arrays[f"{model.replace('_', '-')}/{theirs}{end}"] = np.full(shape, value, np.float32)
    np.savez(path, **arrays)
    return table


@pytest.mark.parametrize(("end", "form"), [("", "tf"), (AVERAGE, "tf_ema")])
@pytest.mark.parametrize("model", ["efficientnet_lite0", "efficientnet_lite3"])
def test_tensorflows_names_are_read(model, end, form, tmp_path):
    table = checkpoint(tmp_path / "w.npz", model, end)
    recognised = tx.recognise(tmp_path / "w.npz")
    assert recognised.source == f"{model}_{form}"
    assert set(recognised.weights) >= set(table.values())


def test_a_checkpoint_with_averages_beside_its_variables_is_asked_about(tmp_path):
    checkpoint(tmp_path / "w.npz", "efficientnet_lite1", "", AVERAGE)
    with pytest.raises(WeightsError, match="may come from 2 sources") as caught:
        tx.recognise(tmp_path / "w.npz")
    for value, source in enumerate(("efficientnet_lite1_tf", "efficientnet_lite1_tf_ema")):
        assert f"  {source} (TensorFlow's checkpoint, " in str(caught.value)
        recognised = tx.recognise(tmp_path / "w.npz", source=source)  # the cure that the message names
        assert recognised.weights["stem/kernel"].ravel()[0] == value


def test_timm_brings_pixels_to_minus_1_and_1_and_the_authors_nearly():
    specs = {source.name: source.input_spec for source in tx.models.registry.MODELS["efficientnet_lite0"].sources}
    ends = {name: [(pixel - spec.mean[0]) * spec.scale[0] for pixel in (0, 255)] for name, spec in specs.items()}
    assert ends["efficientnet_lite0_timm"] == pytest.approx([-1, 1])
    assert ends["efficientnet_lite0_pytorch"] == ends["efficientnet_lite0_tf"] == [-127 / 128, 1]


def test_channels_are_rounded_to_8_and_never_by_more_than_a_tenth_down():
    for model, (width, _, _) in VERSIONS.items():
        for block, plain in zip(blocks(model)[:1], (16,), strict=True):
            assert block.outgoing % 8 == 0
            assert block.outgoing >= 0.9 * width * plain
