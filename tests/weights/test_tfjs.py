"""The reader of TensorFlow.js's models, against its Python library, JavaScript, and decodeWeights written in numpy.

The folders in golden/tfjs were made by tensorflowjs 4.22, the library's own writer, from the arrays of `GROUP`:

    chosen = ["fc/*", "places"]  # of which the writer leaves the whole numbers as they are
    for kind, quantization in {"plain": None, **{kind: {kind: chosen} for kind in ("uint8", "uint16")},
                               "float16": {"float16": ["fc/*"]}}.items():
        write_weights([GROUP], kind, shard_size_bytes=250, quantization_dtype_map=quantization)

and expected.json by Node.js 20.20.2: for each weight of uint8 and uint16, the bytes of `values` as hex, where

    const values = new Float32Array(n);
    for (let i = 0; i < n; i++) values[i] = stored[i] * quantization.scale + quantization.min;
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import fuzz
from tests.oracle import oracle_python
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights, tfjs

GOLDEN = Path(__file__).parent / "golden" / "tfjs"
RNG = np.random.default_rng(0)
GROUP = [
    {"name": "conv1/kernel", "data": RNG.normal(size=(3, 3, 2, 4)).astype("f4")},
    {"name": "conv1/bias", "data": RNG.normal(size=4).astype("f4")},
    {"name": "shape", "data": np.array([-1, 16], "i4")},
    {"name": "text", "data": np.array(["a", "grün", ""], object)},
    {"name": "on", "data": np.array([True, False, True])},
    {"name": "spectrum", "data": (RNG.normal(size=3) + 1j * RNG.normal(size=3)).astype("c8")},
    {"name": "fc/kernel", "data": RNG.normal(size=(16, 5)).astype("f4")},
    {"name": "places", "data": RNG.integers(-9000, 9000, 7).astype("i4")},
]
ARRAYS = {entry["name"]: entry["data"] for entry in GROUP if entry["name"] != "text"}
UINT8 = {"dtype": "uint8", "scale": 0.5, "min": -2}


def entry(name: str, shape: object, dtype: str = "float32", **more: object) -> dict:
    return {"name": name, "shape": shape, "dtype": dtype, **more}


def write(folder: Path, weights: list, data: bytes = b"", parts: int = 1, **model: object) -> Path:
    """Write a model.json of one group, whose bytes lie in so many shards."""
    folder.mkdir(exist_ok=True)
    names = [f"group1-shard{number + 1}of{parts}.bin" for number in range(parts)]
    step = -(-len(data) // parts)
    for number, name in enumerate(names):
        (folder / name).write_bytes(data[number * step : (number + 1) * step])
    path = folder / "model.json"
    path.write_text(
        json.dumps({"modelTopology": {}, "weightsManifest": [{"paths": names, "weights": weights}], **model})
    )
    return path


def decoded(folder: Path) -> dict[str, np.ndarray]:
    """Decode a folder of one group as decodeWeights does, with all its bytes in memory."""
    [group] = json.loads((folder / "weights_manifest.json").read_text())
    data = b"".join((folder / name).read_bytes() for name in group["paths"])
    arrays, offset = {}, 0
    for weight in group["weights"]:
        count, quantization = int(np.prod(weight["shape"], dtype=int)), weight.get("quantization")
        if weight["dtype"] == "string":
            for _ in range(count):
                offset += 4 + int.from_bytes(data[offset : offset + 4], "little")
            continue
        stored = np.dtype(quantization["dtype"] if quantization else weight["dtype"])
        values = np.frombuffer(data, stored, count, offset).reshape(weight["shape"])
        offset += values.nbytes
        if quantization and stored != np.float16:
            values = np.array([v * quantization["scale"] + quantization["min"] for v in values.flat.__iter__()], float)
            values = values.reshape(weight["shape"])
        arrays[weight["name"]] = values.astype(weight["dtype"])
    assert offset == len(data)
    return arrays


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


# --- what the library writes ---


@pytest.mark.parametrize("kind", ["plain", "uint8", "uint16", "float16"])
def test_weights_are_those_that_the_library_wrote(kind):
    weights, expected = open_weights(GOLDEN / kind), decoded(GOLDEN / kind)
    assert weights.kind == "TensorFlow.js model" + ("" if kind == "plain" else f", dequantized from {kind}")
    assert list(weights) == list(expected) == list(ARRAYS)
    assert all(same(weights[name], expected[name]) for name in weights)
    exact = [name for name in ARRAYS if kind == "plain" or name != "fc/kernel"]
    assert all(same(weights[name], ARRAYS[name]) for name in exact)
    assert np.abs(weights["fc/kernel"] - ARRAYS["fc/kernel"]).max() < 0.01
    assert "text: it holds strings, which are not weights" in weights.skipped["text"]


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_dequantized_values_are_those_of_javascript(kind):
    for name, text in json.loads((GOLDEN / "expected.json").read_text())[kind].items():
        assert open_weights(GOLDEN / kind)[name].tobytes() == bytes.fromhex(text)


def test_weights_are_those_that_the_library_reads(tmp_path):
    python = oracle_python("tensorflowjs", "numpy")
    code = """import importlib.util, json, sys, types
