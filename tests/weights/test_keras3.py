"""Names and values of `.weights.h5` and `.keras` files, against Keras itself."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from tests import fuzz
from tfxfer.errors import WeightsError
from tfxfer.weights import keras3, keras_h5, open_weights

# Keras 3 calls np.array on its variables as NumPy 1 allowed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def model() -> keras.Model:
    """Make a model with layers of most classes, more than ten of one, and models within."""
    keras.utils.set_random_seed(1)
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="block1_conv1"),
            layers.BatchNormalization(name="block1_bn"),
            layers.BatchNormalization(scale=False, name="block1_bn_unscaled"),
        ],
        name="vgg16",
    )
    x = keras.Input((8, 8, 3))
    y = inner(x)
    for number in (11, 3, 1, 10, 2, 4, 5, 6, 7, 8, 9, 0):
        y = layers.Conv2D(4, 1, use_bias=number % 2 == 0, name=f"conv{number}")(y)
    y = layers.DepthwiseConv2D(2, name="depthwise")(y)
    y = layers.SeparableConv2D(3, 2, name="separable")(y)
    y = layers.Conv2DTranspose(5, 2, name="up")(y)
    y = layers.LayerNormalization(name="norm")(layers.Dropout(0.5)(y))
    y = layers.LSTM(3, name="rnn")(layers.Reshape((-1, 5))(y))
    return keras.Model(x, layers.Dense(2, use_bias=False, name="out")(layers.Dense(4, name="fc")(y)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One trained model in both forms."""
    directory, net = tmp_path_factory.mktemp("saved"), model()
    net.compile("adam", "mse")
    net.train_on_batch(np.ones((2, 8, 8, 3)), np.ones((2, 2)))
    net.save_weights(directory / "net.weights.h5")
    net.save(directory / "net.keras")
    return directory, net


def without_names(source: Path, target: Path) -> Path:
    """Copy a `.weights.h5` file as older releases of Keras 3 wrote it."""
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "a") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
        file["vars"].attrs.pop("name", None)
    return target


def archive(path: Path, weights: bytes, config: object, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", config if isinstance(config, str | bytes) else json.dumps(config))
        file.writestr("model.weights.h5", weights)
    return path


def config_of(path: Path) -> dict:
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("config.json"))


def check(weights, net: keras.Model, numbered: tuple[str, ...]) -> None:
    """Compare all variables of the model by their names in Keras, but for those that have numbers instead."""
    seen = 0
    for variable in net.variables:
        layer, _, name = variable.path.rpartition("/")
        if name == "seed_generator_state" or variable.path.startswith("adam/"):
            continue
        if layer in numbered:
            same = [other.path for other in net.variables if other.path.startswith(f"{layer}/")]
            name = str(same.index(variable.path))
        assert weights[f"{layer}/{name}"].tobytes() == variable.numpy().tobytes(), variable.path
        seen += 1
    own = [name for name in weights if not name.startswith("optimizer/") and "seed_generator" not in name]
    assert len(own) == seen


def test_a_weights_file_is_read_under_the_names_of_its_layers(saved):
    directory, net = saved
    weights = open_weights(directory / "net.weights.h5")
    # Three variables of a BatchNormalization may lack gamma or beta: without a config, they have numbers.
    check(weights, net, numbered=("rnn/lstm_cell", "vgg16/block1_bn_unscaled"))
    assert "optimizer/vars/0" in weights


def test_an_archive_is_read_under_the_names_of_its_layers_and_variables(saved):
    directory, net = saved
    weights = open_weights(directory / "net.keras")
    check(weights, net, numbered=("rnn/lstm_cell",))
    assert weights.kind == "Keras archive"


def test_an_archive_without_names_in_its_weights_takes_them_from_the_config(saved, tmp_path):
    directory, net = saved
    bare = without_names(directory / "net.weights.h5", tmp_path / "bare.h5")
    path = archive(tmp_path / "a.keras", bare.read_bytes(), config_of(directory / "net.keras"))
    weights = open_weights(path)
    assert weights["conv10/kernel"].tobytes() == net.get_layer("conv10").kernel.numpy().tobytes()
    assert weights["conv2/bias"].tobytes() == net.get_layer("conv2").bias.numpy().tobytes()
    assert weights["vgg16/block1_conv1/kernel"].shape == (3, 3, 3, 4)
    assert "vgg16/block1_bn_unscaled/beta" in weights
    assert weights["out/kernel"].shape == (4, 2)


