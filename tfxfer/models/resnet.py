"""ResNet (He et al., 2015, https://arxiv.org/abs/1512.03385), with 18 to 152 layers, as torchvision and timm train it.

This is the version that is known as 1.5: a block of three convolutions has its stride in the one of 3x3. The files of
its weights are in `resnet_sources`.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from tfxfer.graph.preprocessing import preprocess
from tfxfer.input_spec import InputSpec
from tfxfer.models.family import member
from tfxfer.models.normalised import Convolutions, classify
from tfxfer.models.resnet_sources import SOURCES, STEM, Block, blocks, endpoints, variables
from tfxfer.models.sources import check_last, torch_input_spec

__all__ = ["SOURCES", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "variables"]

# torchvision/models/resnet.py; PyTorch's momentum of 0.1 is that of the new value.
CONVOLUTIONS = Convolutions(tf.nn.relu, symmetric=True, epsilon=1e-5, momentum=0.9)


def _build(
    model: str,
    images: tf.Tensor,
    *,
    classes: int = 1000,
    last: str | None = None,
    dropout: float = 0.0,
    input_spec: InputSpec | None = None,
) -> dict[str, tf.Tensor]:
    """Build a version of the network.

    Args:
      images: uint8 RGB [n, h, w, 3]; the weights that circulate were trained on 224x224. Any size will do.
      classes: how many outputs there are.
      last: the last endpoint to be built, if not all are wanted; what follows it has no variables either.
      dropout: the share of `pool` that training drops, in [0, 1); the paper has none.
      input_spec: what the weights expect of their input, as `tfxfer.recognise` finds it. Default: that of torchvision.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3]; `stem` [n, h/2, w/2, 64]; `stem_pool` [n, h/4, w/4, 64]; `block1_1`,
      `block1_2`, ..., the last of them [n, h/32, w/32, 512], or 2048 channels from 50 layers on (rounded up); `pool`,
      the average of it; `fc` [n, classes], the logits; and `prob`.

    Raises:
      DataError: images are not uint8 or not RGB.
      GraphError: the network has no endpoint `last`.
    """
    check_last(model, last, endpoints(model))
    with tf.name_scope(model.upper()):
        x = preprocess(images, input_spec or torch_input_spec(model, "torchvision's weights"))
        ends = {"input": x}
        if last not in ends:
            x = ends["stem"] = CONVOLUTIONS.conv2d(x, STEM, 7, "stem", strides=2)
        if last not in ends:
            sides = [1, 1]
            x = ends["stem_pool"] = tf.nn.max_pool2d(x, 3, 2, [[0, 0], sides, sides, [0, 0]], name="stem_pool")
        for block in blocks(model):
            if last not in ends:
                x = ends[block.name] = _residual(x, block)
        classify(ends, last, classes, dropout)
    return ends


def _residual(x: tf.Tensor, block: Block) -> tf.Tensor:
    with tf.variable_scope(block.name):
        shortcut = x
        if block.shortens:
            shortcut = CONVOLUTIONS.conv2d(x, block.outgoing, 1, "shortcut", strides=block.strides, activated=False)
        *inner, (last, size) = enumerate(block.sizes, 1)
        for number, side in inner:
            strides = block.strides if number == len(inner) else 1  # in both kinds, the 3x3 before the last
            x = CONVOLUTIONS.conv2d(x, block.width, side, f"conv{number}", strides=strides)
        x = CONVOLUTIONS.conv2d(x, block.outgoing, size, f"conv{last}", activated=False)
        return tf.nn.relu(x + shortcut)


resnet18 = member(_build, "resnet18", "Build the version of 18 layers.")
resnet34 = member(_build, "resnet34", "Build the version of 34 layers.")
resnet50 = member(_build, "resnet50", "Build the version of 50 layers.")
resnet101 = member(_build, "resnet101", "Build the version of 101 layers.")
resnet152 = member(_build, "resnet152", "Build the version of 152 layers.")
