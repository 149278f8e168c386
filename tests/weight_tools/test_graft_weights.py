"""Which tensor of a graft comes from which file, and the holes that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfxfer.errors import SelectionError, WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.weight_tools.graft_weights import plan
from tfxfer.weights import Weights, open_weights, streams, writers

INPUT_SPEC = InputSpec("vgg16", "here", (224, 224), "RGB", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
LAYERS = [f"{layer}/{kind}" for layer in ("conv1", "conv2", "fc") for kind in ("kernel", "bias")]


@pytest.fixture
def make(tmp_path):
    def make(name: str, value: float, names: list[str] = LAYERS, shape: tuple[int, ...] = (2,)) -> Weights:
        arrays = {each: streams.held(np.full(shape, value, np.float32)) for each in names}
        writers.write(tmp_path / f"{name}.npz", arrays)
        return open_weights(tmp_path / f"{name}.npz")

    return make


def origins(graft) -> dict[str, str]:
    return {name: Path(weights.path).stem for name, weights in graft.origins.items()}


def test_what_is_taken_replaces_what_the_base_has_and_the_rest_stays(make, tmp_path):
    graft = plan(make("a", 1), [("conv.*", make("b", 2)), ("fc/.*", make("c", 3))])
    assert origins(graft) == dict(zip(LAYERS, "bbbbcc", strict=True))
    graft = plan(make("d", 1), [("fc/.*", make("e", 2))])
    assert list(graft.tensors) == LAYERS
    writers.write(tmp_path / "out.npz", graft.tensors, sources=graft.sources)
    found = open_weights(tmp_path / "out.npz")
    assert [found[name][0] for name in LAYERS] == [1, 1, 1, 1, 2, 2]


def test_what_the_base_lacks_is_added_behind(make):
    graft = plan(make("a", 1), [("logits/.*", make("b", 2, ["logits/kernel", "logits/bias", "other/kernel"]))])
    assert origins(graft) == dict(zip([*LAYERS, "logits/kernel", "logits/bias"], "aaaaaabb", strict=True))


def test_a_graft_needs_no_base(make):
    graft = plan(None, [("conv.*", make("b", 2)), ("fc/.*", make("c", 3))])
    assert origins(graft) == dict(zip(LAYERS, "bbbbcc", strict=True))


def test_several_patterns_without_a_base_choose_the_order(make):
    takes = [("conv.*", make("b", 2)), ("fc/.*", make("c", 3))]
    assert plan(None, takes).ordered
    assert not plan(None, takes[:1]).ordered
    assert not plan(make("a", 1), takes).ordered


def test_files_of_any_format_are_joined(make, tmp_path):
    writers.write(tmp_path / "m", {name: streams.held(np.full(2, 2, np.float32)) for name in LAYERS})
    graft = plan(make("a", 1), [("fc/.*", open_weights(tmp_path / "m"))])
    assert origins(graft)["fc/kernel"] == "m"


def test_shapes_and_dtypes_that_differ_are_all_listed(make):
    base, other = make("a", 1), make("b", 2, shape=(3,))
    message = r"2 tensors do not fit .*:\n  fc/kernel: float32 \(2,\) in .*a\.npz, float32 \(3,\) in .*\n  fc/b"
    with pytest.raises(WeightsError, match=message):
        plan(base, [("fc/.*", other)])


def test_a_pattern_that_takes_nothing_is_refused(make):
    with pytest.raises(SelectionError, match=r"nothing is taken from .*b\.npz: .*\n  'fc6/\.\*'    nearest: fc/"):
        plan(make("a", 1), [("fc6/.*", make("b", 2))])
    with pytest.raises(SelectionError, match="is not a regular expression"):
        plan(make("c", 1), [("(fc", make("d", 2))])


def test_two_files_that_give_one_name_are_refused(make):
    takes = [("conv.*", make("b", 2)), ("conv1/.*", make("c", 3))]
    with pytest.raises(
        SelectionError, match=r"2 tensors are taken from two files:\n  conv1/kernel: .*b\.npz and .*c\.npz"
    ):
        plan(make("a", 1), takes)
    same = make("d", 4)
    assert origins(plan(make("e", 1), [("conv.*", same), ("conv1/.*", same)]))["conv1/bias"] == "d"


def test_a_pattern_that_the_file_fills_only_in_part_leaves_holes(make):
    base, part = make("a", 1), make("b", 2, LAYERS[:3])
    with pytest.raises(
        WeightsError, match=r"leaves a hole:\n  conv2/bias: 'conv\.\*' matches it in .*, and .*b\.npz does not have it"
    ):
        plan(base, [("conv.*", part)])
    # Unless another file gives it, and layers may be mixed.
    graft = plan(base, [("conv.*", part), ("conv2/bias", make("c", 3))], mix_layers=True)
    assert origins(graft)["conv2/bias"] == "c"


@pytest.mark.parametrize("with_base", [False, True])
def test_a_layer_that_comes_in_part_leaves_holes(make, with_base):
    base = make("a", 1, LAYERS[:4]) if with_base else None
    with pytest.raises(
        WeightsError, match=r"leaves a hole:\n  fc/bias: the rest of fc comes from .*b\.npz, and nothing gi"
    ):
        plan(base, [("fc/kernel", make("b", 2))])
    flat = make("c", 3, ["fc6_W", "fc6_b", "Variable", "Variable_1"])
    with pytest.raises(WeightsError, match="fc6_b: the rest of fc6 comes from"):
        plan(base, [("fc6_W", flat)])
    assert "Variable" in plan(base, [("Variable", flat)]).tensors


def test_a_layer_of_several_files_is_refused_unless_asked_for(make):
    base, takes = make("a", 1), [(".*/kernel", make("b", 2))]
    with pytest.raises(
        WeightsError,
        match=r"(?s)3 holes:\n  conv1: conv1/kernel of .*b\.npz, conv1/bias of .*a\.npz\n.*`mix_layers=True`",
    ):
        plan(base, takes)
    assert origins(plan(base, takes, mix_layers=True)) == dict(zip(LAYERS, "bababa", strict=True))


def test_many_holes_are_counted(make):
    names = [f"layer{i:02}/kernel" for i in range(14)]
    with pytest.raises(WeightsError, match=r"(?s)leaves 13 holes.*layer10.*and 3 more"):
        plan(make("a", 1, names), [(".*", make("b", 2, names[:1]))])


def test_a_weight_below_the_name_of_another_one_is_taken_too(make):
    names = ["emb", "emb/proj", "other/kernel"]
    assert list(plan(make("a", 1, names), [("emb.*", make("b", 2, names))]).tensors) == names


def test_slots_and_steps_stay_behind(make):
    slots = ["fc/kernel/Adam", "fc/kernel/Adam_1", "beta1_power"]
    graft = plan(make("a", 1, LAYERS + slots), [("fc/.*", make("b", 2, LAYERS + slots[:1]))])
    assert list(graft.tensors) == LAYERS
    assert [note.partition(" of ")[0] for note in graft.notes] == ["3 slots and steps", "1 slots and steps"]


def test_the_input_spec_travels_where_all_files_say_the_same(make):
    one, two = make("a", 1), make("b", 2)
    INPUT_SPEC.save(one.path)
    graft = plan(one, [("fc/.*", two)])
    assert graft.input_spec is None
    assert graft.notes == ["no input spec is written: the files have different ones, or only some have one"]
    INPUT_SPEC.save(two.path)
    assert plan(one, [("fc/.*", two)]).input_spec == INPUT_SPEC
