"""What conversion decides: names, order, layouts, dtypes, what is left out, and the input spec."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import example, given
from hypothesis import strategies as st

from tfxfer.errors import SelectionError, WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.weight_tools.convert_weights import plan, rounded
from tfxfer.weights import Weights, open_weights, streams, writers

RNG = np.random.default_rng(0)
INPUT_SPEC = InputSpec("vgg16", "here", (224, 224), "RGB", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
NAMES = ["conv1_1_W", "conv1_1_b", "conv10_1_W", "fc6_W", "fc6_b"]


def opened(path: Path, named: dict[str, np.ndarray]) -> Weights:
    writers.write(path, {name: streams.held(array) for name, array in named.items()}, overwrite=True)
    return open_weights(path)


@pytest.fixture
def weights(tmp_path) -> Weights:
    return opened(tmp_path / "in.npz", {name: RNG.normal(size=(4, 2)).astype(np.float32) for name in NAMES})


@pytest.fixture
def trained(tmp_path) -> Weights:
    """A checkpoint with slots and steps, and with the graph that tells in which order its variables were made."""
    with tf.Graph().as_default(), tf.Session() as sess:
        layers = [tf.get_variable(f"{name}/kernel", [2, 2]) for name in ("squeeze", "expand", "conv10", "conv9")]
        loss = tf.add_n([tf.reduce_sum(layer) for layer in layers])
        tf.train.AdamOptimizer().minimize(loss, tf.train.create_global_step())
        tf.train.ExponentialMovingAverage(0.9).apply(layers[:1])
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, str(tmp_path / "m"))
    return open_weights(tmp_path / "m")


def new_names(weights: Weights, **options) -> list[str]:
    return [row.new for row in plan(weights, **options).rows]


# --- names and order ---


def test_without_a_wish_everything_stays_as_it_is(weights):
    conversion = plan(weights)
    assert [(row.old, row.new) for row in conversion.rows] == [(name, name) for name in NAMES]
    assert all(row.before is row.after for row in conversion.rows)
    assert (conversion.input_spec, conversion.notes) == (None, [])


def test_rules_apply_in_order_between_the_prefixes(weights):
    options = {"rename": [(r"_W$", "/kernel"), (r"_b$", "/bias"), ("^v1", "layer")], "strip_prefix": "con"}
    assert new_names(weights, add_prefix="net/", **options) == [
        "net/layer_1/kernel",
        "net/layer_1/bias",
        "net/layer0_1/kernel",
        "net/fc6/kernel",
        "net/fc6/bias",
    ]


def test_names_are_chosen_as_the_file_has_them_and_come_in_the_order_of_the_patterns(weights):
    assert new_names(weights, select=["fc.*", "conv1_.*", ".*"], exclude=[".*_b"], add_prefix="a/") == [
        "a/fc6_W",
        "a/conv1_1_W",
        "a/conv10_1_W",
    ]


def test_the_variables_of_a_checkpoint_come_in_the_order_in_which_they_were_made(trained):
    names = [f"{name}/kernel" for name in ("squeeze", "expand", "conv10", "conv9")]
    assert new_names(trained, drop_slots=True) == names
    assert new_names(trained, select=[".*9/.*", ".*"], drop_slots=True) == [names[3], *names[:3]]


def layers_of(weights: Weights, out: Path, **options) -> list[str]:
    conversion = plan(weights, **options)
    writers.write(out, conversion.tensors, ordered=conversion.ordered)
    return list(open_weights(out))


def test_an_order_that_was_chosen_or_stands_in_the_file_is_kept_though_it_be_that_of_names(trained, tmp_path):
    named = {f"{layer}/{kind}": np.ones(2) for layer in ("s16", "s8") for kind in ("bias", "kernel")}
    npz, kernels_first = opened(tmp_path / "a.npz", named), [f"s16/{k}" for k in ("kernel", "bias")]
    kernels_first += [name.replace("s16", "s8") for name in kernels_first]
    assert layers_of(npz, tmp_path / "a.h5", select=["s16/.*", "s8/.*"]) == kernels_first
    assert layers_of(npz, tmp_path / "b.h5") == [*kernels_first[2:], *kernels_first[:2]]
    assert layers_of(open_weights(tmp_path / "a.h5"), tmp_path / "c.h5", dtype="float32") == kernels_first
    own = {"select": ["conv.*"], "drop_slots": True}
    assert layers_of(trained, tmp_path / "d.h5", **own) == ["conv10/kernel", "conv9/kernel"]
    (tmp_path / "m.meta").unlink()
    assert layers_of(trained, tmp_path / "e.h5", **own) == ["conv9/kernel", "conv10/kernel"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"select": ["conv2.*"]}, r"'conv2\.\*'    nearest: conv"),
        ({"exclude": ["conv2.*"]}, r"match none of the 5 variables"),
        ({"exclude": [".*"]}, r"leaves nothing of the 5 names"),
        ({"rename": [("kernel", "x")]}, r"the rename rule 'kernel' matches none of the 5 names; nearest:"),
        ({"rename": [("(W", "x")]}, r"'\(W' is not a regular expression: missing \)"),
        ({"rename": [("_W", r"\2")]}, r"the replacement '\\\\2' of rule '_W' is wrong: invalid group reference"),
        ({"rename": [("_[Wb]$", "")]}, r"of several:\n  conv1_1_W, conv1_1_b -> conv1_1\n  fc6_W, fc6_b -> fc6"),
        ({"strip_prefix": "conv/"}, r"no name begins with 'conv/'; nearest: conv"),
        ({"layout": [("conv2", "transpose")]}, r"match none of the 5 variables"),
    ],
)
def test_patterns_and_rules_that_do_not_fit_are_refused(weights, options, message):
    with pytest.raises(SelectionError, match=message):
        plan(weights, **options)


def test_stripping_that_makes_two_names_one_is_refused(tmp_path):
    weights = opened(tmp_path / "a.npz", {"a/w": np.ones(1), "w": np.ones(1)})
    with pytest.raises(SelectionError, match="a/w, w -> w"):
        plan(weights, strip_prefix="a/")


# --- slots ---


def test_a_weight_below_the_name_of_another_one_is_kept(tmp_path):
    weights = opened(tmp_path / "in.npz", {"emb": np.ones((2, 3), np.float32), "emb/proj": np.ones((2, 3), np.float32)})
    assert new_names(weights, drop_slots=True) == ["emb", "emb/proj"]


def test_slots_of_a_named_optimizer_are_left_out_and_named(tmp_path):
    arrays = {name: np.ones((2, 3), np.float32) for name in ("v", "v/mine", "w", "w/mine")}
    conversion = plan(opened(tmp_path / "in.npz", arrays | {"global_step": np.array(3)}), drop_slots=True)
    assert [row.old for row in conversion.rows] == ["v", "w"]
    assert conversion.notes[1].endswith("by their place below a variable: v/mine, w/mine")


def test_slots_steps_and_averages_beside_their_variables_are_left_out_and_counted(trained):
    conversion = plan(trained, drop_slots=True)
    assert conversion.notes == [f"11 optimizer slots and 1 step of {trained.path} left out"]
    assert len(plan(trained).rows) == 16


def test_averages_can_be_kept_under_the_names_of_their_variables(trained):
    pattern, rule = ".*/ExponentialMovingAverage", ("/ExponentialMovingAverage$", "")
    assert new_names(trained, select=[pattern], rename=[rule]) == ["squeeze/kernel"]


def test_dropping_everything_is_refused(trained):
    with pytest.raises(
        WeightsError, match=r"nothing is left of .*: all 1 tensors .* steps, as global_step; leave `drop_s"
    ):
        plan(trained, select=["global_step"], drop_slots=True)


# --- layouts ---


def test_layouts_go_by_the_new_names_and_are_written_in_pieces(tmp_path):
    kernel = RNG.normal(size=(4, 3, 2, 2)).astype(np.float32)
    weights = opened(tmp_path / "a.safetensors", {"conv.weight": kernel, "fc.weight": np.ones((2, 3))})
    rules = {"rename": [(r"\.weight", "/kernel")], "layout": [("conv/.*", "oihw_conv"), ("fc/.*", "transpose")]}
    conversion = plan(weights, **rules)
    assert [row.after.shape for row in conversion.rows] == [(3, 2), (2, 2, 3, 4)]
    writers.write(tmp_path / "b", conversion.tensors)
    np.testing.assert_array_equal(open_weights(tmp_path / "b")["conv/kernel"], kernel.transpose(2, 3, 1, 0))


def test_a_layout_that_does_not_fit_is_refused(weights):
    with pytest.raises(WeightsError, match=r"fc6_W: the layout oihw_conv takes \(out, in, h, w\), not \(4, 2\)"):
        plan(weights, layout=[("fc6_W", "oihw_conv")])
    with pytest.raises(WeightsError, match="'oihw' is not a layout"):
        plan(weights, layout=[("fc6_W", "oihw")])


# --- dtypes ---

FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


@given(st.sampled_from(FLOATS), st.sampled_from(FLOATS), st.lists(st.floats(width=16), max_size=20))
def test_floats_are_cast_as_numpy_casts_them(tmp_path_factory, before, after, numbers):
    array = np.array(numbers).astype(before)
    weights = opened(tmp_path_factory.mktemp("cast") / "a", {"w": array})
    conversion = plan(weights, dtype=np.dtype(after).name)
    assert conversion.rows[0].after.dtype == after
    assert conversion.rows[0].after.read().tobytes() == array.astype(after).tobytes()


def nearest_bfloat16(number: float) -> float:
    """The nearest by exact arithmetic, the even one of two: of 8 bits, at least 2**-133 apart."""
    if not np.isfinite(number):
        return number
    step = Fraction(2) ** (max(math.frexp(number)[1], -125) - 8)
    exact = round(Fraction(number) / step) * step
    return math.copysign(float(exact) if abs(exact) < 2**128 else np.inf, number)


CLOSE_TO_TIES = st.builds(
    lambda bits, exponent, nudge: math.ldexp((2 * bits + 1) * (1 + nudge * 2.0**-50), exponent),
    *(st.integers(-300, 300), st.integers(-150, 130), st.integers(-(1 << 30), 1 << 30)),
)


@given(st.lists(st.floats() | CLOSE_TO_TIES | st.floats(-3.5e38, 3.5e38), max_size=20))
@example([1 + 2**-8 + 2**-40, 1 + 2**-8, 1 + 2**-8 - 2**-40, -0.0, 2.0**-134, 2.0**-134 + 2.0**-180, 1e-300])
@example([(2 - 2**-8) * 2.0**127, np.nextafter((2 - 2**-8) * 2.0**127, 0), 1e300, -1e300, 5e-324])
def test_numbers_are_rounded_once_to_the_nearest(numbers):
    found = rounded(np.array(numbers, np.float64), np.dtype(ml_dtypes.bfloat16))
    assert found.dtype == ml_dtypes.bfloat16
    expected = np.array([nearest_bfloat16(number) for number in numbers], np.float64)
    np.testing.assert_array_equal(found.astype(np.float64), expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_what_is_no_float_is_never_cast(tmp_path):
    named = {"i": np.arange(3), "b": np.ones(2, bool), "s": np.array([b"text"], object), "c": np.ones(2, np.complex64)}
    conversion = plan(opened(tmp_path / "a", named), dtype="float16")
    assert all(row.before is row.after for row in conversion.rows)


def test_values_that_would_become_infinite_are_counted_for_all_tensors_before_anything_is_written(tmp_path):
    named = {"fits": np.array([65504, -65519.9, 1e-30, np.inf, np.nan]), "one": np.array([[65520.0]])}
    named["two"] = np.array([1e30, -1e30, 0], np.float32)
    weights = opened(tmp_path / "a", named)
    with pytest.raises(
        WeightsError, match=r"float16 ends at 65504; beyond it .* of:\n  one: 1 of 1 values\n  two: 2 of 3 values"
    ):
        plan(weights, dtype="float16")
    assert plan(weights, dtype="bfloat16").rows[0].after.dtype == ml_dtypes.bfloat16
    with pytest.raises(WeightsError, match=r"float32 ends at 3\.4028e\+38; beyond it .* of:\n  w: 1 of 2 values"):
        plan(opened(tmp_path / "b", {"w": np.array([1e300, 1])}), dtype="float32")
    largest = {"w": np.nextafter(np.array([(2 - 2**-8) * 2.0**127]), 0)}  # that is not infinite
    assert np.isfinite(plan(opened(tmp_path / "c", largest), dtype="bfloat16").rows[0].after.read()).all()
    with pytest.raises(WeightsError, match=r"bfloat16 ends at 3\.3895e\+38"):
        plan(opened(tmp_path / "b", {"w": np.array([3.4e38], np.float32)}), dtype="bfloat16")


# --- the input spec, and graphs of objects ---


def test_the_input_spec_travels_while_all_variables_do(trained):
    INPUT_SPEC.save(trained.checkpoint)
    assert plan(trained, drop_slots=True, add_prefix="x/").input_spec == INPUT_SPEC
    conversion = plan(trained, select=["squeeze.*", "expand.*"])
    assert conversion.input_spec is None
    assert conversion.notes == ["m.input_spec.json stays behind: 2 of its variables are left out, as conv10/kernel"]


def test_the_input_spec_does_not_travel_past_a_layout_that_belies_it(tmp_path):
    weights = opened(tmp_path / "a.npz", {"conv1/kernel": np.ones((3, 3, 3, 2)), "fc/kernel": np.ones((2, 1001))})
    INPUT_SPEC.save(tmp_path / "a.npz")
    assert plan(weights, layout=[("conv.*", "-oihw_conv")]).input_spec == INPUT_SPEC
    for name, layout in (("conv.*", "bgr_conv+-oihw_conv"), ("fc.*", "classes_1001")):
        conversion = plan(weights, layout=[(name, layout)])
        assert conversion.input_spec is None
        assert conversion.notes == [
            f"a.npz.input_spec.json stays behind: the layout {layout} changes what it speaks of"
        ]


def test_of_many_entries_that_are_left_out_the_first_are_named_and_the_rest_counted(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.ones(2), **{f"log{number}": np.zeros(1, "M8[D]") for number in range(14)})
    notes = plan(open_weights(tmp_path / "a.npz")).notes
    assert len(notes) == 11
    assert notes[0].startswith(f"log0 of {tmp_path / 'a.npz'} is left out: ")
    assert notes[-1] == f"4 more entries of {tmp_path / 'a.npz'} are left out"


def test_the_graph_of_objects_stays_behind(tmp_path):
    import tensorflow as tf2

    tf2.train.Checkpoint(a=tf2.Variable([1.0], name="a")).write(str(tmp_path / "m"))
    conversion = plan(open_weights(tmp_path / "m"))
    assert sorted(row.new for row in conversion.rows) == ["a"]
    assert conversion.notes[0].startswith(
        f"_CHECKPOINTABLE_OBJECT_GRAPH of {tmp_path / 'm'} is left out: it describes the objects"
    )
