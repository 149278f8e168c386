"""EfficientNet-Lite (the TensorFlow authors, 2020), version 0 to 4.

EfficientNet (Tan and Le, 2019, https://arxiv.org/abs/1905.11946) without squeeze-excitation and with ReLU6, whose stem
and head are the same in every version: https://github.com/tensorflow/tpu, models/official/efficientnet/lite. The files
of its weights are in `efficientnet_lite_sources`.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from tfxfer.graph.preprocessing import preprocess
from tfxfer.input_spec import InputSpec
from tfxfer.models.efficientnet_lite_sources import SOURCES, authors, blocks, endpoints, variables
from tfxfer.models.family import member
from tfxfer.models.mobilenet_v2 import inverted_residuals
from tfxfer.models.normalised import Convolutions, classify
from tfxfer.models.sources import check_last

__all__ = [
    "SOURCES",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
    "variables",
]

# batch_norm_momentum and batch_norm_epsilon of efficientnet_lite_builder.py there.
CONVOLUTIONS = Convolutions(tf.nn.relu6, symmetric=False, epsilon=1e-3, momentum=0.99)


def _build(
    model: str,
    images: tf.Tensor,
    *,
    classes: int = 1000,
    last: str | None = None,
    dropout: float = 0.2,
    input_spec: InputSpec | None = None,
) -> dict[str, tf.Tensor]:
    """Build a version of the network.

    Args:
      images: uint8 RGB [n, h, w, 3]; the weights that circulate were trained on squares of 224 (Lite0), 240, 260, 280
        or 300 pixels (Lite4). Any size will do.
      classes: how many outputs there are.
      last: the last endpoint to be built, if not all are wanted; what follows it has no variables either.
      dropout: the share of `pool` that training drops, in [0, 1); the authors' is 0.2, and 0.3 from Lite2 on.
      input_spec: what the weights expect of their input, as `tfxfer.recognise` finds it. Default: that of the authors'
        weights.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3]; `stem` [n, h/2, w/2, 32]; `block1_1`, `block2_1`, `block2_2`, ...,
      `block7_1` [n, h/32, w/32, 320 to 448] (rounded up); `head` [n, h/32, w/32, 1280]; `pool`, the average of it; `fc`
      [n, classes], the logits; and `prob`.

    Raises:
      DataError: images are not uint8 or not RGB.
      GraphError: the network has no endpoint `last`.
    """
    check_last(model, last, endpoints(model))
    with tf.name_scope(model.upper()):
        x = preprocess(images, input_spec or authors(model, "the authors' weights"))
        ends = inverted_residuals(x, blocks(model), CONVOLUTIONS, last)
        classify(ends, last, classes, dropout)
    return ends


efficientnet_lite0 = member(_build, "efficientnet_lite0", "Build Lite0: 4.7 million parameters.")
efficientnet_lite1 = member(_build, "efficientnet_lite1", "Build Lite1: 5.4 million parameters, deeper than Lite0.")
efficientnet_lite2 = member(_build, "efficientnet_lite2", "Build Lite2: 6.1 million parameters, wider than Lite1.")
efficientnet_lite3 = member(_build, "efficientnet_lite3", "Build Lite3: 8.2 million parameters.")
efficientnet_lite4 = member(_build, "efficientnet_lite4", "Build Lite4: 13.0 million parameters.")
