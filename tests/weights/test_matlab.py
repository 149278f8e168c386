"""The reader of MATLAB's files, on networks built as MatConvNet saves them, by SciPy and by h5py."""

from __future__ import annotations

import re
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from tests import fuzz
from tests.formats.test_mat5 import file, packed
from tests.formats.test_mat73 import Writer
from tfxfer.errors import WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.models import recognition
from tfxfer.models.sources import Source
from tfxfer.weights import open_weights

RNG = np.random.default_rng(0)
MEAN = (123.68, 116.779, 103.939)
KERNEL, BIAS, DENSE = (RNG.normal(size=shape).astype("f4") for shape in ((3, 3, 3, 8), (1, 8), (7, 7, 8, 16)))
CONV = {"name": "conv1_1", "type": "conv", "weights": [KERNEL, BIAS], "stride": np.array([[1.0, 2.0]])}
LAYERS = [CONV, {"name": "relu1_1", "type": "relu", "leak": np.zeros((1, 1))}, {"name": "fc6", "weights": [DENSE]}]
META = {
    "normalization": {
        "imageSize": np.array([[224.0, 192.0, 3.0]]),
        "averageImage": np.broadcast_to(np.float32(MEAN), (224, 192, 3)),
        "interpolation": "bilinear",
        "keepAspect": np.array([[True]]),
    },
    "classes": {"name": ["n1", "n2"], "description": ["tench", "goldfish, Carassius auratus"]},
}
NAMES = ["conv1_1/weights/0", "conv1_1/weights/1", "conv1_1/stride", "relu1_1/leak", "fc6/weights/0"]
DAG = [
    {"name": "conv1f", "value": KERNEL, "learningRate": np.ones((1, 1))},
    {"name": "conv1b", "value": BIAS, "learningRate": np.ones((1, 1))},
]


def for_scipy(value: object) -> object:
    """Turn lists into cells."""
    if isinstance(value, dict):
        return {field: for_scipy(inside) for field, inside in value.items()}
    if not isinstance(value, list):
        return np.zeros((0, 0)) if value is None else value
    cells = np.empty((1, len(value)), object)
    for index, inside in enumerate(value):
        cells[0, index] = for_scipy(inside)
    return cells


def save_5(path: Path, values: dict, compressed: bool = False) -> None:
    scipy.io.savemat(path, for_scipy(values), appendmat=False, do_compression=compressed)


def save_73(path: Path, values: dict) -> None:
    with Writer(path) as writer:
        for name, value in values.items():
            writer.put(writer.file, name, value)


SAVE = {"5": save_5, "5 compressed": lambda path, values: save_5(path, values, True), "7.3": save_73}


@pytest.fixture(params=SAVE)
def save(request):
    return SAVE[request.param]


def test_layers_have_their_names_and_every_array_its_place(tmp_path, save):
    save(tmp_path / "net.mat", {"layers": LAYERS, "meta": META})
    weights = open_weights(tmp_path / "net.mat")
    assert weights.kind in ("MATLAB 5.0 file", "MATLAB 7.3 file")
    assert sorted(name for name in weights if not name.startswith("meta/")) == sorted(NAMES)
    assert weights.source("fc6/weights/0") == "layers/2/weights/0"
    for name, expected in (("conv1_1/weights/0", KERNEL), ("conv1_1/weights/1", BIAS), ("fc6/weights/0", DENSE)):
        assert (weights.shape(name), weights.dtype(name)) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(weights[name], expected)
    assert not weights.skipped
    bias = open_weights(tmp_path / "net.mat", layout=[("conv1_1/weights/1", "vector")])["conv1_1/weights/1"]
    np.testing.assert_array_equal(bias, BIAS[0])


def test_the_order_is_that_of_the_file(tmp_path):
    save_5(tmp_path / "net.mat", {"layers": LAYERS})
    assert list(open_weights(tmp_path / "net.mat")) == NAMES


def test_values_are_those_that_scipy_reads(tmp_path):
    save_5(tmp_path / "net.mat", {"layers": LAYERS}, True)
    layers = scipy.io.loadmat(tmp_path / "net.mat")["layers"]
    weights = open_weights(tmp_path / "net.mat")
    np.testing.assert_array_equal(weights["fc6/weights/0"], layers[0, 2][0, 0]["weights"][0, 0])
    np.testing.assert_array_equal(weights["conv1_1/stride"], layers[0, 0][0, 0]["stride"])


