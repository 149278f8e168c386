"""The forms in which weights of the VGG networks circulate, written here by loops of their own, and read."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import scipy.signal
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.models import vgg_files
from tests.models.test_vgg import CONVOLUTIONAL, NORM, assert_close, oracle, pictures, placeholder
from tests.models.vgg_files import FEATURES, chw_rows, oihw
from tests.oracle import oracle_python
from tfxfer.errors import RestoreError, WeightsError
from tfxfer.models import registry, vgg, vgg_sources
from tfxfer.models.sources import named, recognise
from tfxfer.weights import Tensor, Weights, layouts

# Layouts and names of others, written here by loops of their own.

# Where Keras 0.x's list of layers has our convolutions and dense layers.
LAYERS = {
    "vgg16": [1, 3, 6, 8, 11, 13, 15, 18, 20, 22, 25, 27, 29, 32, 34, 36],
    "vgg19": [1, 3, 6, 8, 11, 13, 15, 17, 20, 22, 24, 26, 29, 31, 33, 35, 38, 40, 42],
}
SLIM = {"vgg11": "vgg_a", "vgg16": "vgg_16", "vgg19": "vgg_19"}


def layer_names(model: str) -> list[str]:
    convolutions = [name for name in CONVOLUTIONAL[model].split() if name.startswith("conv")]
    return [*convolutions, "fc6", "fc7", "fc8"]


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


def caffe(layer: str, kernel: np.ndarray, side: int) -> np.ndarray:
    value = torch(layer, kernel, side)
    return value.reshape((1,) * (4 - value.ndim) + value.shape)


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


def write_params(path, model: str, arrays: dict) -> str:
    values = [value for pair in arrays.values() for value in pair]
    params = np.empty(len(values), object)
    params[:] = values
    np.savez(path / "w.npz", params=params)
    return "w.npz"


def write_caffe(path, model: str, arrays: dict) -> str:
    blobs = {f"{layer}/0": kernel for layer, (kernel, _) in arrays.items()}
    blobs |= {f"{layer}/1": bias.reshape(1, 1, 1, -1) for layer, (_, bias) in arrays.items()}
    np.savez(path / "w.npz", **blobs)
    return "w.npz"


def write_matconvnet(path, model: str, arrays: dict) -> str:
    cells = {f"{layer}/weights/0": kernel for layer, (kernel, _) in arrays.items()}
    cells |= {f"{layer}/weights/1": bias.reshape(1, -1) for layer, (_, bias) in arrays.items()}
    np.savez(path / "w.npz", **cells)
    return "w.npz"


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
    names |= {f"{layer}_bn": f"features.{place + 1}" for layer, place in zip(names, FEATURES[model], strict=False)}
    tensors = {
        f"{names[layer]}.{end}": np.ascontiguousarray(value)
        for layer, values in arrays.items()
        for end, value in zip(("weight", "bias", "running_mean", "running_var"), values, strict=False)
    }
    counts = [f"{names[layer]}.num_batches_tracked" for layer in arrays if layer.endswith("_bn")]
    tensors |= dict.fromkeys(counts, np.array(7, np.int64))
    safetensors.numpy.save_file(tensors, path / "w.safetensors")
    return "w.safetensors"


def write_timm(path, model: str, arrays: dict) -> str:
    return write_torch(path, model, arrays, ("pre_logits.fc1", "pre_logits.fc2", "head.fc"))


# The source, how it lays arrays out, and how its files are written.
FORMS = {
    "npz": (plain, write_npz),
    "npz_bgr": (plain, write_npz),
    "tensorlayer": (plain, write_params),
    "npy": (plain, write_lists),
    "caffe": (plain, write_dicts),
    "caffemodel": (caffe, write_caffe),
    "matconvnet": (slim, write_matconvnet),
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
    arrays = {
        layer: tuple(weights[f"{layer}/{end}"] for end in NORM)
        if layer.endswith("_bn")
        else (lay_out(layer, weights[f"{layer}/kernel"], side), weights[f"{layer}/bias"])
        for layer in layers
    }
    return str(path / write_file(path, model, arrays))


def random_weights(model: str, layers: list[str]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    return {
        name: rng.normal(0, 0.1, [6 if side is None else side for side in shape]).astype(np.float32)
        for name, shape in vgg.variables(model).items()
        if name.partition("/")[0].removesuffix("_bn") in layers
    }


KNOWN = [(source.input_spec.model, source.name.removeprefix(f"{source.input_spec.model}_")) for source in vgg.SOURCES]


OF_AUTHORS = ("npy", "caffe", "caffemodel", "matconvnet", "keras", "keras_th", "keras0")


def test_the_sources_are_these():
    assert [source.name for source in vgg.SOURCES] == [
        "vgg16_npz",
        "vgg16_npz_bgr",
        "vgg16_tensorlayer",
        *(f"vgg16_{form}" for form in OF_AUTHORS),
        *(f"vgg19_{form}" for form in OF_AUTHORS),
        *("vgg11_slim", "vgg16_slim", "vgg19_slim"),
        *(f"{model}_{form}" for model in FEATURES for form in ("torchvision", "timm")),
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
    elif form == "tensorlayer":
        with pytest.raises(WeightsError, match=r"; holds 20 of 32 arrays, and numbers tell only a whole file"):
            recognise(file, vgg.SOURCES)
        return
    else:
        assert recognise(file, [other for other in vgg.SOURCES if other.input_spec.model == model]) is source
    ours = source.apply(file)
    assert set(weights) <= set(ours)
    for name, value in weights.items():
        np.testing.assert_array_equal(ours[name], value, name)


@pytest.mark.parametrize("model", ["vgg16", "vgg11_bn"])
def test_pytorchs_convolutions_alone_are_one_form_to_torchvision_and_timm(tmp_path, model):
    weights = random_weights(model, layer_names(model)[:-3])
    file = tx.open_weights(write(tmp_path, "torchvision", model, weights))
    assert recognise(file, vgg.SOURCES).name == f"{model}_torchvision"


@pytest.mark.parametrize(("model", "form"), KNOWN)
def test_a_whole_file_is_told_from_those_of_all_models(tmp_path, model, form):
    """A file of empty arrays gives the names; then each gets the shape that it has in a whole network."""
    nothing = np.zeros(1, np.float32)
    source = named(vgg.SOURCES, f"{model}_{form}")
    arrays = dict.fromkeys(layer_names(model), (nothing, nothing))
    if model.endswith("_bn"):
        arrays |= dict.fromkeys((f"{layer}_bn" for layer in layer_names(model)[:-3]), (nothing,) * 4)
    path = FORMS[form][1](tmp_path, model, arrays)
    names = {name: source.ours(name) for name in tx.open_weights(tmp_path / path)}
    tensors = {}
    for name, ours in names.items():
        shape = tuple(6 if side is None else side for side in vgg.variables(model)[ours]) if ours else (1,)
        text = source.layout_of(ours) if ours else ""
        shape = layouts.layout(text).inverse.shape(shape) if text else shape
        tensors[name] = Tensor(shape, np.dtype(np.float32), functools.partial(np.ones, shape, np.float32))
    whole = Weights("whole", "a whole network", tensors)
    assert source.compare(whole).missing == []
    # A VGG16 has the names and shapes of a part of VGG19, but for forms that number their layers.
    others = [other for other in vgg.SOURCES if not other.name.endswith(f"_{form}")]
    if not form.startswith("npz"):
        with pytest.raises(WeightsError, match=r"is none of the \d+ sources that are known"):
            recognise(whole, others)
    if form.startswith("npz"):
        with pytest.raises(WeightsError, match="may come from 2 sources"):
            recognise(whole, vgg.SOURCES)
    else:
        assert recognise(whole, vgg.SOURCES) is source


@pytest.mark.parametrize("form", [form for model, form in KNOWN if model == "vgg16" and form != "tensorlayer"])
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
        ("tensorlayer", "RGB", 123.68),
        ("npy", "BGR", 103.939),
        ("caffe", "BGR", 103.939),
        ("caffemodel", "BGR", 103.939),
        ("matconvnet", "RGB", 123.68),
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


# One set of weights, written as four programs write it.


def save_npz(path: Path, arrays: vgg_files.Arrays) -> Path:
    """Write arrays under the names that the reader of a format gives."""
    np.savez(path / "weights.npz", **arrays)
    return path / "weights.npz"


# By source: what the file holds, its writer, the order of channels, the first mean and the first scale.
WRITTEN = {
    "torchvision": (vgg_files.torchvision, vgg_files.save_torch, "RGB", 123.675, 1 / 58.395),
    "torchvision, old": (vgg_files.torchvision, vgg_files.save_torch_old, "RGB", 123.675, 1 / 58.395),
    "matconvnet": (vgg_files.matconvnet, vgg_files.save_matconvnet, "RGB", 123.68, 1),
    "matconvnet, old": (vgg_files.matconvnet_old, vgg_files.save_matconvnet_old, "RGB", 123.68, 1),
    "caffemodel": (vgg_files.caffe, vgg_files.save_caffe, "BGR", 103.939, 1),
    "caffemodel, old": (vgg_files.caffe_old, vgg_files.save_caffe_old, "BGR", 103.939, 1),
}


def check_written(tmp_path: Path, forms: list[str], classes: int) -> None:
    arrays = vgg_files.random_arrays(vgg_sources.variables("vgg16"), classes)
    images = pictures(224)
    expected = oracle("vgg16", images - np.float32(vgg_sources.MEAN), arrays)["fc8"]
    for form in forms:
        convention, write_file, channels, mean, scale = WRITTEN[form]
        path = write_file(tmp_path, convention(arrays))
        known = tx.recognise(path)
        assert (known.model, known.source) == ("vgg16", f"vgg16_{form.partition(',')[0]}")
        input_spec = known.input_spec
        assert (input_spec.channels, input_spec.mean[0]) == (channels, mean)
        assert input_spec.scale[0] == pytest.approx(scale)
        with tf.Graph().as_default():
            ends = vgg.vgg16(placeholder(), classes=classes, input_spec=input_spec)
            with tx.session(tx.plan(tx.select(".*"), known.weights)) as sess:
                share = assert_close(sess.run(ends["fc8"], {"images:0": images}), expected, form)
        print(f"{form}: fc8 differs by {share:.1e} of its largest value")
        path.unlink()


@pytest.fixture
def narrow(monkeypatch):
    """VGG16 and VGG19 with a sixteenth of the filters and units; all else is as it is, also fc6 over 7x7."""
    units, width = vgg_sources.UNITS // 16, vgg_sources.WIDTHS[-1] // 16
    monkeypatch.setattr(vgg_sources, "WIDTHS", tuple(filters // 16 for filters in vgg_sources.WIDTHS))
    monkeypatch.setattr(vgg_sources, "UNITS", units)
    monkeypatch.setattr(vgg, "UNITS", units)
    for name in ("vgg16", "vgg19"):
        variables = vgg_sources.variables(name)
        sources = tuple(
            dataclasses.replace(
                source,
                variables=variables,
                layout=[(rule, text.replace("512", str(width)).replace("4096", str(units)))
                        for rule, text in source.layout],
            )
            for source in registry.MODELS[name].sources
        )  # fmt: skip
        row = dataclasses.replace(registry.MODELS[name], variables=variables, sources=sources)
        monkeypatch.setitem(registry.MODELS, name, row)


@pytest.mark.parametrize("form", WRITTEN)
def test_a_narrow_vgg16_gives_the_same_from_the_file_of_every_program(tmp_path, narrow, form):
    check_written(tmp_path, [form], classes=10)


@pytest.mark.slow
def test_vgg16_gives_the_same_from_the_file_of_every_program(tmp_path):
    check_written(tmp_path, list(WRITTEN), classes=1000)


@pytest.mark.parametrize("form", WRITTEN)
def test_a_file_of_one_program_is_refused_by_name_as_that_of_another(tmp_path, narrow, form):
    convention = WRITTEN[form][0]
    file = tx.open_weights(save_npz(tmp_path, convention(vgg_files.random_arrays(vgg_sources.variables("vgg16"), 10))))
    own = f"vgg16_{form.partition(',')[0]}"
    for source in registry.MODELS["vgg16"].sources:
        faults = source.compare(file).faults
        assert bool(faults) == (source.name != own), f"{source.name}: {faults}"
        if source.name != own:
            with pytest.raises(
                WeightsError, match=r"is none of the 1 sources that are known:\n.*(vgg16_|know none of)"
            ):
                recognise(file, [source])


def test_names_as_tfjs_writes_them_are_those_of_keras(tmp_path):
    """TF.js's converter keeps the names of Keras's variables: tensorflowjs/converters/keras_h5_conversion.py."""
    layers = ("block1_conv1", "block1_conv2", "block2_conv1")
    shapes = ((3, 3, 3, 64), (3, 3, 64, 64), (3, 3, 64, 128))
    arrays = {f"{layer}/kernel": np.zeros(shape, "f4") for layer, shape in zip(layers, shapes, strict=True)}
    arrays |= {f"{layer}/bias": np.zeros(shape[-1], "f4") for layer, shape in zip(layers, shapes, strict=True)}
    known = tx.recognise(save_npz(tmp_path, arrays), model="vgg16")
    assert (known.source, known.input_spec.channels) == ("vgg16_keras", "BGR")
    assert known.weights.shape("conv2_1/kernel") == (3, 3, 64, 128)


# PyTorch's own networks.

CODE = """
import sys, numpy as np, torch, MODULE
model, path = sys.argv[1:]
torch.manual_seed(3)
network = MAKE(model).eval()
for layer in network.features:
    if isinstance(layer, torch.nn.BatchNorm2d):
        for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
            tensor.uniform_(0.5, 1.5)
