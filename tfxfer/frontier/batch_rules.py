"""Rules for kinds of ops: where the batch lies in their outputs, by where it lies in their inputs.

A rule proves that each element which an op gives belongs to one example, or raises `NotProvedError`. An op without a
rule proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.frontier.batch_axis import FIXED, Layout, Rows, Sizes, Term, constants, is_fixed, product

# Element k of what these give depends on element k of what they take, which may be repeated to one shape.
_ELEMENTWISE = [
    "Abs", "Acos", "Acosh", "Add", "AddN", "AddV2", "Angle", "ApproximateEqual", "Asin", "Asinh", "Atan",
    "Atan2", "Atanh", "BesselI0e", "BesselI1e", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Bucketize", "Cast",
    "Ceil", "CheckNumerics", "CheckNumericsV2", "ClipByValue", "ComplexAbs", "Conj", "Cos", "Cosh", "Digamma",
    "Div", "DivNoNan", "Elu", "EluGrad", "EnsureShape", "Equal", "Erf", "Erfc", "Erfinv", "Exp", "Expm1",
    "FakeQuantWithMinMaxArgs", "Floor", "FloorDiv", "FloorMod", "Greater", "GreaterEqual", "Identity", "Imag",
    "Inv", "InvGrad", "Invert", "IsFinite", "IsInf", "IsNan", "LeakyRelu", "LeakyReluGrad", "LeftShift",
    "Less", "LessEqual", "Lgamma", "Log", "Log1p", "LogicalAnd", "LogicalNot", "LogicalOr", "Maximum",
    "Minimum", "Mod", "Mul", "MulNoNan", "Ndtri", "Neg", "NextAfter", "NotEqual", "OnesLike",
    "PlaceholderWithDefault", "Pow", "PreventGradient", "Real", "RealDiv", "Reciprocal", "ReciprocalGrad",
    "Relu", "Relu6", "Relu6Grad", "ReluGrad", "RightShift", "Rint", "Round", "Rsqrt", "RsqrtGrad", "SelectV2",
    "Selu", "SeluGrad", "Sigmoid", "SigmoidGrad", "Sign", "Sin", "Sinh", "Snapshot", "Softplus",
    "SoftplusGrad", "Softsign", "SoftsignGrad", "Sqrt", "SqrtGrad", "Square", "SquaredDifference",
    "StopGradient", "Sub", "Tan", "Tanh", "TanhGrad", "TruncateDiv", "TruncateMod", "Xdivy", "Xlog1py",
    "Xlogy", "ZerosLike", "Enter", "Exit", "LoopCond", "NextIteration",
]  # fmt: skip
# They treat each element of the first dimension of their first input alike and alone; all else they take is fixed.
_ON_FIRST = [
    "AdjustContrastv2", "AdjustHue", "AdjustSaturation", "AvgPool", "AvgPool3D",
    "BatchNormWithGlobalNormalization", "Conv2D", "Conv3D", "DepthToSpace", "DepthwiseConv2dNative",
    "Dilation2D", "HSVToRGB", "LRN", "MaxPool", "MaxPool3D", "MaxPoolV2", "RGBToHSV", "ResizeArea",
    "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "SpaceToDepth",
]  # fmt: skip
_REDUCTIONS = [
    "All", "Any", "ArgMax", "ArgMin", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum",
]  # fmt: skip

PICKS = "takes examples out by their place in the batch"  # why nothing is proved of some ops

_RULES: dict[str, Callable[[Arguments], Any]] = {}


class NotProvedError(Exception):
    """It is not proved that each element belongs to one example; the message begins with a verb."""


class Arguments:
    """What an op takes.

    Attributes:
      op: the op.
      layouts: of its inputs.
    """

    def __init__(self, op: tf.Operation, layouts: Sequence[Layout]) -> None:
        """Take note of both."""
        self.op, self.layouts = op, layouts

    def __len__(self) -> int:
        return len(self.layouts)

    def attr(self, name: str) -> Any:
        """Return an attribute of the op."""
        return self.op.get_attr(name)

    def rank(self, number: int) -> int:
        """Return the rank of an input, which must be known."""
        rank = self.op.inputs[number].shape.rank
        if rank is None:
            raise NotProvedError(f"takes {self.op.inputs[number].name}, whose rank is not known")
        return rank

    def rows(self, number: int) -> Rows:
        """Return the layout of an input that must have a batch."""
        layout = self.layouts[number]
        if not isinstance(layout, Rows):
            raise NotProvedError(f"takes {self.op.inputs[number].name}, which does not belong to single examples")
        return layout

    def rows_beside(self, number: int, axes: Collection[int], problem: str) -> Rows:
        """Return the layout of an input whose batch must lie in none of some dimensions; `problem` says why not."""
        layout = self.rows(number)
        if layout.axis in axes:
            raise NotProvedError(problem)
        return layout

    def check_fixed(self, *numbers: int) -> None:
        """Refuse inputs in which the examples, or their number, have a part."""
        bad = [self.op.inputs[number].name for number in numbers if not is_fixed(self.layouts[number])]
        if bad:
            raise NotProvedError(f"takes {', '.join(bad)}, in which the batch has a part")

    def check_others_fixed(self) -> None:
        """Refuse inputs other than the first in which the examples, or their number, have a part."""
        self.check_fixed(*range(1, len(self)))

    def terms(self, number: int) -> np.ndarray:
        """Return the integers of an input as terms; what is not known of them is a term as well."""
        layout, tensor = self.layouts[number], self.op.inputs[number]
        if isinstance(layout, Sizes):
            return layout.array
        if isinstance(layout, Rows):
            raise NotProvedError(f"takes {tensor.name} as a shape, which the examples decide")
        value = tf.get_static_value(tensor)
        if value is not None and np.asarray(value).dtype.kind in "iu":
            return constants(np.asarray(value))
        computed = _of_constants(tensor)
        if computed is not None:
            return computed
        if not tensor.shape.is_fully_defined():
            raise NotProvedError(f"takes {tensor.name}, which is not known before the graph runs")
        return np.full(tensor.shape.as_list(), Term(None), object)

    def numbers(self, number: int) -> np.ndarray:
        """Return the integers of an input, which must be known before the graph runs."""
        terms = self.terms(number)
        if any(term.factor is None or term.batch for term in terms.ravel().tolist()):
            raise NotProvedError(f"takes {self.op.inputs[number].name}, which is not known before the graph runs")
        return np.array([term.factor for term in terms.ravel().tolist()], np.int64).reshape(terms.shape)

    def axes(self, number: int, rank: int) -> set[int]:
        """Return the dimensions that an input names, none of them negative."""
        return {int(axis) % rank if rank else 0 for axis in self.numbers(number).ravel()}

    def sizes(self, number: int) -> list[Term]:
        """Return the size of each dimension of an input."""
        layout, shape = self.layouts[number], self.op.inputs[number].shape
        self.rank(number)
        sizes = [Term(size) for size in shape.as_list()]
        if isinstance(layout, Rows):
            sizes[layout.axis] = Term(layout.outer * layout.inner, True)
        return sizes


def outputs(arguments: Arguments, kind: str) -> Sequence[Layout]:
    """Return the layouts of what an op gives.

    Raises:
      NotProvedError: see the module.
    """
    count = len(arguments.op.outputs)
    if not count:
        return []
    rule = _RULES.get(kind)
    if rule is None:
        raise NotProvedError("is not known to treat each example by itself")
    if kind in OF_SIZES and not any(isinstance(layout, Rows) for layout in arguments.layouts):
        return _of_sizes(arguments, kind)
    if kind not in _TAKES_SIZES and not all(isinstance(t, Rows) or is_fixed(t) for t in arguments.layouts):
        raise NotProvedError("takes the number of examples in a batch for a value")
    layout = rule(arguments)
    return layout if isinstance(layout, list) else [layout] * count


def _rule(*kinds: str) -> Callable[[Callable[[Arguments], Any]], Callable[[Arguments], Any]]:
    def register(function: Callable[[Arguments], Any]) -> Callable[[Arguments], Any]:
        _RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


# --- shapes, and what is computed of them ---


@_rule("Shape", "ShapeN")
def _shape(a: Arguments) -> list[Layout]:
    return [Sizes.of(a.sizes(number)) for number in range(len(a))]


@_rule("Size")
def _size(a: Arguments) -> Layout:
    return Sizes.of(product(a.sizes(0)))


@_rule("Rank")
def _rank(a: Arguments) -> Layout:
    return FIXED


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda x, y: x + y,
    "AddV2": lambda x, y: x + y,
    "Sub": lambda x, y: x - y,
    "Mul": lambda x, y: x * y,
    "FloorDiv": lambda x, y: x // y,
}
_SAME = {"Cast", "Identity", "StopGradient", "PreventGradient", "EnsureShape", "PlaceholderWithDefault", "Snapshot",
         "Enter", "Exit", "NextIteration"}  # fmt: skip


def _of_sizes(a: Arguments, kind: str) -> Sequence[Layout]:
    """Compute with sizes, which stay integers; what is the same for any batch may become anything."""
    try:
        return _integers(a, kind)
    except NotProvedError:
        if not all(map(is_fixed, a.layouts)):
            raise
        return [FIXED] * len(a.op.outputs)


def _of_constants(tensor: tf.Tensor) -> np.ndarray | None:
    """Return integers that are computed of constants in ways that `tf.get_static_value` does not know, or None."""
    op = tensor.op
    default = op.type == "PlaceholderWithDefault"  # whose value may be fed
    if default or not tensor.dtype.is_integer or len(op.outputs) != 1 or op.type not in {*OF_SIZES, "Range"}:
        return None
    a = Arguments(op, [FIXED] * len(op.inputs))
    try:
        if op.type == "Range":
            return constants(np.arange(*(int(a.numbers(number)) for number in range(3))))
        return np.asarray(_computed(a, op.type), object)
    except NotProvedError:
        return None


def _integers(a: Arguments, kind: str) -> Sequence[Layout]:
    if not all(tensor.dtype.is_integer for tensor in (*a.op.inputs, *a.op.outputs)):
        raise NotProvedError("takes the number of examples in a batch for a value")
    values = _computed(a, kind)
    return [Sizes.of(value) for value in (values if isinstance(values, list) else [values])]


def _computed(a: Arguments, kind: str) -> Any:
    if kind in _SAME:
        return a.terms(0)
    if kind in _ARITHMETIC:
        return np.frompyfunc(_ARITHMETIC[kind], 2, 1)(a.terms(0), a.terms(1))
    return {
        "ConcatV2": lambda: np.concatenate([a.terms(k) for k in range(len(a) - 1)], int(a.numbers(len(a) - 1))),
        "ExpandDims": lambda: np.expand_dims(a.terms(0), int(a.numbers(1).ravel()[0])),
        "GatherV2": lambda: np.take(a.terms(0), a.numbers(1), int(a.numbers(2))),
        "Pack": lambda: np.stack([a.terms(k) for k in range(len(a))], a.attr("axis")),
        "Prod": lambda: _prod_of(a),
        "Reshape": lambda: a.terms(0).reshape(a.numbers(1)),
        "Slice": lambda: a.terms(0)[_slices(a)],
        "Squeeze": lambda: np.squeeze(a.terms(0), tuple(a.attr("squeeze_dims")) or None),
        "StridedSlice": lambda: a.terms(0)[_strided(a)],
        "Unpack": lambda: list(np.moveaxis(a.terms(0), a.attr("axis"), 0)),
    }[kind]()


def _prod_of(a: Arguments) -> np.ndarray:
    terms, axes = a.terms(0), a.axes(1, a.rank(0))
    if axes and axes != set(range(terms.ndim)):
        raise NotProvedError("multiplies sizes over some dimensions only")
    whole = np.array(product(terms.ravel().tolist()), object) if axes else terms
    return whole.reshape([1] * terms.ndim) if a.attr("keep_dims") and axes else whole


def _slices(a: Arguments) -> tuple[slice, ...]:
    pairs = zip(a.numbers(1).tolist(), a.numbers(2).tolist(), strict=True)
    return tuple(slice(begin, None if size < 0 else begin + size) for begin, size in pairs)


def _strided(a: Arguments) -> tuple[Any, ...]:
    begin, end, strides = (a.numbers(number).tolist() for number in (1, 2, 3))
    key: list[Any] = []
    for place, kind in enumerate(_kinds_of_entries(a, len(begin))):
        if kind == "cut":
            first = None if a.attr("begin_mask") >> place & 1 else begin[place]
            last = None if a.attr("end_mask") >> place & 1 else end[place]
            key.append(slice(first, last, strides[place]))
        else:
            key.append({"ellipsis": Ellipsis, "new": None, "shrunk": begin[place]}[kind])
    return tuple(key)


def _kinds_of_entries(a: Arguments, count: int) -> list[str]:
    """Return what each entry of a strided slice is: an ellipsis, a new dimension, or one that is shrunk or cut."""
    names = {"ellipsis": "ellipsis_mask", "new": "new_axis_mask", "shrunk": "shrink_axis_mask"}
    masks = {kind: a.attr(name) for kind, name in names.items()}
    return [next((kind for kind, mask in masks.items() if mask >> place & 1), "cut") for place in range(count)]


# --- elements, rows and windows ---


@_rule(*_ELEMENTWISE)
def _elementwise(a: Arguments) -> Layout:
    return _aligned(a, range(len(a)))


def _aligned(a: Arguments, numbers: Sequence[int], trailing: int = 0) -> Rows:
    """Return the layout of tensors that are brought to one shape, from the last dimension on.

    Args:
      a: the op.
      numbers: its inputs.
      trailing: so many last dimensions have another meaning; no batch is in them.
    """
    having = [number for number in numbers if isinstance(a.layouts[number], Rows)]
    if not having:
        raise NotProvedError("takes nothing that belongs to single examples")
    if len(numbers) == 1:
        return a.rows(having[0])
    for number in numbers:
        if number not in having:
            a.check_fixed(number)
    ranks = {number: a.rank(number) for number in numbers}
    rank = max(ranks.values())
    places = {(a.rows(k).axis - ranks[k], a.rows(k).outer, a.rows(k).inner) for k in having}
    if len(places) > 1:
        raise NotProvedError("brings examples together, since the batch is not the same dimension of all it takes")
    ((from_end, outer, inner),) = places
    if from_end >= -trailing and trailing:
        raise NotProvedError("reduces over the batch")
    for number in set(numbers) - set(having):
        size = a.op.inputs[number].shape.as_list()[from_end] if ranks[number] >= -from_end else 1
        if size != 1:
            raise NotProvedError(f"takes {a.op.inputs[number].name}, which holds numbers for places in the batch")
    return Rows(rank + from_end, outer, inner)


@_rule("Select")
def _select(a: Arguments) -> Layout:
    if a.rank(0) == 0:
        a.check_fixed(0)
        return _aligned(a, [1, 2])
    if a.rank(0) == a.rank(1):
        return _aligned(a, [0, 1, 2])
    both = _aligned(a, [1, 2])
    if both != a.rows(0) or both.axis:
        raise NotProvedError("chooses between rows of other examples")
    return both


@_rule("IdentityN")
def _identities(a: Arguments) -> list[Layout]:
    return list(a.layouts)


@_rule(*_ON_FIRST)
def _on_first(a: Arguments) -> Layout:
    a.check_others_fixed()
    if a.op.type == "AdjustContrastv2" and a.rank(0) < 4:
        raise NotProvedError("takes means over the batch")
    return _at_zero(a, 0)


def _at_zero(a: Arguments, number: int) -> Rows:
    layout = a.rows(number)
    if layout.axis:
        raise NotProvedError(f"takes {a.op.inputs[number].name}, whose first dimension is not the batch")
    return layout


@_rule("Conv2DBackpropInput", "Conv3DBackpropInputV2", "DepthwiseConv2dNativeBackpropInput")
def _conv_transpose(a: Arguments) -> Layout:
    a.check_fixed(1)
    if any(term.batch for term in a.terms(0).tolist()[1:]):
        raise NotProvedError("gives more of each example, the more there are")
    return _at_zero(a, 2)


@_rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def _fused_batch_norm(a: Arguments) -> list[Layout]:
    if a.attr("is_training"):
        raise NotProvedError("normalises by the mean and variance of the batch")
    return [_on_first(a), *[FIXED] * (len(a.op.outputs) - 1)]


@_rule("BiasAdd")
def _bias_add(a: Arguments) -> Layout:
    a.check_fixed(1)
    layout = a.rows(0)
    if layout.axis and layout.axis == (1 if a.attr("data_format") == b"NCHW" else a.rank(0) - 1):
        raise NotProvedError("adds another number to each example")
    return layout


@_rule("QuantizeAndDequantize", "QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3", "QuantizeAndDequantizeV4")
def _quantize(a: Arguments) -> Layout:
    if not a.attr("range_given"):
        raise NotProvedError("takes its range from the batch")
    a.check_others_fixed()
    if a.op.type != "QuantizeAndDequantize" and a.attr("axis") == a.rows(0).axis:
        raise NotProvedError("has a range for each place in the batch")
    return a.rows(0)


@_rule("FakeQuantWithMinMaxVars")
def _by_element(a: Arguments) -> Layout:
    a.check_others_fixed()
    return a.rows(0)


@_rule("FakeQuantWithMinMaxVarsPerChannel", "LogSoftmax", "Softmax", "TopK", "TopKV2")
def _along_last(a: Arguments) -> Layout:
    a.check_others_fixed()
    return a.rows_beside(0, {a.rank(0) - 1}, "reduces over the batch")


@_rule("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits")
def _cross_entropy(a: Arguments) -> Layout:
    if _at_zero(a, 0) != _at_zero(a, 1):
        raise NotProvedError("compares examples with others")
    return a.rows(0)


# Ops that go along dimensions: the input that names these, and what the op would do to a batch there.
_ALONG = {
    "Cumprod": (1, "goes along the batch"),
    "Cumsum": (1, "goes along the batch"),
    "CumulativeLogsumexp": (1, "goes along the batch"),
    "ReverseV2": (1, "goes along the batch"),
    "Roll": (2, "goes along the batch"),
    "SplitV": (2, "divides the batch"),
}


@_rule(*_ALONG)
def _along_axes(a: Arguments) -> Layout:
    number, problem = _ALONG[a.op.type]
    a.check_others_fixed()
    return a.rows_beside(0, a.axes(number, a.rank(0)), problem)


@_rule(*_REDUCTIONS)
def _reduce(a: Arguments) -> Layout:
    axes = a.axes(1, a.rank(0))
    layout = a.rows_beside(0, axes, "reduces over the batch")
    return layout if "Arg" not in a.op.type and a.attr("keep_dims") else layout.without(axes)


# --- matrices ---


@_rule("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def _matmul(a: Arguments) -> Layout:
    plain = a.op.type == "MatMul"
    turned = [a.attr(name) for name in (("transpose_a", "transpose_b") if plain else ("adj_x", "adj_y"))]
    ranks = [a.rank(0), a.rank(1)]
    for number, free in ((0, -1 if turned[0] else -2), (1, -2 if turned[1] else -1)):
        layout = a.layouts[number]
        from_end = layout.axis - ranks[number] if isinstance(layout, Rows) else -3
        if from_end >= -2:
            a.check_fixed(1 - number)
            if from_end != free:
                raise NotProvedError("reduces over the batch")
            return a.rows(number).at(max(ranks) - (2, 1)[number])
    return _aligned(a, [0, 1], trailing=2)


@_rule("Einsum")
def _einsum(a: Arguments) -> Layout:
    taken, returned = a.attr("equation").decode().replace(" ", "").split("->")
    names = taken.split(",")
    if "." in taken:
        raise NotProvedError(f"has the equation {taken}->{returned}, with dimensions that are not named")
    having = [number for number in range(len(a)) if isinstance(a.layouts[number], Rows)]
    places = {(names[k][a.rows(k).axis], a.rows(k).outer, a.rows(k).inner) for k in having}
    a.check_fixed(*(number for number in range(len(a)) if number not in having))
    letter = next(iter(places))[0]
    counts = [name.count(letter) for name in names]
    if len(places) > 1 or returned.count(letter) != 1 or any(counts[k] != (k in having) for k in range(len(a))):
        raise NotProvedError("brings examples together")
    return a.rows(having[0]).at(returned.index(letter))


# --- dimensions moved, made, joined and cut ---


@_rule("Transpose")
def _transpose(a: Arguments) -> Layout:
    return a.rows(0).at([int(k) % a.rank(0) for k in a.numbers(1)].index(a.rows(0).axis))


@_rule("ExpandDims")
def _expand_dims(a: Arguments) -> Layout:
    (place,) = a.axes(1, a.rank(0) + 1)
    return a.rows(0).with_new(place)


@_rule("Squeeze")
def _squeeze(a: Arguments) -> Layout:
    axes = {axis % a.rank(0) for axis in a.attr("squeeze_dims")}
    if not axes:
        raise NotProvedError("takes out every dimension of size 1, the batch among them if it is one example")
    return a.rows_beside(0, axes, "takes out the batch").without(axes)


@_rule("Reshape")
def _reshape(a: Arguments) -> Layout:
    target = a.terms(1).tolist()
    if isinstance(a.layouts[0], Rows):
        return _reshaped(a.sizes(0), a.rows(0), target)
    a.check_fixed(0)
    raise NotProvedError("gives as many rows as there are examples, of something else")


def _reshaped(sizes: list[Term], layout: Rows, target: list[Term]) -> Rows:
    """Return where the batch is after a reshape; what lies before and behind it in memory must stay so."""
    before = product(sizes[: layout.axis]) * Term(layout.outer)
    behind = product(sizes[layout.axis + 1 :]) * Term(layout.inner)
    places = [place for place, term in enumerate(target) if term.batch]
    unknown = [place for place, term in enumerate(target) if term == Term(-1)]
    place = places[0] if len(places) == 1 else unknown[0] if unknown and not places else None
    if place is None:
        raise NotProvedError("gives a shape in which the batch is not to be found")
    # What is inferred elsewhere is not known here, but that all numbers have a place.
    target = [Term(None) if term == Term(-1) and k != place else term for k, term in enumerate(target)]
    outer = before // product(target[:place])
    if before.factor is None or outer * product(target[:place]) != before:
        raise NotProvedError("takes examples apart, or puts them together")
    if target[place].batch and target[place].factor is not None:
        factor = Term(target[place].factor)
        inner = factor // outer
        if inner * outer != factor:
            raise NotProvedError("takes examples apart, or puts them together")
        whole = inner * product(target[place + 1 :])
        if whole.factor is not None and behind.factor is not None and whole != behind:
            raise NotProvedError("takes examples apart, or puts them together")
    else:
        rest = target[place + 1 :]
        inner = behind // product(rest)
        if behind.factor is None or inner * product(rest) != behind:
            raise NotProvedError("gives rows that are not proved to hold one example each")
    return Rows(place, *(int(term.factor or 0) for term in (outer, inner)))


@_rule("ConcatV2")
def _concat(a: Arguments) -> Layout:
    (axis,) = a.axes(len(a) - 1, a.rank(0))
    return _joined_along(a, range(len(a) - 1), axis)


@_rule("Concat")
def _concat_v1(a: Arguments) -> Layout:
    (axis,) = a.axes(0, a.rank(1))
    return _joined_along(a, range(1, len(a)), axis)


def _joined_along(a: Arguments, numbers: Sequence[int], axis: int) -> Layout:
    parts = [a.rows(number) for number in numbers]
    if axis != parts[0].axis and len(set(parts)) == 1:
        return parts[0]
    if len({(part.axis, part.inner) for part in parts}) > 1 or axis != parts[0].axis:
        raise NotProvedError("joins what belongs to examples in different ways")
    return Rows(axis, sum(part.outer for part in parts), parts[0].inner)


@_rule("Pack")
def _pack(a: Arguments) -> Layout:
    layouts = {a.rows(number) for number in range(len(a))}
    if len(layouts) > 1:
        raise NotProvedError("joins what belongs to examples in different ways")
    return layouts.pop().with_new(a.attr("axis") % (a.rank(0) + 1))


@_rule("Unpack")
def _unpack(a: Arguments) -> Layout:
    axes = {a.attr("axis") % a.rank(0)}
    return a.rows_beside(0, axes, PICKS).without(axes)


@_rule("Split")
def _split(a: Arguments) -> Layout:
    layout, count = a.rows(1), a.attr("num_split")
    if layout.axis not in a.axes(0, a.rank(1)):
        return layout
    if layout.outer % count:
        raise NotProvedError("divides the batch")
    return Rows(layout.axis, layout.outer // count, layout.inner)


@_rule("Slice")
def _slice(a: Arguments) -> Layout:
    layout, begin, size = a.rows(0), a.terms(1), a.terms(2)
    axis = layout.axis
    if begin[axis] != Term(0) or size[axis] not in (Term(-1), Term(layout.outer * layout.inner, True)):
        raise NotProvedError(PICKS)
    if any(term.batch for place, term in enumerate([*begin, *size]) if place % len(begin) != axis):
        raise NotProvedError("takes more of each example, the more there are")
    return layout


@_rule("StridedSlice")
def _strided_slice(a: Arguments) -> Layout:
    layout = a.rows(0)
    begin, end, strides = (a.terms(number).tolist() for number in (1, 2, 3))
    taken, given, axis = 0, 0, None  # dimensions so far, and where the batch is among those given
    for place, entry in _entries(a, len(begin)):
        if entry == "new":
            given += 1
            continue
        if taken == layout.axis:
            _check_whole(a, layout, place, entry, begin, end, strides)
            axis = given
        elif place is not None and any(term.batch for term in (begin[place], end[place], strides[place])):
            raise NotProvedError("takes more of each example, the more there are")
        taken, given = taken + 1, given + (entry != "shrunk")
    if axis is None:
        raise NotProvedError("is a slice of more dimensions than there are")
    return layout.at(axis)


def _entries(a: Arguments, count: int) -> list[tuple[int | None, str]]:
    """Return what happens in each dimension: new, shrunk, cut at a place of begin and end, or whole."""
    kinds = _kinds_of_entries(a, count)
    whole: list[tuple[int | None, str]] = [(None, "whole")] * (a.rank(0) - sum(k in ("cut", "shrunk") for k in kinds))
    spec: list[tuple[int | None, str]] = []
    for place, kind in enumerate(kinds):
        spec += whole if kind == "ellipsis" else [(place, kind)]
    return spec if "ellipsis" in kinds else spec + whole


def _check_whole(
    a: Arguments, layout: Rows, place: int | None, entry: str, begin: list[Term], end: list[Term], strides: list[Term]
) -> None:
    if entry == "whole":
        return
    assert place is not None  # noqa: S101  # only what is whole has none
    first = a.attr("begin_mask") >> place & 1 or begin[place] == Term(0)
    last = a.attr("end_mask") >> place & 1 or end[place] == Term(layout.outer * layout.inner, True)
    if entry == "shrunk" or not (first and last and strides[place] == Term(1)):
        raise NotProvedError(PICKS)


@_rule("Pad", "PadV2", "MirrorPad")
def _pad(a: Arguments) -> Layout:
    layout, paddings = a.rows(0), a.terms(1)
    if [*paddings[layout.axis]] != [Term(0), Term(0)]:
        raise NotProvedError("adds rows to the batch")
    a.check_others_fixed()
    return layout


@_rule("Tile")
def _tile(a: Arguments) -> Layout:
    multiples = a.terms(1).tolist()
    if isinstance(a.layouts[0], Rows):
        layout = a.rows(0)
        a.check_fixed(1)
        times = multiples[layout.axis].factor
        if not times:
            raise NotProvedError("repeats the batch, nobody knows how often")
        return Rows(layout.axis, layout.outer * times, layout.inner)
    a.check_fixed(0)
    place = _only_batch(multiples)
    size = a.op.inputs[0].shape.as_list()[place]
    if size is None:
        raise NotProvedError("repeats something of a size that is not known")
    return Rows(place, int(multiples[place].factor or 0), size)


def _only_batch(terms: Sequence[Term]) -> int:
    places = [place for place, term in enumerate(terms) if term.batch]
    if len(places) != 1 or not terms[places[0]].factor:
        raise NotProvedError("gives a shape in which the batch is not to be found")
    return places[0]


@_rule("Fill")
def _fill(a: Arguments) -> Layout:
    a.check_fixed(1)
    terms = a.terms(0).tolist()
    place = _only_batch(terms)
    return Rows(place, int(terms[place].factor or 0))


@_rule("BroadcastTo")
def _broadcast_to(a: Arguments) -> Layout:
    terms = a.terms(1).tolist()
    if isinstance(a.layouts[0], Rows):
        layout = a.rows(0)
        place = layout.axis + len(terms) - a.rank(0)
        if terms[place] != Term(layout.outer * layout.inner, True) or sum(term.batch for term in terms) > 1:
            raise NotProvedError("gives a shape in which the batch is not to be found")
        return layout.at(place)
    a.check_fixed(0)
    place = _only_batch(terms)
    from_end = place - len(terms)
    if a.rank(0) >= -from_end and a.op.inputs[0].shape.as_list()[from_end] != 1:
        raise NotProvedError(f"takes {a.op.inputs[0].name}, which holds numbers for places in the batch")
    return Rows(place, int(terms[place].factor or 0))


@_rule("OneHot")
def _one_hot(a: Arguments) -> Layout:
    a.check_fixed(1, 2, 3)
    return a.rows(0).with_new(a.attr("axis") % (a.rank(0) + 1))


@_rule("Gather", "GatherV2")
def _gather(a: Arguments) -> Layout:
    versioned = a.op.type == "GatherV2"
    axis = int(a.numbers(2)) % a.rank(0) if versioned else 0
    same = a.attr("batch_dims") % max(1, a.rank(1)) if versioned else 0
    params, indices = a.layouts[0], a.layouts[1]
    if same:
        if params != indices or a.rows(0).axis >= same:
            raise NotProvedError("takes rows of other examples")
        return a.rows(0)
    if isinstance(indices, Rows):
        a.check_fixed(0)
        return indices.at(axis + indices.axis)
    a.check_fixed(1)
    layout = a.rows(0)
    if axis == layout.axis:
        raise NotProvedError(PICKS)
    return layout if layout.axis < axis else layout.at(layout.axis + a.rank(1) - 1)


@_rule("ResourceGather")
def _resource_gather(a: Arguments) -> Layout:
    a.check_fixed(0)
    if a.attr("batch_dims"):
        raise NotProvedError("takes rows by the place in the batch")
    return a.rows(1)


@_rule("GatherNd", "ResourceGatherNd")
def _gather_nd(a: Arguments) -> Layout:
    a.check_fixed(0)
    if a.rows(1).axis == a.rank(1) - 1:
        raise NotProvedError("takes numbers of several examples for one index")
    return a.rows(1)


@_rule("SpaceToBatchND", "SpaceToBatch")
def _space_to_batch(a: Arguments) -> Layout:
    a.check_others_fixed()
    layout = _at_zero(a, 0)
    return Rows(0, layout.outer * _block(a), layout.inner)


@_rule("BatchToSpaceND", "BatchToSpace")
def _batch_to_space(a: Arguments) -> Layout:
    a.check_others_fixed()
    layout, block = _at_zero(a, 0), _block(a)
    if layout.outer % block:
        raise NotProvedError("puts several examples together")
    return Rows(0, layout.outer // block, layout.inner)


def _block(a: Arguments) -> int:
    return math.prod(a.numbers(1).tolist()) if a.op.type.endswith("ND") else a.attr("block_size") ** 2


# Of these, sizes are computed as far as they are known.
OF_SIZES = {"ConcatV2", "ExpandDims", "GatherV2", "Pack", "Prod", "Reshape", "Slice", "Squeeze", "StridedSlice",
            "Unpack", *_ARITHMETIC, *_SAME}  # fmt: skip
# These make rows of sizes and of something fixed; those take sizes as the shape of rows.
_MAKERS = {"BroadcastTo", "Fill", "Tile"}
_TAKES_SIZES = {*_MAKERS, "Reshape", "Slice", "StridedSlice", "Conv2DBackpropInput", "Conv3DBackpropInputV2",
                "DepthwiseConv2dNativeBackpropInput"}  # fmt: skip
