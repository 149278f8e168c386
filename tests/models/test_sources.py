"""Recognising where a file comes from, with two made-up sources of a made-up network and with Keras's own files."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfxfer as tx
from tfxfer.errors import SelectionError, WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.models import squeezenet, vgg
from tfxfer.models.registry import all_sources
from tfxfer.models.sources import Source, candidates, named, recognise

RGB = InputSpec("net", "letters", (8, 8), "RGB", (1, 2, 3), (1, 1, 1))
BGR = dataclasses.replace(RGB, channels="BGR", mean=(3, 2, 1))
VARIABLES = {"conv1/kernel": (3, 3, 3, 4), "conv1/bias": (4,), "fc2/kernel": (36, None), "fc2/bias": (None,)}
PROBE = ("conv1/kernel", (0.1, 0.2, 0.3))
LETTERS = Source(
    "letters",
    "conv1_W",
    RGB,
    VARIABLES,
    ((r"(\w+\d)_W", r"\1/kernel"), (r"(\w+\d)_b", r"\1/bias")),
    ignored=("mean",),
    probe=PROBE,
)
LETTERS_BGR = dataclasses.replace(LETTERS, name="letters_bgr", input_spec=BGR)
TORCH = Source(
    "torch",
    "a sequence",
    RGB,
    VARIABLES,
    tuple(
        (rf"{there}\.{end}", f"{layer}/{ours}")
        for there, layer in ((0, "conv1"), (3, "fc2"))
        for end, ours in (("weight", "kernel"), ("bias", "bias"))
    ),
    layout=(("conv1/kernel", "oihw_conv"), ("fc2/kernel", "transpose+chw_fc:3,3,4")),
)
DEEPER = dataclasses.replace(
    LETTERS,
    name="deeper",
    input_spec=dataclasses.replace(RGB, model="deeper"),
    variables={**VARIABLES, "conv3/kernel": (3, 3, 4, 4), "conv3/bias": (4,)},
    probe=None,
)
SOURCES = (LETTERS, LETTERS_BGR, TORCH)


def letters(**changes: object) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {"conv1_W": (3, 3, 3, 4), "conv1_b": (4,), "fc2_W": (36, 5), "fc2_b": (5,)}
    made = {name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def kernel(*corner: float) -> np.ndarray:
    value = np.full((3, 3, 3, 4), 7, np.float32)
    value[0, 0, :, 0] = corner
    return value


def opened(tmp_path, arrays: dict[str, np.ndarray]) -> tx.weights.Weights:
    np.savez(tmp_path / "net.npz", **arrays)
    return tx.open_weights(tmp_path / "net.npz")


def test_a_file_is_recognised_by_its_names_and_shapes(tmp_path):
    arrays = {
        "0.weight": np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32),
        "3.weight": np.arange(5 * 36, dtype=np.float32).reshape(5, 36),
    }
    file = opened(tmp_path, arrays)
    assert recognise(file, SOURCES) is TORCH
    ours = TORCH.apply(file)
    assert {name: ours.shape(name) for name in ours} == {"conv1/kernel": (3, 3, 3, 4), "fc2/kernel": (36, 5)}
    assert ours.source("conv1/kernel") == "0.weight"
    np.testing.assert_array_equal(ours["conv1/kernel"][2, 1, 0, 3], arrays["0.weight"][3, 0, 2, 1])
    # Row (h, w, c) = (2, 0, 3) of ours is column (c, h, w) of theirs.
    np.testing.assert_array_equal(ours["fc2/kernel"][(2 * 3 + 0) * 4 + 3], arrays["3.weight"][:, (3 * 3 + 2) * 3 + 0])


def test_no_array_is_read_but_the_first_kernel(tmp_path, monkeypatch):
    file = opened(tmp_path, letters(conv1_W=kernel(0.1, 0.2, 0.3)))
    read = []
    monkeypatch.setattr(type(file), "__getitem__", lambda self, name: read.append(name) or kernel(0.1, 0.2, 0.3))
    assert recognise(file, SOURCES) is LETTERS
    assert set(read) == {"conv1_W"}


@pytest.mark.parametrize(("corner", "source"), [((0.1, 0.2, 0.3), LETTERS), ((0.3, 0.2, 0.1), LETTERS_BGR)])
def test_the_first_kernel_tells_the_order_of_the_channels(tmp_path, corner, source):
    file = opened(tmp_path, letters(conv1_W=kernel(*corner)))
    assert recognise(file, SOURCES) is source
    assert source.compare(file).confirmed
    half = opened(tmp_path, letters(conv1_W=kernel(*corner).astype(np.float16)))
    assert recognise(half, SOURCES) is source


def test_a_kernel_of_the_other_order_speaks_against_a_source(tmp_path):
    file = opened(tmp_path, letters(conv1_W=kernel(0.3, 0.2, 0.1)))
    with pytest.raises(WeightsError, match=r"letters  wants RGB, and the first kernel is for BGR"):
        recognise(file, [LETTERS])


def test_a_larger_model_that_fits_less_is_named_with_what_it_would_lack(tmp_path):
    more = {**LETTERS.variables, "conv8/kernel": (1, 1, None, None), "conv9/kernel": (1, 1, None, None)}
    larger = dataclasses.replace(LETTERS, name="larger", variables=more, probe=None)
    file = opened(tmp_path, letters(conv1_W=kernel(0.3, 0.2, 0.1)))
    with pytest.raises(WeightsError, match=rf"\n  larger   lacks 2 of the {len(more)} variables of "):
        recognise(file, [LETTERS, larger])


def test_where_the_order_of_the_channels_cannot_be_told_both_are_named(tmp_path):
    with pytest.raises(WeightsError) as caught:
        recognise(opened(tmp_path, letters()), SOURCES)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/net.npz may come from 2 sources, and its names and shapes do not tell which:",
        "  letters (conv1_W): 8x8 by 'crop', RGB, minus (1, 2, 3)",
        "  letters_bgr (conv1_W): 8x8 by 'crop', BGR, minus (3, 2, 1)",
        "name its source (`source`)",
    ]


def test_of_sources_that_make_the_same_of_a_file_the_first_is_taken(tmp_path):
    spec = dataclasses.replace(LETTERS.input_spec, source="twin")
    twin = dataclasses.replace(LETTERS, name="twin", words="others", input_spec=spec)
    file = opened(tmp_path, letters())
    assert recognise(file, [LETTERS, twin]) is LETTERS
    assert recognise(file, [twin, LETTERS]) is twin
    other = dataclasses.replace(twin, input_spec=dataclasses.replace(spec, size=(9, 9)))
    with pytest.raises(WeightsError, match="may come from 2 sources"):
        recognise(file, [LETTERS, other])


def test_an_unknown_file_is_told_what_speaks_against_each_source(tmp_path):
    arrays = letters(extra=np.zeros(3), another=np.zeros(2), fc2_W=np.zeros((35, 5), np.float32))
    with pytest.raises(WeightsError) as caught:
        recognise(opened(tmp_path, arrays), SOURCES)
    fault = "knows 4 of the 6 names, and not extra, another; wants other shapes than those of fc2_W (35, 5)"
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/net.npz (NumPy .npz archive) is none of the 3 sources that are known:",
        f"  letters      {fault}",
        f"  letters_bgr  {fault}",
        "  the others know none of its 6 names: conv1_W, conv1_b, fc2_W, fc2_b and 2 more",
        "name its source if it is one all the same (`source`), or rename what is in it (`rename`)",
    ]


def test_a_file_of_something_else_lists_its_names(tmp_path):
    with pytest.raises(WeightsError, match=r"none of the 3 sources .*\n  all know none of its 1 names: conv1/kernel\n"):
        recognise(opened(tmp_path, {"conv1/kernel": np.zeros((3, 3, 3, 4))}), SOURCES)


@pytest.mark.parametrize("shape", [(4, 3, 3), (3, 3, 3, 4), ()])
def test_a_shape_that_the_layout_does_not_take_speaks_against_a_source(tmp_path, shape):
    with pytest.raises(WeightsError, match=r"torch  wants other shapes than those of 0\.weight"):
        recognise(opened(tmp_path, {"0.weight": np.zeros(shape, np.float32)}), SOURCES)


def test_what_training_leaves_behind_is_no_part_of_the_model(tmp_path):
    left = {
        name: np.zeros(1)
        for name in (
            "global_step",
            "beta1_power",
            "conv1/kernel/Adam",
            "conv1/kernel/Adam_1",
            "fc2/bias/Momentum",
            "optimizer/vars/0",
            "optimizer_weights/iter",
            "mean",
            "best_acc1",
        )
    }
    file = opened(tmp_path, letters(conv1_W=kernel(0.1, 0.2, 0.3), **left))
    assert recognise(file, SOURCES) is LETTERS


def test_of_two_models_it_is_the_one_of_which_the_file_has_more(tmp_path):
    sources = (DEEPER, LETTERS)
    assert recognise(opened(tmp_path, letters(conv3_b=np.zeros(4))), sources) is DEEPER
    assert recognise(opened(tmp_path, letters()), sources) is LETTERS


def test_candidates_are_the_one_source_or_those_among_which_nothing_tells(tmp_path):
    one = opened(tmp_path, letters(conv1_W=kernel(0.1, 0.2, 0.3)))
    assert [found.source for found in candidates(one, SOURCES)] == [LETTERS]
    assert [found.source for found in candidates(opened(tmp_path, letters()), SOURCES)] == [LETTERS, LETTERS_BGR]
    assert candidates(opened(tmp_path, letters(extra=np.zeros(3))), SOURCES) == []


def test_a_file_of_far_more_tensors_than_the_model_has_is_not_compared_at_all(tmp_path, monkeypatch):
    slots = {f"fc2_W/Adam_{number}": np.zeros(1) for number in range(40)}
    file = opened(tmp_path, letters(conv1_W=kernel(0.1, 0.2, 0.3), **slots))
    monkeypatch.setattr(Source, "compare", None)
    assert candidates(file, SOURCES) == []


def test_patterns_without_operators_are_compared_as_names():
    rules = ((r"features\.0\.weight", "literal"), (r"features.\d+.weight", "pattern"), ("a+", "more"))
    source = dataclasses.replace(LETTERS, renames=rules)
    found = {name: source.rename(name) for name in ("features.0.weight", "features_1_weight", "featuresx0xweight")}
    assert found == {name: name for name in found}  # none of these is a variable
    source = dataclasses.replace(source, variables={"literal": (), "pattern": (), "more": ()})
    assert [source.ours(name) for name in [*found, "aa", "a+"]] == ["literal", "pattern", "pattern", "more", None]


def test_of_several_rules_the_first_that_matches_counts():
    variables = {"by table": (), "by pattern": (), "later": ()}
    for renames, expected in (
        ((("a1", "by table"), (r"a\d", "by pattern")), "by table"),
        (((r"a\d", "by pattern"), ("a1", "by table")), "by pattern"),
        ((("b", "by pattern"), ("a1", "by table"), ("a1", "later")), "by table"),
    ):
        assert dataclasses.replace(LETTERS, renames=renames, variables=variables).ours("a1") == expected


def test_a_source_that_numbers_arrays_tells_only_a_whole_file(tmp_path):
    numbered = tuple((f"params/{number}", name) for number, name in enumerate(VARIABLES))
    source = dataclasses.replace(LETTERS, name="numbers", renames=numbered, probe=None, whole=True)
    shapes = [(3, 3, 3, 4), (4,), (36, 5), (5,)]
    arrays = {f"params/{number}": np.zeros(shape, np.float32) for number, shape in enumerate(shapes)}
    assert recognise(opened(tmp_path, arrays), [source, TORCH]) is source
    del arrays["params/3"]
    with pytest.raises(WeightsError, match="numbers  holds 3 of 4 arrays, and numbers tell only a whole file"):
        recognise(opened(tmp_path, arrays), [source, TORCH])
    assert source.apply(tx.open_weights(tmp_path / "net.npz")).shape("fc2/kernel") == (36, 5)


def test_the_tables_of_all_sources_load_no_tensorflow():
    code = (
        "import tfxfer.models.vgg_sources, tfxfer.models.vgg_f_sources, tfxfer.models.squeezenet_sources, sys; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_part_is_recognised_and_the_comparison_says_what_is_missing(tmp_path):
    file = opened(tmp_path, letters(conv1_W=kernel(0.3, 0.2, 0.1), fc2_W=None, fc2_b=None))
    source = recognise(file, SOURCES)
    assert str(source) == "letters_bgr (conv1_W): 8x8 by 'crop', BGR, minus (3, 2, 1)"
    assert (len(source.compare(file).matched), source.compare(file).missing) == (2, ["fc2/kernel", "fc2/bias"])
    whole = opened(tmp_path, letters(conv1_W=kernel(0.1, 0.2, 0.3)))
    assert (len(LETTERS.compare(whole).matched), LETTERS.compare(whole).missing) == (4, [])


def test_a_network_with_fewer_layers_in_the_middle_is_not_a_part_of_an_unbroken_one(tmp_path):
    shapes = {f"conv{number}/kernel": (3, 3, 3, 3) for number in range(1, 5)}
    unbroken = dataclasses.replace(DEEPER, unbroken=True, variables=shapes)

    def file(*numbers: int) -> tx.weights.Weights:
        return opened(tmp_path, {f"conv{number}_W": np.zeros((3, 3, 3, 3), np.float32) for number in numbers})

    for part in ((1, 2, 3, 4), (1, 2), (3, 4), (2,)):
        assert recognise(file(*part), [unbroken]) is unbroken
    with pytest.raises(WeightsError, match=r"deeper  has conv2/kernel, conv3/kernel between what the file holds"):
        recognise(file(1, 4), [unbroken])


def test_two_names_for_one_variable_speak_against_a_source(tmp_path):
    both = dataclasses.replace(LETTERS, renames=(*LETTERS.renames, ("first", "conv1/bias")))
    file = opened(tmp_path, letters(first=np.zeros(4)))
    with pytest.raises(WeightsError, match="letters  has one name for conv1_b and others"):
        recognise(file, [both])
    with pytest.raises(SelectionError, match="conv1_b, first -> conv1/bias"):
        both.apply(file)


def test_a_source_that_is_named_is_applied_to_what_it_knows_and_leaves_the_rest(tmp_path):
    file = opened(tmp_path, letters(extra=np.zeros(3)))
    assert set(LETTERS.apply(file)) == {*VARIABLES, "extra"}
    assert set(tx.open_weights(tmp_path / "net.npz", rename=LETTERS.rename)) == {*VARIABLES, "extra"}


def test_a_source_applied_to_other_shapes_names_them(tmp_path):
    file = opened(tmp_path, {"0.weight": np.zeros((3, 3)), "3.weight": np.zeros((5, 35))})
    with pytest.raises(WeightsError, match=r"(?s)the layouts do not fit to .*net\.npz:\n  .*conv1/kernel"):
        TORCH.apply(file)


def test_sources_are_found_by_name():
    assert named(SOURCES, "torch") is TORCH
    message = r"'leters' is not a source \(did you mean letters\?\); the sources are letters, letters_bgr, torch"
    with pytest.raises(SelectionError, match=message):
        named(SOURCES, "leters")


@pytest.mark.parametrize("rules", [
    [("a", "b"), ("a|c", "d")], [("a", "b"), ("a", "d")], [("(a)", r"b"), ("a", "d")], [(r"a", r"\g<0>"), ("a", "d")],
])  # fmt: skip
def test_the_first_rule_that_matches_counts_whether_it_matches_one_name_or_many(rules):
    variables = {"a": (None,), "b": (None,), "d": (None,)}
    source = Source("x", "x", InputSpec("m", "x", (1, 1), "RGB", (0, 0, 0), (1, 1, 1)), variables, rules)
    assert source.ours("a") == ("a" if "g" in rules[0][1] else "b")
    assert source.ours("c") == ("d" if "|" in rules[1][0] else None)


def test_all_known_sources_have_names_of_their_own_and_layouts_that_exist():
    every = all_sources()
    assert all(source in every for source in (*vgg.SOURCES, *squeezenet.SOURCES))
    assert len({source.name for source in every}) == len(every)
    for source in every:
        for name in source.variables:
            if text := source.layout_of(name):
                tx.weights.layouts.layout(text)
        assert source.input_spec.source == source.name
        assert source.name.startswith(source.input_spec.model)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_model_around_vgg16_is_not_taken_for_vgg16_but_can_be_named(tmp_path):
    inner = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    outer = keras.Sequential(
        [keras.Input((32, 32, 3)), inner, keras.layers.Flatten(), keras.layers.Dense(2, name="head")]
    )
    outer.save(tmp_path / "cats.keras")
    file = tx.open_weights(tmp_path / "cats.keras")
    message = r"vgg16_keras +knows 26 of the 28 names, and not head/kernel, head/bias"
    with pytest.raises(WeightsError, match=message):
        recognise(file, vgg.SOURCES)
    ours = named(vgg.SOURCES, "vgg16_keras").apply(file)
    np.testing.assert_array_equal(ours["conv5_3/kernel"], inner.get_layer("block5_conv3").kernel)
    assert ours.source("conv5_3/kernel") != "conv5_3/kernel"
