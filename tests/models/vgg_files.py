"""The weights of one VGG as PyTorch, MatConvNet, Caffe and TensorLayer keep them: names and arrays, by own loops.

Each function takes the arrays under our names, `conv1_1/kernel`, and gives those of a file. A writer of the real format
can write them: its reader gives the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from tests import protos, torch_files

CAFFE = """
    BlobShape: dim 1 int64**
    BlobProto: num 1 int32, channels 2 int32, height 3 int32, width 4 int32, data 5 float**, shape 7 BlobShape
    V1LayerParameter: name 4 string, type 5 int32, blobs 6 BlobProto*
    LayerParameter: name 1 string, type 2 string, blobs 7 BlobProto*
    NetParameter: name 1 string, layers 2 V1LayerParameter*, layer 100 LayerParameter*
"""

Arrays = dict[str, np.ndarray]

# Where torchvision's sequence `features` has the convolutions; batch normalisation and a ReLU follow each.
FEATURES = {
    "vgg11": [0, 3, 6, 8, 11, 13, 16, 18],
    "vgg13": [0, 2, 5, 7, 10, 12, 15, 17, 20, 22],
    "vgg16": [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    "vgg19": [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
    "vgg11_bn": [0, 4, 8, 11, 15, 18, 22, 25],
    "vgg13_bn": [0, 3, 7, 10, 14, 17, 21, 24, 28, 31],
    "vgg16_bn": [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40],
    "vgg19_bn": [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49],
}
# What torchvision's input spec subtracts and divides by, and what the authors subtracted: R, G, B in 0..255.
TORCH_MEAN, TORCH_DEVIATION = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])
AUTHORS_MEAN = np.array([123.68, 116.779, 103.939])


def oihw(kernel: np.ndarray, turned: bool = False) -> np.ndarray:
    """Return a kernel of shape (h, w, in, out) as (out, in, h, w), turned by 180 degrees or not."""
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
    channels = len(kernel) // side**2
    for row in range(side):
        for column in range(side):
            for channel in range(channels):
                result[channel * side**2 + row * side + column] = kernel[(row * side + column) * channels + channel]
    return result


def random_arrays(shapes: dict[str, tuple[int | None, ...]], classes: int) -> Arrays:
    """Draw weights that keep activations in one range, for RGB pictures minus the mean of the authors.

    The first kernel sums up to nothing over the difference of the two means, so that it does not matter which of them
    is subtracted, not even at the border, where zeros stand for pixels.
    """
    rng = np.random.default_rng(15)
    arrays = {}
    for name, sides in shapes.items():
        shape = [classes if side is None else side for side in sides]
        arrays[name] = rng.standard_normal(shape, np.float32)
        arrays[name] *= np.float32(np.sqrt(2 / np.prod(shape[:-1]))) if len(shape) > 1 else np.float32(0.1)
    first = next(name for name in arrays if name.endswith("/kernel"))
    difference = TORCH_MEAN - AUTHORS_MEAN
    difference /= np.linalg.norm(difference)
    kernel = arrays[first].astype(np.float64)
    kernel -= np.einsum("hwco,c,d->hwdo", kernel, difference, difference)
    arrays[first] = kernel.astype(np.float32)
    return arrays


def torchvision(arrays: Arrays, side: int = 7, model: str = "vgg16") -> Arrays:
    """Return `features.0.weight`, ..., for torchvision's own input spec, which divides by standard deviations."""
    places = [f"features.{place}" for place in FEATURES[model]]
    names = dict(zip(_layers(arrays), [*places, "classifier.0", "classifier.3", "classifier.6"], strict=True))
    file = {}
    for layer, place in names.items():
        kernel = arrays[f"{layer}/kernel"]
        if layer == "conv1_1":
            kernel = (kernel * TORCH_DEVIATION[:, np.newaxis]).astype(np.float32)
        file[f"{place}.weight"] = np.ascontiguousarray(_torch_kernel(layer, kernel, side))
        file[f"{place}.bias"] = arrays[f"{layer}/bias"]
    return file


def matconvnet(arrays: Arrays, side: int = 7) -> Arrays:
    """Return `conv1_1/weights/0`, ...: RGB, dense layers as convolutions, biases as matrices of one row."""
    file = {}
    for layer in _layers(arrays):
        file[f"{layer}/weights/0"] = _as_convolution(layer, arrays[f"{layer}/kernel"], side)
        file[f"{layer}/weights/1"] = arrays[f"{layer}/bias"].reshape(1, -1)
    return file


def matconvnet_old(arrays: Arrays, side: int = 7) -> Arrays:
    """Return `conv1_1/filters`, ..., as files up to 2014 have it, with biases of one column."""
    file = {}
    for layer in _layers(arrays):
        file[f"{layer}/filters"] = _as_convolution(layer, arrays[f"{layer}/kernel"], side)
        file[f"{layer}/biases"] = arrays[f"{layer}/bias"].reshape(-1, 1)
    return file


