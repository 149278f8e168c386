"""What an array is for, told from its name, its rank and the names beside it.

Slots are what optimizers keep beside the variables they train. Their names:

    TensorFlow 1    VARIABLE/Adam, VARIABLE/Adam_1, VARIABLE/Momentum, SCOPE/VARIABLE/RMSProp; beta1_power,
                    beta2_power, in any scope and numbered; VARIABLE/NAME and VARIABLE/NAME_1 of an optimizer that was
                    given a name
    TensorFlow 2    VARIABLE/.OPTIMIZER_SLOT/..., Adam/VARIABLE/m, Adam/learning_rate, optimizer/...
    Keras           optimizer_weights/..., optimizer/...
    PyTorch         optimizer/state/0/exp_avg, optimizer_state_dict/param_groups/0/lr, state/0/momentum_buffer

A weight may stand below the name of another one, as `embedding/proj` does below `embedding`. So a name that an
optimizer was given is told from the shapes and from how many variables have it; see `slots_by_place`. In doubt it is a
weight.

`VARIABLE/ExponentialMovingAverage` is a slot where VARIABLE is there too: a second copy, which training keeps. Where
it is not, the average is the only copy and has the role of what it is an average of. So is `model_ema/VARIABLE` of
PyTorch's checkpoints, which also stand under `state_dict_ema`, `params_ema` and `ema`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

import numpy as np

KERNEL, BIAS, STATISTIC, PARAMETER = "kernel", "bias", "batch-norm statistic", "batch-norm parameter"
SLOT, STEP, OTHER = "optimizer slot", "step", "other"
ROLES = (KERNEL, BIAS, PARAMETER, STATISTIC, SLOT, STEP, OTHER)
OF_TRAINING = frozenset({SLOT, STEP})  # what only training needs

_AVERAGE = "ExponentialMovingAverage"
_OPTIMIZERS = (
    "Adam|AdaMax|Adamax|AdamW|Nadam|NAdam|LazyAdam|Momentum|RMSProp|RMSprop|Adagrad|AdagradDA|Adadelta|Ftrl|FTRL|"
    "ProximalAdagrad|ProximalGradientDescent|GradientDescent|SGD|LAMB|LARS|Lion|Adafactor|AddSign|PowerSign|"
    "AMSGrad|RAdam|RectifiedAdam|AdaBound|AdaBelief|Yogi|NovoGrad|COCOB|Shampoo"
)
_TORCH = "exp_avg|exp_avg_sq|max_exp_avg_sq|exp_inf|momentum_buffer|square_avg|grad_avg|acc_delta"
# The last part of a slot's name: of TensorFlow 1, BERT (adam_m) and T5 (q_slot_vr).
_SLOT = re.compile(rf"(?:{_OPTIMIZERS})(?:Optimizer)?(?:_\d+)?|adam_[mv]|.*_slot_(?:vc|vr|v|m)|{_TORCH}")
_POWER = re.compile(r"beta[12]_power(?:_\d+)?")
# The last part of a slot's name in Keras, and of what takes the bias from an average in TensorFlow 1: too short to tell
# without the variable before it, whose shape it has. `linear` and `average` of Keras are names of layers too.
_SHORT_SLOT = re.compile(r"m|v|vhat|momentum|velocity|rms|mg|accumulator|accum_grad|accum_var|[mv]_hat|biased")
_NUMBER = re.compile(r"_\d+$")
_OWNERS = (
    r"_?(?:\w*_)?optim(?:izers?)?(?:_weights|_states?|_state_dicts?)?|(?:lr_)?schedulers?(?:_states?|_state_dicts?)?|"
    r"param_groups|state/\d+"
)
# A part that stands before everything that an optimizer owns.
_OWNER = re.compile(rf"(?:.*/)?(?:{_OWNERS}|\.OPTIMIZER_SLOT|(?:{_OPTIMIZERS})(?:_\d+)?)/.+")
_STEP = re.compile(
    r"global_step(?:_\d+)?|local_step|save_counter|_?iterations?|iter|step|epoch|num_batches_tracked", re.IGNORECASE
)
_STATISTIC = re.compile(r"(?:moving|running)_(?:mean|variance|var|std)(?:_\d+)?")
_PARAMETER = re.compile(r"gamma|beta")
_BIAS = re.compile(r"(?:.*[\W_])?(?:b|B|[Bb]ias|[Bb]iases)(?:_?\d+)?")
# Parts that are a batch normalisation's only where the statistics stand beside them, and those statistics.
_AMBIGUOUS = re.compile(r"weight|bias|scale|offset|mean|variance")
_BESIDE = ("running_mean", "moving_mean", "mean")
# What MatConvNet keeps beside the weights of a layer, and what it says of pictures, of classes and of its training.
_SETTING = re.compile(
    r"stride|pad|dilate|crop|upsample|pool|poolSize|param|rate|leak|size|hasBias|numGroups|epsilon|opts|precious|"
    r"rememberOutput|learningRate|weightDecay|fanin|fanout|(?:input|output|param)Indexes|"
    r"imageSize|averageImage|border|keepAspect|rgb(?:Mean|Variance|Covariance)"
)
_META = re.compile(r"(?:net/)?(?:meta|normalization)/.+")
# What tells that a file is MatConvNet's; elsewhere, `meta` and `normalization` may be layers.
_OF_MATCONVNET = [
    f"{scope}{name}"
    for scope in ("meta/normalization/", "net/meta/normalization/", "normalization/", "net/normalization/")
    for name in ("imageSize", "averageImage")
]
_EMA = re.compile(r"(?:(?:model|state_dict|params)_ema|ema(?:_state_dict)?)/(.+)", re.DOTALL)
_PART = re.compile(r"(.*[/.])?([^/.]+)", re.DOTALL)


def role(
    name: str,
    tensor_shape: tuple[int, ...],
    all_names: Container[str],
    dtype: np.dtype | None = None,
    slots: Container[str] = (),
) -> str:
    """Say what an array is for: one of `ROLES`.

    Names tell; where they do not, what has two dimensions or more is a kernel, and the rest `other`. A bias may have
    two dimensions, one of which is 1: `conv1/weights/1` of MatConvNet. Its settings, as `conv1/stride`, are `other`.
    So is what is int32 or int64 and not a bias: sizes or places, as of a padding in a graph.

    Args:
      name: its name.
      tensor_shape: its shape.
      all_names: the names of all arrays of the file, itself among them; a set or a dict, for it is searched often.
      dtype: its dtype, where it is known.
      slots: what `slots_by_place` says of the file; without it, such slots count as weights.
    """
    scope, last = _split(name)
    average = _averaged(name, scope, last, all_names)
    if average is not None:
        return average or role(scope[:-1], tensor_shape, all_names, dtype, slots)
    if len(tensor_shape) == 0 and _STEP.fullmatch(last):
        return STEP
    if name in slots or _is_slot(name, last, all_names):
        return SLOT
    if _normalises(scope, last, all_names):
        return STATISTIC if last in ("mean", "variance") or _STATISTIC.fullmatch(last) else PARAMETER
    vector = len(tensor_shape) == 1 or (len(tensor_shape) == 2 and 1 in tensor_shape)
    if vector and (_BIAS.fullmatch(last) or (last == "1" and scope.endswith("/weights/"))):
        return BIAS
    if _is_setting(name, last, all_names) and (vector or last == "averageImage" or _META.fullmatch(name)):
        return OTHER
    return KERNEL if len(tensor_shape) >= 2 and dtype not in (np.int32, np.int64) else OTHER


def is_of_training(name: str, all_names: Container[str], slots: Container[str] = ()) -> bool:
    """Say whether training alone needs an array, by its name: a step, a slot, a moving average, a metric.

    What MatConvNet keeps beside the weights, as `conv1/stride` and `meta/normalization/averageImage`, is among these:
    it is not a variable of the network either.

    Args:
      name, all_names, slots: as `role` takes them.
    """
    _, last = _split(name)
    kept = last == _AVERAGE or bool(_STEP.fullmatch(last)) or name.startswith("metrics/")
    return kept or name in slots or _is_slot(name, last, all_names) or _is_setting(name, last, all_names)


def slots_by_place(all_names: Iterable[str], shape_of: Callable[[str], tuple[int, ...]]) -> frozenset[str]:
    """Return the names of slots that only the variable above them gives away.

    Such a slot stands below the name of a variable and has its shape. Its last part is one that optimizers use, as `m`;
    or it is the name that an optimizer of this file was given: see `_is_given`.

    Args:
      all_names: the names of all arrays of the file.
      shape_of: returns the shape of one.
    """
    shapes = {name: shape_of(name) for name in all_names}
    above = {name: over for name in shapes if (over := _variable_above(name, shapes)) is not None}
    short = frozenset(name for name in above if _SHORT_SLOT.fullmatch(_split(name)[1]))
    return short | _of_given_names(shapes, {name: over for name, over in above.items() if name not in short})


def _variable_above(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the variable below whose whole name a name of the same shape stands, in any scope; None without one."""
    over = next((variable for variable in _tails(name.rpartition("/")[0]) if variable in shapes), None)
    return over if over is not None and shapes[over] == shapes[name] else None


