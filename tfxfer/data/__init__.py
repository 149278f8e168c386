"""Examples: pictures and labels in splits, and the order in which training sees them.

Nothing here imports TensorFlow until a picture is decoded, and scikit-learn only when a data set is made. Mind that
`digits`, `folder`, `listing` and `mnist` are the functions, which hide the modules of the same names: for what else
these hold, `from tfxfer.data.mnist import ...`.
"""

from tfxfer.data.digits import digits
from tfxfer.data.folder import folder
from tfxfer.data.listing import listing
from tfxfer.data.mnist import mnist
from tfxfer.data.pictures import Pictures, ahead
from tfxfer.data.splits import Data, Split

__all__ = ["Data", "Pictures", "Split", "ahead", "digits", "folder", "listing", "mnist"]
