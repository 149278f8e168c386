"""Networks of PyTorch in plain TensorFlow ops, by the names in their files alone, to compare our builders with."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.oracle import oracle_python
from tfxfer.models.registry import MODELS
from tfxfer.models.sources import Source
from tfxfer.weights import layouts

Arrays = Mapping[str, np.ndarray]


def names_and_shapes(source: Source, classes: int = 1000) -> dict[str, tuple[int, ...]]:
    """Return what a file of a source holds, by its own names."""
    held = {}
    for pattern, ours in source.renames:
        shape = tuple(classes if side is None else side for side in source.variables[ours])
        text = source.layout_of(ours)
        held[re.sub(r"\\(.)", r"\1", pattern)] = layouts.layout(text).inverse.shape(shape) if text else shape
    return held


def digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return a digest of names and shapes, but for the counters that only training needs."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes.items() if "num_batches" not in name)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def random_arrays(source: Source, classes: int) -> dict[str, np.ndarray]:
    """Draw weights, biases and statistics for which no layer swells or fades."""
    rng, arrays = np.random.default_rng(0), {}
    for name, shape in names_and_shapes(source, classes).items():
        if name.endswith("running_var"):
            value = rng.uniform(0.5, 1.5, shape)
            arrays[name.replace("running_var", "num_batches_tracked")] = np.array(7, np.int64)
        elif len(shape) > 1:
            value = rng.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape)
        else:
            value = rng.normal(1 if re.search(r"(bn|\.[013])\d?\.weight$", name) else 0, 0.1, shape)
        arrays[name] = value.astype(np.float32)
    return arrays


def endpoints_of(path: Path, model: str, images: np.ndarray, classes: int) -> tuple[str, dict[str, np.ndarray]]:
    """Recognise a file, build the network by its input spec, restore it whole and return the source and all values."""
    known = tx.recognise(path)
    assert known.model == model
    with tf.Graph().as_default():
        feed = tf.placeholder(tf.uint8, [None, None, None, 3])
        ends = MODELS[model].build(feed, classes=classes, input_spec=known.input_spec)
        plan = tx.plan(tx.select(".*"), known.weights)
        assert {variable.op.name for variable in plan.variables} == set(MODELS[model].variables)
        with tx.session(plan) as sess:
            return known.source, sess.run(ends, {feed: images})


def compare_with(
    forward: Callable[[Arrays, np.ndarray], dict[str, np.ndarray]], source: Source, folder: Path, side: int
) -> None:
    """Compare every endpoint with a function of arrays under the names of a file, for random weights."""
    arrays, model = random_arrays(source, 5), source.input_spec.model
    safetensors.numpy.save_file(arrays, folder / "w.safetensors")
    images = np.random.default_rng(1).integers(0, 256, (2, side, side + 5, 3), np.uint8)
    name, got = endpoints_of(folder / "w.safetensors", model, images, 5)
    assert name == source.name
    x = (images - np.float32(source.input_spec.mean)) * np.float32(source.input_spec.scale)
    equal({"input": x, **forward(arrays, x)}, got, list(MODELS[model].endpoints))


def equal(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
    """Check that values under these names agree to 1e-4 of the largest."""
    for name in names:
        assert got[name].shape == expected[name].shape, name
        assert np.abs(got[name] - expected[name]).max() <= 1e-4 * np.abs(expected[name]).max(), name
    assert np.ptp(expected["fc"], axis=1).min() > 0.1  # else everything would agree


# In the function of a network, `w` are its arrays and `x` is float32 [n, h, w, 3].


def convolve(w: Arrays, name: str, x: np.ndarray, stride: int = 1, *, same: bool = False) -> np.ndarray:
    kernel = w[f"{name}.weight"]
    side = kernel.shape[2] // 2
    if same:
        padding = "SAME"
    else:
        x, padding = np.pad(x, [(0, 0), (side, side), (side, side), (0, 0)]), "VALID"
    if kernel.shape[1] == 1 and x.shape[-1] == len(kernel):
        return tf.nn.depthwise_conv2d(x, kernel.transpose(2, 3, 0, 1), [1, stride, stride, 1], padding).numpy()
    return tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), stride, padding).numpy()


def normalise(w: Arrays, name: str, x: np.ndarray, epsilon: float) -> np.ndarray:
    unit = (x - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + epsilon)
    return unit * w[f"{name}.weight"] + w[f"{name}.bias"]


def classify(w: Arrays, fc: str, x: np.ndarray) -> dict[str, np.ndarray]:
    pool = x.mean((1, 2))
    logits = pool @ w[f"{fc}.weight"].T + w[f"{fc}.bias"]
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return {"pool": pool, "fc": logits, "prob": odds / odds.sum(1, keepdims=True)}


def relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)


# PyTorch itself, in a process of another Python: argv are library, model, side and folder.
TORCH = """
import sys, numpy, torch
library, model, side, folder = sys.argv[1:]
if library == "timm":
    import timm
    net = timm.create_model(model, num_classes=7)
else:
    import torchvision
    net = getattr(torchvision.models, model)(weights=None, num_classes=7)
torch.manual_seed(0)
state = net.state_dict()
for name, value in state.items():
    if name.endswith("running_var"):
        value.uniform_(0.5, 1.5)
    elif value.ndim > 1:
        value.normal_(0, value[0].numel() ** -0.5)
    elif value.ndim == 1:
        value.normal_(float("running" not in name and name.endswith("weight")), 0.1)
    else:
        value.fill_(7)
values = {}
def keep(name):
    def hook(module, inputs, output):  # what a hook returns would take the place of the output
        values[name] = output.detach().clone()
    return hook
for name, module in net.named_modules():
    module.register_forward_hook(keep(name))
images = torch.randint(0, 256, (2, int(side), int(side) + 5, 3), dtype=torch.uint8)
mean, scale = (numpy.load(folder + "/spec.npz")[name] for name in ("mean", "scale"))
x = (images.float() - torch.tensor(mean)) * torch.tensor(scale)
with torch.no_grad():
    values["fc"] = net.eval()(x.permute(0, 3, 1, 2))
numpy.savez(folder + "/weights.npz", **{name: value.numpy() for name, value in net.state_dict().items()})
whole = {name: value.numpy() for name, value in values.items()}
whole = {name: value.transpose(0, 2, 3, 1) if value.ndim == 4 else value for name, value in whole.items()}
numpy.savez(folder + "/values.npz", images=images.numpy(), **whole)
"""


def compare_with_torch(source: Source, library: str, theirs: str, modules: Mapping[str, str], folder: Path) -> None:
    """Compare endpoints with the outputs of modules of a network of torchvision or timm, and names and shapes too."""
    python, spec = oracle_python("torch", library), source.input_spec
    np.savez(folder / "spec.npz", mean=np.float32(spec.mean), scale=np.float32(spec.scale))
    subprocess.run([python, "-c", TORCH, library, theirs, "72", str(folder)], check=True, timeout=300)
    with np.load(folder / "weights.npz") as file:
        assert digest({name: file[name].shape for name in file}) == digest(names_and_shapes(source, 7))
    with np.load(folder / "values.npz") as file:
        name, got = endpoints_of(folder / "weights.npz", spec.model, file["images"], 7)
        equal({ours: file[module] for ours, module in {**modules, "fc": "fc"}.items()}, got, [*modules, "fc"])
    assert name == source.name
