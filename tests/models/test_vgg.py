"""The VGG family: its names, its shapes, and every endpoint against Keras's own networks and against plain loops."""

from __future__ import annotations

import h5py
import keras
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from keras.src.legacy.saving import legacy_h5_format

import tfxfer as tx
from tfxfer.errors import DataError
from tfxfer.graph.preprocessing import input_specs
from tfxfer.models import vgg
from tfxfer.models.sources import named, recognise

TOP = ["flatten", "fc6", "fc7", "fc8", "prob"]
CONVOLUTIONAL = {
    "vgg11": "conv1_1 pool1 conv2_1 pool2 conv3_1 conv3_2 pool3 conv4_1 conv4_2 pool4 conv5_1 conv5_2 pool5",
    "vgg13": "conv1_1 conv1_2 pool1 conv2_1 conv2_2 pool2 conv3_1 conv3_2 pool3 conv4_1 conv4_2 pool4 conv5_1 conv5_2 "
    "pool5",
    "vgg16": "conv1_1 conv1_2 pool1 conv2_1 conv2_2 pool2 conv3_1 conv3_2 conv3_3 pool3 conv4_1 conv4_2 conv4_3 pool4 "
    "conv5_1 conv5_2 conv5_3 pool5",
    "vgg19": "conv1_1 conv1_2 pool1 conv2_1 conv2_2 pool2 conv3_1 conv3_2 conv3_3 conv3_4 pool3 conv4_1 conv4_2 "
    "conv4_3 conv4_4 pool4 conv5_1 conv5_2 conv5_3 conv5_4 pool5",
}
CONVOLUTIONAL |= {f"{model}_bn": layers for model, layers in CONVOLUTIONAL.items()}
CONVOLUTIONAL["vgg16c"] = CONVOLUTIONAL["vgg16"]
BUILD = {"vgg11": vgg.vgg11, "vgg13": vgg.vgg13, "vgg16c": vgg.vgg16c, "vgg16": vgg.vgg16, "vgg19": vgg.vgg19}
BUILD |= {"vgg11_bn": vgg.vgg11_bn, "vgg13_bn": vgg.vgg13_bn, "vgg16_bn": vgg.vgg16_bn, "vgg19_bn": vgg.vgg19_bn}
# Millions of parameters, table 2 of the paper; batch normalisation has some thousands.
MILLIONS = {"vgg11": 133, "vgg13": 133, "vgg16c": 134, "vgg16": 138, "vgg19": 144}
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
VGG16_SHAPES = {
    "conv1_1": (3, 3, 3, 64),
    "conv1_2": (3, 3, 64, 64),
    "conv2_1": (3, 3, 64, 128),
    "conv2_2": (3, 3, 128, 128),
    "conv3_1": (3, 3, 128, 256),
    "conv3_2": (3, 3, 256, 256),
    "conv3_3": (3, 3, 256, 256),
    "conv4_1": (3, 3, 256, 512),
    "conv4_2": (3, 3, 512, 512),
    "conv4_3": (3, 3, 512, 512),
    "conv5_1": (3, 3, 512, 512),
    "conv5_2": (3, 3, 512, 512),
    "conv5_3": (3, 3, 512, 512),
    "fc6": (25088, 4096),
    "fc7": (4096, 4096),
    "fc8": (4096, 1000),
}
# Our endpoints by the names of Keras's layers.
KERAS_TOP = {"flatten": "flatten", "fc1": "fc6", "fc2": "fc7", "predictions": "prob"}


def pictures(side: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)


def placeholder(side: int | None = 224) -> tf.Tensor:
    return tf.placeholder(tf.uint8, [None, side, side, 3], name="images")


# Names and shapes.


