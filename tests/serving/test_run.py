"""A run that is opened from Python: what it was, what its network says, and what is refused by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

import tfxfer as tx
from tests import made_runs
from tests.tools.test_predict import COLOURS, coloured
from tests.tools.test_predict import run as run_tool
from tfxfer.data.pictures import Pictures
from tfxfer.errors import DataError, RestoreError, RunError
from tfxfer.graph import layers
from tfxfer.input_spec import InputSpec, sidecar
from tfxfer.serving import run as serving_run
from tfxfer.serving import trained_network
from tfxfer.serving.run import find_run_of, open_run
from tfxfer.serving.saved_model import ask, loaded
from tfxfer.tools import compare_outputs as compare_tool
from tfxfer.tools import evaluate as evaluate_tool
from tfxfer.tools import export_model as export_tool
from tfxfer.tools import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `pictures`, and `run`, a classifier of them on a network with random weights."""
    top = tmp_path_factory.mktemp("trained")
    flags = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=none",
             "--dataset=folder", f"--data_dir={coloured(top / 'pictures')}", "--learning_rate=0.01"]  # fmt: skip
    assert run_tool(train, *flags, f"--logdir={top / 'run'}") == 0
    return top


def test_a_run_tells_what_it_was(trained):
    run = open_run(trained / "run")
    assert run.path == trained / "run"
    assert (run.settings["model"], run.settings["endpoint"]) == ("squeezenet1_1", "conv1:mean")
    assert [row["epoch"] for row in run.history if row["split"] == "train"] == list(range(1, 21))
    assert run.best["step"] in {row["step"] for row in run.history}
    assert run.checkpoint == str(trained / f"run/best/model.ckpt-{run.best['step']}")
    assert [int(prefix.rpartition("-")[2]) for prefix in run.checkpoints] == sorted(
        int(file.stem.rpartition("-")[2]) for file in (trained / "run").glob("*.index")
    )
    assert run.class_names == tuple(COLOURS) == tuple(run.test.class_names)
    assert (run.input_spec.model, run.input_spec.size) == ("squeezenet1_1", (32, 32))
    assert (list(run.plan), run.faults) == ([], [])


def test_a_run_predicts_arrays_paths_and_folders_alike(trained):
    run = open_run(trained / "run")
    paths = [trained / f"pictures/{name}/0.png" for name in COLOURS]
    from_paths = run.predict(paths, top_k=2)
    assert [names[0] for names in from_paths.names] == list(COLOURS)
    assert from_paths.paths == tuple(map(str, paths))
    from_array = run.predict(Pictures(paths, (32, 32))[:], top_k=2)
    np.testing.assert_array_equal(from_array.probabilities, from_paths.probabilities)
    assert from_array.to_json()[0] == {"top": from_paths.to_json()[0]["top"]}
    assert {names[0] for names in run.predict(trained / "pictures/rose", checkpoint="last").names} == {"rose"}


def test_what_predicts_builds_no_optimizer_no_gradient_and_no_slot(trained, monkeypatch):
    graphs = []
    opened = trained_network.session
    monkeypatch.setattr(
        trained_network, "session", lambda *plans, **options: graphs.append(tf.get_default_graph()) or opened(*plans)
    )
    open_run(trained / "run").predict(trained / "pictures/rose/0.png")
    [graph] = graphs
    assert not [op.name for op in graph.get_operations() if "gradient" in op.name.lower() or "Adam" in op.name]
    assert {variable.op.name for variable in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)} == {
        "conv1/kernel", "conv1/bias", "logits/kernel", "logits/bias",
    }  # fmt: skip


