"""What TensorBoard's plugins take, read back by the plugins' own readers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from sklearn.metrics import precision_score, recall_score
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata

from tfxfer.tensorboard import plugins


def test_the_layout_has_training_and_validation_on_one_chart():
    [value] = plugins.layout(["loss", "accuracy"]).value
    assert (value.tag, value.metadata.plugin_data.plugin_name) == ("custom_scalars__config__", "custom_scalars")
    shown = layout_pb2.Layout.FromString(value.tensor.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in shown.category for chart in category.chart}
    assert shown.category[0].title == "training and validation, by epoch"
    assert [chart.title for chart in shown.category[0].chart] == ["loss", "accuracy"]
    assert charts["gradients"] == ["^gradient_norm/"]
    assert charts["learning rate"] == ["^learning_rate"]


def examples(classes: int = 3, count: int = 400):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, count)
    probabilities = generator.dirichlet(np.ones(classes), count).astype(np.float32)
    probabilities[np.arange(count), labels] += 0.5
    return probabilities / probabilities.sum(1, keepdims=True), labels


def test_a_curve_has_the_precision_and_recall_of_every_threshold():
    probabilities, labels = examples()
    for number, summary in enumerate(plugins.pr_curves(probabilities, labels, ["0", "1", "2"])):
        [value] = summary.value
        assert value.tag == f"class/{number}/pr_curves"
        curve = tf.make_ndarray(value.tensor)
        assert curve.shape == (6, plugins.THRESHOLDS)
        for place in (10, 40, 55):
            taken = probabilities[:, number] >= place / (plugins.THRESHOLDS - 1)
            assert curve[4, place] == pytest.approx(precision_score(labels == number, taken), abs=1e-6)
            assert curve[5, place] == pytest.approx(recall_score(labels == number, taken), abs=1e-6)


def test_classes_that_are_called_alike_have_curves_of_their_own():
    probabilities, labels = examples()
    tags = [summary.value[0].tag for summary in plugins.pr_curves(probabilities, labels, ["a", "a", "b\nc"])]
    assert tags == ["class/0 a/pr_curves", "class/1 a/pr_curves", "class/2 b c/pr_curves"]


def test_of_many_classes_those_with_the_most_examples_have_curves():
    probabilities, labels = examples(60)
    tags = [s.value[0].tag for s in plugins.pr_curves(probabilities, labels, [str(n) for n in range(60)])]
    most = np.argsort(-np.bincount(labels, minlength=60), kind="stable")[: plugins.MOST_CURVES]
    assert tags == [f"class/{number}/pr_curves" for number in sorted(most)]


def test_probabilities_that_are_not_finite_break_no_curve():
    probabilities = np.float32([[np.nan, 1], [0.5, 0.5], [np.inf, 0], [1.0000001, 0]])
    curves = list(plugins.pr_curves(probabilities, np.array([0, 1, 0, 0]), ["0", "1"]))
    assert np.isfinite(tf.make_ndarray(curves[0].value[0].tensor)).all()


# --- settings ---


def test_numbers_are_numbers_and_paths_are_their_last_part():
    found = plugins.simple(
        {
            "epochs": 20, "learning_rate": 0.5, "augment": None, "flip": True, "weights": "/home/me/vgg16.npz",
            "hidden": [200, 100], "lr_multipliers": {"fc1/.*": 0.5}, "train": ["fc.*", "logits/.*"], "restore": [],
            "dataset": "mnist",
        }
    )  # fmt: skip
    assert found == {
        "epochs": 20, "learning_rate": 0.5, "flip": True, "weights": "vgg16.npz", "hidden": "200, 100",
        "lr_multipliers": "fc1/.*=0.5", "train": "fc.*, logits/.*", "dataset": "mnist",
    }  # fmt: skip


def test_stages_are_told_by_the_layers_that_join():
    stages = [
        {"epoch": 0, "train": ["fc1/kernel", "fc1/bias", "w"]},
        {"epoch": 5, "train": ["fc1/kernel", "fc1/bias", "w", "conv5/kernel"]},
    ]
    assert plugins.simple({"stages": stages[:1]}) == {"trained": "fc1, w"}
    assert plugins.simple({"stages": stages}) == {"trained": "fc1, w; from epoch 5: conv5"}


def test_hyperparameters_are_those_settings_that_can_change_a_result():
    kept_apart = {"keep": 5, "summary_steps": 100, "tensors": {"images": "images:0"}}
    start, end = plugins.hparams({"epochs": 3, "model": "vgg16", "flip": False, **kept_apart}, 99.5)
    content = start.value[0].metadata.plugin_data.content
    info = hparams_metadata.parse_session_start_info_plugin_data(content)
    assert {name: value.WhichOneof("kind") for name, value in info.hparams.items()} == {
        "epochs": "number_value",
        "model": "string_value",
        "flip": "bool_value",
    }
    assert (info.hparams["epochs"].number_value, info.start_time_secs) == (3, 99.5)
    ended = hparams_metadata.parse_session_end_info_plugin_data(end.value[0].metadata.plugin_data.content)
    assert ended.end_time_secs == 99.5