def caffe(arrays: Arrays, side: int = 7) -> Arrays:
    """Return `conv1_1/0`, ..., as new files have it: BGR, channels before rows, dense kernels (out, in)."""
    file = {}
    for layer in _layers(arrays):
        kernel = arrays[f"{layer}/kernel"]
        kernel = kernel[:, :, ::-1] if kernel.ndim == 4 and kernel.shape[2] == 3 else kernel
        file[f"{layer}/0"] = np.ascontiguousarray(_torch_kernel(layer, kernel, side))
        file[f"{layer}/1"] = arrays[f"{layer}/bias"]
    return file


def caffe_old(arrays: Arrays, side: int = 7) -> Arrays:
    """Return the same as VGG_ILSVRC_16_layers.caffemodel has it: every array has four dimensions."""
    return {name: array.reshape((1,) * (4 - array.ndim) + array.shape) for name, array in caffe(arrays, side).items()}


def tensorlayer(arrays: Arrays) -> Arrays:
    """Return `params/0`, ...: kernel and bias of each layer in turn."""
    return {f"params/{number}": array for number, array in enumerate(arrays.values())}


def _layers(arrays: Arrays) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in arrays))


def _torch_kernel(layer: str, kernel: np.ndarray, side: int) -> np.ndarray:
    if kernel.ndim == 4:
        return oihw(kernel)
    return (chw_rows(kernel, side) if layer == "fc6" else kernel).T


def _as_convolution(layer: str, kernel: np.ndarray, side: int) -> np.ndarray:
    if kernel.ndim == 4:
        return kernel
    return kernel.reshape(side, side, -1, kernel.shape[1]) if layer == "fc6" else kernel[np.newaxis, np.newaxis]


# --- the same arrays in files as the programs write them ---


def save_torch(path: Path, arrays: Arrays) -> Path:
    """Write the zip form of `torch.save`."""
    saved = torch_files.Saved()
    return saved.archive(path / "vgg.pth", {name: saved.tensor(array) for name, array in arrays.items()})


def save_torch_old(path: Path, arrays: Arrays) -> Path:
    """Write the form of `torch.save` up to 1.5."""
    saved = torch_files.Saved()
    return saved.old(path / "vgg.pth", {name: saved.tensor(array) for name, array in arrays.items()})


def save_matconvnet(path: Path, arrays: Arrays) -> Path:
    """Write a cell of layers, each with a cell of weights."""
    return _save_matlab(path, arrays, lambda kernel, bias: {"weights": _cell([kernel, bias])})


def save_matconvnet_old(path: Path, arrays: Arrays) -> Path:
    """Write a cell of layers, each with filters and biases."""
    return _save_matlab(path, arrays, lambda kernel, bias: {"filters": kernel, "biases": bias})


def _save_matlab(path: Path, arrays: Arrays, fields: Callable[..., dict[str, Any]]) -> Path:
    layers = [
        {"name": name, "type": "conv", "stride": np.ones((1, 2)), **fields(*pair)} for name, *pair in _pairs(arrays)
    ]
    scipy.io.savemat(path / "vgg.mat", {"layers": _cell(layers)}, appendmat=False)
    return path / "vgg.mat"


def save_caffe(path: Path, arrays: Arrays) -> Path:
    """Write a NetParameter whose blobs have a shape, as since 2015."""
    messages = protos.classes("vgg_caffe", CAFFE)
    layers = [
        messages["LayerParameter"](name=name, type="Convolution", blobs=[_blob(messages, array) for array in pair])
        for name, *pair in _pairs(arrays)
    ]
    return _save_net(path, messages["NetParameter"](name="VGG_ILSVRC_16_layers", layer=layers))


def save_caffe_old(path: Path, arrays: Arrays) -> Path:
    """Write a NetParameter of V1 layers, whose blobs have num, channels, height and width."""
    messages = protos.classes("vgg_caffe_old", CAFFE)
    layers = [
        messages["V1LayerParameter"](name=name, type=4, blobs=[_blob(messages, array, True) for array in pair])
        for name, *pair in _pairs(arrays)
    ]
    return _save_net(path, messages["NetParameter"](name="VGG_ILSVRC_16_layers", layers=layers))


def _save_net(path: Path, net: Any) -> Path:
    (path / "vgg.caffemodel").write_bytes(net.SerializeToString())
    return path / "vgg.caffemodel"


def _blob(messages: dict[str, Any], array: np.ndarray, old: bool = False) -> Any:
    sides = ("num", "channels", "height", "width")
    shape = dict(zip(sides, array.shape, strict=True)) if old else {"shape": messages["BlobShape"](dim=array.shape)}
    blob = messages["BlobProto"](**shape)
    # A list of a hundred million floats would take gigabytes; packed, they are the bytes of the array.
    blob.MergeFromString(b"\x2a" + _varint(array.nbytes) + array.astype("<f4").tobytes())
    return blob


def _varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + _varint(number >> 7) if number > 127 else bytes([number])


def _cell(values: list[Any]) -> np.ndarray:
    cells = np.empty((1, len(values)), object)
    for place, value in enumerate(values):
        cells[0, place] = value
    return cells


def _pairs(arrays: Arrays) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each layer of a file with its kernel and its bias, which follow each other."""
    names = list(arrays)
    for kernel, bias in zip(names[::2], names[1::2], strict=True):
        yield kernel.partition("/")[0], arrays[kernel], arrays[bias]