def test_parameters_of_a_dagnn_have_their_names_alone(tmp_path):
    params = np.zeros((1, 2), [(field, object) for field in DAG[0]])
    params[0] = [tuple(row.values()) for row in DAG]
    scipy.io.savemat(tmp_path / "5", {"net": {"params": params}}, appendmat=False)
    with Writer(tmp_path / "7") as writer:
        writer.structs(writer.file.create_group("net"), "params", DAG)
    for path in (tmp_path / "5", tmp_path / "7"):
        weights = open_weights(path)
        assert sorted(weights) == ["conv1b", "conv1b/learningRate", "conv1f", "conv1f/learningRate"]
        assert weights.source("conv1f") == "net/params/0/value"
        np.testing.assert_array_equal(weights["conv1f"], KERNEL)


def test_layers_without_a_name_of_their_own_are_called_by_their_index(tmp_path, save):
    layers = [{"name": name, "filters": np.eye(2)} for name in ("a", "b", "b", "7", "", "x\ny", "a/filters")]
    inner = {"name": "out", "block": [{"name": "in", "w": np.eye(2)}, {"name": np.eye(2), "w": np.eye(2)}]}
    save(tmp_path / "net.mat", {"layers": [*layers, inner, {"filters": np.eye(2)}], "a": {"filters": np.eye(3)}})
    weights = open_weights(tmp_path / "net.mat")
    expected = {f"layers/{index}/filters" for index in (0, 1, 2, 3, 4, 5, 8)} | {"a/filters", "a/filters/filters"}
    assert set(weights) == expected | {f"out/block/{name}" for name in ("in/w", "1/w", "1/name")}
    assert weights.shape("a/filters") == (3, 3)


def test_what_is_said_of_pictures_and_classes_becomes_an_input_spec(tmp_path, save):
    old = {"layers": [{"name": "conv1_1", "filters": KERNEL, "biases": BIAS}], **META}
    for network in ({"layers": LAYERS, "meta": META}, old, {"net": {"layers": LAYERS, "meta": META}}, {"net": old}):
        save(tmp_path / "net.mat", network)
        stated = open_weights(tmp_path / "net.mat").stated
        assert (stated.size, stated.channels, stated.scale, stated.resize) == ((224, 192), "RGB", (1, 1, 1), "crop")
        assert stated.mean == pytest.approx(MEAN, rel=1e-6)
        assert stated.class_names == ("tench", "goldfish, Carassius auratus")


@pytest.mark.parametrize(
    ("changes", "classes", "expected"),
    [
        ({"averageImage": np.array([[1.0], [2.0], [3.0]])}, ["a"], ((224, 192), (1, 2, 3), "crop", ("a",))),
        (
            {"averageImage": np.ones((1, 1, 3)), "keepAspect": np.zeros((1, 1))},
            [],
            ((224, 192), (1, 1, 1), "plain", ()),
        ),
        ({"averageImage": None}, None, ((224, 192), (0, 0, 0), "crop", ())),
        ({"averageImage": np.full((28, 28), 7.0), "imageSize": None}, ["a", None], ((28, 28), (7,), "crop", ())),
        ({"averageImage": None, "imageSize": np.array([[28.0, 28, 1]])}, [], ((28, 28), (0,), "crop", ())),
    ],
)
def test_forms_of_the_average_picture(tmp_path, save, changes, classes, expected):
    meta = {"normalization": META["normalization"] | changes, "classes": {"name": classes}}
    save(tmp_path / "net.mat", {"layers": LAYERS, "meta": meta})
    stated = open_weights(tmp_path / "net.mat").stated
    assert (stated.size, stated.mean, stated.resize, stated.class_names) == expected
    assert stated.channels == ("RGB" if len(expected[1]) == 3 else "grey")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"averageImage": np.ones((4, 4, 5))}, r"averageImage \(4, 4, 5\) has neither one channel nor three"),
        ({"averageImage": np.full((1, 3), np.nan)}, "mean  must be a number for each channel"),
        ({"averageImage": "text"}, "averageImage is not an array of numbers"),
        ({"averageImage": np.ones((1, 3), complex)}, "averageImage is not an array of numbers"),
        ({"averageImage": np.ones((1200, 1200, 3))}, "averageImage .* takes more than 16,777,216 bytes"),
        ({"imageSize": np.array([[224.5, np.inf]])}, "size  must be height and width"),
        ({"imageSize": np.zeros((1, 2))}, "size  must be height and width"),
    ],
)
def test_what_cannot_be_is_named_and_hides_no_weights(tmp_path, save, changes, message):
    save(tmp_path / "net.mat", {"layers": LAYERS, "meta": {"normalization": META["normalization"] | changes}})
    weights = open_weights(tmp_path / "net.mat")
    assert weights.stated is None
    assert re.search(message, weights.skipped["meta/normalization"])
    assert set(NAMES) <= set(weights)


