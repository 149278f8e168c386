"""The forms in which weights of the VGG networks circulate, written here by loops of their own, and read."""

from __future__ import annotations

import dataclasses
import functools

import h5py
import numpy as np
import pytest
import safetensors.numpy
import scipy.signal
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.models.test_vgg import CONVOLUTIONAL, assert_close, pictures, placeholder
from tfxfer.errors import RestoreError, WeightsError
from tfxfer.models import vgg
from tfxfer.models.sources import named, recognise
from tfxfer.weights import Tensor, Weights, layouts

# Layouts and names of others, written here by loops of their own.

# Where torchvision's sequence `features` and Keras 0.x's list of layers have our convolutions and dense layers.
FEATURES = {
    "vgg11": [0, 3, 6, 8, 11, 13, 16, 18],
    "vgg13": [0, 2, 5, 7, 10, 12, 15, 17, 20, 22],
    "vgg16": [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    "vgg19": [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
}
LAYERS = {
    "vgg16": [1, 3, 6, 8, 11, 13, 15, 18, 20, 22, 25, 27, 29, 32, 34, 36],
    "vgg19": [1, 3, 6, 8, 11, 13, 15, 17, 20, 22, 24, 26, 29, 31, 33, 35, 38, 40, 42],
}
SLIM = {"vgg11": "vgg_a", "vgg16": "vgg_16", "vgg19": "vgg_19"}


def layer_names(model: str) -> list[str]:
    convolutions = [name for name in CONVOLUTIONAL[model].split() if name.startswith("conv")]
    return [*convolutions, "fc6", "fc7", "fc8"]


def oihw(kernel: np.ndarray, turned: bool = False) -> np.ndarray:
    height, width, incoming, outgoing = kernel.shape
    result = np.empty((outgoing, incoming, height, width), kernel.dtype)
    for row in range(height):
        for column in range(width):
            there = (height - 1 - row, width - 1 - column) if turned else (row, column)
            result[:, :, there[0], there[1]] = kernel[row, column].T
    return result


def chw_rows(kernel: np.ndarray, side: int) -> np.ndarray:
    """Reorder the rows of fc6 as a network with channels first would have them."""
    result = np.empty_like(kernel)
    for row in range(side):
        for column in range(side):
            for channel in range(512):
                result[channel * side * side + row * side + column] = kernel[(row * side + column) * 512 + channel]
    return result


def theano(layer: str, kernel: np.ndarray, side: int) -> np.ndarray:
    if layer.startswith("conv"):
        return oihw(kernel, turned=True)
    return chw_rows(kernel, side) if layer == "fc6" else kernel


def torch(layer: str, kernel: np.ndarray, side: int) -> np.ndarray:
    return oihw(kernel) if layer.startswith("conv") else theano(layer, kernel, side).T


def timm(layer: str, kernel: np.ndarray, side: int) -> np.ndarray:
    if layer == "fc6":
        return oihw(kernel.reshape(side, side, 512, -1))
    return kernel.T[:, :, None, None] if layer == "fc7" else torch(layer, kernel, side)


def slim(layer: str, kernel: np.ndarray, side: int) -> np.ndarray:
    shapes = {"fc6": (side, side, 512, -1), "fc7": (1, 1, 4096, -1), "fc8": (1, 1, 4096, -1)}
    return kernel.reshape(shapes[layer]) if layer in shapes else kernel


def plain(layer: str, kernel: np.ndarray, side: int) -> np.ndarray:
    return kernel


def write_npz(path, model: str, arrays: dict) -> str:
    np.savez(
        path / "w.npz",
        **{f"{layer}_{end}": value for layer, pair in arrays.items() for end, value in zip("Wb", pair, strict=True)},
    )
    return "w.npz"


def write_lists(path, model: str, arrays: dict) -> str:
    np.save(path / "w.npy", {layer: [kernel, bias] for layer, (kernel, bias) in arrays.items()}, allow_pickle=True)
    return "w.npy"


def write_dicts(path, model: str, arrays: dict) -> str:
    value = {layer: {"weights": kernel, "biases": bias} for layer, (kernel, bias) in arrays.items()}
    np.save(path / "w.npy", value, allow_pickle=True)
    return "w.npy"


def write_keras1(path, model: str, arrays: dict) -> str:
    """As vgg16_weights_th_dim_ordering_th_kernels.h5 has it."""
    table = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    with h5py.File(path / "w.h5", "w") as file:
        names = [table.get(layer) or f"block{layer[4]}_conv{layer[6]}" for layer in arrays]
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name, pair in zip(names, arrays.values(), strict=True):
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_{end}_1:0".encode() for end in "Wb"]
            for end, value in zip("Wb", pair, strict=True):
                group[f"{name}_{end}_1:0"] = value
    return "w.h5"


def write_keras0(path, model: str, arrays: dict) -> str:
    numbers = dict(zip(layer_names(model), LAYERS[model], strict=True))
    with h5py.File(path / "w.h5", "w") as file:
        file.attrs["nb_layers"] = max(LAYERS[model]) + 1
        for layer, pair in arrays.items():
            group = file.create_group(f"layer_{numbers[layer]}")
            group.attrs["nb_params"] = 2
            for number, value in enumerate(pair):
                group[f"param_{number}"] = value
    return "w.h5"


def write_slim(path, model: str, arrays: dict) -> str:
    scope = SLIM[model]
    with tf.Graph().as_default(), tf.Session() as sess:
        variables = {f"{scope}/mean_rgb": np.float32([123.68, 116.779, 103.939]), "global_step": np.int64(0)}
        for layer, (kernel, bias) in arrays.items():
            name = f"{scope}/{layer[:5]}/{layer}" if layer.startswith("conv") else f"{scope}/{layer}"
            variables |= {f"{name}/weights": kernel, f"{name}/biases": bias}
        held = {name: tf.Variable(tf.zeros_like(value)) for name, value in variables.items()}
        for name, variable in held.items():
            variable.load(variables[name], sess)
        tf.train.Saver(held).save(sess, str(path / "vgg.ckpt"), write_meta_graph=False)
    return "vgg.ckpt"


def write_torch(path, model: str, arrays: dict, dense: tuple = ("classifier.0", "classifier.3", "classifier.6")) -> str:
    places = [*(f"features.{number}" for number in FEATURES[model]), *dense]
    names = dict(zip(layer_names(model), places, strict=True))
    tensors = {
        f"{names[layer]}.{end}": np.ascontiguousarray(value)
        for layer, pair in arrays.items()
        for end, value in zip(("weight", "bias"), pair, strict=True)
    }
    safetensors.numpy.save_file(tensors, path / "w.safetensors")
    return "w.safetensors"


def write_timm(path, model: str, arrays: dict) -> str:
    return write_torch(path, model, arrays, ("pre_logits.fc1", "pre_logits.fc2", "head.fc"))


# The source, how it lays arrays out, and how its files are written.
FORMS = {
    "npz": (plain, write_npz),
    "npz_bgr": (plain, write_npz),
    "npy": (plain, write_lists),
    "caffe": (plain, write_dicts),
    "keras": (plain, write_keras1),
    "keras_th": (theano, write_keras1),
    "keras0": (theano, write_keras0),
    "slim": (slim, write_slim),
    "torchvision": (torch, write_torch),
    "timm": (timm, write_timm),
}


def write(path, form: str, model: str, weights: dict[str, np.ndarray], side: int = 7) -> str:
    lay_out, write_file = FORMS[form]
    layers = dict.fromkeys(name.partition("/")[0] for name in weights)
    arrays = {layer: (lay_out(layer, weights[f"{layer}/kernel"], side), weights[f"{layer}/bias"]) for layer in layers}
    return str(path / write_file(path, model, arrays))


def random_weights(model: str, layers: list[str]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    return {
        f"{layer}/{end}": rng.normal(0, 0.1, [6 if side is None else side for side in shape]).astype(np.float32)
        for layer in layers
        for end, shape in ((end, vgg.variables(model)[f"{layer}/{end}"]) for end in ("kernel", "bias"))
    }


KNOWN = [(source.input_spec.model, source.name.split("_", 1)[1]) for source in vgg.SOURCES]


def test_the_sources_are_these():
    assert [source.name for source in vgg.SOURCES] == [
        "vgg16_npz",
        "vgg16_npz_bgr",
        *(f"vgg16_{form}" for form in ("npy", "caffe", "keras", "keras_th", "keras0")),
        *(f"vgg19_{form}" for form in ("npy", "caffe", "keras", "keras_th", "keras0")),
        *("vgg11_slim", "vgg16_slim", "vgg19_slim"),
        *(f"{model}_{form}" for model in ("vgg11", "vgg13", "vgg16", "vgg19") for form in ("torchvision", "timm")),
    ]
    assert all(source.input_spec.source == source.name for source in vgg.SOURCES)


@pytest.mark.parametrize(("model", "form"), KNOWN)
def test_a_file_of_every_form_is_recognised_and_read(tmp_path, model, form):
    weights = random_weights(model, [*layer_names(model)[:-7], "fc8"])
    file = tx.open_weights(write(tmp_path, form, model, weights))
    source = named(vgg.SOURCES, f"{model}_{form}")
    if form.startswith("npz"):
        with pytest.raises(WeightsError, match=r"may come from 2 sources, .*\n  vgg16_npz .*\n  vgg16_npz_bgr "):
            recognise(file, vgg.SOURCES)
    else:
        assert recognise(file, [other for other in vgg.SOURCES if other.input_spec.model == model]) is source
    ours = source.apply(file)
    assert set(weights) <= set(ours)
    for name, value in weights.items():
        np.testing.assert_array_equal(ours[name], value, name)


@pytest.mark.parametrize(("model", "form"), KNOWN)
def test_a_whole_file_is_told_from_those_of_all_models(tmp_path, model, form):
    """A file of empty arrays gives the names; then each gets the shape that it has in a whole network."""
    nothing = np.zeros(1, np.float32)
    source = named(vgg.SOURCES, f"{model}_{form}")
    path = FORMS[form][1](tmp_path, model, dict.fromkeys(layer_names(model), (nothing, nothing)))
    names = {name: source.ours(name) for name in tx.open_weights(tmp_path / path)}
    tensors = {}
    for name, ours in names.items():
        shape = tuple(6 if side is None else side for side in vgg.variables(model)[ours]) if ours else (1,)
        text = source.layout_of(ours) if ours else ""
        shape = layouts.layout(text).inverse.shape(shape) if text else shape
        tensors[name] = Tensor(shape, np.dtype(np.float32), functools.partial(np.ones, shape, np.float32))
    whole = Weights("whole", "a whole network", tensors)
    assert source.compare(whole).missing == []
    if form.startswith("npz"):
        with pytest.raises(WeightsError, match="may come from 2 sources"):
            recognise(whole, vgg.SOURCES)
    else:
        assert recognise(whole, vgg.SOURCES) is source


@pytest.mark.parametrize("form", [form for model, form in KNOWN if model == "vgg16"])
def test_the_fully_connected_layers_of_every_form_are_laid_out_as_ours(tmp_path, form):
    rng = np.random.default_rng(2)
    shapes = {"fc6": (25088, 3), "fc7": (4096, 2), "fc8": (4096, 5)}
    weights = {f"{layer}/kernel": rng.normal(size=shape).astype(np.float32) for layer, shape in shapes.items()}
    weights |= {f"{layer}/bias": rng.normal(size=shape[1]).astype(np.float32) for layer, shape in shapes.items()}
    ours = named(vgg.SOURCES, f"vgg16_{form}").apply(tx.open_weights(write(tmp_path, form, "vgg16", weights)))
    for name, value in weights.items():
        np.testing.assert_array_equal(ours[name], value, name)


@pytest.mark.parametrize(
    ("form", "channels", "first"),
    [
        ("npz", "RGB", 123.68),
        ("npz_bgr", "BGR", 103.939),
        ("npy", "BGR", 103.939),
        ("caffe", "BGR", 103.939),
        ("keras", "BGR", 103.939),
        ("keras_th", "BGR", 103.939),
        ("keras0", "BGR", 103.939),
        ("slim", "RGB", 123.68),
        ("torchvision", "RGB", 123.675),
        ("timm", "RGB", 123.675),
    ],
)
def test_every_form_has_its_input_spec(form, channels, first):
    input_spec = named(vgg.SOURCES, f"vgg16_{form}").input_spec
    assert (input_spec.size, input_spec.channels, input_spec.mean[0]) == ((224, 224), channels, first)
    scale = (1, 1, 1) if form not in ("torchvision", "timm") else (1 / 58.395, 1 / 57.12, 1 / 57.375)
    assert input_spec.scale == pytest.approx(scale)


@pytest.mark.parametrize(
    ("form", "filter2d"), [("keras_th", scipy.signal.convolve2d), ("torchvision", scipy.signal.correlate2d)]
)
def test_foreign_kernels_give_what_their_own_framework_computes(tmp_path, form, filter2d):
    """Theano convolves, turning the kernel; PyTorch correlates. Both flatten channels first."""
    rng = np.random.default_rng(7)
    kernel = {"conv1_1": rng.normal(0, 0.1, (64, 3, 3, 3)), "conv1_2": rng.normal(0, 0.1, (64, 64, 3, 3))}
    rows = rng.normal(0, 0.1, (2048, 4096))
    bias = {"conv1_1": rng.normal(size=64), "conv1_2": rng.normal(size=64), "fc6": rng.normal(size=4096)}
    arrays = {name: (np.float32(value), np.float32(bias[name])) for name, value in kernel.items()}
    arrays["fc6"] = (np.float32(rows if form == "keras_th" else rows.T), np.float32(bias["fc6"]))
    file = tx.open_weights(tmp_path / FORMS[form][1](tmp_path, "vgg16", arrays))

    source = named(vgg.SOURCES, f"vgg16_{form}")
    # The same layout, for pictures of 64x64 instead of 224x224.
    source = dataclasses.replace(source, layout=[(name, text.replace("7,7", "2,2")) for name, text in source.layout])
    with tf.Graph().as_default():
        ends = vgg.vgg16(placeholder(64), input_spec=source.input_spec)
        with tx.session(tx.plan(tx.select("conv1_.*", "fc6/.*"), source.apply(file))) as sess:
            got = sess.run(
                {name: ends[name] for name in ("input", "conv1_1", "conv1_2", "pool5", "fc6")},
                {"images:0": pictures(64)},
            )

    for before, name, chosen in (("input", "conv1_1", range(64)), ("conv1_1", "conv1_2", (0, 5, 63))):
        planes = got[before][0].astype(np.float64)
        for out in chosen:
            expected = (
                sum(filter2d(planes[:, :, i], plane, "same") for i, plane in enumerate(kernel[name][out]))
                + bias[name][out]
            )
            assert_close(got[name][0, :, :, out], np.maximum(expected, 0), f"{name}, filter {out}")
    flat = got["pool5"][0].transpose(2, 0, 1).ravel()
    assert_close(got["fc6"][0], np.maximum(flat @ rows + bias["fc6"], 0), "fc6")


def test_a_slim_checkpoint_is_restored_with_its_convolutions_made_dense(tmp_path):
    weights = random_weights("vgg16", ["conv1_1", "fc8"])
    source = named(vgg.SOURCES, "vgg16_slim")
    file = source.apply(tx.open_weights(write(tmp_path, "slim", "vgg16", weights)))
    with tf.Graph().as_default():
        vgg.vgg16(placeholder(32), classes=6, input_spec=source.input_spec)
        with tx.session(tx.plan(tx.select("conv1_1/.*", "fc8/.*"), file)) as sess:
            for variable in tx.select("conv1_1/.*", "fc8/.*"):
                np.testing.assert_array_equal(sess.run(variable), weights[variable.op.name])


# Real files.


def test_a_real_part_of_vgg16_is_restored_and_the_report_says_what_is_left(real_data):
    path = real_data("weights/vgg16_blocks1-3.npz")
    file = tx.open_weights(path)
    source = recognise(file, vgg.SOURCES)
    # Its names are those of vgg16_weights.npz, its kernels those of Keras: the first kernel tells.
    assert source.name == "vgg16_npz_bgr"
    with tf.Graph().as_default():
        vgg.vgg16(placeholder(), input_spec=source.input_spec)
        plan = tx.plan(tx.select("conv[123]_.*"), source.apply(file))
        with np.load(path) as arrays, tx.session(plan) as sess:
            for variable in plan.variables:
                layer, end = variable.op.name.split("/")
                np.testing.assert_array_equal(sess.run(variable), arrays[f"{layer}_{'W' if end == 'kernel' else 'b'}"])
        assert len(plan.variables) == 14
        left = [pairing.variable for pairing in plan.pairings if pairing.status == "initialised"]
        assert left == [
            f"{layer}/{end}"
            for layer in ("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3", "fc6", "fc7", "fc8")
            for end in ("kernel", "bias")
        ]
        assert "restore plan: 14 of 32 variables from" in plan.report()
        assert "6 tensors of the file are not used: conv4_1_b, " in plan.report()
        with pytest.raises(
            RestoreError, match=r"(?s)cannot restore 12 of 32 variables.*  conv4_1/kernel +not in the file"
        ):
            tx.plan(tx.select(".*"), source.apply(file))


@pytest.mark.parametrize("form", [form for model, form in KNOWN if model == "vgg16" and form[0] != "t"])
def test_the_real_first_kernel_tells_the_order_of_the_channels(real_data, tmp_path, form):
    with np.load(real_data("weights/vgg16_blocks1-3.npz")) as arrays:
        bgr, bias = arrays["conv1_1_W"], arrays["conv1_1_b"]
    source = named(vgg.SOURCES, f"vgg16_{form}")
    right, wrong = (bgr, bgr[:, :, ::-1]) if source.input_spec.channels == "BGR" else (bgr[:, :, ::-1], bgr)
    file = tx.open_weights(write(tmp_path, form, "vgg16", {"conv1_1/kernel": right, "conv1_1/bias": bias}))
    assert recognise(file, [other for other in vgg.SOURCES if other.input_spec.model == "vgg16"]) is source
    (tmp_path / "wrong").mkdir()
    file = tx.open_weights(write(tmp_path / "wrong", form, "vgg16", {"conv1_1/kernel": wrong, "conv1_1/bias": bias}))
    assert (
        source.compare(file).faults[0].startswith(f"wants {source.input_spec.channels}, and the first kernel is for ")
    )


def test_renames_open_the_well_known_file_and_a_part_of_it(real_data, tmp_path):
    assert "conv5_3/bias" in tx.open_weights(real_data("weights/vgg16_blocks1-3.npz"), rename=vgg.RENAMES)
    np.savez(tmp_path / "part.npz", conv1_1_W=np.zeros((3, 3, 3, 64), np.float32))
    assert list(tx.open_weights(tmp_path / "part.npz", rename=vgg.RENAMES)) == ["conv1_1/kernel"]