def _of_given_names(shapes: Mapping[str, tuple[int, ...]], above: Mapping[str, str]) -> frozenset[str]:
    """Return the slots of optimizers that were given a name, of all that stand below variables."""
    named = {name for name in shapes if _is_slot(name, _split(name)[1], shapes) or _split(name)[1] == _AVERAGE}
    trainable = {
        name
        for name, shape in shapes.items()
        if name not in named and name not in above and not _is_step_or_statistic(name, shape)
    }
    has_slots = {scope for name in named for scope in _above(name)}
    groups: dict[str, list[str]] = {}
    for name in above.keys() - named:
        groups.setdefault(_NUMBER.sub("", _split(name)[1]), []).append(name)
    steps = any(not shape and _STEP.fullmatch(_split(name)[1]) for name, shape in shapes.items())
    powers = any(_POWER.fullmatch(_split(name)[1]) for name in shapes)
    return frozenset(
        name
        for group in groups.values()
        if has_slots.isdisjoint(group) and _is_given({n: above[n] for n in group}, trainable, steps, powers)
        for name in group
    )


def _is_given(group: Mapping[str, str], trainable: AbstractSet[str], steps: bool, powers: bool) -> bool:
    """Say whether a part of names, below two variables or more, is the name that an optimizer was given.

    The file must be of a training. Either Adam's powers are there, and each variable has two slots, as Adam makes them;
    or most of the variables that can be trained have one.
    """
    slots = Counter(group.values())
    if len(slots) < 2:
        return False
    pairs = powers and set(slots.values()) == {2}
    return pairs or ((steps or powers) and 2 * len(slots.keys() & trainable) > len(trainable))


