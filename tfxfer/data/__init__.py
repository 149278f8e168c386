"""Examples: pictures and labels in splits, and the order in which training sees them.

Nothing here imports TensorFlow until a picture is decoded, and scikit-learn only when a data set is made.
"""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach
from tfxfer.data.folders import folder
from tfxfer.data.listings import listing
from tfxfer.data.mnist_files import mnist
from tfxfer.data.pictures import Pictures, ahead
from tfxfer.data.sklearn_digits import digits
from tfxfer.data.splits import Data, Split

__all__ = ["Data", "Pictures", "Split", "ahead", "digits", "folder", "listing", "mnist"]

if TYPE_CHECKING:
    from tfxfer.data import batches as batches
    from tfxfer.data import crops as crops
    from tfxfer.data import dataset as dataset
    from tfxfer.data import decoding as decoding
    from tfxfer.data import finite as finite
    from tfxfer.data import folders as folders
    from tfxfer.data import headers as headers
    from tfxfer.data import labelled as labelled
    from tfxfer.data import labels as labels
    from tfxfer.data import listings as listings
    from tfxfer.data import mnist_files as mnist_files
    from tfxfer.data import normalization as normalization
    from tfxfer.data import picture_index as picture_index
    from tfxfer.data import pictures as pictures
    from tfxfer.data import pillow as pillow
    from tfxfer.data import scan as scan
    from tfxfer.data import sklearn_digits as sklearn_digits
    from tfxfer.data import splits as splits
else:
    __getattr__, __dir__ = attach(__name__)
