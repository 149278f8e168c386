"""Object-based checkpoints of TensorFlow 2 and SavedModels, against TensorFlow itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf2  # the object-based savers are TF 2's alone
import tensorflow.compat.v1 as tf

from tests import fuzz, tables
from tfxfer.errors import WeightsError
from tfxfer.formats.tensors import Tensor
from tfxfer.weights import object_graph, open_weights, streams
from tfxfer.weights.writers import bundle

RNG = np.random.default_rng(0)


class Layer(tf.Module):
    """A module whose variables have names of their own."""

    def __init__(self, name: str, *shape: int) -> None:
        super().__init__(name=name)
        self.kernel = tf2.Variable(RNG.normal(size=shape), name=f"{name}/kernel")
        self.bias = tf2.Variable(RNG.normal(size=shape[-1:]), name=f"{name}/bias")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("objects")
    with tf2.init_scope():
        net = tf.Module()
        net.first, net.second = Layer("conv1", 3, 3, 1, 2), Layer("conv2", 3, 3, 2, 4)
        net.twins = [tf2.Variable(1.0, name="scale"), tf2.Variable(2.0, name="scale")]
        prefix = tf2.train.Checkpoint(net=net, step=tf2.Variable(7, name="")).save(str(directory / "ckpt"))
        tf2.saved_model.save(net, str(directory / "model"))
    return directory, prefix, net


def test_variables_have_their_own_names_and_keep_their_keys_as_sources(saved):
    _, prefix, net = saved
    weights = open_weights(prefix)
    assert weights.kind == "TensorFlow checkpoint V2, object-based"
    assert set(weights) == {
        "conv1/kernel",
        "conv1/bias",
        "conv2/kernel",
        "conv2/bias",
        "net/twins/0",
        "net/twins/1",
        "step",
    }
    assert set(weights.skipped) == {"save_counter/.ATTRIBUTES/VARIABLE_VALUE", "_CHECKPOINTABLE_OBJECT_GRAPH"}
    np.testing.assert_array_equal(weights["conv2/kernel"], net.second.kernel.numpy())
    assert weights.source("conv2/kernel") == "net/second/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert float(weights["net/twins/1"]) == 2.0
    assert weights["step"] == 7


def test_the_saver_of_tensorflow_1_restores_by_the_sources(saved):
    _, prefix, net = saved
    weights, expected = open_weights(prefix), net.first.bias.numpy()
    with tf.Graph().as_default(), tf.Session() as sess:
        variable = tf.get_variable("conv1/bias", [2], tf.float64)
        tf.train.Saver({weights.source("conv1/bias"): variable}).restore(sess, weights.checkpoint)
        np.testing.assert_array_equal(sess.run(variable), expected)


def test_the_reader_agrees_with_tensorflows_reader(saved):
    directory, prefix, _ = saved
    for path, under in ((prefix, prefix), (directory / "model", directory / "model" / "variables" / "variables")):
        reader, weights = tf2.train.load_checkpoint(str(under)), open_weights(path)
        assert {*map(weights.source, weights), *weights.skipped} == set(reader.get_variable_to_shape_map())
        for name in weights:
            if not weights.dtype(name).hasobject:
                np.testing.assert_array_equal(weights[name], reader.get_tensor(weights.source(name)))


def test_a_saved_model_is_its_directory_its_graph_or_its_variables(saved):
    directory, _, net = saved
    model = directory / "model"
    for path in (model, model / "saved_model.pb", model / "variables", model / "variables" / "variables.index"):
        weights = open_weights(path)
        np.testing.assert_array_equal(weights["conv2/bias"], net.second.bias.numpy())
        assert weights.checkpoint == str(model / "variables" / "variables")
    assert open_weights(model).kind == "TensorFlow SavedModel, object-based"


def names_of(graph: bytes, *keys: str) -> dict[str, str]:
    def read() -> np.ndarray:
        return np.array(graph, object)

    return object_graph.variable_names(
        {key: Tensor((), np.dtype(object), read) for key in (object_graph.KEY, *keys)}, "x"
    )


def node(full_name: bytes, key: bytes) -> bytes:
    return tables.field(
        1, tables.field(2, tables.field(1, b"VARIABLE_VALUE") + tables.field(2, full_name) + tables.field(3, key))
    )


def test_names_that_are_missing_or_shared_give_way_to_paths():
    keys = [f"{name}/.ATTRIBUTES/VARIABLE_VALUE" for name in "abcd"]
    graph = (
        node(b"conv/kernel:0", keys[0].encode()) + node(b"kernel", keys[1].encode()) + node(b"kernel", keys[2].encode())
    )
    assert list(names_of(graph, *keys).values())[1:] == ["conv/kernel", "b", "c", "d"]
    # A name that is another's path helps nobody: all then keep their keys.
    graph = node(b"b", keys[0].encode()) + node(b"", keys[1].encode())
    assert len(set(names_of(graph, *keys).values())) == 5


def test_a_corrupt_object_graph_is_refused():
    with pytest.raises(WeightsError, match="x is corrupt"):
        names_of(b"\x0a\xff\xff\xff")


def test_only_a_scalar_of_text_is_an_object_graph():
    def read() -> np.ndarray:
        raise NotImplementedError

    assert object_graph.is_in({object_graph.KEY: Tensor((), np.dtype(object), read)})
    assert not object_graph.is_in({object_graph.KEY: Tensor((2,), np.dtype(object), read)})
    assert not object_graph.is_in({object_graph.KEY: Tensor((), np.dtype("f4"), read)})
    assert not object_graph.is_in({})


def test_what_tensorflow_notes_for_itself_is_skipped_with_its_reason(tmp_path):
    iterator = iter(tf2.data.Dataset.range(4))
    kernel = tf2.Variable([1.0, 2.0], name="fc/kernel")
    prefix = tf2.train.Checkpoint(kernel=kernel, iterator=iterator).save(str(tmp_path / "ckpt"))
    weights = open_weights(prefix)
    assert list(weights) == ["fc/kernel"]
    assert weights["fc/kernel"].tolist() == [1, 2]
    assert sorted(weights.skipped) == [
        "_CHECKPOINTABLE_OBJECT_GRAPH",
        "iterator/.ATTRIBUTES/ITERATOR_STATE",
        "save_counter/.ATTRIBUTES/VARIABLE_VALUE",
    ]
    for name, why in weights.skipped.items():
        with pytest.raises(WeightsError) as caught:
            weights[name]
        assert str(caught.value) == why


def test_texts_that_keras_notes_beside_its_layers_are_skipped(tmp_path):
    key = "layer-0/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    values = {
        key: tf2.constant([1.0]),
        "layer-0/.ATTRIBUTES/OBJECT_CONFIG_JSON": tf2.constant(b"{}"),
        object_graph.KEY: tf2.constant(node(b"fc/kernel", key.encode())),
    }
    prefix = str(tmp_path / "m")
    tf2.raw_ops.SaveV2(prefix=prefix, tensor_names=[*values], shape_and_slices=[""] * 3, tensors=[*values.values()])
    weights = open_weights(prefix)
    assert list(weights) == ["fc/kernel"]
    assert "TensorFlow's own record OBJECT_CONFIG_JSON" in weights.skipped["layer-0/.ATTRIBUTES/OBJECT_CONFIG_JSON"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_an_export_of_keras_lists_each_variable_once_by_the_name_that_keras_gives(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="fc"), keras.layers.Dense(3, name="out")])
    model.export(tmp_path / "model", verbose=False)
    keys = tf2.train.load_checkpoint(str(tmp_path / "model" / "variables" / "variables")).get_variable_to_shape_map()
    assert len(keys) == 2 * 4 + 1  # Keras writes them twice
    weights = open_weights(tmp_path / "model")
    assert sorted(weights) == sorted(variable.path for variable in model.variables)
    for variable in model.variables:
        np.testing.assert_array_equal(weights[variable.path], np.asarray(variable))
    assert len(weights.skipped) == 4 + 1


def test_two_variables_of_one_name_and_one_value_stay_two(tmp_path):
    both = [tf2.Variable([0.0], name="bias"), tf2.Variable([0.0], name="bias")]
    root = tf2.train.Checkpoint(net=both, a=tf2.Variable([0.0], name="bias"))
    weights = open_weights(root.write(str(tmp_path / "m")))
    assert sorted(weights) == ["a", "net/0", "net/1"]


class Twin(tf.Module):
    """A module of which two are alike but for their weights: the biases of both are zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.w = tf2.Variable(RNG.normal(size=(4, 4)), name="w")
        self.b = tf2.Variable(np.zeros(4), name="b")