def test_a_file_that_says_nothing_of_pictures_states_nothing(tmp_path, save):
    save(tmp_path / "net.mat", {"layers": LAYERS, "classes": {"name": ["a"]}, "meta": "text"})
    weights = open_weights(tmp_path / "net.mat")
    assert weights.stated is None
    assert not weights.skipped


def test_a_known_network_has_the_input_spec_and_the_classes_of_its_file(tmp_path, save, monkeypatch):
    spec = InputSpec("vgg16", "test_matconvnet", (224, 224), "RGB", (0, 0, 0), (1, 1, 1), resize="plain")
    variables = {"conv1_1/kernel": (3, 3, 3, 8), "conv1_1/bias": (8,), "fc6/kernel": (392, 16)}
    rules = ((r"(.*)/weights/0", r"\1/kernel"), (r"(.*)/weights/1", r"\1/bias"))
    layout = ((".*/bias", "vector"), ("fc6/kernel", "conv_fc:7,7,8"))
    source = Source("test_matconvnet", "a network of this test", spec, variables, rules, layout)
    monkeypatch.setattr(recognition, "all_sources", lambda: (source,))
    save(tmp_path / "net.mat", {"layers": LAYERS, "meta": META})
    recognised = recognition.recognise(tmp_path / "net.mat")
    assert (recognised.model, recognised.source) == ("vgg16", "test_matconvnet")
    assert set(recognised.weights) >= set(variables)
    assert recognised.input_spec.mean == pytest.approx(MEAN, rel=1e-6)
    assert recognised.input_spec.size == (224, 192)
    assert recognised.input_spec.class_names == ("tench", "goldfish, Carassius auratus")
    np.testing.assert_array_equal(recognised.weights["conv1_1/bias"], BIAS[0])
    np.testing.assert_array_equal(recognised.weights["fc6/kernel"], DENSE.reshape(392, 16))


def test_references_that_multiply_are_refused_in_little_time(tmp_path):
    with Writer(tmp_path / "a") as writer:
        writer.put(writer.refs, "0", np.eye(2))
        for level in range(1, 40):
            cells = np.array([writer.refs[str(level - 1)].ref] * 4, h5py.ref_dtype)[:, None]
            Writer.note(writer.refs.create_dataset(str(level), data=cells), "cell")
        Writer.note(writer.file.create_dataset("w", data=cells), "cell")
    start = time.process_time()
    with pytest.raises(WeightsError, match="hold more than 50,000 values"):
        open_weights(tmp_path / "a")
    assert time.process_time() - start < fuzz.SECONDS


def test_names_that_two_arrays_would_have_are_refused(tmp_path):
    save_5(tmp_path / "a", {"a": {"b": {"c": np.eye(2)}}, "x": {"y": np.eye(2)}})
    assert set(open_weights(tmp_path / "a")) == {"a/b/c", "x/y"}
    with Writer(tmp_path / "b") as writer:
        writer.file["#refs#/w"] = np.eye(2)
        row = np.array([writer.file["#refs#/w"].ref], h5py.ref_dtype)
        Writer.note(writer.file.create_dataset("a", data=row), "cell")
    assert list(open_weights(tmp_path / "b")) == ["a/0"]
    # A field may hold any letters in a hostile file.
    save_5(tmp_path / "c", {"a": {"b": {"c": np.eye(2)}, "bxc": np.eye(2)}})
    raw = (tmp_path / "c").read_bytes().replace(b"bxc", b"b/c")
    (tmp_path / "c").write_bytes(raw)
    with pytest.raises(WeightsError, match="two arrays would both be called a/b/c"):
        open_weights(tmp_path / "c")


def small_network(save, path: Path) -> bytes:
    meta = {"normalization": {"averageImage": np.ones((1, 3)), "imageSize": np.array([[2.0, 2.0]])}}
    save(path, {"layers": [{"name": "a", "weights": [np.ones((2, 3), "f4"), None]}], "meta": meta, "c": ["x", True]})
    return path.read_bytes()


def test_broken_files_give_only_weights_errors(tmp_path, save, fuzz_cases):
    good = small_network(save, tmp_path / "good")
    files = fuzz.broken(good, fuzz_cases, begin=min(len(good), 4096))
    assert fuzz.check_all(tmp_path / "a", files)["refused"] > 50


def test_broken_variables_that_unpack_give_only_weights_errors(tmp_path, fuzz_cases):
    good = small_network(save_5, tmp_path / "good")[128:]
    size = 8 + int.from_bytes(good[4:8], "little")
    files = (file(packed(broken)).tobytes() for broken in fuzz.broken(good[:size], fuzz_cases))
    count = fuzz.check_all(tmp_path / "a", files)
    assert count["refused"] > 50
    assert count["read"]