def test_a_run_evaluates_as_the_tool_does(trained, capsys):
    run = open_run(trained / "run")
    result = run.evaluate()
    assert run_tool(evaluate_tool, trained / "run", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["accuracy"] == result.accuracy == run.test.metrics["accuracy"]
    data = run.load_data()
    assert run.evaluate(data.validation).metrics == run.evaluate("validation", data=data).metrics
    with pytest.raises(DataError, match="'tests' is not a split; the splits are train, validation, test"):
        run.evaluate("tests", data=data)
    with pytest.raises(RunError, match=r"`listing`: .*run was trained on folder, without it; leave it out"):
        run.load_data(listing="x")
    with pytest.raises(DataError, match=r"squirrels, which is not there; say where it is now by `data_dir=...`"):
        run.load_data(data_dir=str(trained / "squirrels"))


def test_examples_that_are_not_those_of_the_training_are_told(trained, tmp_path, caplog):
    run = open_run(trained / "run")
    run.load_data()
    shutil.copytree(trained / "pictures", tmp_path / "moved")
    run.load_data(data_dir=str(tmp_path / "moved"))
    assert caplog.messages == []
    shutil.copy(tmp_path / "moved/rose/0.png", tmp_path / "moved/rose/more.png")
    assert len(run.load_data(data_dir=str(tmp_path / "moved")).train) > len(run.load_data().train)
    [message] = caplog.messages
    assert "run was trained on other pictures than there are now (training: " in message
    run.load_data(dataclasses.replace(run.input_spec, size=(8, 8)))  # of a size that is asked for
    assert len(caplog.messages) == 1


@pytest.fixture(scope="module")
def stored(trained) -> Path:
    """A run of the pictures of `trained` that was fed from a store."""
    flags = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=fire2:mean", "--hidden=8",
             "--dropout=0.5", "--dataset=folder", f"--data_dir={trained / 'pictures'}", "--epochs=2",
             f"--store={trained / 'store'}"]  # fmt: skip
    assert run_tool(train, *flags, f"--logdir={trained / 'stored'}") == 0
    return trained / "stored"


def evaluated_and_built(run, **options):
    """Return an evaluation, and the variables of the graph that made it."""
    graphs = []
    with pytest.MonkeyPatch.context() as patch:
        opened = serving_run.session
        patch.setattr(serving_run, "session", lambda *a, **b: graphs.append(tf.get_default_graph()) or opened(*a, **b))
        result = run.evaluate(**options)
    return result, {
        variable.op.name.removeprefix("network/") for variable in tx.graph.variables.model_variables(graphs[0])
    }


def test_stored_rows_are_evaluated_without_the_network_and_the_pictures(stored, monkeypatch):
    run = open_run(stored)
    monkeypatch.setattr(Pictures, "__getitem__", lambda *_: pytest.fail("a picture is decoded"))
    result, built = evaluated_and_built(run)
    assert {"fc1/kernel", "fc1/bias", "logits/kernel", "logits/bias"} <= built <= {*built, "global_step"}
    assert not [name for name in built if name.startswith(("conv", "fire"))]
    assert result.metrics == {name: run.test.metrics[name] for name in result.metrics}
    monkeypatch.undo()
    (stored / "features.json").rename(stored / "aside.json")
    try:
        from_pictures, built = evaluated_and_built(run)
    finally:
        (stored / "aside.json").rename(stored / "features.json")
    assert "conv1/kernel" in built
    np.testing.assert_allclose(result.probabilities, from_pictures.probabilities, 1e-5)
    assert result.confusion.tolist() == from_pictures.confusion.tolist()


def test_rows_of_other_weights_other_pictures_or_a_store_that_is_gone_are_not_evaluated(stored, trained, tmp_path):
    run = open_run(stored)
    weights = dict(run.weights())
    np.savez(tmp_path / "w.npz", **{**weights, "conv1/bias": weights["conv1/bias"] + 1})
    run.input_spec.save(tmp_path / "w.npz")
    result, built = evaluated_and_built(run, checkpoint=str(tmp_path / "w.npz"))
    assert "conv1/kernel" in built
    assert not np.array_equal(result.probabilities, run.evaluate().probabilities)
    np.savez(tmp_path / "same.npz", **weights)
    dataclasses.replace(run.input_spec, scale=(0.5, 0.5, 0.5)).save(tmp_path / "same.npz")
    assert "conv1/kernel" in evaluated_and_built(run, checkpoint=str(tmp_path / "same.npz"))[1]  # prepared otherwise
    assert "conv1/kernel" not in evaluated_and_built(run, checkpoint=run.checkpoint)[1]
    new = coloured(tmp_path / "pictures")
    Image.new("RGB", (20, 20)).save(new / "rose/0.png")
    data = run.load_data(data_dir=str(new))
    assert "conv1/kernel" in evaluated_and_built(run, data=data, split="train")[1]
    (trained / "store").rename(trained / "gone")
    try:
        assert "conv1/kernel" in evaluated_and_built(run)[1]
    finally:
        (trained / "gone").rename(trained / "store")