@pytest.mark.parametrize("model", BUILD)
def test_endpoints_and_variables_have_their_names(model):
    with tf.Graph().as_default():
        ends = BUILD[model](placeholder())
        names = ["input", *CONVOLUTIONAL[model].split(), *TOP]
        assert list(ends) == names
        weighted = [name for name in names if name.startswith(("conv", "fc"))]
        variables = {variable.op.name: tuple(variable.shape) for variable in tx.select(".*")}
        expected = []
        for layer in weighted:
            expected += [f"{layer}/{end}" for end in ("kernel", "bias")]
            if model.endswith("_bn") and layer.startswith("conv"):
                expected += [f"{layer}_bn/{end}" for end in NORM]
        assert list(variables) == expected
        stated = vgg.variables(model)
        assert list(stated) == list(variables)
        assert {
            name: tuple(1000 if side is None else side for side in shape) for name, shape in stated.items()
        } == variables
        millions = round(sum(int(np.prod(shape)) for shape in variables.values()) / 1e6)
        assert millions == MILLIONS[model.removesuffix("_bn")]


def test_vgg16_has_the_shapes_of_the_paper():
    with tf.Graph().as_default():
        ends = vgg.vgg16(placeholder())
        shapes = {variable.op.name: tuple(variable.shape) for variable in tx.select(".*/kernel")}
        assert shapes == {f"{layer}/kernel": shape for layer, shape in VGG16_SHAPES.items()}
        pools = [ends[f"pool{number}"].shape.as_list()[1:] for number in range(1, 6)]
        assert pools == [[112, 112, 64], [56, 56, 128], [28, 28, 256], [14, 14, 512], [7, 7, 512]]
        assert [ends[name].shape.as_list() for name in TOP] == [[None, n] for n in (25088, 4096, 4096, 1000, 1000)]


def test_vgg16c_has_1x1_kernels_where_the_paper_has_them():
    with tf.Graph().as_default():
        vgg.vgg16c(placeholder(), top=False)
        small = [variable.op.name for variable in tx.select("conv.*/kernel") if variable.shape[0] == 1]
        assert small == ["conv3_3/kernel", "conv4_3/kernel", "conv5_3/kernel"]


@pytest.mark.parametrize(("side", "pool5"), [(32, 1), (63, 1), (150, 4), (224, 7), (None, None)])
def test_without_the_top_any_size_will_do(side, pool5):
    with tf.Graph().as_default():
        ends = vgg.vgg16(placeholder(side), top=False)
        assert list(ends)[-1] == "pool5"
        assert ends["pool5"].shape.as_list() == [None, pool5, pool5, 512]
        assert tx.select(".*") == tx.select("conv.*")


def test_the_graph_groups_the_network_and_its_preprocessing():
    with tf.Graph().as_default():
        ends = vgg.vgg19(placeholder(32))
        assert {end.op.name.split("/")[0] for end in ends.values()} == {"VGG19"}
        assert ends["input"].op.name == "VGG19/PREPROCESS/input"
        assert ends["conv3_4"].op.name == "VGG19/conv3_4/Relu"
        assert ends["fc8"].op.type == "BiasAdd"


def test_classes_and_the_input_spec_are_what_the_caller_says():
    input_spec = named(vgg.SOURCES, "vgg16_keras").input_spec
    with tf.Graph().as_default():
        ends = vgg.vgg16(placeholder(32), classes=7, input_spec=input_spec)
        assert ends["prob"].shape.as_list() == [None, 7]
        assert input_specs() == [input_spec]
    with tf.Graph().as_default():
        vgg.vgg11(placeholder(32))
        (input_spec,) = input_specs()
        assert (input_spec.model, input_spec.channels, input_spec.mean) == ("vgg11", "RGB", (123.68, 116.779, 103.939))


def test_dropout_is_behind_fc6_and_fc7_and_acts_only_when_switched_on():
    with tf.Graph().as_default():
        ends = vgg.vgg11(placeholder(32), classes=3)
        switches = [f"VGG11/dropout{number}/switch:0" for number in (6, 7)]
        with tx.session() as sess:
            feed = {"images:0": pictures(32)}
            once, twice = (sess.run([ends["fc6"], ends["prob"]], feed) for _ in range(2))
            dropped = sess.run([ends["fc6"], ends["prob"]], feed | dict.fromkeys(switches, True))
            kept = sess.run("VGG11/dropout6/dropped:0", feed | dict.fromkeys(switches, True))
    np.testing.assert_array_equal(once[1], twice[1])
    np.testing.assert_array_equal(once[0], dropped[0])
    assert np.abs(once[1] - dropped[1]).max() > 0
    positive = once[0] > 0
    assert 0.4 < (kept[positive] == 0).mean() < 0.6