package = types.ModuleType("tensorflowjs")  # its own __init__ would import TensorFlow
package.__path__ = list(importlib.util.find_spec("tensorflowjs").submodule_search_locations)
sys.modules["tensorflowjs"] = package
import numpy as np; from tensorflowjs.read_weights import read_weights
folder, out = sys.argv[1:]
group = read_weights(json.load(open(folder + "/weights_manifest.json")), folder, flatten=True)
np.savez(out, **{entry["name"].replace("/", "|"): entry["data"] for entry in group if entry["name"] != "text"})"""
    for kind in ("plain", "uint8", "uint16", "float16"):
        subprocess.run([python, "-c", code, GOLDEN / kind, tmp_path / "out.npz"], check=True)
        weights = open_weights(GOLDEN / kind)
        with np.load(tmp_path / "out.npz") as expected:
            assert {name.replace("|", "/") for name in expected} == set(weights)
            assert all(same(weights[name.replace("|", "/")], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("stored", "scale", "least", "expected"),
    [
        (range(8), 0.5, -2, [-2, -1, -1, 0, 0, 1, 1, 2]),
        ([0, 1, 2, 3, 255], 2**31, 0, [0, -2147483648, 0, -2147483648, -2147483648]),
        ([0, 1, 7, 255], 1e12, 0.3, [0, -727379968, -796692480, -798298112]),
        ([1], 0.49999999999999994, 0, [0]),
        ([1], -1e10, 0.5, [-1410065407]),
        ([0, 255], 1e308, 0, [0, 0]),
    ],
)
def test_whole_numbers_are_rounded_and_cut_as_javascript_does(tmp_path, stored, scale, least, expected):
    quantization = {"dtype": "uint8", "scale": scale, "min": least}
    path = write(tmp_path, [entry("w", [len(stored)], "int32", quantization=quantization)], bytes(stored))
    weights = open_weights(path)
    assert weights.dtype("w") == np.int32
    assert weights["w"].tolist() == expected


def test_values_beyond_float32_become_infinite_as_in_a_float32array(tmp_path):
    quantization = {"dtype": "uint8", "scale": 1e308, "min": 0}
    path = write(tmp_path, [entry("w", [3], quantization=quantization)], bytes([0, 1, 255]))
    assert open_weights(path)["w"].tolist() == [0, np.inf, np.inf]


# --- where a model is found ---


def test_manifest_folder_and_shard_lead_to_the_same_weights(tmp_path):
    data = np.arange(10, dtype="<f4").tobytes()
    model = write(tmp_path / "a", [entry("fc/kernel", [2, 3]), entry("fc/bias", [4])], data, 3, format="layers-model")
    old = shutil.copytree(GOLDEN / "plain", tmp_path / "b")
    for folder, manifest in ((tmp_path / "a", model), (old, old / "weights_manifest.json")):
        (folder / "tensorflowjs_model.pb").write_bytes(b"")
        every = [manifest, folder, *folder.glob("group1-shard*")]
        assert len({tuple(open_weights(path)) for path in every}) == 1
    assert open_weights(model).kind == "TensorFlow.js layers model"
    assert {name: open_weights(model)[name].tolist() for name in ("fc/kernel", "fc/bias")} == {
        "fc/kernel": [[0, 1, 2], [3, 4, 5]],
        "fc/bias": [6, 7, 8, 9],
    }


def test_shards_without_a_suffix_lead_to_their_model_too(tmp_path):
    model = write(tmp_path, [entry("w", [2])], bytes(8), format="graph-model")
    (tmp_path / "group1-shard1of1.bin").rename(tmp_path / "group1-shard1of1")
    model.write_text(model.read_text().replace("1of1.bin", "1of1"))
    assert open_weights(tmp_path / "group1-shard1of1").kind == "TensorFlow.js graph model"


def test_a_shard_whose_bytes_look_like_another_kind_of_file_is_still_a_shard(tmp_path):
    data = b"PK\3\4" + bytes(12)
    write(tmp_path, [entry("w", [4])], data)
    assert open_weights(tmp_path / "group1-shard1of1.bin")["w"].tobytes() == data


@pytest.mark.parametrize(
    ("manifest", "shard", "path"),
    [
        ("tiny_model-weights_manifest.json", "tiny_model-shard1", "tiny_model-shard1"),  # face-api.js
        ("tiny_model-weights_manifest.json", "tiny_model.bin", "tiny_model.bin"),  # @vladmandic/face-api
        ("model.json", "weights.bin", "weights.bin"),  # Teachable Machine
        ("mine.json", "mine.weights.bin", "./mine.weights.bin"),  # what a browser saves
    ],
)
def test_models_whose_files_have_other_names_are_found_by_each_of_them(tmp_path, manifest, shard, path):
    (tmp_path / shard).write_bytes(bytes(8))
    groups = [{"weights": [entry("w", [2])], "paths": [path]}]
    (tmp_path / manifest).write_text(json.dumps(groups if "manifest" in manifest else {"weightsManifest": groups}))
    assert [list(open_weights(start)) for start in (tmp_path, tmp_path / manifest, tmp_path / shard)] == [["w"]] * 3


def test_a_file_that_the_manifest_does_not_name_is_not_a_shard(tmp_path):
    write(tmp_path, [entry("w", [2])], bytes(8))
    np.save(tmp_path / "other", np.ones(3))
    (tmp_path / "other.npy").rename(tmp_path / "other.bin")
    assert open_weights(tmp_path / "other.bin").kind == "NumPy .npy file"


def test_a_folder_of_several_models_names_their_manifests(tmp_path):
    for name in ("a_model", "b_model"):
        (tmp_path / f"{name}-shard1").write_bytes(bytes(8))
        groups = [{"weights": [entry("w", [2])], "paths": [f"{name}-shard1"]}]
        (tmp_path / f"{name}-weights_manifest.json").write_text(json.dumps(groups))
    message = "holds several models .*: a_model-weights_manifest.json, b_model-weights_manifest.json; give one"
    with pytest.raises(WeightsError, match=message):
        open_weights(tmp_path)
    (tmp_path / "a_model-weights_manifest.json").unlink()
    with pytest.raises(WeightsError, match=r"put a_model-weights_manifest\.json beside it"):
        open_weights(tmp_path / "a_model-shard1")


def test_a_lone_shard_says_what_must_be_fetched(tmp_path):
    path = tmp_path / "group1-shard2of3.bin"
    path.write_bytes(bytes(64))
    message = r"in the model\.json .* is not there; fetch it too, and group1-shard1of3\.bin, group1-shard3of3\.bin"
    with pytest.raises(WeightsError, match=message):
        open_weights(path)
    (tmp_path / "model.json").write_text('{"name": "something else"}')
    with pytest.raises(WeightsError, match="is not there"):
        open_weights(path)


def test_a_checkpoint_in_the_same_folder_goes_first(tmp_path, real_data):
    write(tmp_path, [entry("w", [2])], bytes(8))
    for file in real_data("checkpoints/mnist_convnet").glob("regression*"):
        shutil.copy(file, tmp_path)
    assert open_weights(tmp_path).kind == "TensorFlow checkpoint V2"


def test_a_graph_in_the_same_file_is_not_parsed(tmp_path):
    nodes = [{"name": f"n{number}", "op": "Const", "attr": {"value": {"tensor": {}}}} for number in range(50_000)]
    write(tmp_path, [entry("w", [2])], bytes(8), modelTopology={"node": nodes, "library": {}}, format="graph-model")
    assert fuzz.little_memory(tmp_path / "model.json", room=1 << 20) == "read"
    text = json.dumps({"weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": [entry("w", [2])]}],
                       "modelTopology": {"node": nodes, "note": '"weightsManifest": ['}})  # fmt: skip
    (tmp_path / "model.json").write_text(text)
    assert fuzz.little_memory(tmp_path / "model.json", room=16 << 20) == "read"


def test_shards_may_lie_in_folders_below(tmp_path):
    model = write(tmp_path, [entry("w", [2])], bytes(8))
    (tmp_path / "parts").mkdir()
    (tmp_path / "group1-shard1of1.bin").rename(tmp_path / "parts" / "x.bin")
    model.write_text(model.read_text().replace("group1-shard1of1.bin", "./parts/x.bin"))
    assert open_weights(model).shape("w") == (2,)


def test_one_weight_is_read_without_the_others_and_across_shards(tmp_path):
    large = np.arange(6 << 20, dtype="<f4")
    data = large.tobytes() + np.ones(3, "<f4").tobytes()
    model = write(tmp_path, [entry("large", [len(large)]), entry("w", [3])], data, 7)
    weights = open_weights(model)
    for shard in sorted(tmp_path.glob("group1-shard[1-6]*")):
        shard.rename(f"{shard}.away")
    assert weights["w"].tolist() == [1, 1, 1]
    with pytest.raises(WeightsError, match=r"shard1of7\.bin cannot be read"):
        weights["large"]
    for shard in sorted(tmp_path.glob("*.away")):
        shard.rename(str(shard).removesuffix(".away"))
    assert np.array_equal(weights["large"], large)
    assert fuzz.little_memory(model, room=4 << 20) == "read"


def test_a_shard_that_changed_is_refused(tmp_path):
    weights = open_weights(write(tmp_path, [entry("w", [2])], bytes(8)))
    (tmp_path / "group1-shard1of1.bin").write_bytes(bytes(12))
    with pytest.raises(WeightsError, match="has changed since it was opened"):
        weights["w"]


# --- entries that cannot be read ---


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (entry("odd", [2], "int64"), "its dtype 'int64' is unknown; known are float32"),
        (
            entry("odd", [2], quantization={"dtype": "int4"}),
            "it is quantized to 'int4'; known are uint8, uint16, float16",
        ),
        (entry("odd", [2], quantization=7), "it is quantized to 'None'"),
        (entry("odd", [16], quantization={"dtype": "uint8", "scale": 1}), "the scale or the min .* is not a finite"),
        (entry("odd", [16], quantization=UINT8 | {"scale": float("nan")}), "the scale or the min .* is not a finite"),
        (entry("odd", [16], quantization=UINT8 | {"min": float("inf")}), "the scale or the min .* is not a finite"),
        (entry("odd", [16], quantization=UINT8 | {"min": 10**400}), "the scale or the min .* is not a finite"),
        (entry("odd", [16], quantization=UINT8 | {"scale": "1"}), "the scale or the min .* is not a finite"),
        (entry("odd", [16], "bool", quantization=UINT8), "TensorFlow.js dequantizes uint8 not to 'bool'"),
        (entry("odd", [8], "int32", quantization={"dtype": "float16"}), "dequantizes float16 not to 'int32'"),
        (entry("odd", [2, 2], "string"), "it holds strings"),
    ],
)
def test_an_entry_that_cannot_be_read_hides_no_other(tmp_path, odd, why):
    data = bytes(4) + bytes(16) + np.arange(3, dtype="<f4").tobytes()
    weights = open_weights(write(tmp_path, [entry("a", [], "int32"), odd, entry("b", [3])], data))
    assert list(weights) == ["a", "b"]
    assert weights["b"].tolist() == [0, 1, 2]
    with pytest.raises(WeightsError, match=why):
        weights["odd"]


def test_behind_two_weights_of_unknown_size_nothing_can_be_found(tmp_path):
    every = [entry("a", [1]), entry("x", [1], "int64"), entry("b", [1]), entry("y", [1], "int64"), entry("c", [1])]
    weights = open_weights(write(tmp_path, every, bytes(28)))
    assert list(weights) == ["a"]
    assert "b: it lies behind x, whose size the manifest does not tell" in weights.skipped["b"]


# --- what is refused ---


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([entry("w", [3])], r"announces 12 bytes of weights, its shards hold 16: group1-shard1of1\.bin \(16\)"),
        ([entry("w", [5])], "announces 20 bytes of weights, its shards hold 16"),
        ([entry("w", [1 << 30, 1 << 20])], "announces 4,503,599,627,370,496 bytes"),
        ([entry("x", [1], "int64"), entry("w", [5])], "announces 20 bytes of weights, its shards hold 16"),
        ([entry("w", [5]), entry("x", [1], "int64")], "announces 20 bytes of weights, its shards hold 16"),
        ([entry("w", [1 << 30] * 3)], "w: the shape .* is too large for any array"),
        ([entry("w", [1] * 65)], "w: a shape of more than 64 dimensions"),
        ([entry("w", [-4])], "w: its dtype or its shape is missing or malformed"),
        ([entry("w", [4.0])], "w: its dtype or its shape is missing or malformed"),
        ([entry("w", [True])], "w: its dtype or its shape is missing or malformed"),
        ([entry("w", None)], "w: its dtype or its shape is missing or malformed"),
        ([{"shape": [4], "dtype": "float32"}], "is not the description of a weight"),
        ([[]], "is not the description of a weight"),
        ([entry("w", [2]), entry("v", []), entry("w", [1])], "more than one weight is called w"),
        ([entry("w", [5], "string")], "w: its strings go beyond the end of the shards"),
        ([entry("w", [1 << 40], "string")], None),
    ],
)
def test_weights_that_cannot_be_are_refused(tmp_path, weights, message):
    path = write(tmp_path, weights, bytes(16))
    with pytest.raises(WeightsError, match=message):
        open_weights(path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b'{"weightsManifest": [{"paths": ["a"]}]}', "a group of its weightsManifest lacks its paths or its weights"),
        (b'{"weightsManifest": [7]}', "a group of its weightsManifest lacks its paths or its weights"),
        (b'{"weightsManifest": [{"paths": [7], "weights": []}]}', "lacks its paths or its weights"),
        (b'{"weightsManifest": [{"paths":', "its description is not JSON"),
        (b'{"weightsManifest": ["\xff"]}', "its description is not JSON"),
        (b'{"weightsManifest": ' + b"[" * 100_000, "its description is not JSON"),
        (b'{"weightsManifest": [' + b"[]," * 2_000_000 + b"[]]}", "JSON with so many values"),
        (b'{"weightsManifest": [' + b" " * (9 << 20) + b"]}", "its manifest is larger than 8,388,608 bytes"),
        (b"[" * 1_000_000 + b'"paths":["weights":[', "its description is not JSON|so many values"),
        (b'{"weightsManifest": []}', "holds no arrays"),
        (b'{"weightsManifest": {}}', "holds no weights: it is a JSON file"),
        (b'{"modelTopology": {}}', "it is the graph of a TensorFlow.js model without a weightsManifest"),
    ],
)
def test_manifests_that_cannot_be_are_refused(tmp_path, manifest, message):
    (tmp_path / "model.json").write_bytes(manifest)
    with pytest.raises(WeightsError, match=message):
        open_weights(tmp_path / "model.json")
    assert fuzz.little_time(tmp_path / "model.json") == "refused"


def test_a_hundred_megabytes_of_brackets_are_refused_in_little_memory(tmp_path):
    (tmp_path / "model.json").write_bytes(b'{"weightsManifest": [' + b"[" * 100_000_000)
    fuzz.check_bomb(tmp_path / "model.json")


@pytest.mark.parametrize(
    "place",
    ["../x", "/etc/hostname", "a/../../x", "https://host/x", "C:\\x", "..", "", "a\0b", "gs://x"],
)
def test_shards_elsewhere_than_below_the_folder_are_refused(tmp_path, place):
    model = write(tmp_path / "a", [entry("w", [2])], bytes(8))
    (tmp_path / "x").write_bytes(bytes(8))
    model.write_text(json.dumps({"weightsManifest": [{"paths": [place], "weights": [entry("w", [2])]}]}))
    with pytest.raises(WeightsError, match="is refused: its shards must lie below its folder"):
        open_weights(model)


def test_missing_shards_are_named_all_at_once(tmp_path):
    model = write(tmp_path, [entry("w", [8])], bytes(32), 4)
    for number in (2, 4):
        (tmp_path / f"group1-shard{number}of4.bin").unlink()
    message = r"2 of 4 shards are missing: group1-shard2of4\.bin, group1-shard4of4\.bin; fetch them"
    for path in (model, tmp_path / "group1-shard1of4.bin"):
        with pytest.raises(WeightsError, match=message):
            open_weights(path)


def test_a_shard_that_is_another_kind_of_file_is_named(tmp_path):
    model = write(tmp_path, [entry("w", [8])], b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n")
    with pytest.raises(WeightsError, match=r"hold 59.*\n  .*shard1of1\.bin is a Git LFS pointer.*`git lfs pull`"):
        open_weights(model)


def test_a_shard_named_twice_is_refused(tmp_path):
    model = write(tmp_path, [entry("w", [2])], bytes(8))
    group = {"paths": ["group1-shard1of1.bin", "./group1-shard1of1.bin"], "weights": [entry("w", [4])]}
    model.write_text(json.dumps({"weightsManifest": [group]}))
    with pytest.raises(WeightsError, match="it names a shard more than once"):
        open_weights(model)


def test_strings_without_end_are_not_walked_along(tmp_path):
    count = tfjs.MAX_STRINGS
    every = [entry("a", [1]), entry("s", [count], "string"), entry("t", [count], "string"), entry("b", [1])]
    model = write(tmp_path, every, bytes(8 + 8 * count))
    assert fuzz.little_time(model) == "read"
    assert list(open_weights(model)) == ["a"]
    model = write(tmp_path, [*every[:2], every[3]], bytes(8 + 4 * count))
    assert fuzz.little_time(model) == "read"
    assert list(open_weights(model)) == ["a", "b"]


def test_broken_models_give_only_weights_errors(tmp_path, fuzz_cases):
    shutil.copytree(GOLDEN / "uint8", tmp_path / "a")
    manifest = tmp_path / "a" / "weights_manifest.json"
    good = manifest.read_bytes()
    assert fuzz.check_all(manifest, fuzz.broken(good, fuzz_cases, begin=len(good)))["refused"] > 100
    manifest.write_bytes(good)
    shard = tmp_path / "a" / "group1-shard2of2.bin"
    good = shard.read_bytes()
    outcome = fuzz.check_all(manifest, fuzz.broken(good, fuzz_cases, begin=len(good)), shard.write_bytes)
    assert outcome["refused"] > 90
    assert outcome["read"] > fuzz_cases // 2