def test_a_weights_file_without_names_keeps_its_keys_in_numerical_order(saved, tmp_path):
    directory, _ = saved
    weights = open_weights(without_names(directory / "net.weights.h5", tmp_path / "bare.h5"))
    kernels = [
        name
        for name in weights
        if name.startswith("layers/conv2d") and name.endswith("vars/0") and "transpose" not in name
    ]
    assert kernels == ["layers/conv2d/vars/0", *(f"layers/conv2d_{i}/vars/0" for i in range(1, 12))]


def test_keys_that_count_by_twos_are_mapped_as_well(saved, tmp_path):
    # tf.keras 2.13 counted every layer with weights twice.
    directory, net = saved
    bare = without_names(directory / "net.weights.h5", tmp_path / "bare.h5")
    with h5py.File(bare, "a") as file:
        for number in range(11, 0, -1):
            file.move(f"layers/conv2d_{number}", f"layers/conv2d_{2 * number}")
        file.move("layers", "_layer_checkpoint_dependencies")
    weights = open_weights(archive(tmp_path / "a.keras", bare.read_bytes(), config_of(directory / "net.keras")))
    assert weights["conv3/kernel"].tobytes() == net.get_layer("conv3").kernel.numpy().tobytes()


def changed(config: dict, change) -> dict:
    config = json.loads(json.dumps(config))
    change(config["config"]["layers"])
    return config


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: layers.pop(3),
        lambda layers: layers.append(layers[3]),
        lambda layers: layers[3]["config"].update(filters=5),
        lambda layers: layers[3].update(class_name="Conv3D"),
        lambda layers: layers.clear(),
    ],
)
def test_a_config_that_does_not_fit_to_unnamed_weights_is_refused(saved, tmp_path, change):
    directory, _ = saved
    bare = without_names(directory / "net.weights.h5", tmp_path / "bare.h5").read_bytes()
    path = archive(tmp_path / "a.keras", bare, changed(config_of(directory / "net.keras"), change))
    with pytest.raises(
        WeightsError, match=r"does not fit to config\.json: layers/\w+ has no name, and there are not as many"
    ):
        open_weights(path)


def test_names_in_the_weights_go_before_a_config_that_contradicts_them(saved, tmp_path):
    directory, net = saved
    config = changed(config_of(directory / "net.keras"), lambda layers: layers.reverse())
    path = archive(tmp_path / "a.keras", (directory / "net.weights.h5").read_bytes(), config)
    weights = open_weights(path)
    assert weights["conv3/kernel"].tobytes() == net.get_layer("conv3").kernel.numpy().tobytes()


@pytest.mark.parametrize(
    "config", ["[]", "null", '{"config": {"layers": 5}}', '{"config": {"layers": [1, {}, {"class_name": 1}]}}']
)
def test_a_config_of_anything_else_is_no_config(saved, tmp_path, config):
    directory, _ = saved
    path = archive(tmp_path / "a.keras", (directory / "net.weights.h5").read_bytes(), config)
    assert "conv3/kernel" in open_weights(path)


def test_archives_that_were_packed_anew_are_read(saved, tmp_path):
    directory, net = saved
    raw = (directory / "net.weights.h5").read_bytes()
    path = archive(tmp_path / "a.keras", raw, config_of(directory / "net.keras"), zipfile.ZIP_DEFLATED)
    check(open_weights(path), net, numbered=("rnn/lstm_cell",))


def test_a_changed_byte_in_an_archive_is_found_when_a_variable_is_read(saved, tmp_path):
    directory, _ = saved
    raw = bytearray((directory / "net.keras").read_bytes())
    with zipfile.ZipFile(directory / "net.keras") as file:
        info = file.getinfo("model.weights.h5")
    kernel = open_weights(directory / "net.keras")["out/kernel"].tobytes()
    raw[raw.index(kernel, info.header_offset) + 2] ^= 1
    (tmp_path / "a.keras").write_bytes(raw)
    weights = open_weights(tmp_path / "a.keras")
    with pytest.raises(WeightsError, match=r"member 'model\.weights\.h5' fails its checksum: the file is damaged"):
        weights["conv3/kernel"]


