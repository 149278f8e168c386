"""`tfxfer train --calibrate`: what it keeps, and that predict and export carry it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfxfer as tx
from tests.tools.test_predict import coloured, run
from tfxfer.errors import RunError
from tfxfer.runs.settings import read_settings
from tfxfer.serving.saved_model import ask, loaded
from tfxfer.tools import compare_outputs, export_model, predict, train

FLAGS = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=none",
         "--epochs=3", "--learning_rate=0.01"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with `pictures`, and the runs `plain` and `calibrated` with what they said."""
    top = tmp_path_factory.mktemp("runs")
    data = f"--data_dir={coloured(top / 'pictures')}"
    for name, flags in {"plain": ["--summaries=all"], "calibrated": ["--calibrate"]}.items():
        with pytest.MonkeyPatch.context() as patch, (top / f"{name}.txt").open("w") as said:
            patch.setattr("sys.stdout", said)
            assert run(train, *FLAGS, *flags, data, f"--logdir={top / name}") == 0
    return top


def test_every_run_has_a_temperature_and_only_the_flag_lets_it_be_used(runs):
    plain, calibrated = (tx.open_run(runs / name) for name in ("plain", "calibrated"))
    assert plain.calibration.temperature == calibrated.calibration.temperature != 1
    assert (plain.calibration.used, calibrated.calibration.used) == (False, True)
    assert calibrated.calibration.checkpoint == f"best/model.ckpt-{calibrated.best['step']}"
    assert calibrated.settings["calibrate"] is True
    said = (runs / "plain.txt").read_text()
    line = f"calibration: {plain.calibration} (shown alone: --calibrate was not given)"
    assert line in said.splitlines()
    assert said.splitlines()[-1] == (runs / "calibrated.txt").read_text().splitlines()[-1]


def test_trained_variables_and_accuracy_are_untouched(runs):
    plain, calibrated = (tx.open_run(runs / name) for name in ("plain", "calibrated"))
    for name in plain.weights():
        assert plain.weights()[name].tobytes() == calibrated.weights()[name].tobytes()
    assert plain.test.metrics == calibrated.test.metrics == {**plain.test.metrics, **plain.evaluate().metrics}


def test_predictions_are_divided_by_the_temperature_and_the_export_gives_the_same(runs, tmp_path, capsys):
    plain, calibrated = (tx.open_run(runs / name) for name in ("plain", "calibrated"))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    before, after = (opened.predict(pixels, top_k=3) for opened in (plain, calibrated))
    np.testing.assert_array_equal(before.classes, after.classes)
    wanted = softmax(np.log(before.probabilities) / calibrated.calibration.temperature, axis=1)
    np.testing.assert_allclose(after.probabilities, wanted, atol=1e-5)
    assert run(export_model, runs / "calibrated", tmp_path / "served") == 0
    with loaded(tmp_path / "served") as (sess, served):
        np.testing.assert_allclose(ask(sess, served, pixels)["top_k_probabilities"], after.probabilities, atol=1e-6)
    capsys.readouterr()
    assert run(predict, runs / "pictures/rose/0.png", f"--run={runs / 'calibrated'}", "--json") == 0
    first = json.loads(capsys.readouterr().out)["predictions"][0]["top"][0]
    again = calibrated.predict(runs / "pictures/rose/0.png", top_k=1)
    assert first["probability"] == pytest.approx(float(again.probabilities[0, 0]))


@pytest.mark.slow
def test_the_export_of_a_calibrated_run_is_equal_to_it(runs, tmp_path):
    assert run(export_model, runs / "calibrated", tmp_path / "served") == 0
    assert run(compare_outputs, runs / "calibrated", tmp_path / "served") == 0


def test_another_checkpoint_than_the_calibrated_one_is_left_as_it_is_with_a_warning(runs, caplog):
    calibrated = tx.open_run(runs / "calibrated")
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    last = calibrated.predict(pixels, checkpoint=calibrated.checkpoints[0]).probabilities
    assert re.search("probabilities are as the network gives them: the temperature is that of .*best", caplog.text)
    plain = tx.open_run(runs / "plain")
    np.testing.assert_array_equal(last, plain.predict(pixels, checkpoint=plain.checkpoints[0]).probabilities)


def test_a_calibration_that_is_damaged_is_refused_and_both_cures_cure(runs, tmp_path, caplog):
    copy = shutil.copytree(runs / "calibrated", tmp_path / "run")
    (copy / "calibration.json").write_text('{"temperature": -1}')
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(RunError, match=r"calibration.json cannot be used: .*; delete it .*, or train again"):
        tx.open_run(copy).predict(pixels)
    (copy / "calibration.json").unlink()
    before = tx.open_run(copy).predict(pixels).probabilities
    assert "calibration.json is not there yet" in caplog.text
    assert run(train, *FLAGS, "--calibrate", f"--data_dir={runs / 'pictures'}", f"--logdir={copy}") == 0
    assert np.abs(tx.open_run(copy).predict(pixels).probabilities - before).max() > 1e-4


@pytest.mark.slow
def test_a_run_can_be_calibrated_afterwards_and_no_longer(runs, tmp_path):
    copy = shutil.copytree(runs / "plain", tmp_path / "run")
    flags = [*FLAGS, f"--data_dir={runs / 'pictures'}", f"--logdir={copy}"]
    for more, used in ((["--calibrate"], True), ([], False)):
        assert run(train, *flags, *more) == 0
        assert tx.open_run(copy).calibration.used is used
        assert read_settings(copy).settings["calibrate"] is used


def test_tensorboard_has_the_diagram_and_the_errors(runs):
    events = EventAccumulator(str(runs / "plain/results"))
    events.Reload()
    assert not [tag for tag in events.Tags()["scalars"] if "calibration" in tag]
    assert "reliability" in events.Tags()["images"]


@pytest.mark.slow
def test_a_network_in_a_file_is_calibrated_too(runs, tmp_path):
    meta = next((runs / "plain/best").glob("*.meta"))
    images, end = (tx.open_run(runs / "plain").settings["tensors"][name] for name in ("images", "outputs"))
    assert end
    ends = ["--input_spec=none", f"--input={images}", "--endpoint=HEAD/logits/BiasAdd", "--hidden=none", "--epochs=2",
            "--image_size=32"]  # fmt: skip
    data = f"--data_dir={runs / 'pictures'}"
    for name, more in {"plain": [], "calibrated": ["--calibrate"]}.items():
        assert run(train, f"--model={meta}", *ends, data, *more, f"--logdir={tmp_path / name}") == 0
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    plain, calibrated = (tx.open_run(tmp_path / name) for name in ("plain", "calibrated"))
    before, after = (opened.predict(pixels, top_k=3) for opened in (plain, calibrated))
    wanted = softmax(np.log(before.probabilities) / calibrated.calibration.temperature, axis=1)
    np.testing.assert_allclose(after.probabilities, wanted, atol=1e-5)
    assert run(export_model, tmp_path / "calibrated", tmp_path / "served") == 0
    with loaded(tmp_path / "served") as (sess, served):
        np.testing.assert_allclose(ask(sess, served, pixels)["top_k_probabilities"], after.probabilities, atol=1e-6)