def test_weights_whose_input_spec_names_no_class_are_evaluated_by_the_classes_of_the_data(trained, tmp_path):
    run = open_run(trained / "run")
    weights = run.weights()
    names = [name for name in weights if name in {"conv1/kernel", "conv1/bias", "logits/kernel", "logits/bias"}]
    np.savez(tmp_path / "w.npz", **{name: weights[name] for name in names})
    dataclasses.replace(run.input_spec, class_names=()).save(tmp_path / "w.npz")
    assert sidecar(tmp_path / "w.npz").exists()
    result = run.evaluate(checkpoint=str(tmp_path / "w.npz"))
    assert (result.class_names, result.accuracy) == (tuple(COLOURS), run.evaluate().accuracy)
    data = dataclasses.replace(run.load_data(), class_names=(*COLOURS, "one more"))
    with pytest.raises(RestoreError, match=r"logits/kernel +variable is float32 \(64, 4\), file has float32 \(64, 3\)"):
        run.evaluate(data=data)


def test_a_run_is_exported(trained, tmp_path):
    run = open_run(trained / "run")
    exported = run.export(tmp_path / "out", pictures=run.some_examples(4)[1])
    assert (exported.classes, exported.images) == (3, (32, 32, 3))
    pixels = Pictures([trained / "pictures/rose/0.png"], (32, 32))[:]
    with loaded(tmp_path / "out") as (sess, served):
        assert ask(sess, served, pixels)["top_k_names"][0, 0] == b"rose"


def test_a_checkpoint_belongs_to_the_run_that_it_lies_in(trained, tmp_path):
    run = open_run(trained / "run")
    for path in (run.path, run.checkpoint, run.checkpoints[-1]):
        assert find_run_of(path).path == run.path
    assert find_run_of(tmp_path) is None


# --- networks of the user's own ---


def own(images):
    x = layers.conv2d(tf.cast(images, tf.float32) / 255, 2, 3, "conv")
    logits = layers.dense(layers.flatten(x), 2, "logits", activation=None)
    return {"conv": x, "prob": tf.nn.softmax(logits)}


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A run of a network of the user's own, 5 of its examples, and what it says of them at the end."""
    folder = tmp_path_factory.mktemp("own") / "run"
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    arrays = (generator.integers(0, 100, (40, 4, 4, 1)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    data = tx.data.Data((arrays, labels), (arrays, labels), (arrays, labels), ("dark", "bright"))
    with tf.Graph().as_default():
        images, classes = tf.placeholder(tf.uint8, [None, 4, 4, 1]), tf.placeholder(tf.int64, [None])
        step = tx.train_step(images, classes, tf.log(own(images)["prob"]), train=".*", learning_rate=0.01)
        with tx.session() as sess:
            tx.fit(sess, step, data, epochs=8, logdir=folder)
            expected = sess.run(step.probabilities, {images: arrays[:5]})
    return folder, arrays[:5], expected


@pytest.mark.parametrize("options", [{}, {"build": own}], ids=["by its MetaGraph", "by what builds it"])
def test_a_run_of_a_network_of_ones_own_predicts(own_run, options, tmp_path):
    folder, arrays, expected = own_run
    run = open_run(folder)
    assert (len(run.history), run.class_names, run.test) == (16, (), None)
    apart = tmp_path / "apart.npz"
    np.savez(apart, **run.weights("last"))
    for checkpoint in ("last", str(apart)):
        found = run.predict(arrays, checkpoint=checkpoint, top_k=2, **options)
        np.testing.assert_allclose(np.take_along_axis(expected, found.classes, 1), found.probabilities, 1e-5)


def test_a_network_that_lay_on_other_devices_predicts_here(own_run, tmp_path):
    folder, arrays, expected = own_run
    shutil.copytree(folder, tmp_path / "run")
    for file in (tmp_path / "run").rglob("*.meta"):
        meta = tf.MetaGraphDef.FromString(file.read_bytes())
        for node in meta.graph_def.node:
            node.device = "/job:ps/task:0"
        file.write_bytes(meta.SerializeToString())
    predictions = open_run(tmp_path / "run").predict(arrays, checkpoint="last")
    assert predictions.classes[:, 0].tolist() == expected.argmax(1).tolist()


def test_of_a_network_of_ones_own_what_nobody_says_is_asked_for(own_run, tmp_path):
    folder, arrays, _ = own_run
    run = open_run(folder)
    with pytest.raises(
        RunError, match=r"was not made by `tfxfer train`: its settings.json has no dataset; give the examples"
    ):
        run.evaluate()
    with pytest.raises(DataError, match="takes grey images of 4x4, and not RGB pictures"):
        run.predict([tmp_path / "x.png"])
    with pytest.raises(DataError, match=r"no input spec lies beside .*; give an array of examples"):
        run.predict([tmp_path / "x.png"], build=own)
    with pytest.raises(DataError, match=r"no input spec lies beside .*: write one there by tfxfer.input_spec"):
        run.export(tmp_path / "out", build=own)
    shutil.copytree(folder, tmp_path / "run")
    for meta in (tmp_path / "run").rglob("*.meta"):
        meta.unlink()
    with pytest.raises(
        RunError, match=r"\.meta cannot be read: No such file.*; give what builds the network as `build`"
    ):
        open_run(tmp_path / "run").predict(arrays)


def fit_own(folder, images, examples, **options):
    """Train a network of the user's own, of whatever images, and return its probabilities of the examples."""
    labels = np.arange(len(examples)) % 2
    data = tx.data.Data(*[(examples, labels)] * 3, ("a", "b"))
    flat = tf.reshape(tf.cast(images, tf.float32), [-1, examples[0].size])
    logits = layers.dense(flat, 2, "logits", activation=None)
    step = tx.train_step(images, tf.placeholder(tf.int64, [None]), logits, train=".*")
    with tx.session() as sess:
        tx.fit(sess, step, data, epochs=1, logdir=folder, **options)
        return sess.run(step.probabilities, {images: examples})


def test_settings_of_ones_own_do_not_hide_the_network(tmp_path):
    arrays = np.random.default_rng(0).integers(0, 9, (8, 4, 4, 1)).astype(np.uint8)
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 4, 4, 1], "x")
        expected = fit_own(tmp_path / "run", images, arrays, settings={"model": "mine", "dataset": "mine"})
    predictions = open_run(tmp_path / "run").predict(arrays, checkpoint="last")
    np.testing.assert_allclose(np.take_along_axis(expected, predictions.classes, 1), predictions.probabilities, 1e-5)
    stored = json.loads((tmp_path / "run/settings.json").read_text())
    for tensors, fault in (
        ("x:0", "does not name the tensors of the network"),
        ({"images": "x:0", "probabilities": "nowhere:0"}, r"settings.json does not fit .*\.meta: .*nowhere"),
    ):
        stored["training"]["tensors"] = tensors
        (tmp_path / "run/settings.json").write_text(json.dumps(stored))
        with pytest.raises(RunError, match=fault):
            open_run(tmp_path / "run").predict(arrays)


