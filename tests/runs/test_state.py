"""The state of a checkpoint: the history in it, and that a damaged one is named with the cure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tfxfer as tx
from tests.train.test_fit import Small, tensors, two_classes
from tfxfer.errors import RunError
from tfxfer.runs.state import RunState, history, read_state


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, Small().fit(two_classes(), folder, epochs=2)


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run[0], tmp_path / "copy")


def test_the_history_of_a_run_can_be_read_from_its_directory(tmp_path):
    fitted = Small().fit(two_classes(), tmp_path / "run", epochs=3, checkpoints=tx.CheckpointOptions(keep=1))
    rows, best = history(tmp_path / "run")
    assert tuple(rows) == fitted.history
    assert [(row["epoch"], row["split"]) for row in rows] == [
        (epoch, split) for epoch in (1, 2, 3) for split in ("train", "validation")
    ]
    assert fitted.best.endswith(f"-{best}")


def test_a_run_without_a_checkpoint_has_no_history_yet(tmp_path):
    with pytest.raises(RunError, match="is not a run directory: it is empty"):
        history(tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(RunError, match="has no checkpoint, and so no history; training writes one after"):
        history(tmp_path)


def change(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(("changes", "told"), [
    ({"step": 7}, "it is of step 7, and its checkpoint of step 14"),
    ({"step": -1}, "its step is -1"),
    ({"step": True}, "its step is true"),
    ({"sums": {}}, "its sums is {}"),
    ({"history": None}, "its history is null"),
    ({"best": [{"step": 7}]}, "its best is"),
    ({"waited": 9}, "its digest is not that of what it holds"),
    ({"stopped": "no"}, 'its stopped is "no"'),
])  # fmt: skip
def test_a_damaged_state_is_named_and_the_cure_goes_on_from_the_checkpoint_before(run, copied, changes, told):
    change(copied / "model.ckpt-14.state.json", **changes)
    with pytest.raises(RunError, match=r"state\.json is damaged: ") as raised:
        Small().fit(two_classes(), copied, epochs=2)
    assert told in str(raised.value)
    assert "delete its files (model.ckpt-14.*) to go on from the one before, model.ckpt-7" in str(raised.value)
    for file in copied.glob("model.ckpt-14.*"):
        file.unlink()
    assert tensors(Small().fit(two_classes(), copied, epochs=2).last) == tensors(run[1].last)


def test_a_state_whose_checkpoint_has_gone_is_refused(copied):
    (copied / "model.ckpt-14.index").unlink()
    with pytest.raises(RunError, match=r"model\.ckpt-14\.index cannot be read: No such file"):
        read_state(copied / "model.ckpt-14")


def test_a_state_beside_another_checkpoint_is_refused(copied):
    shutil.copy(copied / "model.ckpt-7.index", copied / "model.ckpt-14.index")
    with pytest.raises(RunError, match=r"it belongs to another checkpoint than model\.ckpt-14\.index"):
        Small().fit(two_classes(), copied, epochs=2)


def test_a_state_of_before_that_has_no_digests_is_taken(run, copied):
    file = copied / "model.ckpt-14.state.json"
    state = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in state.items() if name not in ("digest", "index")}))
    assert Small().fit(two_classes(), copied, epochs=2).history == run[1].history


def test_a_copy_stays_as_it_was_when_the_training_goes_on():
    state = RunState({"loss": 1.0, "examples": 2}, step=3, saved=[3])
    before, copied = json.dumps(state.to_json()), state.copy()
    state.sums["loss"] += 1
    state.history.append({"step": 4})
    state.saved.append(4)
    state.step = 4
    assert json.dumps(copied.to_json()) == before
