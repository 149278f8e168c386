"""Under which names, in which layout and with which input spec the weights of CNN-F circulate.

No TensorFlow is loaded: tools that only read files recognise them by this.
"""

from __future__ import annotations

from tfxfer.models.sources import Shape, Source
from tfxfer.models.vgg_sources import LISTS, MATCONVNET, bgr, dense_variables, in_caffe, in_matconvnet, rgb

MODEL = "vgg_f"
# Table 1 of the paper: the size of the kernel and the filters of each convolution.
CONVOLUTIONS = {"conv1": (11, 64), "conv2": (5, 256), "conv3": (3, 256), "conv4": (3, 256), "conv5": (3, 256)}
# What follows the input, up to the fully connected layers.
LAYERS = ("conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5", "pool5")
_ROWS = "6,6,256"


def variables() -> dict[str, Shape]:
    """Return the shape of every variable, for pictures of 224x224 and any number of classes."""
    shapes: dict[str, Shape] = {}
    channels = 3
    for layer, (size, filters) in CONVOLUTIONS.items():
        shapes |= {f"{layer}/kernel": (size, size, channels, filters), f"{layer}/bias": (filters,)}
        channels = filters
    return shapes | dense_variables(6 * 6 * channels)


# Every form that is known. `recognise(weights, SOURCES)` finds that of a file.
SOURCES: tuple[Source, ...] = tuple(
    Source(f"{MODEL}_{form}", words, input_spec(MODEL, f"{MODEL}_{form}"), variables(), renames, layout)
    for form, words, input_spec, renames, layout in (
        # https://www.vlfeat.org/matconvnet/pretrained/
        ("matconvnet", "MatConvNet's imagenet-vgg-f, conv1/weights/0", rgb, MATCONVNET, in_matconvnet(_ROWS)),
        # https://gist.github.com/ksimonyan/a32c9063ec8e1118221a
        ("caffemodel", "Caffe's VGG_CNN_F.caffemodel, conv1/0", bgr, LISTS, in_caffe(_ROWS)),
    )
)