def test_images_without_a_shape_and_those_that_are_not_pictures(tmp_path):
    arrays = np.random.default_rng(0).integers(0, 9, (8, 4, 4, 1)).astype(np.uint8)
    with tf.Graph().as_default():
        fit_own(tmp_path / "any", tf.placeholder(tf.uint8, name="x"), arrays)
    run = open_run(tmp_path / "any")
    assert run.predict(arrays).classes.shape == (8, 2)
    with pytest.raises(DataError, match=r"\(4, 4, 1\), and the model takes uint8$"):
        run.predict(arrays.astype(np.float32))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="does not say of what size images are; give arrays of one size"):
        run.predict([tmp_path / "x.png"])
    with tf.Graph().as_default():
        fit_own(tmp_path / "flat", tf.placeholder(tf.float32, [None, 6], "x"), np.ones((8, 6), np.float32))
    for name, fault in (("any", "do not say of what size images are"), ("flat", r"takes float32 \(None, 6\), and not")):
        with pytest.raises(DataError, match=fault):
            compare_tool.main(["compare_outputs", *[str(tmp_path / name)] * 2])


def test_a_network_of_ones_own_is_exported_if_it_takes_what_an_export_is_fed(own_run, tmp_path):
    folder, arrays, _ = own_run
    shutil.copytree(folder, tmp_path / "run")
    run = open_run(tmp_path / "run")
    prefix = run.weights().checkpoint
    InputSpec("mine", "mine", (5, 5), "grey", (0.0,), (1.0,)).save(prefix)
    with pytest.raises(
        DataError, match=r"takes images uint8 \(None, 4, 4, 1\), and an export takes uint8 \(None, 5, 5"
    ):
        run.export(tmp_path / "out")
    InputSpec("mine", "mine", (4, 4), "grey", (0.0,), (1.0,)).save(prefix)
    float_images = tf.TensorSpec([None, 4, 4, 1], tf.float32)
    with pytest.raises(DataError, match=r"takes images float32 \(None, 4, 4, 1\), and an export takes uint8"):
        dataclasses.replace(run.network(), images=float_images).export(tmp_path / "out")
    assert run.export(tmp_path / "out").images == arrays.shape[1:]


