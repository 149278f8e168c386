"""export_model: signatures, what they answer, that all or nothing is written, in TensorFlow 1's and 2's ways."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from PIL import Image

import tfxfer as tx
from tests.data.test_pictures import encoded, exif, photo
from tfxfer.data import decoding
from tfxfer.errors import DataError, GraphError, RestoreError, WeightsError
from tfxfer.graph import decoding as graph_decoding
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import preprocess
from tfxfer.input_spec import InputSpec
from tfxfer.serving import export, export_check
from tfxfer.serving.export import export_model
from tfxfer.serving.saved_model import ask, loaded

SIZE = (24, 32)
INPUT_SPEC = InputSpec(
    "tiny", "test", SIZE, "BGR", (104, 117, 123), (0.02, 0.01, 0.03), class_names=("rose", "Gänse", "x y")
)
GREY = InputSpec("tiny", "test", SIZE, "grey", (0,), (1 / 255,))
PICTURES = [
    encoded(photo(60, 80), "JPEG"),
    encoded(photo(80, 61, 1), "JPEG", exif=exif(6)),
    encoded(Image.fromarray(photo(33, 90, 2)).convert("CMYK"), "JPEG"),
    encoded(Image.fromarray(photo(60, 80, 3)).convert("LA"), "PNG"),
    encoded(Image.fromarray(photo(20, 20, 4)).quantize(40), "GIF"),
    encoded(photo(25, 40, 5), "BMP"),
]


def network(input_spec: InputSpec, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """A convolution, a batch normalisation, dropout, a dense layer: all that can go wrong."""
    ends = {"input": preprocess(images, input_spec)}
    ends["conv1"] = layers.conv2d(ends["input"], 4, 3, "conv1", strides=4)
    x = layers.batch_norm(ends["conv1"], "norm")
    x = layers.dropout(layers.flatten(x), 0.5, "dropout")
    ends["logits"] = layers.dense(x, 3, "logits", activation=None)
    return {**ends, "prob": tf.nn.softmax(ends["logits"])}


def make(path: Path, input_spec: InputSpec = INPUT_SPEC, **changed: np.ndarray) -> tx.weights.Weights:
    """Write weights of the network, drawn at random."""
    generator = np.random.default_rng(1)
    channels = len(input_spec.mean)
    shapes = {"conv1/kernel": (3, 3, channels, 4), "conv1/bias": (4,), "norm/gamma": (4,), "norm/beta": (4,),
              "norm/moving_mean": (4,), "logits/kernel": (6 * 8 * 4, 3), "logits/bias": (3,)}  # fmt: skip
    arrays = {name: generator.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["norm/moving_variance"] = np.full(4, 2, np.float32)
    np.savez(path, **{**arrays, **{name.replace("__", "/"): array for name, array in changed.items()}})
    return tx.open_weights(path)


def build(images: tf.Tensor) -> dict[str, tf.Tensor]:
    return network(INPUT_SPEC, images)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> tx.weights.Weights:
    return make(tmp_path_factory.mktemp("weights") / "weights.npz")


@pytest.fixture(scope="module")
def out(weights, tmp_path_factory) -> Path:
    """What is exported, and a frozen graph beside it."""
    folder = tmp_path_factory.mktemp("exported")
    export_model(build, weights, INPUT_SPEC, folder / "out", top_k=2, frozen_graph=folder / "frozen.pb")
    return folder / "out"


@pytest.fixture(scope="module")
def expected(weights):
    """A function from pixels to probabilities, by the weights in a graph and a session of their own."""

    def answer(images: np.ndarray) -> np.ndarray:
        with tf.Graph().as_default():
            placeholder = tf.placeholder(tf.uint8, [None, *SIZE, 3])
            probabilities = build(placeholder)["prob"]
            with tx.session(tx.plan(tx.select(".*"), weights)) as sess:
                return sess.run(probabilities, {placeholder: images})

    return answer


def decoded(pictures: list[bytes]) -> np.ndarray:
    return np.stack([decoding.decode(data, SIZE, "crop") for data in pictures])


def pixels(count: int = 5, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, *SIZE, channels)).astype(np.uint8)


# --- what it answers ---


def test_pixels_and_files_are_answered_as_the_weights_do(out, expected):
    for path in (out, out.parent / "frozen.pb"):
        with loaded(path) as (sess, served):
            np.testing.assert_allclose(ask(sess, served, pixels())["probabilities"], expected(pixels()), atol=1e-6)
            answer = ask(sess, served, np.array(PICTURES, object))
            np.testing.assert_allclose(answer["probabilities"], expected(decoded(PICTURES)), atol=1e-6)


def test_the_classes_are_named_the_most_probable_first(out, expected):
    with loaded(out) as (sess, served):
        answer = ask(sess, served, pixels())
    best = np.argsort(-expected(pixels()), axis=1, kind="stable")[:, :2]
    labels = np.array([b"rose", "Gänse".encode(), b"x y"], object)
    assert answer["top_k_indices"].tolist() == best.tolist()
    assert answer["top_k_names"].tolist() == labels[best].tolist()
    assert answer["class_names"].tolist() == [labels.tolist()] * 5
    np.testing.assert_array_equal(
        answer["top_k_probabilities"], np.take_along_axis(answer["probabilities"], best, axis=1)
    )


def test_of_equal_probabilities_the_lower_class_comes_first_and_there_are_no_more_than_classes(tmp_path):
    weights = make(tmp_path / "w.npz", logits__kernel=np.zeros((192, 3), np.float32), logits__bias=np.zeros(3, "f4"))
    export_model(build, weights, INPUT_SPEC, tmp_path / "out", top_k=9)
    with loaded(tmp_path / "out") as (sess, served):
        assert ask(sess, served, pixels(1))["top_k_indices"].tolist() == [[0, 1, 2]]


def test_tensorflow_2_loads_it_without_us(out, expected):
    model = tf2.saved_model.load(str(out))
    assert set(model.signatures) == {"serving_default", "image_bytes"}
    answer = model.signatures["image_bytes"](image_bytes=tf2.constant(PICTURES))
    np.testing.assert_allclose(answer["probabilities"], expected(decoded(PICTURES)), atol=1e-6)
    assert answer["top_k_names"].numpy()[0, 0].decode() in INPUT_SPEC.class_names
    answer = model.signatures["serving_default"](images=tf2.constant(pixels()))
    np.testing.assert_allclose(answer["probabilities"], expected(pixels()), atol=1e-6)
    assert Path(model.asset_paths[0].asset_path.numpy().decode()).read_text() == "rose\nGänse\nx y\n"


def test_the_signatures_say_what_goes_in_and_comes_out(out):
    with tf.Graph().as_default(), tf.Session() as sess:
        meta = tf.saved_model.loader.load(sess, ["serve"], str(out))
    described = {
        key: {
            name: (info.name, tf.as_dtype(info.dtype).name, [dim.size for dim in info.tensor_shape.dim])
            for name, info in {**signature.inputs, **signature.outputs}.items()
        }
        for key, signature in meta.signature_def.items()
    }
    outputs = {
        "probabilities": ("probabilities:0", "float32", [-1, 3]),
        "class_names": ("class_names:0", "string", [-1, 3]),
        "top_k_probabilities": ("top_k_probabilities:0", "float32", [-1, 2]),
        "top_k_indices": ("top_k_indices:0", "int32", [-1, 2]),
        "top_k_names": ("top_k_names:0", "string", [-1, 2]),
    }
    assert described == {
        "serving_default": {"images": ("images:0", "uint8", [-1, 24, 32, 3]), **outputs},
        "image_bytes": {"image_bytes": ("image_bytes:0", "string", [-1]), **outputs},
    }


def test_it_holds_the_variables_of_the_model_and_nothing_of_where_it_was_made(out):
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "assets/labels.txt", "saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index",
        "variables/variables.input_spec.json",
    ]  # fmt: skip
    held = {name for name, _ in tf.train.list_variables(str(out / "variables" / "variables"))}
    assert held - {"global_step"} == {
        *(f"conv1/{name}" for name in ("kernel", "bias")), *(f"logits/{name}" for name in ("kernel", "bias")),
        *(f"norm/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")),
    }  # fmt: skip
    for path in (out / "saved_model.pb", out.parent / "frozen.pb"):
        assert str(out.parent).encode() not in path.read_bytes()
    assert (out / "saved_model.pb").stat().st_mode & 0o777 == (out / "assets" / "labels.txt").stat().st_mode & 0o777


def test_its_weights_and_their_input_spec_can_be_opened_again(out, weights):
    again = tx.open_weights(out)
    assert set(weights) <= set(again)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
    assert InputSpec.load(again.checkpoint) == INPUT_SPEC


def test_the_endpoints_of_the_model_can_be_asked_for(out, weights, expected):
    with loaded(out) as (sess, served):
        assert list(served.endpoints) == ["input", "conv1", "logits", "prob"]
        prob = sess.run(served.endpoints["prob"], {served.images: pixels()})
        np.testing.assert_allclose(prob, expected(pixels()), atol=1e-6)


def test_a_frozen_graph_has_constants_for_variables(out):
    graph = tf.GraphDef.FromString((out.parent / "frozen.pb").read_bytes())
    assert not {"VarHandleOp", "VariableV2", "RestoreV2"} & {node.op for node in graph.node}
    assert {"images", "image_bytes", "probabilities", "top_k_names"} <= {node.name for node in graph.node}


def test_grey_models_take_grey_pixels_and_files_of_any_colour(tmp_path):
    weights = make(tmp_path / "w.npz", GREY)
    export_model(lambda images: network(GREY, images), weights, GREY, tmp_path / "out")
    pictures = [*PICTURES, encoded(Image.fromarray(photo()).convert("L"), "PNG")]
    as_pillow_does = [np.asarray(Image.fromarray(image).convert("L"))[..., None] for image in decoded(pictures)]
    with loaded(tmp_path / "out") as (sess, served):
        assert served.images.shape.as_list() == [None, *SIZE, 1]
        answer = ask(sess, served, np.array(pictures, object))
        np.testing.assert_array_equal(
            answer["probabilities"], ask(sess, served, np.stack(as_pillow_does))["probabilities"]
        )
        assert answer["class_names"][0].tolist() == [b"0", b"1", b"2"]


# --- labels ---


def test_names_are_those_given_or_the_input_specs_or_numbers():
    assert export._labels(("a", "b", "c"), INPUT_SPEC, 3) == [b"a", b"b", b"c"]
    assert export._labels((), INPUT_SPEC, 3) == [b"rose", "Gänse".encode(), b"x y"]
    assert export._labels((), INPUT_SPEC, 2) == [b"0", b"1"]
    assert export._labels((), GREY, 2) == [b"0", b"1"]


def test_a_name_that_is_no_unicode_keeps_its_bytes(weights, tmp_path):
    export_model(build, weights, INPUT_SPEC, tmp_path / "out", class_names=("a", "b\udcff", "c"))
    assert (tmp_path / "out/assets/labels.txt").read_bytes() == b"a\nb\xff\nc\n"


@pytest.mark.parametrize(("given", "message"), [
    (("a", "b"), "there are 2 names of classes, and the model has 3 classes"),
    (("a", "b\nb", "c"), r"labels.txt has one class a line, and there are line breaks in 'b\\nb'"),
])  # fmt: skip
def test_names_that_do_not_go_into_the_file_are_refused(weights, tmp_path, given, message):
    with pytest.raises(DataError, match=message):
        export_model(build, weights, INPUT_SPEC, tmp_path / "out", class_names=given)
    assert os.listdir(tmp_path) == []


# --- all or nothing ---


def test_what_is_there_is_refused_or_moved_aside(weights, tmp_path):
    goals = {"out": tmp_path / "out", "frozen_graph": tmp_path / "frozen.pb"}
    first = export_model(build, weights, INPUT_SPEC, **goals)
    assert first.moved == {}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for taken, other in (("out", "frozen_graph"), ("frozen_graph", "out")):
        with pytest.raises(DataError, match=rf"{goals[taken].name} is there already; give another name, or let `over"):
            export_model(build, weights, INPUT_SPEC, **{**goals, other: tmp_path / "new"})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    second = export_model(build, weights, INPUT_SPEC, **goals, overwrite=True)
    assert second.moved == {tmp_path / name: tmp_path / f"{name}.old-1" for name in ("out", "frozen.pb")}
    assert (tmp_path / "frozen.pb.old-1").read_bytes() == before[tmp_path / "frozen.pb"]
    assert sorted(os.listdir(tmp_path)) == ["frozen.pb", "frozen.pb.old-1", "out", "out.old-1"]


def test_an_empty_folder_is_as_good_as_none_and_missing_ones_are_made(weights, tmp_path):
    (tmp_path / "empty").mkdir()
    assert export_model(build, weights, INPUT_SPEC, tmp_path / "empty").moved == {}
    exported = export_model(build, weights, INPUT_SPEC, tmp_path / "a/b/out", examples=pixels(3))
    inside = [path for path in (tmp_path / "a/b/out").rglob("*") if path.is_file()]
    assert exported.nbytes == sum(path.stat().st_size for path in inside)
    assert (exported.path, exported.images, exported.classes) == (tmp_path / "a/b/out", (24, 32, 3), 3)
    assert exported.compared == export_check.RANDOM + 3 + 3
    assert 0 <= exported.apart < 1e-6


def test_a_frozen_graph_is_not_written_into_the_savedmodel(weights, tmp_path):
    for inside in ("out/frozen.pb", "out"):
        with pytest.raises(DataError, match="is written as a whole; give the frozen graph another place"):
            export_model(build, weights, INPUT_SPEC, tmp_path / "out", frozen_graph=tmp_path / inside)
    assert os.listdir(tmp_path) == []


def test_a_folder_without_a_name_of_its_own_is_refused(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (".", "..", "/"):
        with pytest.raises(DataError, match=r"cannot be the name of what is written; give it a folder of its own"):
            export_model(build, weights, INPUT_SPEC, path, overwrite=True)
    assert os.listdir(tmp_path) == []


def unlike(monkeypatch):
    """Make the graph decode otherwise than files are decoded: by a single level."""
    original = graph_decoding.decode
    monkeypatch.setattr(
        export.decoding, "decode", lambda *args: tf.bitwise.bitwise_xor(original(*args), tf.constant(1, tf.uint8))
    )


def test_an_export_that_answers_otherwise_is_refused_and_nothing_is_left(weights, tmp_path, monkeypatch):
    export_model(build, weights, INPUT_SPEC, tmp_path / "out")
    before = (tmp_path / "out/saved_model.pb").read_bytes()
    unlike(monkeypatch)
    message = r"the export of .*weights.npz does not answer as that does: probabilities differ by \S+, more than 1e-05"
    with pytest.raises(GraphError, match=message):
        export_model(build, weights, INPUT_SPEC, tmp_path / "out", overwrite=True)
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out/saved_model.pb").read_bytes() == before


def test_weights_that_give_nan_are_refused(tmp_path):
    weights = make(tmp_path / "w.npz", logits__bias=np.full(3, np.nan, np.float32))
    with pytest.raises(GraphError, match="probabilities differ by nan"):
        export_model(build, weights, INPUT_SPEC, tmp_path / "out")
    assert os.listdir(tmp_path) == ["w.npz"]


def test_a_full_disk_leaves_nothing(weights, tmp_path, monkeypatch):
    def full(*args, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "out/variables; No space left on device")

    monkeypatch.setattr(tf.train.Saver, "save", full)
    with pytest.raises(OSError, match=r"cannot write .*out: .*No space left on device"):
        export_model(build, weights, INPUT_SPEC, tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_weights_that_do_not_fit_are_refused(tmp_path):
    weights = make(tmp_path / "w.npz", logits__kernel=np.zeros((5, 3), np.float32))
    with pytest.raises(
        RestoreError, match=r"logits/kernel .*variable is float32 \(192, 3\), file has float32 \(5, 3\)"
    ):
        export_model(build, weights, INPUT_SPEC, tmp_path / "out")
    assert os.listdir(tmp_path) == ["w.npz"]


def test_a_model_that_ends_with_no_probabilities_is_refused(weights, tmp_path):
    with pytest.raises(GraphError, match=r"the last endpoint, conv1 \(None, 6, 8, 4\), is not \[n, classes\]"):
        export_model(
            lambda images: {"conv1": layers.conv2d(preprocess(images, INPUT_SPEC), 4, 3, "conv1", strides=4)},
            weights, INPUT_SPEC, tmp_path / "out",
        )  # fmt: skip


# --- on what it is checked ---


def test_a_placeholder_that_nobody_feeds_is_refused_by_name_and_the_cure_cures(weights, tmp_path):
    def build_with(keep: tf.Tensor, images: tf.Tensor) -> dict[str, tf.Tensor]:
        ends = build(images)
        return {**ends, "prob": ends["prob"] * keep}

    out = tmp_path / "out"
    with pytest.raises(GraphError, match=r"nobody feeds keep_prob in an export.*placeholder_with_default"):
        export_model(lambda x: build_with(tf.placeholder(tf.float32, [], "keep_prob"), x), weights, INPUT_SPEC, out)
    assert not list(tmp_path.iterdir())
    export_model(lambda x: build_with(tf.placeholder_with_default(1.0, [], "keep_prob"), x), weights, INPUT_SPEC, out)
    assert out.is_dir()


def test_it_is_checked_on_given_pictures_too_and_bad_ones_are_passed_over(weights, tmp_path):
    paths = []
    for number, data in enumerate([*PICTURES, b"no picture", b"\xff\xd8\xff"]):
        paths.append(str(tmp_path / f"{number}"))
        Path(paths[-1]).write_bytes(data)
    exported = export_model(build, weights, INPUT_SPEC, tmp_path / "out", pictures=[*paths, "is not there"])
    assert exported.compared == export_check.RANDOM + 3 + len(PICTURES)


def test_what_is_no_model_cannot_be_loaded(tmp_path):
    (tmp_path / "x.pb").write_bytes(b"no graph")
    for path in (tmp_path, tmp_path / "x.pb", tmp_path / "absent"):
        with pytest.raises(WeightsError, match="cannot be loaded"), loaded(path):
            pass


# --- networks that tfxfer did not make ---


def plain(images: tf.Tensor, resource: bool, fused: bool) -> dict[str, tf.Tensor]:
    """A dense network with a batch normalisation of raw variables."""
    with tf.variable_scope("plain", use_resource=resource):
        x = tf.cast(images, tf.float32)[:, ::8, ::8] * 0.01
        mean, variance = (
            tf.get_variable(name, [3], trainable=False, initializer=start)
            for name, start in (("mean", tf.zeros_initializer()), ("variance", tf.ones_initializer()))
        )
        gamma, beta = tf.get_variable("gamma", [3]), tf.get_variable("beta", [3])
        if fused:
            x = tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, is_training=False)[0]
        else:
            x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)
        logits = tf.matmul(tf.reshape(x, [-1, 36]), tf.get_variable("kernel", [36, 3]))
    return {"logits": logits, "prob": tf.nn.softmax(logits, name="prob")}


def plain_weights(path: Path, *without: str) -> tx.weights.Weights:
    generator = np.random.default_rng(3)
    arrays = {f"plain/{name}": generator.normal(0, 1, 3).astype("f4") for name in ("mean", "gamma", "beta")}
    arrays |= {"plain/variance": np.full(3, 9, "f4"), "plain/kernel": generator.normal(0, 0.3, (36, 3)).astype("f4")}
    np.savez(path, **{name: array for name, array in arrays.items() if name not in without})
    return tx.open_weights(path)


def plain_answer(arrays: tx.weights.Weights, images: np.ndarray) -> np.ndarray:
    """The probabilities as numpy computes them."""
    w = {name.removeprefix("plain/"): np.float64(arrays[name]) for name in arrays}
    x = images[:, ::8, ::8] * 0.01
    x = (x - w["mean"]) / np.sqrt(w["variance"] + 1e-3) * w["gamma"] + w["beta"]
    logits = x.reshape(-1, 36) @ w["kernel"]
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("fused", "resource"),
    [(True, False), (False, True), *(pytest.param(each, each, marks=pytest.mark.slow) for each in (True, False))],
)
def test_statistics_that_we_did_not_make_are_exported(tmp_path, resource, fused):
    weights = plain_weights(tmp_path / "w.npz")
    export_model(lambda images: plain(images, resource, fused), weights, INPUT_SPEC, tmp_path / "out")
    with loaded(tmp_path / "out") as (sess, served):
        got = ask(sess, served, pixels())["probabilities"]
    np.testing.assert_allclose(got, plain_answer(weights, pixels()), atol=1e-5)


@pytest.mark.usefixtures("control_flow")
def test_a_network_with_a_loop_of_its_own_is_exported(tmp_path):
    """Whose frame is called as that of the loop over pictures would be, outside of its scope."""
    weights = plain_weights(tmp_path / "w.npz")

    def looping(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return plain(tf.map_fn(lambda image: image, images), True, False)

    export_model(looping, weights, INPUT_SPEC, tmp_path / "out")
    with loaded(tmp_path / "out") as (sess, served):
        got = ask(sess, served, pixels())["probabilities"]
    np.testing.assert_allclose(got, plain_answer(weights, pixels()), atol=1e-5)


def test_what_the_weights_do_not_hold_of_what_is_read_is_refused_by_name(tmp_path):
    weights = plain_weights(tmp_path / "w.npz", "plain/mean")
    with pytest.raises(RestoreError, match=r"plain/mean +not in the file"):
        export_model(lambda images: plain(images, True, False), weights, INPUT_SPEC, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.npz"]


@pytest.mark.parametrize("resource", [True, False])
def test_an_imported_meta_graph_is_exported_without_its_slots_and_other_layers(tmp_path, resource):
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, *SIZE, 3], "X")
        logits = plain(images, resource, False)["logits"]
        other = tf.get_variable("other", [3], use_resource=resource)
        tf.train.AdamOptimizer().minimize(tf.reduce_mean(tf.square(logits * other)))
        tf.train.Saver().export_meta_graph(str(tmp_path / "m.meta"))

    def imported(images: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.train.import_meta_graph(str(tmp_path / "m.meta"), input_map={"X:0": images})
        return {"prob": tf.get_default_graph().get_tensor_by_name("prob:0")}

    weights = plain_weights(tmp_path / "w.npz")
    exported = export_model(imported, weights, INPUT_SPEC, tmp_path / "out", frozen_graph=tmp_path / "frozen.pb")
    assert exported.apart < 1e-6
    assert sorted(tx.open_weights(tmp_path / "out")) == sorted(weights)
    for path in (tmp_path / "out", tmp_path / "frozen.pb"):
        with loaded(path) as (sess, served):
            got = ask(sess, served, pixels())["probabilities"]
        np.testing.assert_allclose(got, plain_answer(weights, pixels()), atol=1e-5)
    answer = tf2.saved_model.load(str(tmp_path / "out")).signatures["serving_default"](images=tf2.constant(pixels()))
    np.testing.assert_allclose(answer["probabilities"], plain_answer(weights, pixels()), atol=1e-5)


def test_an_array_that_was_not_written_as_the_weights_have_it_is_refused_by_name(tmp_path, monkeypatch):
    save = tf.train.Saver.save

    def wrong(self: tf.train.Saver, sess: tf.Session, *args: object, **options: object) -> object:
        (beta,) = (v for v in sess.graph.get_collection("variables") if v.op.name == "plain/beta")
        sess.run(beta.initializer, {beta.initializer.inputs[1]: np.full(3, 1e-9, "f4")})
        return save(self, sess, *args, **options)

    monkeypatch.setattr(tf.train.Saver, "save", wrong)
    with pytest.raises(GraphError, match=r"the export of .*w\.npz does not hold its arrays: plain/beta; nothing was"):
        export_model(
            lambda images: plain(images, True, False), plain_weights(tmp_path / "w.npz"), INPUT_SPEC, tmp_path / "out"
        )


@pytest.mark.parametrize("decode", ["exact", "scaled"])
def test_large_pictures_are_decoded_as_the_input_spec_says(weights, tmp_path, decode):
    height, width = INPUT_SPEC.size
    large = encoded(photo(4 * height + 3, 5 * width + 1), "JPEG", exif=exif(6))
    (tmp_path / "large.jpg").write_bytes(large)
    spec = dataclasses.replace(INPUT_SPEC, decode=decode)
    tx.export_model(build, weights, spec, tmp_path / "out", pictures=[str(tmp_path / "large.jpg")])
    pixels = [decoding.decode(large, (height, width), spec.resize, way=way) for way in ("exact", "scaled")]
    assert not np.array_equal(*pixels)
    with loaded(tmp_path / "out") as (sess, served):
        seen = sess.run(served.images, {served.image_bytes: [large]})[0]
    assert np.array_equal(seen, pixels[decode == "scaled"])
    assert tx.InputSpec.load(tmp_path / "out/variables/variables").decode == decode
