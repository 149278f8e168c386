"""A convolutional autoencoder for small grey images, and its encoder on its own.

The encoder's layers are `conv1` and `conv2`; `fc1` and `latent` follow in the autoencoder; the decoder mirrors them as
`dec_fc1`, `deconv2` and `deconv1`, so that the patterns `conv.*` and `fc.*` take nothing of it.
"""

from __future__ import annotations

import math

import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import preprocess
from tfxfer.input_spec import InputSpec
from tfxfer.models.sources import check_last


def input_spec(images: tf.Tensor) -> InputSpec:
    """Return what the encoder expects of its input: pixels scaled to [0, 1], grey or RGB, of the images' own size.

    Raises:
      GraphError: height or width is not known, or there are neither 1 nor 3 channels.
    """
    sizes = images.shape.as_list()[1:] if images.shape.rank == 4 else []
    if not sizes or None in sizes or sizes[-1] not in (1, 3):
        raise GraphError(f"images {images.shape}: the autoencoder takes [n, h, w, 1] or [n, h, w, 3] of known size")
    height, width, channels = sizes
    order = "grey" if channels == 1 else "RGB"
    return InputSpec(
        "autoencoder", "tfxfer pretrain", (height, width), order, mean=(0.0,) * channels, scale=(1 / 255,) * channels
    )


def encoder(images: tf.Tensor, *, last: str | None = None) -> dict[str, tf.Tensor]:
    """Encode images by two convolutions, 5x5x16 and 5x5x32, each of stride 2.

    Args:
      images: uint8 [n, h, w, c], c 1 or 3.
      last: an endpoint that is wanted; all are built, whichever it is.

    Returns:
      Endpoints: `input` [n, h, w, c] in [0, 1], `conv1` [n, h/2, w/2, 16], `conv2` [n, h/4, w/4, 32] and `flatten`.

    Raises:
      GraphError: the network has no endpoint `last`, or the images cannot be taken.
    """
    with tf.name_scope("ENCODER"):
        ends = _encode(preprocess(images, input_spec(images)))
    check_last("autoencoder", last, list(ends))
    return ends


def autoencoder(images: tf.Tensor, *, latent: int = 50, mask: float = 0.0, patch: int = 1) -> dict[str, tf.Tensor]:
    """Encode images to a short code and decode that to the images again.

    Args:
      images: uint8 [n, h, w, c], c 1 or 3; h and w must be multiples of 4.
      latent: the length of the code.
      mask: the share, in [0, 1), of the image that training sets to zero before encoding; what is to be rebuilt is the
        whole image (Vincent et al., 2008, of single pixels; He et al., 2022, of patches).
      patch: the side of the squares, in pixels, that are set to zero as one; it must divide h and w.

    Returns:
      Endpoints: those of `encoder`, `fc1` [n, 200], `latent` [n, latent], `dec_fc1`, `deconv2`, `deconv1` (logits of
      the pixels, [n, h, w, c]), `reconstruction` in [0, 1], and `loss` [n], the mean cross-entropy of a pixel in nats.

    Raises:
      GraphError: h or w is not a multiple of 4, or of `patch` where there is a mask, or `mask` is not in [0, 1).
    """
    if any(side is None or side % 4 for side in images.shape.as_list()[1:3]):
        raise GraphError(
            f"images {images.shape}: height and width must be multiples of 4, so that the decoder, which "
            "doubles them twice, comes out at the same size"
        )
    with tf.name_scope("ENCODER"):
        pixels = preprocess(images, input_spec(images))
        ends = _encode(_mask(pixels, mask, patch) if mask else pixels)
    with tf.name_scope("LATENT"):
        ends["fc1"] = layers.dense(ends["flatten"], 200, "fc1")
        ends["latent"] = layers.dense(ends["fc1"], latent, "latent", activation=None)
    with tf.name_scope("DECODER"):
        sides = ends["conv2"].shape[1:].as_list()
        ends["dec_fc1"] = layers.dense(ends["latent"], math.prod(sides), "dec_fc1")
        x = tf.reshape(ends["dec_fc1"], [-1, *sides])
        ends["deconv2"] = layers.conv2d_transpose(x, 16, 5, "deconv2", strides=2)
        ends["deconv1"] = layers.conv2d_transpose(
            ends["deconv2"], images.shape[-1], 5, "deconv1", strides=2, activation=None
        )
        ends["reconstruction"] = tf.sigmoid(ends["deconv1"], name="reconstruction")
    with tf.name_scope("LOSS/"):
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=pixels, logits=ends["deconv1"])
        ends["loss"] = tf.reduce_mean(losses, axis=[1, 2, 3], name="loss")
    return ends


def _encode(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
    ends = {"input": pixels}
    ends["conv1"] = layers.conv2d(pixels, 16, 5, "conv1", strides=2)
    ends["conv2"] = layers.conv2d(ends["conv1"], 32, 5, "conv2", strides=2)
    ends["flatten"] = layers.flatten(ends["conv2"])
    return ends


def _mask(pixels: tf.Tensor, share: float, patch: int) -> tf.Tensor:
    """Set a share of the patches to zero, anew at each step of training; the others stay as they are."""
    if patch < 1 or any(side % patch for side in pixels.shape.as_list()[1:3]):
        raise GraphError(f"`patch={patch}` does not divide the height and width of images {pixels.shape}")
    height, width = (side // patch for side in pixels.shape[1:3].as_list())
    # Dropout scales up what it keeps; of that, only which patches are kept is wanted.
    kept = tf.sign(layers.dropout(tf.ones([tf.shape(pixels)[0], height, 1, width, 1, 1]), share, "mask"))
    whole = tf.tile(kept, [1, 1, patch, 1, patch, 1])
    return pixels * tf.reshape(whole, [-1, height * patch, width * patch, 1])
