"""Plans: what is paired with what, what is refused and how it is told, and what a restored session holds."""

from __future__ import annotations

import ast
import json
import re
import shlex

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import RestoreError, SelectionError
from tfxfer.graph import layers
from tfxfer.tools import convert_weights
from tfxfer.weights import Tensor, Weights


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def values(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def by_hand(arrays, *, path="runs/ae/weights", kind="made by hand", checkpoint=None):
    """Return Weights whose arrays lie in no file, and the list of the names that were read."""
    read = []

    def reader(name, array):
        return lambda: read.append(name) or array

    tensors = {name: Tensor(array.shape, array.dtype, reader(name, array)) for name, array in arrays.items()}
    return Weights(path, kind, tensors, checkpoint=checkpoint), read


def checkpoint(path, arrays):
    """Write arrays by TensorFlow's own Saver and return the prefix."""
    with tf.Graph().as_default():
        table = {name: tf.Variable(array, name=f"saved_{k}") for k, (name, array) in enumerate(arrays.items())}
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            return tf.train.Saver(table).save(sess, str(path), write_meta_graph=False)


def small_model():
    """Make conv1, fc1 and logits on 4x4 images of 3 channels."""
    x = layers.conv2d(tf.placeholder(tf.float32, [None, 4, 4, 3], name="images"), 2, 3, "conv1")
    return layers.dense(layers.dense(layers.flatten(x), 5, "fc1"), 3, "logits", activation=None)


SHAPES = {
    "conv1/kernel": (3, 3, 3, 2),
    "conv1/bias": (2,),
    "fc1/kernel": (32, 5),
    "fc1/bias": (5,),
    "logits/kernel": (5, 3),
    "logits/bias": (3,),
}
ARRAYS = {name: values(*shape, seed=seed) for seed, (name, shape) in enumerate(SHAPES.items())}


def fetch(sess):
    variables = tf.global_variables()
    return dict(zip([v.op.name for v in variables], sess.run(variables), strict=True))


def initial_values():
    with tf.Graph().as_default():
        small_model()
        with tx.session() as sess:
            return fetch(sess)


def without(*names):
    return {name: array for name, array in ARRAYS.items() if name not in names}


def names_of(variables):
    return [variable.op.name for variable in variables]


# What fits.


@pytest.mark.parametrize("patterns", [["conv1/.*"], [".*/bias"], ["logits/kernel", "conv1/bias"], [".*"]])
def test_a_session_holds_exactly_the_chosen_variables_from_the_file_and_the_others_untouched(tmp_path, patterns):
    small_model()
    chosen = tx.select(*patterns)
    plan = tx.plan(chosen, tx.open_weights(checkpoint(tmp_path / "model", ARRAYS)))
    before = initial_values()
    with tx.session(plan) as sess:
        got = fetch(sess)
    for name, value in got.items():
        wanted = ARRAYS[name] if name in names_of(chosen) else before[name]
        assert value.tobytes() == wanted.tobytes(), name


def test_the_plans_saver_restores_exactly_the_chosen_variables(tmp_path):
    small_model()
    plan = tx.plan(tx.select("fc1/.*"), tx.open_weights(checkpoint(tmp_path / "model", ARRAYS)))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = fetch(sess)
        plan.saver.restore(sess, plan.weights.checkpoint)
        after = fetch(sess)
    for name in SHAPES:
        assert np.array_equal(after[name], ARRAYS[name] if name.startswith("fc1") else before[name])


def test_the_report_tells_every_variable_its_source_and_what_nobody_took():
    small_model()
    arrays = {"conv_1/kernel": ARRAYS["conv1/kernel"], "conv_1/bias": ARRAYS["conv1/bias"]}
    arrays |= {f"dec{k}/kernel": values(1) for k in range(12)}
    weights = by_hand(arrays, path="runs/ae/model-1000", kind="TensorFlow checkpoint V2", checkpoint="x")[0]
    plan = tx.plan(tx.select("conv1/.*"), weights.renamed([("^conv_", "conv")]))
    assert plan.report() == (
        "restore plan: 2 of 6 variables from runs/ae/model-1000 (TensorFlow checkpoint V2)\n"
        "  variable       shape         dtype    status       from\n"
        "  conv1/kernel   (3, 3, 3, 2)  float32  restored     conv_1/kernel (by Saver)\n"
        "  conv1/bias     (2,)          float32  restored     conv_1/bias (by Saver)\n"
        "  fc1/kernel     (32, 5)       float32  initialised\n"
        "  fc1/bias       (5,)          float32  initialised\n"
        "  logits/kernel  (5, 3)        float32  initialised\n"
        "  logits/bias    (3,)          float32  initialised\n"
        "12 tensors of the file are not used: dec0/kernel, dec1/kernel, dec2/kernel, dec3/kernel, dec4/kernel, "
        "dec5/kernel, dec6/kernel, dec7/kernel, dec8/kernel, dec9/kernel and 2 more"
    )


def test_the_report_says_where_everything_is_used():
    small_model()
    plan = tx.plan(tx.select(".*"), by_hand(ARRAYS)[0])
    first, *_, last = plan.report().splitlines()
    assert first == "restore plan: 6 of 6 variables from runs/ae/weights (made by hand)"
    assert last == "0 tensors of the file are not used"
    assert plan.report().count("(by feed)") == 6


def test_the_plan_as_json_is_plain_and_whole():
    layers.dense(tf.zeros([1, 2]), 3, "fc1")
    tf.get_variable("other", [])
    arrays = {"old/kernel": values(2, 3), "old/bias": values(3), "rest": values(4)}
    plan = tx.plan(tx.select("fc1/.*"), by_hand(arrays)[0].renamed([("^old", "fc1")]))
    wanted = {
        "weights": "runs/ae/weights",
        "kind": "made by hand",
        "variables": [
            {
                "variable": "fc1/kernel",
                "status": "restored",
                "shape": [2, 3],
                "dtype": "float32",
                "source": "old/kernel",
                "source_shape": [2, 3],
                "source_dtype": "float32",
                "by": "feed",
            },
            {
                "variable": "fc1/bias",
                "status": "restored",
                "shape": [3],
                "dtype": "float32",
                "source": "old/bias",
                "source_shape": [3],
                "source_dtype": "float32",
                "by": "feed",
            },
            {"variable": "other", "status": "initialised", "shape": [], "dtype": "float32"},
        ],
        "unused": ["rest"],
    }
    assert plan.to_json() == wanted
    assert json.loads(json.dumps(plan.to_json())) == wanted


def test_a_variable_that_is_chosen_twice_is_restored_once():
    small_model()
    plan = tx.plan([*tx.select("conv1/.*"), *tx.select(".*/kernel")], by_hand(ARRAYS)[0])
    assert names_of(plan.variables) == ["conv1/kernel", "conv1/bias", "fc1/kernel", "logits/kernel"]
    assert [pairing.variable for pairing in plan.chosen()] == names_of(plan.variables)
    with tx.session(plan) as sess:
        assert np.array_equal(fetch(sess)["conv1/kernel"], ARRAYS["conv1/kernel"])


@pytest.mark.parametrize("use_resource", [True, False])
@pytest.mark.parametrize("kind", ["checkpoint", "by hand"])
def test_variables_of_raw_get_variable_are_restored_whatever_their_kind(tmp_path, use_resource, kind):
    arrays = {"net/w": values(3, 2), "net/steps": np.int64(2**40), "net/half": values(4, dtype=np.float16)}
    with tf.variable_scope("net", use_resource=use_resource):
        for name, array in arrays.items():
            tf.get_variable(name[4:], array.shape, tf.as_dtype(array.dtype), tf.zeros_initializer(), trainable=False)
        tf.get_variable("other", [2])
    prefix = checkpoint(tmp_path / "model", arrays)
    weights = tx.open_weights(prefix) if kind == "checkpoint" else by_hand(arrays)[0]
    chosen = tx.select("net/.*", exclude="net/other", among=tf.global_variables())
    with tx.session(tx.plan(chosen, weights)) as sess:
        got = fetch(sess)
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        assert np.array_equal(got[name], array)


# Names in the file and names in the graph.


def test_a_renamed_checkpoint_is_restored_by_a_saver_of_the_names_in_the_file(tmp_path):
    small_model()
    old = {"net/Variable": ARRAYS["conv1/kernel"], "net/Variable_1": ARRAYS["conv1/bias"]}
    rename = [("^net/Variable$", "conv1/kernel"), ("^net/Variable_1$", "conv1/bias")]
    plan = tx.plan(tx.select("conv1/.*"), tx.open_weights(checkpoint(tmp_path / "model", old), rename=rename))
    assert [(pairing.variable, pairing.source) for pairing in plan.chosen()] == [
        ("conv1/kernel", "net/Variable"),
        ("conv1/bias", "net/Variable_1"),
    ]
    with tx.session(plan) as sess:
        got = fetch(sess)
        plan.saver.save(sess, str(tmp_path / "again"), write_meta_graph=False)
    for name in ("conv1/kernel", "conv1/bias"):
        assert np.array_equal(got[name], ARRAYS[name])
    again = tf.train.load_checkpoint(str(tmp_path / "again"))
    assert again.get_variable_to_shape_map() == {"net/Variable": [3, 3, 3, 2], "net/Variable_1": [2]}


def test_there_is_not_a_saver_where_none_can_restore_the_weights():
    small_model()
    assert tx.plan(tx.select("fc1/.*"), by_hand(ARRAYS)[0]).saver is None


def test_names_may_be_swapped_between_file_and_graph(tmp_path):
    for name in "ab":
        tf.get_variable(name, [2])
    arrays = {"a": values(2, seed=1), "b": values(2, seed=2)}
    weights = tx.open_weights(checkpoint(tmp_path / "model", arrays), rename={"a": "b", "b": "a"}.__getitem__)
    with tx.session(tx.plan(tx.select(".*"), weights)) as sess:
        got = fetch(sess)
    assert np.array_equal(got["a"], arrays["b"])
    assert np.array_equal(got["b"], arrays["a"])


# What does not fit.


def refusal(arrays, *patterns, **options):
    with pytest.raises(RestoreError) as caught:
        tx.plan(tx.select(*patterns), by_hand(arrays, **options)[0])
    return caught.value


def test_everything_that_is_missing_or_mismatched_is_told_at_once():
    small_model()
    arrays = without("fc1/kernel", "conv1/kernel", "logits/bias")
    arrays |= {"fc_1/kernel": ARRAYS["fc1/kernel"], "conv1/kernel": values(3, 3, 1, 2)}
    error = refusal(arrays, ".*", path="runs/ae/model-1000")
    assert str(error) == (
        "cannot restore 3 of 6 variables from runs/ae/model-1000:\n"
        "  conv1/kernel  variable is float32 (3, 3, 3, 2), file has float32 (3, 3, 1, 2)\n"
        "  fc1/kernel    not in the file (did you mean fc_1/kernel?)\n"
        "  logits/bias   not in the file\n"
        'select fewer variables, or rename: open_weights(path, rename=[(r"^fc_1/kernel$", "fc1/kernel")])'
    )
    report = error.plan.report()
    assert re.search(
        r"^  conv1/kernel +\(3, 3, 3, 2\) +float32 +mismatched +conv1/kernel is float32 \(3, 3, 1, 2\)$", report, re.M
    )
    assert re.search(r"^  fc1/kernel +\(32, 5\) +float32 +missing$", report, re.M)
    assert re.search(r"^  fc1/bias +\(5,\) +float32 +restored +fc1/bias \(by feed\)$", report, re.M)
    assert report.endswith("1 tensors of the file are not used: fc_1/kernel")
    assert error.plan.saver is None


def test_where_nothing_fits_the_message_says_what_the_file_holds():
    small_model()
    error = refusal({"W": values(3, 3, 3, 2), "b": values(2)}, "conv1/.*")
    assert str(error) == (
        "cannot restore 2 of 2 variables from runs/ae/weights:\n"
        "  conv1/kernel  not in the file\n"
        "  conv1/bias    not in the file\n"
        "the file holds: W, b\n"
        r'select fewer variables, or rename: open_weights(path, rename=[(r"fc_(\d)", r"fc\1"), ...])'
    )


def test_the_rename_that_the_message_proposes_works(tmp_path):
    small_model()
    old = {name.replace("conv1", "conv_1"): array for name, array in ARRAYS.items() if "conv" in name}
    prefix = checkpoint(tmp_path / "model", {**old, **without("conv1/kernel", "conv1/bias")})
    with pytest.raises(RestoreError) as caught:
        tx.plan(tx.select(".*"), tx.open_weights(prefix))
    (proposed,) = re.findall(r"rename=(\[.*\])\)$", str(caught.value))
    plan = tx.plan(tx.select(".*"), tx.open_weights(prefix, rename=ast.literal_eval(proposed)))
    with tx.session(plan) as sess:
        got = fetch(sess)
    assert all(np.array_equal(got[name], array) for name, array in ARRAYS.items())


def test_no_name_is_proposed_that_another_variable_takes():
    for name in ("conv1/kernel", "conv2/kernel"):
        tf.get_variable(name, [3])
    error = refusal({"conv1/kernel": values(3)}, ".*")
    assert "conv2/kernel  not in the file\n" in str(error)
    assert "did you mean" not in str(error)


def test_no_name_is_proposed_for_two_variables():
    for name in ("fc1/kernel", "fc2/kernel"):
        tf.get_variable(name, [3])
    error = refusal({"fc_1/kernel": values(3)}, ".*")
    assert str(error).endswith('rename=[(r"^fc_1/kernel$", "fc1/kernel")])')


def test_no_rename_is_proposed_that_would_not_fit():
    tf.get_variable("fc1/kernel", [3])
    error = refusal({"fc_1/kernel": values(4)}, ".*")
    assert "did you mean fc_1/kernel?" in str(error)
    assert "^fc_1/kernel$" not in str(error)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.arange(3, dtype=np.int64), "variable is float32 (3,), file has int64 (3,)"),
        (values(3, dtype=np.float64), "variable is float32 (3,), file has float64 (3,)"),
        (values(3, dtype=np.float16), "variable is float32 (3,), file has float16 (3,)"),
        (values(3, 1), "variable is float32 (3,), file has float32 (3, 1)"),
        (values(), "variable is float32 (3,), file has float32 ()"),
    ],
)
def test_nothing_is_cast_or_reshaped(array, told):
    tf.get_variable("w", [3])
    assert f"  w  {told}\n" in str(refusal({"w": array}, ".*"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_command_that_is_proposed_for_another_dtype_makes_a_file_that_fits(dtype, tmp_path, monkeypatch):
    tf.get_variable("w", [3], tf.as_dtype(dtype))
    monkeypatch.chdir(tmp_path)
    np.savez("my file's.npz", w=values(3))
    with pytest.raises(RestoreError) as caught:
        tx.plan(tx.select("w"), tx.open_weights("my file's.npz"))
    [(taken, command)] = re.findall(r"take (\S+): `(.*)`", str(caught.value))
    tool, *arguments = shlex.split(command)[1:]
    assert (tool, convert_weights.main([tool, *arguments])) == ("convert_weights", 0)
    assert tx.plan(tx.select("w"), tx.open_weights(taken)).pairings[0].status == "restored"


def test_a_variable_of_unknown_shape_is_told_and_not_restored():
    tf.get_variable("w", initializer=tf.placeholder_with_default([1.0, 2.0], None), validate_shape=False)
    tf.get_variable("v", [2])
    assert "  w  variable is float32 (-1,), file has float32 (2,)\n" in str(refusal({"w": values(2)}, "w"))
    assert "  w         (-1,)  float32  initialised\n" in tx.plan(tx.select("v"), by_hand({"v": values(2)})[0]).report()


def test_a_checkpoint_of_int64_is_not_cast_into_a_float32_variable(tmp_path):
    tf.get_variable("w", [3])
    weights = tx.open_weights(checkpoint(tmp_path / "model", {"w": np.array([2**40, 1, 2])}))
    with pytest.raises(RestoreError, match=re.escape("variable is float32 (3,), file has int64 (3,)")):
        tx.plan(tx.select("w"), weights)


def test_no_variable_chosen_is_refused():
    small_model()
    with pytest.raises(
        RestoreError, match="no variable was chosen to be restored from runs/ae/weights; select at least"
    ):
        tx.plan([], by_hand(ARRAYS)[0])


def test_a_plan_that_is_refused_changes_no_value_and_adds_no_op(graph):
    small_model()
    weights, read = by_hand(without("logits/bias"))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before, count = fetch(sess), len(graph.get_operations())
        with pytest.raises(RestoreError, match=r"logits/bias +not in the file"):
            tx.plan(tx.select(".*"), weights)
        assert len(graph.get_operations()) == count
        after = fetch(sess)
    assert read == []
    assert all(np.array_equal(after[name], before[name]) for name in SHAPES)


# Several plans; weights that are not a checkpoint.


def test_two_plans_from_two_files_meet_in_one_session(tmp_path):
    small_model()
    prefix = checkpoint(tmp_path / "model", {name: array for name, array in ARRAYS.items() if "conv" in name})
    convs = tx.plan(tx.select("conv1/.*"), tx.open_weights(prefix))
    fc1 = tx.plan(tx.select("fc1/.*"), by_hand({name: array for name, array in ARRAYS.items() if "fc1" in name})[0])
    with tx.session(convs, fc1) as sess:
        got = fetch(sess)
        assert sess.plans == (convs, fc1)
    before = initial_values()
    for name in SHAPES:
        wanted = before[name] if "logits" in name else ARRAYS[name]
        assert got[name].tobytes() == wanted.tobytes()


def test_a_variable_in_two_plans_is_refused():
    small_model()
    plans = [tx.plan(tx.select(pattern), by_hand(ARRAYS)[0]) for pattern in ("conv1/.*", ".*/bias")]
    message = re.escape("conv1/bias: in more than one plan; select each variable once")
    with pytest.raises(RestoreError, match=message), tx.session(*plans):
        pass


def test_a_plan_with_errors_is_refused():
    small_model()
    plan = refusal(without("fc1/bias"), ".*").plan
    message = r"the plan from runs/ae/weights has errors:\n(.*\n)*  fc1/bias .* missing"
    with pytest.raises(RestoreError, match=message), tx.session(plan):
        pass


def test_a_plan_for_another_graph_is_refused():
    small_model()
    plan = tx.plan(tx.select(".*"), by_hand(ARRAYS)[0])
    message = "the plan from runs/ae/weights is for another graph; call plan and session within the same"
    with tf.Graph().as_default(), pytest.raises(RestoreError, match=message), tx.session(plan):
        pass


@pytest.mark.parametrize("use_resource", [True, False])
def test_arrays_that_are_no_checkpoint_go_in_by_feed_and_add_no_op(graph, use_resource):
    with tf.variable_scope("", use_resource=use_resource):
        for name, shape in SHAPES.items():
            tf.get_variable(name, shape)
    weights, read = by_hand(ARRAYS)
    plan = tx.plan(tx.select("conv1/.*", "fc1/kernel"), weights)
    assert read == []
    before = len(graph.get_operations())
    with tx.session(plan) as sess:
        got = fetch(sess)
        assert graph.finalized
    assert len(graph.get_operations()) == before
    assert sorted(read) == ["conv1/bias", "conv1/kernel", "fc1/kernel"]
    for name in read:
        assert got[name].tobytes() == ARRAYS[name].tobytes()


def test_odd_bits_arrive_as_they_are(tmp_path):
    odd = np.array([0x80000000, 0x00000001, 0x7FC00001, 0xFF800000, 0x7F7FFFFF], np.uint32).view(np.float32)
    for name in "ab":
        tf.get_variable(name, [5])
    plans = [
        tx.plan(tx.select("a"), tx.open_weights(checkpoint(tmp_path / "model", {"a": odd}))),
        tx.plan(tx.select("b"), by_hand({"b": odd})[0]),
    ]
    with tx.session(*plans) as sess:
        assert all(value.tobytes() == odd.tobytes() for value in fetch(sess).values())


# What a network reads and no plan restores.


def normed_network():
    """Make conv and a batch normalisation of raw variables; return images and features."""
    x = tf.placeholder(tf.float32, [None, 3], "images")
    with tf.variable_scope("bn"):
        mean = tf.get_variable("mean", [3], initializer=tf.zeros_initializer(), trainable=False)
        variance = tf.get_variable("variance", [3], initializer=tf.ones_initializer(), trainable=False)
        gamma = tf.get_variable("gamma", [3], initializer=tf.ones_initializer())
    y = tf.nn.batch_normalization(x, mean, variance, None, gamma, 1e-3)
    return x, tf.matmul(y, tf.get_variable("fc/kernel", [3, 2]), name="logits")


NORMED = {
    "bn/mean": np.float32([1, 2, 3]),
    "bn/variance": np.float32([4, 5, 6]),
    "bn/gamma": np.float32([7, 8, 9]),
    "fc/kernel": values(3, 2),
}


@pytest.mark.parametrize("kind", ["checkpoint", "by hand"])
def test_a_network_answers_as_its_file_says_statistics_and_all(tmp_path, kind):
    x, logits = normed_network()
    weights = tx.open_weights(checkpoint(tmp_path / "m", NORMED)) if kind == "checkpoint" else by_hand(NORMED)[0]
    images = values(5, 3, seed=4)
    with tx.session(tx.plan(tx.select(".*"), weights)) as sess:
        got = sess.run(logits, {x: images})
    normal = (images - NORMED["bn/mean"]) / np.sqrt(NORMED["bn/variance"] + 1e-3) * NORMED["bn/gamma"]
    np.testing.assert_allclose(got, normal @ NORMED["fc/kernel"], rtol=1e-4, atol=1e-5)


def test_what_nobody_trains_and_the_file_holds_must_be_restored_or_excluded_by_name():
    normed_network()
    plan = tx.plan("bn/gamma", by_hand(NORMED)[0])
    assert plan.left_out == ("bn/mean", "bn/variance")
    assert re.search(r"^  fc/kernel +\(3, 2\) +float32 +initialised +in the file, not chosen$", plan.report(), re.M)
    assert "2 variables that nobody trains are in the file and not chosen: bn/mean, bn/variance\n" in plan.report()
    message = r"no plan restores them.*\n  runs/ae/weights: bn/mean, bn/variance\n.*plan\(\.\.\., exclude=\[\.\.\.\]\)"
    with pytest.raises(RestoreError, match=message) as caught, tx.session(plan):
        pass
    assert caught.value.plan is plan
    with tf.Session() as sess, pytest.raises(RestoreError, match=message):
        plan.restore(sess)
    knowing = tx.plan("bn/gamma", by_hand(NORMED)[0], exclude="bn/(mean|variance)")
    assert knowing.excluded == ("bn/mean", "bn/variance")
    assert knowing.report().count("initialised  excluded") == 2
    assert [row.get("note") for row in knowing.to_json()["variables"]] == [
        *("excluded", "excluded", None, "in the file, not chosen"),
    ]
    with tx.session(knowing) as sess:
        assert fetch(sess)["bn/mean"].tolist() == [0, 0, 0]
        assert fetch(sess)["bn/gamma"].tolist() == [7, 8, 9]


def test_plans_that_together_restore_all_pass_without_an_exclusion():
    normed_network()
    weights = by_hand(NORMED)[0]
    with tx.session(tx.plan("bn/gamma", weights), tx.plan(["bn/mean", "bn/variance"], weights)) as sess:
        assert fetch(sess)["bn/variance"].tolist() == [4, 5, 6]


def test_what_the_file_does_not_hold_is_named():
    normed_network()
    plan = tx.plan("bn/gamma", by_hand({"bn/gamma": NORMED["bn/gamma"]})[0])
    assert "2 variables that nobody trains are not in the file: bn/mean, bn/variance\n" in plan.report()
    notes = {row["variable"]: row.get("note") for row in plan.to_json()["variables"]}
    assert notes == {
        "bn/mean": "not in the file",
        "bn/variance": "not in the file",
        "bn/gamma": None,
        "fc/kernel": None,
    }
    with tx.session(plan):
        pass


def test_an_exclusion_also_takes_from_what_is_chosen_and_must_match():
    normed_network()
    plan = tx.plan(".*", by_hand(NORMED)[0], exclude=["fc/.*"])
    assert names_of(plan.variables) == ["bn/mean", "bn/variance", "bn/gamma"]
    with pytest.raises(SelectionError, match="nearest: fc/kernel"):
        tx.plan(".*", by_hand(NORMED)[0], exclude="fc6/kernel")
    with pytest.raises(RestoreError, match="leaves no variable to be restored from runs/ae/weights"):
        tx.plan("fc/.*", by_hand(NORMED)[0], exclude="fc/.*")


def test_outputs_say_which_variables_a_plan_tells_of():
    x, _ = normed_network()
    plan = tx.plan(tx.select("w", among=[tf.get_variable("w", [])]), by_hand({"w": values()})[0], outputs=[x * 2])
    assert [pairing.variable for pairing in plan.pairings] == ["w"]


# One initial value, one memory.


@pytest.mark.parametrize("use_resource", [True, False])
def test_variables_of_one_initial_value_each_get_their_own_array(use_resource):
    initial = tf.zeros([2])
    variables = [tf.Variable(initial, name=name, use_resource=use_resource) for name in "abc"]
    arrays = {name: values(2, seed=seed) for seed, name in enumerate("abc")}
    with tx.session(tx.plan(variables, by_hand(arrays)[0])) as sess:
        got = fetch(sess)
    assert {name: array.tolist() for name, array in got.items()} == {n: a.tolist() for n, a in arrays.items()}


def twins(tmp_path, by=None):
    """Import one MetaGraph of resource variables twice, and return a plan for each copy from a file of its own."""
    with tf.Graph().as_default() as source:
        w = tf.get_variable("w", [2], use_resource=True, initializer=tf.zeros_initializer())
        tf.multiply(tf.placeholder(tf.float32, [2], "x"), w, name="y")
        tf.train.Saver().export_meta_graph(str(tmp_path / "m.meta"))
    del source
    for scope in ("one", "two"):
        by(tmp_path / "m", scope) if by else tf.train.import_meta_graph(str(tmp_path / "m.meta"), import_scope=scope)
    return [
        tx.plan(f"{scope}/w", by_hand({f"{scope}/w": np.full(2, number, np.float32)}, path=scope)[0])
        for number, scope in enumerate(("one", "two"), 1)
    ]


def test_two_variables_of_one_memory_are_refused_by_name(tmp_path):
    plans = twins(tmp_path)
    message = r"(?s)one/w and two/w would be restored from different arrays.*tfxfer.import_meta_graph\(path, scope\)"
    with pytest.raises(RestoreError, match=message), tx.session(*plans):
        pass
    with pytest.raises(RestoreError, match="one/w would be restored and two/w initialised"), tx.session(plans[0]):
        pass
    with tf.Session() as sess, pytest.raises(RestoreError, match="two/w would be restored and one/w initialised"):
        plans[1].restore(sess)
    arrays = {"one/w": np.float32([1, 1]), "two/w": np.float32([1, 2])}
    with pytest.raises(RestoreError, match="would be restored from different arrays"):
        tx.plan(".*", by_hand(arrays)[0])
    with tx.session(tx.plan(".*", by_hand({**arrays, "two/w": arrays["one/w"]})[0])) as sess:
        assert {name: array.tolist() for name, array in fetch(sess).items()} == {"one/w": [1, 1], "two/w": [1, 1]}


def test_copies_that_are_imported_as_the_message_says_are_apart(tmp_path):
    plans = twins(tmp_path, by=tx.import_meta_graph)
    with tx.session(*plans) as sess:
        assert {name: array.tolist() for name, array in fetch(sess).items()} == {"one/w": [1, 1], "two/w": [2, 2]}


def test_only_some_parts_of_a_split_variable_are_refused():
    with tf.variable_scope("fc", partitioner=tf.fixed_size_partitioner(2)):
        tf.get_variable("kernel", [4, 2])
    with pytest.raises(RestoreError, match=r"only some parts .* fc/kernel \(fc/kernel/part_1 of it\); choose all"):
        tx.plan(tx.select(".*")[1:], by_hand({"fc/kernel": values(4, 2)})[0])


# A session of one's own.


@pytest.mark.parametrize("finalized", [True, False])
@pytest.mark.parametrize("kind", ["checkpoint", "by hand"])
def test_a_plan_restores_in_a_session_of_ones_own_and_adds_no_op(tmp_path, graph, kind, finalized):
    small_model()
    weights = tx.open_weights(checkpoint(tmp_path / "m", ARRAYS)) if kind == "checkpoint" else by_hand(ARRAYS)[0]
    plan = tx.plan("(conv1|fc1)/.*", weights)
    start = tf.global_variables_initializer()
    count = len(graph.get_operations())
    if finalized:
        graph.finalize()
    with tf.Session() as sess:
        sess.run(start)
        before = fetch(sess)
        plan.restore(sess)
        after = fetch(sess)
    for name in SHAPES:
        assert np.array_equal(after[name], before[name] if "logits" in name else ARRAYS[name])
    assert len(graph.get_operations()) == count


@pytest.mark.parametrize("kind", ["checkpoint", "by hand"])
def test_a_plan_is_the_init_fn_of_a_monitored_session(tmp_path, kind):
    small_model()
    weights = tx.open_weights(checkpoint(tmp_path / "m", ARRAYS)) if kind == "checkpoint" else by_hand(ARRAYS)[0]
    scaffold = tf.train.Scaffold(init_fn=tx.plan("conv1/.*", weights).restore)
    with tf.train.MonitoredTrainingSession(scaffold=scaffold) as sess:
        got = fetch(sess)
    assert np.array_equal(got["conv1/kernel"], ARRAYS["conv1/kernel"])
    assert not np.array_equal(got["fc1/kernel"], ARRAYS["fc1/kernel"])


def test_what_is_not_a_session_or_is_of_another_graph_is_refused():
    small_model()
    plan = tx.plan(".*", by_hand(ARRAYS)[0])
    with pytest.raises(RestoreError, match=r"restore wants a tf\.Session.* and got: str"):
        plan.restore("model.ckpt")
    with pytest.raises(RestoreError, match="got: nothing"):
        plan.restore()
    with tf.Session(graph=tf.Graph()) as sess, pytest.raises(RestoreError, match="is for another graph"):
        plan.restore(sess)


# What is taken for variables and weights.


def test_patterns_and_paths_are_taken_as_well(tmp_path):
    small_model()
    prefix = checkpoint(tmp_path / "m", ARRAYS)
    wanted = tx.plan(tx.select("conv1/.*", "fc1/.*"), tx.open_weights(prefix)).to_json()
    assert tx.plan(["conv1/.*", "fc1/.*"], prefix).to_json() == wanted
    assert tx.plan("(conv1|fc1)/.*", tmp_path / "m").to_json() == wanted
    (kernel,) = tx.select("fc1/kernel")
    assert names_of(tx.plan(kernel, prefix).variables) == ["fc1/kernel"]


def test_what_else_is_given_is_refused_with_what_is_wanted():
    small_model()
    for variables in (3, None, [tx.select("conv1/kernel")], tf.zeros([2]), ["conv1/.*", tx.select("fc1/bias")[0]], {}):
        with pytest.raises(RestoreError, match=r"variables must be tf\.Variables of a graph, as select\('conv"):
            tx.plan(variables, by_hand(ARRAYS)[0])
    for weights in (ARRAYS, None, 3):
        with pytest.raises(RestoreError, match=r"weights must be what open_weights returned, or a path, and not"):
            tx.plan("conv1/.*", weights)
    with pytest.raises(RestoreError, match=r"wanted plans, as tfxfer\.plan returns them, and got str"), tx.session("x"):
        pass


# Advice that cures.


@pytest.mark.parametrize(("old", "new"), [("", "model/"), ("tower_0/net/", ""), ("old/a+b/", "net/")])
def test_one_rule_is_proposed_for_one_scope_and_cures(tmp_path, old, new):
    ends = [f"block{b}/conv{c}/{name}" for b in range(4) for c in range(4) for name in ("kernel", "bias")]
    np.savez(tmp_path / "w.npz", **{old + end: values(2, seed=seed) for seed, end in enumerate(ends)})
    for end in ends:
        tf.get_variable(new + end, [2])
    with pytest.raises(RestoreError) as caught:
        tx.plan(".*", tmp_path / "w.npz")
    rules = ast.literal_eval(re.findall(r"rename=(\[.*\])\)$", str(caught.value))[0])
    assert len(rules) == 1
    weights = tx.open_weights(tmp_path / "w.npz", rename=rules)
    with tx.session(tx.plan(".*", weights)) as sess:
        got = fetch(sess)
    assert all(np.array_equal(got[new + end], values(2, seed=seed)) for seed, end in enumerate(ends))


def test_a_scope_and_single_names_are_cured_together(tmp_path):
    arrays = {"a/kernel": values(2), "a/bias": values(3), "head/kernel_": values(4)}
    np.savez(tmp_path / "w.npz", **arrays)
    for name, size in (("m/a/kernel", 2), ("m/a/bias", 3), ("m/head/kernel", 4)):
        tf.get_variable(name, [size])
    with pytest.raises(RestoreError) as caught:
        tx.plan(".*", tmp_path / "w.npz")
    rules = ast.literal_eval(re.findall(r"rename=(\[.*\])\)$", str(caught.value))[0])
    assert len(tx.plan(".*", tx.open_weights(tmp_path / "w.npz", rename=rules)).variables) == 3


def test_the_conversion_that_the_message_proposes_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("w64.npz", **{name: array.astype(np.float64) for name, array in ARRAYS.items()})
    small_model()
    with pytest.raises(RestoreError) as caught:
        tx.plan(".*", "w64.npz")
    ((out, command),) = re.findall(r"and take (.*): `tfxfer (convert_weights .*)`$", str(caught.value))
    assert convert_weights.main(["", *command.split()[1:]]) == 0
    with tx.session(tx.plan(".*", out)) as sess:
        got = fetch(sess)
    assert all(np.array_equal(got[name], array) for name, array in ARRAYS.items())