def test_without_dropout_there_is_no_switch():
    with tf.Graph().as_default() as graph:
        vgg.vgg11(placeholder(32), dropout=0)
        assert not [op.name for op in graph.get_operations() if "dropout" in op.name]


def test_training_moves_the_statistics_of_the_batches_as_torchvision_does():
    with tf.Graph().as_default():
        vgg.vgg11_bn(placeholder(32), last="pool1")
        (layer,) = tx.graph.layers.batch_norms()
        with tx.session() as sess:
            feed = {"images:0": pictures(32, 4)}
            mean = sess.run("VGG11_BN/conv1_1/BiasAdd:0", feed).mean((0, 1, 2))
            sess.run(layer.updates, feed | {layer.switch: True})
            (moved,) = sess.run(tx.select("conv1_1_bn/moving_mean"))
    np.testing.assert_allclose(moved, 0.1 * mean, rtol=1e-4, atol=1e-6)


def test_the_variables_of_a_convolution_are_chosen_with_those_of_its_batch_normalisation():
    with tf.Graph().as_default():
        vgg.vgg11_bn(placeholder(32), top=False)
        assert tx.select("conv.*") == tx.select(".*")


def test_pictures_that_are_too_small_are_refused():
    with (
        tf.Graph().as_default(),
        pytest.raises(DataError, match="images are 31x31; vgg16 halves them five times and needs 32x32"),
    ):
        vgg.vgg16(placeholder(31), top=False)


def test_the_top_needs_to_know_the_size():
    message = r"images have the shape \(None, None, None, 3\); .* vgg13 are made for one height .* with top=False"
    with tf.Graph().as_default(), pytest.raises(DataError, match=message):
        vgg.vgg13(placeholder(None))


def test_pictures_in_floats_are_refused():
    with tf.Graph().as_default(), pytest.raises(DataError, match="images are float32; pass uint8"):
        vgg.vgg16(tf.placeholder(tf.float32, [None, 224, 224, 3]))


# Values: an oracle of plain convolutions.


def oracle(model: str, x: np.ndarray, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute every endpoint by `tf.nn` from the names of the layers alone."""
    ends = {}
    for name in [*CONVOLUTIONAL[model].split(), "fc6", "fc7", "fc8"]:
        if name.startswith("pool"):
            n, h, w, c = x.shape
            x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
        elif name.startswith("conv"):
            kernel = weights[f"{name}/kernel"]
            x = tf.nn.conv2d(x, kernel, 1, "SAME").numpy() + weights[f"{name}/bias"]
            if f"{name}_bn/gamma" in weights:
                gamma, beta, mean, variance = (weights[f"{name}_bn/{end}"] for end in NORM)
                x = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
            x = np.maximum(x, 0)
        else:
            x = x.reshape(len(x), -1) @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
            x = x if name == "fc8" else np.maximum(x, 0)
        ends[name] = x
    x = np.exp(x - x.max(1, keepdims=True))
    ends["prob"] = x / x.sum(1, keepdims=True)
    return ends


def assert_close(ours: np.ndarray, theirs: np.ndarray, name: str) -> float:
    """Assert that no value differs by more than 1e-4 of the largest; return by how much."""
    assert ours.shape == theirs.shape, name
    largest = np.abs(theirs).max()
    assert largest > 0, name
    share = float(np.abs(ours - theirs).max() / largest)
    assert share <= 1e-4, f"{name}: differs by {share:.1e} of its largest value"
    return share


@pytest.mark.parametrize("model", ["vgg11", "vgg13", "vgg16c", "vgg11_bn"])
def test_every_endpoint_agrees_with_plain_convolutions(model):
    images = pictures(70, 2)
    with tf.Graph().as_default():
        tf.set_random_seed(3)
        ends = BUILD[model](placeholder(70), classes=5)
        variables = tx.select(".*")
        with tx.session() as sess:
            rng = np.random.default_rng(0)
            for variable in tx.select(".*/bias"):
                variable.load(rng.normal(0, 0.1, variable.shape), sess)
            for variable in variables:
                if "_bn/" in variable.op.name:
                    variable.load(rng.uniform(0.5, 2, variable.shape), sess)
            weights = {variable.op.name: sess.run(variable) for variable in variables}
            got = sess.run(ends, {"images:0": images})
    if model.endswith("_bn"):  # torchvision's
        x = np.float32((images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])
    else:
        x = images - np.float32([123.68, 116.779, 103.939])
    expected = oracle(model, x, weights)
    for name, value in expected.items():
        assert_close(got[name], value, name)


# Values: Keras's own VGG16 and VGG19.

# Keras itself is not quite ready for numpy 2.
with_keras = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def keras_network(model: str, **options: object) -> keras.Model:
    keras.utils.set_random_seed(5)
    make = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}[model]
    network = make(weights=None, **options)
    for layer in network.layers:
        if layer.weights:
            layer.bias.assign(np.random.default_rng(1).normal(0, 0.1, layer.bias.shape))
    return network


def keras_endpoints(network: keras.Model, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the preprocessed input and what each layer makes of it, by our names."""
    layers = network.layers[1:]
    x = keras.applications.vgg16.preprocess_input(images.astype(np.float32))
    values = keras.Model(network.input, [layer.output for layer in layers])(x)
    return x, {our_name(layer.name): np.asarray(value) for layer, value in zip(layers, values, strict=True)}


def our_name(layer: str) -> str:
    """`block3_conv1` is our `conv3_1`, `block3_pool` our `pool3`."""
    if layer in KERAS_TOP:
        return KERAS_TOP[layer]
    block, kind = layer.removeprefix("block").split("_")
    return f"pool{block}" if kind == "pool" else f"conv{block}_{kind.removeprefix('conv')}"


def save(network: keras.Model, path: str) -> None:
    if path.endswith(("keras", "model.h5")):
        network.save(path)
    elif path.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, network)


