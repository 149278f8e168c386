"""Named changes of layout between the conventions of different frameworks, none of them ever made unasked.

Each gives the shape from the shape alone, so that headers are enough to plan with. A layout is spelt as text, so that
a command line can carry it: `theano_conv`, `chw_fc:7,7,512`; with a `-` before it, it is the inverse; a `+` joins
several, made from left to right: `transpose+chw_fc:7,7,512`. They lead from the foreign layout to TensorFlow's:

    theano_conv       kernel (out, in, h, w), turned by 180 degrees     -> (h, w, in, out)
    oihw_conv         kernel (out, in, h, w), as PyTorch keeps it       -> (h, w, in, out)
    oihw_depthwise    depthwise kernel (channels, 1, h, w) of PyTorch   -> (h, w, channels, 1)
    transpose         kernel (out, in)                                  -> (in, out)
    chw_fc:H,W,C      first dense kernel behind a convolution, rows in the order C, H, W -> in the order H, W, C
    conv_fc:H,W,C     dense kernel kept as a convolution (H, W, C, n)   -> (H*W*C, n)
    bgr_conv          kernel (h, w, 3, out) of the first convolution, for BGR pictures -> for RGB pictures
    classes_1001      last dimension of 1001 classes with the background first -> 1000 classes
    vector            bias (1, n) or (n, 1) of MATLAB, (1, 1, 1, n) of Caffe's old form, or (n,)    -> (n,)
    matrix            dense kernel (1, 1, out, in) of Caffe's old form, or (out, in)                -> (out, in)

All but the last three are exactly invertible. `classes_1001` forgets the background class, and its inverse gives that
class zeros: 1000 -> 1001 -> 1000 is exact, 1001 -> 1000 -> 1001 is not. `vector` and `matrix` forget how many sides of
1 there were, and no value; their inverses give (1, n), as MATLAB has it, and (1, 1, out, in), as Caffe had it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tfxfer import names
from tfxfer.errors import WeightsError

Shape = tuple[int, ...]
Rules = Sequence[tuple[str, "str | Layout"]]


class Change(NamedTuple):
    """One way of a layout: which shapes it takes, in words and by test; the shape that it gives; and the array."""

    takes: str
    fits: Callable[[Shape], bool]
    shape: Callable[[Shape], Shape]
    apply: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A change of layout; `layout(text)` makes it.

    Attributes:
      text: how it is spelt.
      changes: what it does, one after the other.
      opposite: how its inverse is spelt.
      exact: whether the inverse gives every array back.
    """

    text: str
    changes: tuple[Change, ...]
    opposite: str
    exact: bool

    @property
    def inverse(self) -> Layout:
        """The layout that leads back."""
        return layout(self.opposite)

    def shape(self, shape: Shape) -> Shape:
        """Return the shape that `apply` gives an array of this shape.

        Raises:
          WeightsError: the layout does not fit to this shape.
        """
        for change in self.changes:
            if not change.fits(shape):
                raise WeightsError(f"the layout {self.text} takes {change.takes}, not {shape}")
            shape = change.shape(shape)
        return shape

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return the array in the new layout, mostly as a view.

        Raises:
          WeightsError: the layout does not fit to the shape of the array.
        """
        self.shape(array.shape)
        return functools.reduce(lambda value, change: change.apply(value), self.changes, array)


def layout(text: str) -> Layout:
    """Make a layout from its text, such as `oihw_conv`, `-chw_fc:7,7,512` or `transpose+chw_fc:7,7,512`.

    Raises:
      WeightsError: a name is not that of a layout, or its sizes are missing or wrong.
    """
    parts = [_parse(part) for part in text.split("+")]
    opposite = "+".join(
        part.removeprefix("-") if part.startswith("-") else f"-{part}" for part in reversed(text.split("+"))
    )
    exact = not any(part.removeprefix("-") in _FORGETFUL for part in text.split("+"))
    return Layout(text, tuple(parts), opposite, exact)


def matched(rules: Rules, variables: Sequence[str]) -> dict[str, list[Layout]]:
    """Return the layouts of every variable that has one, in the order of the rules.

    Args:
      rules: pairs (regular expression, layout or its text); each is for all names that the expression matches whole.
      variables: the names to choose from.

    Raises:
      SelectionError: an expression matches nothing.
      WeightsError: a text is not a layout.
    """
    found: dict[str, list[Layout]] = {}
    for pattern, made in rules:
        chosen = made if isinstance(made, Layout) else layout(made)
        for name in names.match([pattern], variables):
            found.setdefault(name, []).append(chosen)
    return found


def _parse(text: str) -> Change:
    name, _, sizes = text.removeprefix("-").partition(":")
    if name not in _LAYOUTS:
        raise WeightsError(
            f"{name!r} is not a layout{names.did_you_mean(name, _LAYOUTS)}; the layouts are {', '.join(_LAYOUTS)}"
        )
    count, make = _LAYOUTS[name]
    if not re.fullmatch(r"(?:[1-9]\d{0,8},?\b)*", sizes) or sizes.count(",") + bool(sizes) != count:
        example = f"{name}:{','.join(['7', '7', '512'][:count])}" if count else name
        raise WeightsError(f"{text!r} is not a layout: {name} takes {count} sizes, as in {example}")
    return make(*map(int, sizes.split(",") if sizes else ()))[text.startswith("-")]


def _theano_conv() -> tuple[Change, Change]:
    forth, back = _oihw_conv()
    return (
        forth._replace(apply=lambda array: array[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)),
        back._replace(apply=lambda array: array.transpose(3, 2, 0, 1)[:, :, ::-1, ::-1]),
    )


def _oihw_conv() -> tuple[Change, Change]:
    return (
        Change(
            "(out, in, h, w)", _rank(4), lambda s: (s[2], s[3], s[1], s[0]), lambda array: array.transpose(2, 3, 1, 0)
        ),
        Change(
            "(h, w, in, out)", _rank(4), lambda s: (s[3], s[2], s[0], s[1]), lambda array: array.transpose(3, 2, 0, 1)
        ),
    )


def _oihw_depthwise() -> tuple[Change, Change]:
    def reorder(takes: str, one: int) -> Change:
        def fits(shape: Shape) -> bool:
            return len(shape) == 4 and shape[one] == 1

        return Change(takes, fits, lambda s: (*s[2:], *s[:2]), lambda array: array.transpose(2, 3, 0, 1))

    return reorder("(channels, 1, h, w)", 1), reorder("(h, w, channels, 1)", 3)


def _transpose() -> tuple[Change, Change]:
    both = Change("two dimensions", _rank(2), lambda s: s[::-1], np.transpose)
    return both, both


def _chw_fc(h: int, w: int, c: int) -> tuple[Change, Change]:
    rows = h * w * c

    def reorder(split: Shape, order: Shape) -> Change:
        def apply(array: np.ndarray) -> np.ndarray:
            return array.reshape(*split, array.shape[1]).transpose(*order, 3).reshape(array.shape)

        return Change(f"({rows}, n)", lambda s: len(s) == 2 and s[0] == rows, lambda s: s, apply)

    return reorder((c, h, w), (1, 2, 0)), reorder((h, w, c), (2, 0, 1))


def _conv_fc(h: int, w: int, c: int) -> tuple[Change, Change]:
    conv, rows = (h, w, c), h * w * c
    return (
        Change(
            f"({h}, {w}, {c}, n)",
            lambda s: len(s) == 4 and s[:3] == conv,
            lambda s: (rows, s[3]),
            lambda array: array.reshape(rows, array.shape[3]),
        ),
        Change(
            f"({rows}, n)",
            lambda s: len(s) == 2 and s[0] == rows,
            lambda s: (*conv, s[1]),
            lambda array: array.reshape(*conv, array.shape[1]),
        ),
    )


def _bgr_conv() -> tuple[Change, Change]:
    both = Change("(h, w, 3, out)", lambda s: len(s) == 4 and s[2] == 3, lambda s: s, lambda array: array[:, :, ::-1])
    return both, both


def _classes_1001() -> tuple[Change, Change]:
    def with_background(array: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros((*array.shape[:-1], 1), array.dtype), array], axis=-1)

    return (
        Change(
            "1001 classes last", lambda s: s[-1:] == (1001,), lambda s: (*s[:-1], 1000), lambda array: array[..., 1:]
        ),
        Change("1000 classes last", lambda s: s[-1:] == (1000,), lambda s: (*s[:-1], 1001), with_background),
    )


def _vector() -> tuple[Change, Change]:
    return (
        Change(
            "n values along one side, the other sides 1",
            lambda s: len(s) >= 1 and sum(side != 1 for side in s) <= 1,
            lambda s: (math.prod(s),),
            np.ravel,
        ),
        Change("one dimension", _rank(1), lambda s: (1, *s), lambda array: array[np.newaxis]),
    )


def _matrix() -> tuple[Change, Change]:
    return (
        Change(
            "two dimensions, or more of which all but the last two are 1",
            lambda s: len(s) >= 2 and math.prod(s[:-2]) == 1,
            lambda s: s[-2:],
            lambda array: array.reshape(array.shape[-2:]),
        ),
        Change("two dimensions", _rank(2), lambda s: (1, 1, *s), lambda array: array[np.newaxis, np.newaxis]),
    )


def _rank(rank: int) -> Callable[[Shape], bool]:
    return lambda shape: len(shape) == rank


_LAYOUTS: dict[str, tuple[int, Callable[..., tuple[Change, Change]]]] = {
    "theano_conv": (0, _theano_conv),
    "oihw_conv": (0, _oihw_conv),
    "oihw_depthwise": (0, _oihw_depthwise),
    "transpose": (0, _transpose),
    "chw_fc": (3, _chw_fc),
    "conv_fc": (3, _conv_fc),
    "bgr_conv": (0, _bgr_conv),
    "classes_1001": (0, _classes_1001),
    "vector": (0, _vector),
    "matrix": (0, _matrix),
}
_FORGETFUL = ("classes_1001", "vector", "matrix")