@pytest.mark.parametrize("form", ["checkpoint", "SavedModel"])
def test_variables_of_two_modules_stay_two_though_their_names_and_values_are_one(tmp_path, form):
    both = tf.Module()
    both.enc, both.dec = Twin(), Twin()
    path = tmp_path / "m"
    if form == "checkpoint":
        tf2.train.Checkpoint(enc=both.enc, dec=both.dec).write(str(path))
    else:
        tf2.saved_model.save(both, str(path))
    weights = open_weights(path)
    assert sorted(weights) == ["dec/b", "dec/w", "enc/b", "enc/w"]
    assert list(weights.skipped) == [object_graph.KEY]
    np.testing.assert_array_equal(weights["enc/w"], both.enc.w.numpy())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_beside_its_clone_keeps_all_of_its_variables(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="fc"), keras.layers.Dense(3, name="out")])
    ema = keras.models.clone_model(model)
    weights = open_weights(tf2.train.Checkpoint(model=model, ema=ema).write(str(tmp_path / "m")))
    assert len(list(weights)) == 8
    assert sorted(name.partition("/")[0] for name in weights) == ["ema"] * 4 + ["model"] * 4
    assert list(weights.skipped) == [object_graph.KEY]


def test_a_broken_graph_of_objects_gives_only_weights_errors(saved, tmp_path, fuzz_cases):
    _, prefix, _ = saved
    weights = open_weights(prefix)
    tensors = {key: weights.tensor(name) for name in weights if (key := weights.source(name))}
    good = tf2.train.load_checkpoint(prefix).get_tensor(object_graph.KEY)

    def write(graph: bytes) -> None:
        held = streams.held(np.array([graph, None], object)[:1].reshape(()))
        bundle.write(bundle.parts(tmp_path / "m"), {**tensors, object_graph.KEY: held})

    count = fuzz.check_all(tmp_path / "m", fuzz.mutations(good, fuzz_cases, len(good)), write)
    assert count["read"] > 10
    assert count["refused"] > 10
