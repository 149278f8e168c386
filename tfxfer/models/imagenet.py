"""The names of ImageNet's 1000 classes. No TensorFlow is loaded."""

from __future__ import annotations

import functools
from pathlib import Path

from tfxfer.data import labels

# As `imagenet_class_index.json` of Keras has them, https://storage.googleapis.com/download.tensorflow.org/data, in the
# order of their synsets (n01440764 first), which is that of the outputs of all networks here.
FILE = Path(__file__).with_name("imagenet_classes.txt")
CLASSES = 1000


@functools.cache
def class_names() -> tuple[str, ...]:
    """Return the name of each class, in the order of the outputs; two names stand for two classes each."""
    return labels.class_names(FILE, CLASSES)


def usual_class_names(classes: int) -> tuple[str, ...]:
    """Return what the classes of a network are called where its file does not say: ImageNet's of 1000, else numbers."""
    return class_names() if classes == CLASSES else tuple(map(str, range(classes)))