images = np.load(path + "/images.npy") / 255
x = (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
with torch.no_grad():
    scores = network(torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32)).numpy()
np.save(path + "/scores.npy", scores)
np.savez(path + "/weights.npz", **{name: value.numpy() for name, value in network.state_dict().items()})
"""
MAKERS = {"torchvision": "torchvision.models.get_model", "timm": "timm.create_model"}


@pytest.mark.slow
@pytest.mark.parametrize("model", FEATURES)
@pytest.mark.parametrize("library", MAKERS)
def test_scores_are_those_of_pytorch(tmp_path, library, model):
    python = oracle_python("torch", library)
    images = pictures(224)
    np.save(tmp_path / "images.npy", images)
    code = CODE.replace("MODULE", library).replace("MAKE", MAKERS[library])
    subprocess.run([python, "-c", code, model, str(tmp_path)], check=True)
    known = tx.recognise(tmp_path / "weights.npz")
    assert (known.model, known.source) == (model, f"{model}_{library}")
    with tf.Graph().as_default():
        ends = registry.MODELS[model].build(placeholder(), input_spec=known.input_spec)
        with tx.session(tx.plan(tx.select(".*"), known.weights)) as sess:
            scores = sess.run(ends["fc8"], {"images:0": images})
    share = assert_close(scores, np.load(tmp_path / "scores.npy"), f"{library} {model}")
    print(f"{library} {model}: fc8 differs by {share:.1e} of its largest value")
    (tmp_path / "weights.npz").unlink()


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
