"""MobileNetV2 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381), 1.0, as torchvision and timm train it.

Rows and columns of zeros are put on all four sides alike. Keras's and TF-slim's MobileNetV2 pads as TensorFlow's "SAME"
does: it is another network, for which these weights do not serve. The files of its weights are in
`mobilenet_v2_sources`.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow.compat.v1 as tf

from tfxfer.graph.preprocessing import preprocess
from tfxfer.input_spec import InputSpec
from tfxfer.models.mobilenet_v2_sources import BLOCKS, HEAD, NAME, SOURCES, STEM, Block, endpoints, variables
from tfxfer.models.normalised import Convolutions, classify
from tfxfer.models.sources import check_last, torch_input_spec

__all__ = ["SOURCES", "mobilenet_v2", "variables"]

# torchvision/models/mobilenetv2.py; PyTorch's momentum of 0.1 is that of the new value.
CONVOLUTIONS = Convolutions(tf.nn.relu6, symmetric=True, epsilon=1e-5, momentum=0.9)


def mobilenet_v2(
    images: tf.Tensor,
    *,
    classes: int = 1000,
    last: str | None = None,
    dropout: float = 0.2,
    input_spec: InputSpec | None = None,
) -> dict[str, tf.Tensor]:
    """Build the network.

    Args:
      images: uint8 RGB [n, h, w, 3]; the weights that circulate were trained on 224x224. Any size will do.
      classes: how many outputs there are.
      last: the last endpoint to be built, if not all are wanted; what follows it has no variables either.
      dropout: the share of `pool` that training drops, in [0, 1).
      input_spec: what the weights expect of their input, as `tfxfer.recognise` finds it. Default: that of torchvision.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3]; `stem` [n, h/2, w/2, 32]; `block1_1`, `block2_1`, `block2_2`, ...,
      `block7_1` [n, h/32, w/32, 320] (rounded up); `head` [n, h/32, w/32, 1280]; `pool`, the average of it; `fc`
      [n, classes], the logits; and `prob`.

    Raises:
      DataError: images are not uint8 or not RGB.
      GraphError: the network has no endpoint `last`.
    """
    check_last(NAME, last, endpoints())
    with tf.name_scope(NAME.upper()):
        x = preprocess(images, input_spec or torch_input_spec(NAME, "torchvision's weights"))
        ends = inverted_residuals(x, BLOCKS, CONVOLUTIONS, last)
        classify(ends, last, classes, dropout)
    return ends


def inverted_residuals(
    x: tf.Tensor, blocks: Sequence[Block], convolutions: Convolutions, last: str | None
) -> dict[str, tf.Tensor]:
    """Build `stem`, these blocks and `head` on an input, up to the endpoint `last`, and return the endpoints."""
    ends = {"input": x}
    if last not in ends:
        x = ends["stem"] = convolutions.conv2d(x, STEM, 3, "stem", strides=2)
    for block in blocks:
        if last not in ends:
            x = ends[block.name] = _inverted_residual(x, block, convolutions)
    if last not in ends:
        ends["head"] = convolutions.conv2d(x, HEAD, 1, "head")
    return ends


def _inverted_residual(x: tf.Tensor, block: Block, convolutions: Convolutions) -> tf.Tensor:
    with tf.variable_scope(block.name):
        y = convolutions.conv2d(x, block.expanded, 1, "expand") if block.expands else x
        y = convolutions.depthwise_conv2d(y, block.size, "depthwise", strides=block.strides)
        y = convolutions.conv2d(y, block.outgoing, 1, "project", activated=False)
        return tf.add(x, y, name="sum") if block.strides == 1 and block.incoming == block.outgoing else y
