"""The registry: its rows are what the builders build, and a further row is all that a further network needs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.test_layout import loaded_after
from tfxfer.errors import SelectionError
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import preprocess
from tfxfer.input_spec import InputSpec
from tfxfer.models import recognition, registry
from tfxfer.models.registry import MODELS, Model, find_model
from tfxfer.models.sources import Source
from tfxfer.tools import _flags, inspect_weights, predict, train
from tfxfer.weight_tools.verify_weights import input_spec_faults

VGG = ("vgg11", "vgg13", "vgg16", "vgg16c", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "vgg_f")
LITE = tuple(f"efficientnet_lite{version}" for version in range(5))
RESNET = tuple(f"resnet{layers}" for layers in (18, 34, 50, 101, 152))
NAMES = ("autoencoder", *VGG, "squeezenet1_0", "squeezenet1_1", *LITE, *RESNET, "mobilenet_v2")
SLOW = (*LITE[1:], *RESNET[1:], "mobilenet_v2")  # thousands of ops, built as those that are not listed here
SPEC = InputSpec("tiny", "tiny_letters", (16, 16), "RGB", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0))


def tiny(images, *, classes=1000, last=None, dropout=0.5, input_spec=None):
    ends = {"input": preprocess(images, input_spec or SPEC)}
    ends["first"] = layers.conv2d(ends["input"], 4, 3, "first", strides=4)
    if last not in ends:
        ends["scores"] = layers.dense(layers.flatten(ends["first"]), classes, "scores", activation=None)
        ends["prob"] = tf.nn.softmax(ends["scores"])
    return ends


@pytest.fixture
def row(monkeypatch) -> Model:
    variables = {"first/kernel": (3, 3, 3, 4), "first/bias": (4,),
                 "scores/kernel": (64, None), "scores/bias": (None,)}  # fmt: skip
    renames = (("first_W", "first/kernel"), ("first_b", "first/bias"),
               ("scores_W", "scores/kernel"), ("scores_b", "scores/bias"))  # fmt: skip
    source = Source("tiny_letters", "first_W, first_b", SPEC, variables, renames)
    model = Model("tiny", tiny, ("input", "first", "scores", "prob"), "first:mean", "first", variables, SPEC, (source,),
                  classifier="scores", last_layer="scores", head="scores/.*")  # fmt: skip
    monkeypatch.setitem(registry.MODELS, "tiny", model)
    return model


def letters(path):
    random = np.random.default_rng(0).normal
    arrays = {"first_W": random(size=(3, 3, 3, 4)), "first_b": random(size=4),
              "scores_W": random(size=(64, 5)), "scores_b": random(size=5)}  # fmt: skip
    np.savez(path, **{name: array.astype(np.float32) for name, array in arrays.items()})
    return path


def test_the_models_are_these():
    assert tuple(MODELS) == NAMES
    assert find_model("vgg16") is MODELS["vgg16"]
    with pytest.raises(SelectionError, match=r"'vgg61' is not a model \(did you mean vgg1.\?\); the models are aut"):
        find_model("vgg61")


def test_the_registry_loads_no_tensorflow():
    assert loaded_after("import tfxfer.models.registry, tfxfer.models.recognition").isdisjoint({"tensorflow", "keras"})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in NAMES]
)
def test_a_row_says_what_the_builder_builds(name):
    model = MODELS[name]
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 64, 64, 3])
        ends = model.build(images, classes=7)
        assert tuple(ends) == model.endpoints
        built = {variable.op.name: variable.shape.as_list() for variable in tx.select(".*")}
        assert model.bottleneck.removesuffix(":mean") in ends
        assert f"{model.first_layer}/kernel" in built
        if model.classifier:
            assert list(built) == list(model.variables)
            assert built[f"{model.last_layer}/bias"] == [7] == ends[model.classifier].shape.as_list()[1:]
            assert {variable.op.name for variable in tx.select(model.head)} >= {f"{model.last_layer}/kernel"}
            assert model.input_spec.model == name
            assert {source.input_spec.model for source in model.sources} <= {name}
    with tf.Graph().as_default():
        last = model.endpoints[2]
        ends = model.build(tf.placeholder(tf.uint8, [None, 64, 64, 3]), last=last)
        assert last in ends


def test_a_further_row_is_recognised_inspected_and_verified(row, tmp_path, capsys):
    path = letters(tmp_path / "tiny.npz")
    known = tx.recognise(path)
    assert (known.model, known.source, known.input_spec) == ("tiny", "tiny_letters", SPEC)
    assert "it holds 4 of the 4 variables of tiny" in known.report()
    assert _flags.run(inspect_weights.main, ["inspect_weights", str(path)]) == 0
    assert "it is tiny_letters: first_W, first_b" in capsys.readouterr().out
    arrays = {name: known.weights[name] for name in known.weights}
    np.savez(tmp_path / "ours.npz", **arrays)
    ours = tx.open_weights(tmp_path / "ours.npz")
    assert [comparison.source.name for comparison in recognition.compare_with_models(ours)] == ["tiny"]
    InputSpec("tiny", "x", (16, 16), "grey", (0,), (1,), class_names=("a", "b")).save(tmp_path / "ours.npz")
    faults = list(input_spec_faults(ours))
    assert [words in fault for words, fault in zip(("first/kernel", "scores/bias is for 5"), faults, strict=True)] == [
        True,
        True,
    ]


def test_a_file_under_our_names_alone_needs_an_input_spec_where_no_source_is_known(row, monkeypatch, tmp_path):
    import dataclasses

    monkeypatch.setitem(registry.MODELS, "tiny", dataclasses.replace(row, sources=()))
    known = {"first/kernel": np.zeros((3, 3, 3, 4), "f4"), "scores/bias": np.zeros(5, "f4")}
    np.savez(tmp_path / "ours.npz", **known)
    with pytest.raises(recognition.WeightsError, match=r"do not tell what .* Put an input spec beside it"):
        tx.recognise(tmp_path / "ours.npz", model="tiny")
    SPEC.save(tmp_path / "ours.npz")  # the cure that the message names
    assert tx.recognise(tmp_path / "ours.npz", model="tiny").input_spec == SPEC


def test_a_further_row_is_trained_and_predicts(row, tmp_path, capsys):
    from tests.tools.test_predict import COLOURS, coloured

    pictures, weights = coloured(tmp_path / "pictures", 10), letters(tmp_path / "tiny.npz")
    flags = ["--model=tiny", f"--weights={weights}", "--dataset=folder", f"--data_dir={pictures}", "--hidden=none"]
    assert _flags.run(train.main, ["train", *flags, "--epochs=2", f"--logdir={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    picture = str(pictures / "rose/0.png")
    assert _flags.run(predict.main, ["predict", picture, f"--run={tmp_path / 'run'}", "--json"]) == 0
    [row_of_picture] = json.loads(capsys.readouterr().out)["predictions"]
    assert {top["name"] for top in row_of_picture["top"]} == set(COLOURS)
    # The model's own classifier, from a file.
    assert _flags.run(predict.main, ["predict", picture, "--model=tiny", f"--weights={weights}", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"][0]["top"]) == 5
