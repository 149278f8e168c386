"""VGG16 and SqueezeNet 1.0 in bare TensorFlow, as one writes them by hand, under the names of tfxfer's variables."""

from __future__ import annotations

import numpy as np
import tensorflow.compat.v1 as tf

MEAN_RGB, MEAN_BGR = (123.68, 116.779, 103.939), (104.0, 117.0, 123.0)
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
SQUEEZE = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}


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


def well_known(path: str) -> dict[str, np.ndarray]:
    """Return `vgg16_weights.npz` under the names of the variables: conv1_1_W is conv1_1/kernel."""
    with np.load(path) as file:
        return {name.replace("_W", "/kernel").replace("_b", "/bias"): file[name] for name in file.files}