def _is_step_or_statistic(name: str, tensor_shape: tuple[int, ...]) -> bool:
    last = _split(name)[1]
    return bool(_STATISTIC.fullmatch(last)) or (not tensor_shape and bool(_STEP.fullmatch(last)))


def _is_setting(name: str, last: str, all_names: Container[str]) -> bool:
    if "/" in name and _SETTING.fullmatch(last):
        return True
    return bool(_META.fullmatch(name)) and any(sign in all_names for sign in _OF_MATCONVNET)


def _split(name: str) -> tuple[str, str]:
    """Split a name behind the last `/`, or the last `.` that PyTorch puts there."""
    found = _PART.fullmatch(name)
    return (found[1] or "", found[2]) if found else ("", name)


def _averaged(name: str, scope: str, last: str, all_names: Container[str]) -> str | None:
    """Return the role of a moving average; empty where it is that of what it averages; None where it is none."""
    if last != _AVERAGE or not scope:
        return None
    if any(variable in all_names for variable in _tails(scope[:-1])):
        return SLOT
    # Batch normalisation by hand averages the outputs of tf.nn.moments, which are not variables.
    return STATISTIC if "moments" in name.split("/") else ""


def _is_slot(name: str, last: str, all_names: Container[str]) -> bool:
    scope = name.rpartition("/")[0]
    if _POWER.fullmatch(last) or (scope and (_SLOT.fullmatch(last) or _OWNER.fullmatch(name))):
        return True
    copy = _EMA.fullmatch(name)
    return copy is not None and copy[1] in all_names


def _above(name: str) -> Iterator[str]:
    """Yield the scope of a name, the scope of that, ..."""
    while name := name.rpartition("/")[0]:
        yield name


def _tails(name: str) -> Iterator[str]:
    """Yield a name, and the name without its first scope, its first two, ..."""
    while name:
        yield name
        name = name.partition("/")[2]


def _normalises(scope: str, last: str, all_names: Container[str]) -> bool:
    if _STATISTIC.fullmatch(last) or _PARAMETER.fullmatch(last):
        return True
    return bool(_AMBIGUOUS.fullmatch(last)) and any(scope + beside in all_names for beside in _BESIDE)
