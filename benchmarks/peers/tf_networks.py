"""VGG16, SqueezeNet 1.0 and MobileNet in bare TensorFlow, as one writes them by hand, under tfxfer's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

MEAN_RGB, MEAN_BGR = (123.68, 116.779, 103.939), (104.0, 117.0, 123.0)
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
SQUEEZE = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def codes(options: Any, images: tf.Tensor) -> tf.Tensor:
    """Build `options.network` from pixels 0..255, RGB, to its codes."""
    if options.network == "mobilenet":
        return mobilenet(images, options.alpha)
    return vgg16(images, top=False) if options.network == "vgg16" else squeezenet(images)


def vgg16(images: tf.Tensor, top: bool, classes: int = 1000) -> tf.Tensor:
    """Build VGG16 from pixels 0..255, RGB, to pool5 or to the logits."""
    x = tf.cast(images, tf.float32) - MEAN_RGB
    for block, (depth, width) in enumerate(BLOCKS, 1):
        for number in range(1, depth + 1):
            x = convolution(x, width, 3, f"conv{block}_{number}")
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    if not top:
        return x
    x = tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])
    x = dense(dense(x, 4096, "fc6", tf.nn.relu), 4096, "fc7", tf.nn.relu)
    return dense(x, classes, "fc8")


def squeezenet(images: tf.Tensor) -> tf.Tensor:
    """Build SqueezeNet 1.0 from pixels 0..255, RGB, to fire9 averaged over positions."""
    x = tf.cast(tf.reverse(images, [-1]), tf.float32) - MEAN_BGR
    x = convolution(x, 96, 7, "conv1", stride=2, padding="VALID")
    for number in range(1, 10):
        if number in SQUEEZE:
            x = convolution(x, SQUEEZE[number], 1, f"fire{number}/squeeze1x1")
            each = [convolution(x, 4 * SQUEEZE[number], size, f"fire{number}/expand{size}x{size}") for size in (1, 3)]
            x = tf.concat(each, axis=-1)
        x = tf.nn.max_pool2d(x, 3, 2, "VALID") if number in (1, 4, 8) else x
    return tf.reduce_mean(x, axis=[1, 2])


def mobilenet(images: tf.Tensor, alpha: int) -> tf.Tensor:
    """Build MobileNet, of so many percent of its width, from pixels 0..255, RGB, to its last layer averaged."""
    x = tf.cast(images, tf.float32) / 127.5 - 1
    with tf.variable_scope("conv1"):
        x = tf.nn.conv2d(x, tf.get_variable("kernel", [3, 3, 3, 32 * alpha // 100]), 2, "SAME")
    x = normalised(x, "conv1_bn")
    for number, (filters, stride) in enumerate(SEPARABLE, 1):
        with tf.variable_scope(f"conv_dw_{number}"):
            kernel = tf.get_variable("kernel", [3, 3, x.shape[-1], 1])
            x = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME")
        x = normalised(x, f"conv_dw_{number}_bn")
        with tf.variable_scope(f"conv_pw_{number}"):
            x = tf.nn.conv2d(x, tf.get_variable("kernel", [1, 1, x.shape[-1], filters * alpha // 100]), 1, "SAME")
        x = normalised(x, f"conv_pw_{number}_bn")
    return tf.reduce_mean(x, axis=[1, 2])


def normalised(x: tf.Tensor, name: str) -> tf.Tensor:
    """Normalise by moving statistics, and ReLU up to 6."""
    with tf.variable_scope(name):
        each = [tf.get_variable(n, [x.shape[-1]]) for n in ("gamma", "beta", "moving_mean", "moving_variance")]
    return tf.nn.relu6(tf.nn.fused_batch_norm(x, *each, epsilon=0.001, is_training=False)[0])


def convolution(x: tf.Tensor, filters: int, size: int, name: str, stride: int = 1, padding: str = "SAME") -> tf.Tensor:
    """Convolve, add a bias, ReLU."""
    with tf.variable_scope(name):
        kernel = tf.get_variable("kernel", [size, size, x.shape[-1], filters])
        bias = tf.get_variable("bias", [filters], initializer=tf.zeros_initializer())
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, padding), bias))


def dense(x: tf.Tensor, units: int, name: str, activation: object = None) -> tf.Tensor:
    """Multiply and add a bias."""
    with tf.variable_scope(name):
        kernel = tf.get_variable("kernel", [x.shape[-1], units])
        bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
    y = tf.nn.bias_add(tf.matmul(x, kernel), bias)
    return y if activation is None else activation(y)


def load(sess: tf.Session, arrays: dict[str, np.ndarray]) -> None:
    """Give every variable whose name has an array that array, and all others their initial values."""
    others = []
    for variable in tf.global_variables():
        if variable.op.name in arrays:
            sess.run(variable.initializer, {variable.initializer.inputs[1]: arrays[variable.op.name]})
        else:
            others.append(variable.initializer)
    sess.run(others)