FORMATS = ["vgg.h5", "vgg.model.h5", "vgg.weights.h5", "vgg.keras"]


def check_parity(tmp_path, model: str, network: keras.Model, images: np.ndarray, names: list[str], top: bool) -> None:
    """Save with Keras, recognise, restore, and compare every endpoint that Keras has."""
    x, theirs = keras_endpoints(network, images)
    for name in names:
        save(network, str(tmp_path / name))
        file = tx.open_weights(tmp_path / name)
        source = named(vgg.SOURCES, f"{model}_keras")
        if not top or images.shape[1] == 224:
            assert recognise(file, vgg.SOURCES) is source
        with tf.Graph().as_default():
            classes = network.output_shape[-1] if top else 1000
            ends = BUILD[model](placeholder(images.shape[1]), top=top, classes=classes, input_spec=source.input_spec)
            with tx.session(tx.plan(tx.select(".*"), source.apply(file))) as sess:
                ours = sess.run(ends, {"images:0": images})
        np.testing.assert_allclose(ours["input"], x, rtol=0, atol=1e-5)
        assert set(theirs) == set(ours) - {"input", "fc8"}
        worst = max(assert_close(ours[end], value, end) for end, value in theirs.items())
        print(
            f"{model} {images.shape[1]} {name} {'top' if top else 'notop'}: {len(theirs)} endpoints, worst {worst:.1e}"
        )
        (tmp_path / name).unlink()


@with_keras
@pytest.mark.parametrize("model", ["vgg16", pytest.param("vgg19", marks=pytest.mark.slow)])
def test_without_the_top_every_endpoint_agrees_with_keras(tmp_path, model):
    network = keras_network(model, include_top=False, input_shape=(64, 64, 3))
    check_parity(tmp_path, model, network, pictures(64, 2), FORMATS, top=False)


@with_keras
@pytest.mark.parametrize(("model", "names"), [("vgg16", FORMATS[3:]), ("vgg19", FORMATS[:1])])
def test_with_the_top_every_endpoint_agrees_with_keras(tmp_path, model, names):
    network = keras_network(model, input_shape=(64, 64, 3), classes=10)
    check_parity(tmp_path, model, network, pictures(64, 2), names, top=True)


@pytest.mark.slow
@with_keras
@pytest.mark.parametrize("model", ["vgg16", "vgg19"])
def test_at_full_size_every_endpoint_agrees_with_keras(tmp_path, model):
    check_parity(tmp_path, model, keras_network(model), pictures(224), FORMATS, top=True)
