"""The graph as it is shown: every op where one looks for it, every edge still there, the running graph as it was."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.networks.made import FEEDS, write_trained
from tfxfer.graph import layers
from tfxfer.models import autoencoder, heads, squeezenet
from tfxfer.tensorboard import graph_layout


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def transfer(*later: str, shown: bool = True, **options):
    """The main job: convolutions frozen, a head trained, more from epoch 10 on."""
    images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    ends = autoencoder.encoder(images)
    logits = heads.classifier(ends["flatten"], hidden=[6], classes=3, dropout=0.5)
    tf.train.Saver(tx.select("conv.*"))
    stages = [tx.Stage(0, tx.select("fc.*", "logits/.*")), *(tx.Stage(10, tx.select(name)) for name in later)]
    return tx.train_step(images, labels, logits, stages=stages, **options)


def boxes(names) -> set[str]:
    return {name.partition("/")[0] for name in names.values()}


def edges(graph_def) -> set[tuple[str, str]]:
    return {(given, node.name) for node in graph_def.node for given in node.input}


def test_at_top_level_are_the_inputs_and_one_box_for_each_part():
    names = graph_layout.display_names(transfer())
    assert boxes(names) == {"images", "labels", "FROZEN", "TRAINED", "LOSS", "SOLVER", "SUMMARY", "SAVE"}
    assert {name for name in names.values() if "/" not in name} == {"images", "labels"}


def test_the_scopes_of_the_model_lie_in_the_box_that_says_what_becomes_of_them():
    names = graph_layout.display_names(transfer())
    inside = Counter("/".join(name.split("/")[:3]) for name in names.values())
    assert {"FROZEN/ENCODER/conv1", "FROZEN/ENCODER/PREPROCESS", "TRAINED/HEAD/fc1", "TRAINED/HEAD/dropout1"} <= set(
        inside
    )
    assert {key.split("/")[1] for key in inside if key.startswith("FROZEN/")} == {"ENCODER"}
    assert {key.split("/")[1] for key in inside if key.startswith("TRAINED/")} == {"HEAD"}


def test_a_variable_lies_in_the_layer_that_reads_it_and_slots_with_the_solver():
    names = graph_layout.display_names(transfer())
    assert names["conv1/kernel"] == "FROZEN/ENCODER/conv1/kernel"
    assert names["conv1/kernel/Assign"] == "FROZEN/ENCODER/conv1/kernel/Assign"
    assert names["fc1/bias/Initializer/zeros"] == "TRAINED/HEAD/fc1/bias/Initializer/zeros"
    assert names["fc1/kernel/Adam_1"] == "SOLVER/slots/fc1/kernel/Adam_1"
    assert names["beta1_power"] == "SOLVER/slots/beta1_power"
    assert names["global_step"] == "SOLVER/global_step"


def test_what_is_trained_from_a_later_epoch_on_has_a_box_of_its_own():
    names = graph_layout.display_names(transfer("conv2/.*"))
    assert names["conv2/kernel"] == "EPOCH_10/ENCODER/conv2/kernel"
    assert names["ENCODER/flatten"] == "EPOCH_10/ENCODER/flatten", "it takes what conv2 makes"
    assert names["ENCODER/conv1/Conv2D"] == "FROZEN/ENCODER/conv1/Conv2D"
    assert names["HEAD/fc1/MatMul"] == "TRAINED/HEAD/fc1/MatMul"


def test_where_all_is_trained_the_scopes_need_no_box():
    images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
    ends = autoencoder.autoencoder(images, mask=0.5)
    step = tx.train_step(images, None, ends["reconstruction"], loss=ends["loss"], train=tx.select(".*"))
    assert boxes(graph_layout.display_names(step)) == {
        "images", "ENCODER", "LATENT", "DECODER", "LOSS", "SOLVER", "SUMMARY", "SAVE"}  # fmt: skip


def test_part_of_a_scope_can_be_frozen_and_the_rest_trained():
    images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    ends = squeezenet.squeezenet1_1(images, last="fire3")
    logits = heads.classifier(tf.reduce_mean(ends["fire3"], [1, 2]), classes=2)
    step = tx.train_step(images, labels, logits, train=tx.select("fire3.*", "logits/.*"))
    names = graph_layout.display_names(step)
    assert {key for key in ("/".join(name.split("/")[:2]) for name in names.values()) if "SQUEEZE" in key} == {
        "FROZEN/SQUEEZENET1_1",
        "TRAINED/SQUEEZENET1_1",
    }
    assert names["SQUEEZENET1_1/pool1"] == "FROZEN/SQUEEZENET1_1/pool1"
    assert names["Mean"] == "TRAINED/Mean"


def test_a_batch_normalisation_that_is_trained_lies_with_its_moving_statistics():
    images = tf.placeholder(tf.float32, [None, 4, 4, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    with tf.name_scope("NET"):
        x = layers.batch_norm(layers.conv2d(images, 2, 3, "conv1"), "bn1")
        logits = layers.dense(layers.flatten(x), 2, "logits", activation=None)
    names = graph_layout.display_names(tx.train_step(images, labels, logits, train=tx.select("bn1/.*", "logits/.*")))
    assert names["bn1/moving_mean"] == "TRAINED/NET/bn1/moving_mean"
    assert names["conv1/kernel"] == "FROZEN/NET/conv1/kernel"


def test_a_graph_of_ones_own_without_scopes_has_no_loose_op_either():
    images = tf.placeholder(tf.float32, [None, 4], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    w = tf.get_variable("w", [4, 3])
    v = tf.get_variable("v", [3, 2], use_resource=False)
    step = tx.train_step(images, labels, tf.matmul(tf.nn.relu(tf.matmul(images, w)), v), train=[v])
    tf.constant(1.0, name="lonely")
    names = graph_layout.display_names(step)
    assert (names["w"], names["v"], names["MatMul"], names["MatMul_1"]) == (
        "FROZEN/w", "TRAINED/v", "FROZEN/MatMul", "TRAINED/MatMul_1")  # fmt: skip
    assert names["lonely"] == "OTHER/lonely"
    assert {name for name in names.values() if "/" not in name} == {"images", "labels"}


def test_no_two_ops_get_one_name():
    tf.constant(1.0, name="SOLVER/slots/beta1_power")
    tf.constant(1.0, name="OTHER/x")
    tf.constant(1.0, name="x")
    names = graph_layout.display_names(transfer())
    assert len(set(names.values())) == len(names) == len(tf.get_default_graph().get_operations())


def test_every_edge_of_the_graph_is_shown_but_those_from_variables_to_savers():
    step = transfer("conv2/.*")
    graph = tf.get_default_graph()
    names = graph_layout.display_names(step)
    shown = graph_layout.display_graph(graph, names)
    renamed = {
        (re.sub(r"^(\^?)([^:]*)", lambda m: m[1] + names[m[2]], given), names[op])
        for given, op in edges(graph.as_graph_def())
    }
    lost = renamed - edges(shown)
    assert edges(shown) <= renamed
    assert lost
    assert all(op.startswith("SAVE/") and not given.startswith("SAVE/") for given, op in lost)
    into_savers = {given.lstrip("^") for given, op in edges(shown) if op.startswith("SAVE/")}
    into_savers = {given for given in into_savers if not given.startswith("SAVE/")}
    assert into_savers == {"SOLVER/global_step", "SOLVER/global_step/Read/ReadVariableOp"}


def test_the_running_graph_and_its_names_stay_what_they_are():
    step = transfer()
    graph = tf.get_default_graph()
    before = graph.as_graph_def(add_shapes=True).SerializeToString(deterministic=True)
    graph_layout.display_graph(graph, graph_layout.display_names(step))
    assert graph.as_graph_def(add_shapes=True).SerializeToString(deterministic=True) == before


def test_devices_tell_frozen_from_trained_for_color_by_device():
    step = transfer("conv2/.*")
    shown = graph_layout.display_graph(tf.get_default_graph(), graph_layout.display_names(step))
    devices = {node.name.partition("/")[0]: node.device for node in shown.node}
    assert {box: device for box, device in devices.items() if device} == {
        box: f"/device:{box}:0" for box in ("FROZEN", "TRAINED", "EPOCH_10")
    }


def test_large_constants_are_shown_without_their_values():
    images = tf.placeholder(tf.float32, [None, 1000], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    shift = tf.constant(np.random.default_rng(0).normal(size=1000).astype(np.float32), name="shift")
    step = tx.train_step(images, labels, layers.dense(images + shift, 2, "logits"), train=tx.select(".*"))
    shown = graph_layout.display_graph(tf.get_default_graph(), graph_layout.display_names(step))
    [node] = [node for node in shown.node if node.name.endswith("shift")]
    assert node.attr["value"].tensor.ByteSize() < 100


def test_control_flow_and_its_functions_are_shown():
    images = tf.placeholder(tf.float32, [None, 4, 4, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    with tf.name_scope("NET"):
        x = layers.batch_norm(images, "bn1")
        x = tf.while_loop(lambda x: tf.reduce_sum(x) < 0, lambda x: x + 1, [x])
        logits = layers.dense(layers.flatten(x), 2, "logits", activation=None)
    step = tx.train_step(images, labels, logits, train=tx.select("logits/.*"))
    names = graph_layout.display_names(step)
    shown = graph_layout.display_graph(tf.get_default_graph(), names)
    known = {node.name for node in shown.node}
    assert all(re.sub(r"^\^|:.*", "", given) in known for given, _ in edges(shown))


# --- time and memory ---


def test_time_and_memory_have_the_names_of_the_graph_that_is_shown():
    step = transfer()
    names = graph_layout.display_names(step)
    metadata = tf.RunMetadata()
    with tx.session() as sess:
        feeds = {step.images: np.zeros((4, 8, 8, 1), np.uint8), step.labels: [0, 1, 2, 0]}
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        fetches = [list(step.metrics.values()), step.stages[0].apply]
        sess.run(fetches, feeds, options=options, run_metadata=metadata)
    shown = graph_layout.display_metadata(metadata, names)
    found = [stats for device in shown.step_stats.dev_stats for stats in device.node_stats]
    every = [stats for device in metadata.step_stats.dev_stats for stats in device.node_stats]
    assert {stats.node_name for stats in found} <= set(names.values())
    assert {"images", "labels", "FROZEN/ENCODER/conv1/kernel", "TRAINED/HEAD/fc1/kernel"} <= {
        stats.node_name for stats in found
    }
    assert any(stats.node_name.startswith("SOLVER/apply/update_fc1") for stats in found)
    assert sum(s.all_end_rel_micros for s in found) > 0.9 * sum(s.all_end_rel_micros for s in every)
    assert not shown.partition_graphs


def test_what_is_behind_no_op_of_ours_is_left_out_and_optimized_ops_are_found():
    metadata = tf.RunMetadata()
    device = metadata.step_stats.dev_stats.add(device="/cpu")
    given = [
        "_SOURCE",
        "fc1/MatMul",
        "ArithmeticOptimizer/x/fc1/MatMul",
        "_arg_images_0_0",
        "_retval_loss_0_0",
        "conv:0",
    ]
    for name in given:
        device.node_stats.add(node_name=name)
    names = {"fc1/MatMul": "TRAINED/fc1/MatMul", "images": "images", "conv": "FROZEN/conv"}
    [shown] = graph_layout.display_metadata(metadata, names).step_stats.dev_stats
    assert [stats.node_name for stats in shown.node_stats] == [
        "TRAINED/fc1/MatMul", "TRAINED/fc1/MatMul", "images", "FROZEN/conv"]  # fmt: skip


def test_what_came_out_of_a_file_is_told_apart_frozen_and_trained(tmp_path):
    with tf.Graph().as_default():
        write_trained(str(tmp_path / "model.ckpt"))
    net = tx.network(tmp_path / "model.ckpt", endpoint="pool", feeds=FEEDS)
    logits = heads.classifier(net["pool"], hidden=[], classes=3)
    labels = tf.placeholder(tf.int64, [None], name="labels")
    step = tx.train_step(net.images, labels, logits, train=["conv2/.*", "logits/.*"])
    names = graph_layout.display_names(step)
    assert boxes(names) == {"images", "labels", "FROZEN", "TRAINED", "LOSS", "SOLVER", "SUMMARY"} | (
        {"SAVE"} & boxes(names)
    )
    assert {names[name].rpartition("/")[0] for name in ("conv1/kernel", "conv2/kernel/part_0")} == {
        "FROZEN/IMPORTED/conv1",
        "TRAINED/IMPORTED/conv2/kernel",
    }
    assert (names["relu1"], names["pool"]) == ("FROZEN/IMPORTED/relu1", "TRAINED/IMPORTED/pool")
    assert names["HEAD/logits/BiasAdd"] == "TRAINED/HEAD/logits/BiasAdd"
    shown = graph_layout.display_graph(tf.get_default_graph(), names)
    assert {node.name for node in shown.node} == set(names.values())
