"""tfxfer/tuning/hparams.py: what TensorBoard's own reader makes of it."""

from __future__ import annotations

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from tfxfer.tuning import hparams
from tfxfer.tuning.trials import Trial
from tfxfer.tuning.tune import Result


def test_each_trial_is_a_row_with_its_settings_and_metrics_also_when_written_again(tmp_path):
    trial = Trial(endpoint="fire9:mean", hidden=64, dropout=0.5, learning_rate=0.01, normalize="l2")
    result = Result("trial-03", "fire9:mean", trial, (0.5, 0.75), (1.0, 2.0), 20)
    for _ in range(2):
        hparams.write(tmp_path, [result])
    [file] = (tmp_path / "trial-03").iterdir()
    read = EventAccumulator(str(file.parent)).Reload()
    content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()} == {
        "endpoint": "fire9:mean", "normalize": "l2", "hidden": 64, "dropout": 0.5, "learning_rate": 0.01, "l2": 0.0,
        "epochs": 20}  # fmt: skip
    assert [read.Scalars(tag)[0].value for tag in ("folds/accuracy", "folds/loss")] == [0.625, 1.5]