def test_of_a_network_of_ones_own_the_tools_take_the_class_names(own_run, tmp_path):
    folder, _, _ = own_run
    shutil.copytree(folder, tmp_path / "run")
    prefix = open_run(tmp_path / "run").weights().checkpoint
    InputSpec("mine", "mine", (4, 4), "grey", (0.0,), (1.0,)).save(prefix)
    (tmp_path / "two.txt").write_text("dark\nbright\n")
    (tmp_path / "three.txt").write_text("dark\nbright\nred\n")
    command = ["export_model", str(tmp_path / "run"), str(tmp_path / "out")]
    with pytest.raises(DataError, match="there are 3 names of classes, and the model has 2 classes"):
        export_tool.main([*command, f"--class_names={tmp_path}/three.txt"])
    assert export_tool.main([*command, f"--class_names={tmp_path}/two.txt"]) == 0
    assert (tmp_path / "out/assets/labels.txt").read_text().split() == ["dark", "bright"]


def test_the_tool_evaluates_no_network_of_ones_own(own_run):
    with pytest.raises(RunError, match="was not made by `tfxfer train`"):
        evaluate_tool.main(["evaluate", str(own_run[0])])


@pytest.mark.parametrize("fed", [False, "text"])
def test_a_network_that_evaluation_feeds_is_fed_the_same_in_prediction(tmp_path, fed):
    generator = np.random.default_rng(0)
    arrays, labels = generator.normal(size=(24, 6)).astype(np.float32), np.arange(24) % 2
    data = tx.data.Data((arrays, labels), (arrays, labels), (arrays, labels), ("a", "b"))
    with tf.Graph().as_default():
        images, classes = tf.placeholder(tf.float32, [None, 6], "x"), tf.placeholder(tf.int64, [None])
        if fed == "text":
            switch = tf.placeholder(tf.string, [], "mode")
            training = tf.equal(switch, "train")
        else:
            switch = training = tf.placeholder(tf.bool, [], "is_training")
        weights = tf.get_variable("w", [6, 2], initializer=tf.random_normal_initializer(seed=1))
        logits = tf.matmul(tf.where(training, images * 2, images), weights)
        feeds = {"train_feeds": {switch: "train" if fed else True}, "eval_feeds": {switch: fed}}
        step = tx.train_step(images, classes, logits, train=".*", **feeds)
        with tx.session() as sess:
            tx.fit(sess, step, data, epochs=1, logdir=tmp_path / "run")
            expected = sess.run(step.probabilities, {images: arrays, switch: fed})
    run = open_run(tmp_path / "run")
    if fed:
        with pytest.raises(RunError, match="does not hold what mode is fed; give what builds the network as `build`"):
            run.predict(arrays)
        return
    predictions = run.predict(arrays, checkpoint="last", top_k=2)
    np.testing.assert_allclose(np.take_along_axis(expected, predictions.classes, 1), predictions.probabilities, 1e-5)


# --- damage ---


def test_what_is_damaged_is_refused_or_told_by_name(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run/test.json").write_text("{")
    run = open_run(tmp_path / "run")
    assert run.test is None
    assert run.faults[0].startswith("test.json cannot be used: ")
    made_runs.change_settings(tmp_path / "run", model=5, hidden=["many"])
    with pytest.raises(RunError, match=r"settings.json is damaged: model is 5, not the name of a model; hidden is \["):
        open_run(tmp_path / "run").predict(trained / "pictures/rose/0.png")
    made_runs.change_settings(tmp_path / "run", model=run.settings["model"], hidden=[], data_dir=5)
    with pytest.raises(RunError, match="is damaged: data_dir must be paths"):
        open_run(tmp_path / "run").evaluate()
    assert open_run(tmp_path / "run").some_examples(3) == (None, [])
    (tmp_path / "run/settings.json").write_text("[]")
    with pytest.raises(RunError, match=r"settings\.json is damaged: it is not a JSON object"):
        open_run(tmp_path / "run")
    with pytest.raises(RunError, match="nowhere is not there"):
        open_run(tmp_path / "nowhere")


def test_a_run_without_a_checkpoint_says_when_one_is_written(trained, tmp_path):
    made_runs.write(tmp_path, "settings.json", open_run(trained / "run").settings)
    run = open_run(tmp_path)
    assert (run.checkpoints, run.best, list(run.history)) == ([], None, [])
    for checkpoint in ("best", "last"):
        with pytest.raises(RunError, match=f"has no {checkpoint} checkpoint; training writes one after the first"):
            run.predict(trained / "pictures/rose/0.png", checkpoint=checkpoint)
    with pytest.raises(RunError, match="has no best checkpoint"):
        _ = run.input_spec