def test_a_large_compressed_archive_is_refused_with_a_way_out(tmp_path):
    path = archive(tmp_path / "a.keras", bytes(keras3.MAX_UNPACKED + 1), {}, zipfile.ZIP_DEFLATED)
    with pytest.raises(
        WeightsError, match=r"holds a compressed model\.weights\.h5.*; unzip it and open its model\.weights\.h5"
    ):
        open_weights(path)


def test_an_archive_that_lacks_a_part_or_leads_out_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as file:
        file.writestr("config.json", "{}")
    with pytest.raises(WeightsError, match=r"it lacks model\.weights\.h5"):
        open_weights(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras", "a") as file:
        file.writestr("../../model.weights.h5", b"")
    with pytest.raises(
        WeightsError, match=r"is hostile: the name '\.\./\.\./model\.weights\.h5' of a member leads out"
    ):
        open_weights(tmp_path / "a.keras")


def test_the_real_files_of_one_net_hold_the_same_in_three_formats(real_data):
    whole = open_weights(real_data("keras/keras3_mnist.h5"))
    names = [name for name in whole if not name.startswith("optimizer_weights/")]
    assert len(names) == 8
    for name in ("keras/keras3_mnist.weights.h5", "keras/keras3_mnist.keras"):
        weights = open_weights(real_data(name))
        assert [name for name in weights if not name.startswith("optimizer/")] == names
        assert all(weights[name].tobytes() == whole[name].tobytes() for name in names)


def test_layers_of_unknown_classes_have_numbered_variables(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, name, shapes in (
            ("mystery", "layer_a", [(2, 3), (3,)]),
            ("dense", "layer_b", [(2, 3), (3, 1)]),
            ("dense_1", "layer_c", [(3,)]),
            ("batch_normalization", "layer_d", [(3,), (3,)]),
            ("embedding", "layer_e", [(7, 3)]),
            ("layer_normalization", "layer_f", [(3,)]),
        ):
            group = file.create_group(f"layers/{key}/vars")
            group.attrs["name"] = name
            for index, shape in enumerate(shapes):
                group[str(index)] = np.ones(shape)
    assert sorted(keras_h5.read(tmp_path / "a.h5")) == [
        "layer_a/0",
        "layer_a/1",
        "layer_b/0",
        "layer_b/1",
        "layer_c/0",
        "layer_d/moving_mean",
        "layer_d/moving_variance",
        "layer_e/embeddings",
        "layer_f/0",
    ]


def test_two_layers_of_one_name_keep_their_keys(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key in ("dense", "dense_1"):
            file[f"layers/{key}/vars/0"] = np.ones((2, 3))
            file[f"layers/{key}/vars"].attrs["name"] = "same"
    assert list(keras_h5.read(tmp_path / "a.h5")) == ["layers/dense/vars/0", "layers/dense_1/vars/0"]


def test_broken_files_of_keras_3_give_only_weights_errors(tmp_path, fuzz_cases):
    config = {"config": {"layers": []}}
    with h5py.File(tmp_path / "good.h5", "w") as file:
        for key, name, shapes in (("dense", "fc", [(2, 3), (3,)]), ("batch_normalization_1", "bn", [(3,)] * 4)):
            group = file.create_group(f"layers/{key}/vars")
            group.attrs["name"] = name
            for index, shape in enumerate(shapes):
                group[str(index)] = np.ones(shape, "f4")
            config["config"]["layers"].append({"class_name": key.title(), "config": {"name": name}})
    good = (tmp_path / "good.h5").read_bytes()
    packed = archive(tmp_path / "good.keras", good, config).read_bytes()
    for name, content in (("a.weights.h5", good), ("a.keras", packed)):
        count = fuzz.check_all(tmp_path / name, fuzz.broken(content, fuzz_cases, begin=len(content)))
        assert count["refused"] > 50


def test_broken_real_files_of_keras_3_give_only_weights_errors(tmp_path, real_data, fuzz_cases):
    for name in ("keras3_mnist.weights.h5", "keras3_mnist.keras"):
        good = real_data(f"keras/{name}").read_bytes()
        assert fuzz.check_all(tmp_path / name, fuzz.broken(good, fuzz_cases // 5, begin=30_000))["refused"] > 0
