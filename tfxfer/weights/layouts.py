"""Named changes of layout between the conventions of different frameworks, none of them ever made unasked.

Each gives the shape from the shape alone, so that headers are enough to plan with. A layout is spelt as text, so that
a command line can carry it: `theano_conv`, `chw_fc:7,7,512`; with a `-` before it, it is the inverse; a `+` joins
several, made from left to right: `transpose+chw_fc:7,7,512`. They lead from the foreign layout to TensorFlow's:

    theano_conv       kernel (out, in, h, w), turned by 180 degrees     -> (h, w, in, out)
    oihw_conv         kernel (out, in, h, w), as PyTorch keeps it       -> (h, w, in, out)
    transpose         kernel (out, in)                                  -> (in, out)
    chw_fc:H,W,C      first dense kernel behind a convolution (C*H*W, n), rows in the order C, H, W -> in the order H, W, C
    conv_fc:H,W,C     dense kernel kept as a convolution (H, W, C, n)   -> (H*W*C, n)
    bgr_conv          kernel (h, w, 3, out) of the first convolution, for BGR pictures -> for RGB pictures
    classes_1001      last dimension of 1001 classes with the background first -> 1000 classes

All but `classes_1001` are exactly invertible. It forgets the background class, and its inverse gives that class zeros:
1000 -> 1001 -> 1000 is exact, 1001 -> 1000 -> 1001 is not.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.names import did_you_mean

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A change of layout.

    Attributes:
      text: how it is spelt; `layout(text)` gives it again.
      apply: gives the array in the new layout, mostly as a view; raises WeightsError where the shape does not fit.
      inverted: makes the inverse.
      exact: whether the inverse gives every array back.
    """

    text: str
    apply: Callable[[np.ndarray], np.ndarray]
    inverted: Callable[[], Layout]
    exact: bool = True

    @property
    def inverse(self) -> Layout:
        """The layout that leads back."""
        return self.inverted()

    def shape(self, shape: Shape) -> Shape:
        """Return the shape that `apply` gives an array of this shape.

        Raises:
          WeightsError: the layout does not fit to this shape.
        """
        # An array of strides 0 has any shape in one byte, and takes every view.
        return self.apply(np.broadcast_to(np.int8(0), shape)).shape
