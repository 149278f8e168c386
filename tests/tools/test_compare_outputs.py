"""tools/compare_outputs.py: where two sets of weights part, of what kinds they may be, and what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.tools.test_export_model import NETWORK
from tests.tools.test_predict import coloured, run
from tfxfer.models import squeezenet
from tfxfer.tools import compare_outputs, export_model, train

ROOT = Path(__file__).resolve().parents[2]
MODEL = ["--model=squeezenet1_1", "--image_size=32", "--random=2"]
ENDPOINTS = ["pixels", "input", "conv1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5", "fire6",
             "fire7", "fire8", "fire9", "conv10", "pool10", "prob"]  # fmt: skip
CAFFE = {"kernel": "weights", "bias": "biases"}


def arrays(classes: int = 7) -> dict[str, np.ndarray]:
    """Draw weights of the whole network, of a size that keeps what it computes finite."""
    generator = np.random.default_rng(3)
    shapes = {
        name: tuple(side or classes for side in shape) for name, shape in squeezenet.variables("squeezenet1_1").items()
    }
    return {
        name: generator.normal(0, np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.01, shape).astype("f4")
        for name, shape in shapes.items()
    }


def changed(path: Path, change: str = "", by: float = 0.01, names=str, classes: int = 7) -> Path:
    """Write weights under other names, one variable of them changed."""
    held = arrays(classes)
    if change:
        held[change] = held[change] + np.float32(by)
    np.savez(path, **{names(name): array for name, array in held.items()})
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with `a.npz` and `caffe.npz`, the same weights under our names and under Caffe's."""
    top = tmp_path_factory.mktemp("files")
    changed(top / "a.npz")
    changed(top / "caffe.npz", names=lambda name: "/".join([*name.split("/")[:-1], CAFFE[name.split("/")[-1]]]))
    return top


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `pictures`, `run`, a classifier of them with a hidden layer, and `out`, its export."""
    top = tmp_path_factory.mktemp("trained")
    flags = [*NETWORK, "--dataset=folder", f"--data_dir={coloured(top / 'pictures', 10)}", "--keep=2"]
    assert run(train, *flags, "--epochs=2", f"--logdir={top / 'run'}") == 0
    assert run(export_model, top / "run", top / "out") == 0
    return top


def compared(capsys, *arguments: object, status: int) -> dict:
    """Run the tool and return its JSON."""
    capsys.readouterr()
    assert run(compare_outputs, *arguments, "--json") == status
    return json.loads(capsys.readouterr().out)


def endpoints(found: dict) -> list[str]:
    return [row["endpoint"] for row in found["endpoints"]]


# --- where they part ---


def test_equal_weights_under_other_names_and_in_other_formats_are_equal(files, capsys):
    found = compared(capsys, files / "a.npz", files / "caffe.npz", *MODEL, status=0)
    assert endpoints(found) == ENDPOINTS
    assert (found["equal"], found["first"], found["pictures"]) == (True, None, 2)
    assert all(row["max_abs"] == 0 and row["cosine"] == pytest.approx(1) for row in found["endpoints"])


@pytest.mark.parametrize(("variable", "first"), [
    ("conv1/kernel", "conv1"), ("fire4/squeeze1x1/bias", "fire4"), ("fire9/expand3x3/kernel", "fire9"),
    ("conv10/bias", "conv10"),
])  # fmt: skip
def test_the_first_endpoint_after_a_change_is_named(files, tmp_path, capsys, variable, first):
    b = changed(tmp_path / "b.npz", variable, 0.1)
    found = compared(capsys, files / "a.npz", b, *MODEL, status=3)
    assert (found["equal"], found["first"]) == (False, first)
    before = ENDPOINTS.index(first)
    assert all(row["max_abs"] == 0 for row in found["endpoints"][:before])
    assert found["endpoints"][before]["max_abs"] > 0
    assert found["endpoints"][before]["cosine"] < 1
    assert run(compare_outputs, files / "a.npz", b, *MODEL) == 3
    lines = capsys.readouterr().out.splitlines()
    [marked] = [line for line in lines if line.endswith("  <- parts")]
    assert marked.split()[0] == first
    assert re.match(rf"they part at {first}, by \S+ of its largest magnitude, more than --rtol=0.0001; ", lines[-1])


def test_rtol_says_what_is_equal(files, tmp_path, capsys):
    b = changed(tmp_path / "b.npz", "conv10/bias", 1e-5)
    found = compared(capsys, files / "a.npz", b, *MODEL, "--rtol=1e-3", status=0)
    assert 0 < found["endpoints"][-2]["relative"] < 1e-3
    assert compared(capsys, files / "a.npz", b, *MODEL, "--rtol=0", status=3)["first"] == "conv10"
    assert run(compare_outputs, files / "a.npz", b, *MODEL, "--rtol=1e-3") == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"equal up to --rtol=0.001: 17 endpoints on 2 random pictures; farthest apart at \w+, by \S+ of its .*", said
    )


def test_the_table_is_one_of_endpoints(files, capsys):
    assert run(compare_outputs, files / "a.npz", files / "a.npz", *MODEL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["endpoint", "shape", "max", "|a", "-", "b|", "relative", "cosine"]
    assert lines[3].split() == ["conv1", "15x15x64", "0", "0", "1.000000"]
    assert lines[-1] == "equal to the last bit: 17 endpoints on 2 random pictures"


def test_a_part_of_the_network_is_compared_if_asked(files, tmp_path, capsys):
    held = {name: array for name, array in arrays().items() if name.startswith(("conv1/", "fire2/", "fire3/"))}
    np.savez(tmp_path / "part.npz", **held)
    assert run(compare_outputs, files / "a.npz", tmp_path / "part.npz", *MODEL) == 1
    said = capsys.readouterr().err
    assert re.search(r"RestoreError: cannot restore 38 of 52 variables from .*part.npz", said)
    assert "or compare no further than to an endpoint that both files have: --endpoint=NAME" in said
    found = compared(capsys, files / "a.npz", tmp_path / "part.npz", *MODEL, "--endpoint=fire3", status=0)
    assert endpoints(found) == ENDPOINTS[: ENDPOINTS.index("fire3") + 1]


def test_another_number_of_classes_parts_where_it_shows(files, tmp_path, capsys):
    b = changed(tmp_path / "b.npz", classes=9)
    found = compared(capsys, files / "a.npz", b, *MODEL, status=3)
    assert found["first"] == "conv10"
    assert [found["endpoints"][-1][key] for key in ("shape", "other_shape", "max_abs")] == [[7], [9], None]
    assert run(compare_outputs, files / "a.npz", b, *MODEL) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "they part at conv10, which has other shapes"


# --- runs and exports ---


def test_a_run_and_its_export_are_equal_on_random_pictures_and_on_files(trained, capsys):
    names = ["pixels", "input", "conv1", "conv1:mean", "fc1", "logits", "prob"]
    for flags, count in (([], 8), ([f"--images={trained / 'pictures' / 'rose'}"], 10)):
        for paths in ((trained / "run", trained / "out"), (trained / "out", trained / "run")):
            found = compared(capsys, *paths, *flags, status=0)
            assert (endpoints(found), found["pictures"]) == (names, count)
            assert found["endpoints"][0]["max_abs"] == 0


def test_an_export_whose_variables_were_changed_parts_from_its_run(trained, tmp_path, capsys):
    model = tx.open_weights(trained / "out")
    held = {name: model[name] for name in model}
    held["fc1/kernel"] = held["fc1/kernel"] + np.float32(0.1)
    out = tmp_path / "out"
    (out / "variables").mkdir(parents=True)
    (out / "saved_model.pb").write_bytes((trained / "out/saved_model.pb").read_bytes())
    with tf.Graph().as_default(), tf.Session() as sess:
        for name, array in held.items():
            tf.get_variable(name, initializer=tf.constant(array), use_resource=True)
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, str(out / "variables/variables"), write_meta_graph=False, write_state=False)
    assert compared(capsys, trained / "run", out, status=3)["first"] == "fc1"


def test_checkpoints_of_runs_and_files_made_of_them_are_of_the_runs_network(trained, tmp_path, capsys):
    best = next((trained / "run/best").glob("*.index")).with_suffix("")
    weights = tx.open_weights(best)
    np.savez(tmp_path / "copy.npz", **{name: weights[name] for name in weights})
    for other in (best, trained / "run/best", tmp_path / "copy.npz"):
        found = compared(capsys, trained / "run", other, "--random=2", status=0)
        assert endpoints(found)[-1] == "prob"
    steps = sorted((trained / "run").glob("*.index"))
    assert compared(capsys, steps[0].with_suffix(""), steps[-1].with_suffix(""), status=3)["first"] == "fc1"


def test_a_file_is_shown_pictures_of_the_size_that_the_other_side_takes(files, trained, capsys):
    found = compared(capsys, files / "caffe.npz", trained / "out", "--endpoint=conv1", status=3)
    assert [row["shape"] for row in found["endpoints"]] == [[32, 32, 3], [32, 32, 3], [15, 15, 64]]
    assert found["first"] == "conv1"


def test_the_convolutions_of_a_run_are_those_that_it_restored(tmp_path, capsys):
    convolutions = ROOT / "checkpoints/digits_autoencoder"
    flags = [f"--weights={convolutions}", "--train_examples=50", "--epochs=1"]
    assert run(train, *flags, f"--logdir={tmp_path / 'run'}") == 0
    for other in (tmp_path / "run", convolutions):
        found = compared(capsys, convolutions, other, "--endpoint=flatten", "--model=autoencoder", status=0)
        assert endpoints(found) == ["pixels", "input", "conv1", "conv2", "flatten"]
    assert run(compare_outputs, tmp_path / "run", tmp_path / "run", f"--images={tmp_path}") == 1
    assert "takes images of 28x28x1, and not RGB; leave --images out" in capsys.readouterr().err


def test_of_exports_without_endpoints_the_probabilities_are_compared(trained, tmp_path, capsys):
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.saved_model.loader.load(sess, ["serve"], str(trained / "out"))
        tensor = sess.graph.get_tensor_by_name
        outputs = {"probabilities": tensor("probabilities:0")}
        sess.graph.clear_collection("tfxfer_endpoints")
        tf.saved_model.simple_save(sess, str(tmp_path / "other"), {"images": tensor("images:0")}, outputs)
    for flags in ([], [f"--images={trained / 'pictures'}"]):
        found = compared(capsys, trained / "run", tmp_path / "other", *flags, status=0)
        assert endpoints(found) == ["pixels", "prob"]


# --- as a user runs it ---


def test_a_user_sees_a_table_and_nothing_else(files, tmp_path):
    b = changed(tmp_path / "b.npz", "fire5/squeeze1x1/kernel")
    command = [Path(sys.executable).with_name("tfxfer"), "compare_outputs", files / "a.npz", b, *MODEL]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines()[-1].startswith("they part at fire5, by ")
    assert os.listdir(tmp_path) == ["b.npz"]


# --- real files ---


@pytest.mark.slow
def test_real_weights_and_their_export_are_equal_on_photographs(real_data, tmp_path, capsys):
    weights = real_data("weights/squeezenet1_0.npz")
    assert run(export_model, tmp_path / "out", "--model=squeezenet1_0", f"--weights={weights}") == 0
    found = compared(capsys, weights, tmp_path / "out", f"--images={real_data('imagenet/pictures')}", status=0)
    assert (len(found["endpoints"]), found["pictures"]) == (17, 8)
    assert found["endpoints"][0]["max_abs"] == 0
    assert max(row["relative"] for row in found["endpoints"]) < 1e-5


# --- refusals ---


@pytest.mark.parametrize(("arguments", "status", "error"), [
    (["{a}"], 2, "too few"),
    (["{a}", "{a}", "{a}"], 2, "unexpected argument"),
    (["{a}", "{a}", "--rtol=-1"], 2, "rtol"),
    (["{odd}", "{odd}"], 1, "WeightsError: .*odd.npz does not show which network it is of; name it by --model"),
    (["{a}", "nowhere.npz"], 1, "WeightsError: nowhere.npz is neither a file nor a checkpoint"),
    (["{run}", "{bare}"], 1, "RunError: .*bare has no best checkpoint"),
    (["{a}", "{a}", "--model=squeezenet1_1", "--endpoint=fc6"], 1, "GraphError: squeezenet1_1 has no endpoint 'fc6'"),
    (["{a}", "{a}", "--model=vgg16"], 1, "WeightsError: .* is none of the .* sources that are known"),
    (["{run}", "{digits}", "--endpoint=conv1"], 1, "WeightsError: .*run is of squeezenet1_1, and .* of autoencoder"),
    (["{caffe}", "{out}", "--image_size=40"], 1, r"DataError: .*caffe.npz takes 40x40x3 and .*out takes 32x32x3"),
    (["{run}", "{out}", "--images={bare}"], 1, "DataError: .*bare has no pictures"),
    (["{run}", "{out}", "--images={a}"], 1, "DataError: none of the pictures can be read"),
])  # fmt: skip
def test_what_cannot_be_done_is_said_without_a_traceback(files, trained, tmp_path, capsys, arguments, status, error):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/settings.json").write_bytes((trained / "run/settings.json").read_bytes())
    places = {"a": files / "a.npz", "caffe": files / "caffe.npz", "run": trained / "run", "out": trained / "out",
              "bare": tmp_path / "bare", "digits": tmp_path / "digits", "odd": tmp_path / "odd.npz"}  # fmt: skip
    np.savez(tmp_path / "odd.npz", x=np.zeros(3))
    if "{digits}" in arguments:
        source = ROOT / "checkpoints/digits_autoencoder"
        for suffix in (".index", ".data-00000-of-00001"):
            (tmp_path / f"digits{suffix}").write_bytes(Path(f"{source}{suffix}").read_bytes())
        input_spec = {"model": "autoencoder", "source": "test", "size": [28, 28], "channels": "grey", "mean": [0],
                    "scale": [1], "resize": "crop", "class_names": []}  # fmt: skip
        (tmp_path / "digits.input_spec.json").write_text(json.dumps(input_spec))
    assert run(compare_outputs, *(argument.format(**places) for argument in arguments)) == status
    said = capsys.readouterr().err
    assert re.search(error, said), said
    assert "Traceback" not in said
