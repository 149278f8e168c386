"""What arrays are for, by their names."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.weights import open_weights
from tfxfer.weights.roles import ROLES, is_of_training, role, slots_by_place

MODEL = {"conv1/kernel", "conv1/bias", "norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance", "W"}


def test_tables_of_whole_numbers_are_not_kernels():
    assert role("pad/paddings", (4, 2), MODEL, np.dtype(np.int32)) == "other"
    assert role("conv2/kernel", (3, 3, 3, 8), MODEL, np.dtype(np.int8)) == "kernel"
    assert role("conv2/kernel/Adam", (4, 2), {"conv2/kernel"}, np.dtype(np.int64)) == "optimizer slot"


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("conv1/kernel", (3, 3, 3, 8), "kernel"),
        ("conv1_1_W", (3, 3, 3, 64), "kernel"),
        ("layer_0/param_0", (16, 1, 3, 3), "kernel"),
        ("conv1/uniform1", (3, 3, 3, 64), "kernel"),
        ("0.0.weight", (512, 784), "kernel"),
        ("conv1/bias", (8,), "bias"),
        ("conv1_1_b", (64,), "bias"),
        ("conv1/biases", (8,), "bias"),
        ("RNN/Cell0/Linear/Bias", (8,), "bias"),
        ("regression/B", (8,), "bias"),
        ("3.bias", (10,), "bias"),
        ("norm/gamma", (8,), "batch-norm parameter"),
        ("norm/beta", (8,), "batch-norm parameter"),
        ("norm/moving_mean", (8,), "batch-norm statistic"),
        ("norm/moving_variance", (8,), "batch-norm statistic"),
        ("bn/running_std", (8,), "batch-norm statistic"),
        ("Variable_1", (32,), "other"),
        ("PReLU1/alpha", (10,), "other"),
        ("conv1_1/weights/0", (3, 3, 3, 8), "kernel"),
        ("fc8/weights/0", (1, 4096), "kernel"),
        ("conv1_1/weights/1", (1, 8), "bias"),
        ("conv1_1/biases", (8, 1), "bias"),
        ("conv1_1/stride", (1, 2), "other"),
        ("relu1/leak", (1, 1), "other"),
        ("stride", (3, 2), "kernel"),
        ("normalization/averageImage", (224, 224, 3), "other"),
        ("net/meta/normalization/averageImage", (3, 3, 3), "other"),
        ("conv1f/learningRate", (1, 1), "other"),
        ("conv1/kernel/Adam", (3, 3, 3, 8), "optimizer slot"),
        ("conv1/kernel/Adam_1", (3, 3, 3, 8), "optimizer slot"),
        ("elsewhere/kernel/Adam_3", (3, 3, 3, 8), "optimizer slot"),
        ("conv1/kernel/Momentum", (3, 3, 3, 8), "optimizer slot"),
        ("train/conv1/kernel/RMSProp_1", (3, 3, 3, 8), "optimizer slot"),
        ("conv1/kernel/Shampoo_2", (3, 3, 3, 8), "optimizer slot"),
        ("conv1/kernel/projection", (3, 3, 3, 8), "kernel"),
        ("conv1/kernel/linear", (3, 3, 3, 8), "kernel"),
        ("conv1/kernel/m", (8, 8), "kernel"),
        ("train/conv1/kernel/m", (3, 3, 3, 8), "optimizer slot"),
        ("conv1/kernel/adam_m", (3, 3, 3, 8), "optimizer slot"),
        ("norm/moving_mean/biased", (8,), "optimizer slot"),
        ("norm/moving_mean/local_step", (), "step"),
        ("Adam/conv1/kernel/m", (3, 3, 3, 8), "optimizer slot"),
        ("training/conv1/kernel/momentum", (3, 3, 3, 8), "optimizer slot"),
        ("Adam/learning_rate", (), "optimizer slot"),
        ("optimizer/vars/1", (), "optimizer slot"),
        ("optimizer_weights/training/RMSprop/accumulator_0_1", (3, 3), "optimizer slot"),
        ("model/layer/kernel/.OPTIMIZER_SLOT/optimizer/m", (3, 3), "optimizer slot"),
        ("optimizer/state/0/exp_avg", (3, 3), "optimizer slot"),
        ("state/0/exp_avg_sq", (8,), "optimizer slot"),
        ("state/12/sum", (8, 8), "optimizer slot"),
        ("optimizer_state_dict/state/conv.weight/momentum_buffer", (8, 8), "optimizer slot"),
        ("last_optimizer_state/param_groups/0/lr", (), "optimizer slot"),
        ("optimizer_states/0/state/3/step", (), "step"),
        ("param_groups/0/betas/1", (), "optimizer slot"),
        ("lr_scheduler/base_lrs/0", (), "optimizer slot"),
        ("layer1.0.bn1.running_mean", (8,), "batch-norm statistic"),
        ("state/conv/weight", (8, 8), "kernel"),
        ("beta1_power", (), "optimizer slot"),
        ("beta2_power_1", (), "optimizer slot"),
        ("SOLVER/beta2_power", (), "optimizer slot"),
        ("global_step", (), "step"),
        ("save_counter", (), "step"),
        ("optimizer/iteration", (), "step"),
        ("Adam/iter", (), "step"),
        ("bn1.num_batches_tracked", (), "step"),
        ("step", (3, 4), "kernel"),
        ("m", (3, 4), "kernel"),
        ("fc/m", (3, 4), "kernel"),
        ("Adam", (3, 4), "kernel"),
    ],
)
def test_names_tell_what_an_array_is_for(name, shape, expected):
    shapes = {**dict.fromkeys(MODEL, (8,)), "conv1/kernel": (3, 3, 3, 8), name: shape}
    assert role(name, shape, shapes, slots=slots_by_place(shapes, shapes.__getitem__)) == expected
    assert expected in ROLES


def test_an_average_is_a_slot_where_its_variable_is_there_and_else_what_it_is_an_average_of():
    name = "conv1/kernel/ExponentialMovingAverage"
    assert role(name, (3, 3, 3, 8), {"conv1/kernel", name}) == "optimizer slot"
    assert role(f"train/{name}", (3, 3, 3, 8), {"conv1/kernel", name}) == "optimizer slot"
    assert role(name, (3, 3, 3, 8), {name}) == "kernel"
    assert role("conv1/biases/ExponentialMovingAverage", (8,), {name}) == "bias"
    assert role("bn/moments/Squeeze/ExponentialMovingAverage", (8,), {name}) == "batch-norm statistic"


@pytest.mark.parametrize("scope", ["model_ema", "state_dict_ema", "params_ema", "ema"])
def test_the_averages_of_pytorch_are_slots_where_their_variables_are_there(scope):
    name = f"{scope}/layer1.0.conv1.weight"
    assert role(name, (8, 8, 3, 3), {"layer1.0.conv1.weight", name}) == "optimizer slot"
    assert role(name, (8, 8, 3, 3), {"conv1.weight", name}) == "kernel"


def test_weight_and_bias_are_a_normalisations_where_its_statistics_stand_beside_them():
    every = {"bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "conv.bias", "bn2/scale", "bn2/mean"}
    assert role("bn1.weight", (8,), every) == role("bn1.bias", (8,), every) == "batch-norm parameter"
    assert role("bn1.running_var", (8,), every) == role("bn2/mean", (8,), every) == "batch-norm statistic"
    assert role("bn2/scale", (8,), every) == "batch-norm parameter"
    assert role("conv.bias", (8,), every) == "bias"


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: tf.train.AdamOptimizer(0.1),
        lambda: tf.train.MomentumOptimizer(0.1, 0.9),
        lambda: tf.train.RMSPropOptimizer(0.1, centered=True),
        lambda: tf.train.AdagradOptimizer(0.1),
        lambda: tf.train.AdadeltaOptimizer(0.1),
        lambda: tf.train.FtrlOptimizer(0.1),
        lambda: tf.train.AdamOptimizer(0.1, name="Mine"),
    ],
)
def test_all_that_an_optimizer_of_tensorflow_adds_is_of_training(tmp_path, optimizer):
    with tf.Graph().as_default(), tf.Session() as sess:
        kernel, bias = tf.get_variable("a/kernel", [2, 3]), tf.get_variable("a/bias", [3])
        loss = tf.reduce_sum(tf.square(tf.ones([1, 2]) @ kernel + bias))
        optimizer().minimize(loss, global_step=tf.train.create_global_step())
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, str(tmp_path / "m"))
    weights = open_weights(tmp_path / "m")
    slots = slots_by_place(weights, weights.shape)
    roles = {name: role(name, weights.shape(name), set(weights), slots=slots) for name in weights}
    assert [name for name, kind in roles.items() if kind in ("kernel", "bias")] == ["a/bias", "a/kernel"]
    assert set(roles.values()) == {"kernel", "bias", "optimizer slot", "step"}


WEIGHTS = {"embedding": (8, 8), "embedding/proj": (8, 8), "fc": (8, 8), "fc/b": (8,), "dense/kernel": (8, 8)}


@pytest.mark.parametrize(
    ("slots", "found"),
    [
        ({}, []),
        ({"global_step": ()}, []),
        ({"fc/proj": (8, 8)}, []),  # two weights alike in each of two layers, in a file without a training
        ({"fc/mine": (8, 8), "global_step": ()}, []),  # below one variable alone
        ({"embedding/Adam": (8, 8), "embedding/proj/Adam": (8, 8), "fc/proj": (8, 8), "beta1_power": ()}, []),
        ({"embedding/mine": (8, 8), "fc/mine": (8,), "dense/kernel/mine": (8, 8)}, []),
        (
            {"embedding/mine": (8, 8), "fc/mine": (8, 8), "dense/kernel/mine": (8, 8), "global_step": ()},
            ["dense/kernel/mine", "embedding/mine", "fc/mine"],
        ),
        (
            {"fc/my": (8, 8), "fc/my_1": (8, 8), "fc/b/my": (8,), "fc/b/my_1": (8,), "train/beta1_power": ()},
            ["fc/b/my", "fc/b/my_1", "fc/my", "fc/my_1"],
        ),
    ],
)
def test_a_weight_below_another_one_is_kept_and_slots_of_a_named_optimizer_are_told(slots, found):
    shapes = WEIGHTS | slots
    assert sorted(slots_by_place(shapes, shapes.__getitem__)) == found


def test_of_two_named_optimizers_each_has_its_slots():
    shapes = {f"{net}/{i}/w": (3, 3) for net in "gd" for i in range(3)} | {"beta1_power": (), "beta1_power_1": ()}
    slots = {f"{name}/{name[0]}_opt{end}": shape for name, shape in shapes.items() if shape for end in ("", "_1")}
    assert slots_by_place(shapes | slots, (shapes | slots).__getitem__) == set(slots)


def test_slots_of_real_checkpoints_are_told_apart(real_data):
    for folder, slots in (("autoencoder_tf1_13", 22), ("conv_autoencoder_tf1_5", 34), ("v1_har/model.ckpt", 26)):
        weights = open_weights(real_data("checkpoints") / folder)
        kinds = [role(name, weights.shape(name), set(weights)) for name in weights]
        assert kinds.count("optimizer slot") == slots


@pytest.mark.parametrize(
    "name",
    ["conv1_1/stride", "relu1/leak", "meta/a/b", "net/meta/inputs/size", "a/block/pad", "normalization/cropSize"],
)
def test_settings_of_matconvnet_are_not_variables_of_a_network(name):
    assert is_of_training(name, {name, "meta/normalization/imageSize"})


@pytest.mark.parametrize("name", ["meta/dense/kernel", "normalization/mean", "normalization/0", "net/meta/w"])
def test_layers_of_other_files_may_be_called_as_matconvnet_calls_its_settings(name):
    assert not is_of_training(name, {name, "conv1/kernel"})


@pytest.mark.parametrize("name", ["stride", "conv1/weights/0", "my/meta/w", "meta", "size/0"])
def test_names_that_resemble_settings_are_variables(name):
    assert not is_of_training(name, {name})
