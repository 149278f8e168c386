"""Flags that are not used: refused by name, each row of the tables; and what --data_dir implies."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from tests import made_runs
from tests.tools.test_predict import coloured, run
from tfxfer.runs.settings import read_settings
from tfxfer.tools import _data_flags, _flags, _folds, _main, _store, _training_flags, pretrain, store, train
from tfxfer.tools._flags import USES, Use

TOOLS = {name: importlib.import_module(f"tfxfer.tools.{name}") for name in _main.tools()}


def can_be_unused(row: Use, values: flags.FlagValues) -> bool:
    """Whether a tool has both flags, and the other can have a value under which the first is not used."""
    if row.flag not in values or row.other not in values:
        return False
    choices = getattr(values[row.other].parser, "enum_values", None)
    return not (row.sufficient() and choices) or not set(choices) <= set(row.sufficient())


ROWS = {
    (name, row.flag, row.other, row.unless): row
    for name, tool in TOOLS.items()
    for row in (*USES, *getattr(tool, "USES", ()), *((*_store.USES, *_folds.USES) if name == "train" else ()))
    if can_be_unused(row, tool.define_flags())
}
VALUES = dict.fromkeys(("decay_rate", "most_bad", "mask"), "0.5")
VALUES |= {
    "rename": "a=b",
    "select": ".*",
    "exclude": ".*",
    "hidden": "1,2",
    "factor": "4",
    "folds": "3",
    "checkpoint": "last",
    "feed": "a=1",
}


def some(flag: flags.Flag) -> str:
    """Return a value that the flag can have."""
    choices = getattr(flag.parser, "enum_values", None)
    value = VALUES.get(flag.name, choices[-1] if choices else "1")
    return f"--{flag.name}" if flag.boolean else f"--{flag.name}={value}"


def other_values(row: Use, values: flags.FlagValues) -> tuple[list[str], list[str]]:
    """Return arguments for the flag that the row depends on, with which it is used and is not."""
    flag = values[row.other]
    choices = list(getattr(flag.parser, "enum_values", None) or getattr(flag, "_known", None) or [])
    if row.sufficient():
        inside = next(value for value in row.sufficient() if not choices or value in choices)
        outside = next((value for value in choices if value not in row.sufficient()), "pool5")
        used, unused = [f"--{row.other}={inside}"], [f"--{row.other}={outside}"]
    else:
        used = [f"--{row.other}" if flag.boolean else some(flag)]
        unused = ["--hidden=none"] if row.other == "hidden" else ["--mask=0"] if row.other == "mask" else []
    return (unused, used) if row.unless else (used, unused)


@pytest.mark.parametrize("key", ROWS, ids=lambda key: "-".join(map(str, key)))
def test_a_flag_that_is_not_used_is_refused_by_name_and_used_it_is_not(key):
    row, tool = ROWS[key], TOOLS[key[0]]
    used, unused = other_values(row, tool.define_flags())
    for others, refused in ((used, False), (unused, True)):
        values = tool.define_flags()
        values([key[0], some(values[row.flag]), *others])
        if not refused:
            _flags.check_used(values, [row])
            continue
        with pytest.raises(_flags.UsageError) as error:
            _flags.check_used(values, [row])
        said = str(error.value)
        assert said.startswith(f"--{row.flag}: ")
        assert f"--{row.other}" in said
        assert "\n" not in said
        assert any(word in said for word in ("give ", "leave "))


def test_every_tool_has_its_rows_and_every_row_a_tool():
    assert {(row.flag, row.other) for row in USES} == {(f, o) for _, f, o, _ in ROWS} & {
        (r.flag, r.other) for r in USES
    }
    assert len(ROWS) > 50


def test_all_unused_flags_are_named_in_one_line(tmp_path, capsys):
    assert run(train, "--decay_rate=0.5", "--decay_steps=7", "--workers=2", f"--logdir={tmp_path / 'run'}") == 2
    assert capsys.readouterr().err == (
        "UsageError: --decay_steps: give --schedule=cosine or --schedule=exponential too; --decay_rate: give "
        "--schedule=exponential too; --workers: give --store too, the directory that is filled\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "flag", "said"),
    [
        ("list", "--full_mb=3", "--full_mb is for compact, and not for list; leave it out"),
        ("verify", "--address=ab", "--address is for compact and gc and export, and not for verify"),
        ("compact", "--dry_run", "--dry_run is for gc, and not for compact"),
        ("gc", "--json", "--json is for list, and not for gc"),
        ("list", "--older_than_days=3", "--older_than_days is for gc, and not for list"),
    ],
)
def test_a_flag_of_another_verb_of_store_is_refused(verb, flag, said, tmp_path, capsys):
    assert run(store, verb, tmp_path, flag) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--async_training", "--cluster_timeout=3", "--min_slice_size=7"])
def test_a_flag_of_a_cluster_needs_one(flag, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert run(train, flag, f"--logdir={tmp_path / 'run'}") == 2
    assert f"{flag.partition('=')[0]}: TF_CONFIG names no cluster; set it, or leave this out" in capsys.readouterr().err


# --- what is implied ---

SMALL = [
    "--model=squeezenet1_1",
    "--restore=none",
    "--image_size=32",
    "--endpoint=conv1:mean",
    "--hidden=none",
    "--epochs=1",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return coloured(tmp_path_factory.mktemp("coloured") / "pictures", 10)


def kind_of(*args: object) -> tuple[str, str | None]:
    values = train.define_flags()
    _flags.parse(values, ["train", *map(str, args)], "", imply=_data_flags.imply)
    return values.dataset, values.listing


def test_a_folder_of_pictures_implies_the_data_set_and_is_trained_on(pictures, tmp_path, capsys):
    assert run(train, *SMALL, f"--data_dir={pictures}", f"--logdir={tmp_path / 'run'}") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"--dataset=folder, by the subfolders of {pictures}\n")
    settings = read_settings(tmp_path / "run").by_name()
    assert (settings["dataset"], settings["training_examples"]) == ("folder", 24)


def test_a_listing_implies_the_data_set(pictures, tmp_path, capsys):
    assert kind_of("--listing=a.txt") == ("listing", "a.txt")
    (tmp_path / "train.txt").write_text("a.png 0\n")
    assert kind_of(f"--data_dir={tmp_path}") == ("listing", str(tmp_path / "train.txt"))
    assert f"--dataset=listing, by {tmp_path / 'train.txt'}\n" in capsys.readouterr().out


def test_idx_files_imply_mnist(tmp_path, capsys):
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    assert kind_of(f"--data_dir={tmp_path}") == ("mnist", None)
    assert capsys.readouterr().out == f"--dataset=mnist, by the idx files in {tmp_path}\n"


def test_what_is_said_is_not_implied(tmp_path, capsys):
    assert kind_of("--dataset=folder", f"--data_dir={tmp_path}") == ("folder", None)
    assert capsys.readouterr().out == ""


def test_what_may_be_two_things_is_asked_back(tmp_path, capsys):
    (tmp_path / "cat").mkdir()
    (tmp_path / "train.txt").touch()
    assert run(train, f"--data_dir={tmp_path}", "--dry_run") == 1
    assert "may be listing or folder; name the kind by --dataset=listing|folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "nowhere is not there"),
        ("file", "file is a file; a file of lines `path label` is for --listing"),
        (
            "empty",
            "empty has neither idx files, nor a listing, nor subfolders; name the kind by --dataset=mnist|folder",
        ),
    ],
)
def test_a_data_dir_that_shows_nothing_is_refused(name, said, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    assert run(train, f"--data_dir={tmp_path / name}", "--dry_run") == 1
    assert said in capsys.readouterr().err


def test_a_data_set_that_takes_no_directory_refuses_it(tmp_path, capsys):
    assert run(train, "--dataset=digits", f"--data_dir={tmp_path}", "--dry_run") == 2
    assert "--data_dir: give --dataset=mnist or --dataset=folder or --dataset=listing too" in capsys.readouterr().err


def test_a_split_is_refused_where_subfolders_divide_the_pictures(tmp_path, capsys):
    coloured(tmp_path / "train", 4), coloured(tmp_path / "val", 2)
    given = [*SMALL, f"--data_dir={tmp_path}", "--dry_run"]
    assert run(train, *given, "--split=digest") == 2
    assert (
        f"--split=digest: {tmp_path} is divided already, into train and val; leave --split out"
        in capsys.readouterr().err
    )
    assert run(train, *given) == 0


def test_top_k_of_all_classes_says_nothing_and_is_refused(capsys):
    assert run(train, "--restore=none", "--top_k=10", "--dry_run") == 1
    assert "--top_k=10: there are 10 classes, so that all are among them; lower it" in capsys.readouterr().err
    assert run(train, "--restore=none", "--top_k=9", "--dry_run") == 0


# --- what must fit the length of a run ---


@pytest.mark.parametrize("schedule", ["cosine", "exponential"])
def test_a_schedule_ends_with_the_run(schedule, tmp_path):
    flags_ = ["--restore=none", "--hidden=none", "--train_examples=64", "--epochs=4", f"--schedule={schedule}"]
    assert run(train, *flags_, f"--logdir={tmp_path}/run") == 0
    [state] = [json.loads(path.read_text()) for path in (tmp_path / "run").glob("model.ckpt-8.state.json")]
    rates = [row["learning_rate"] for row in state["history"] if row["split"] == "train"]
    steps = np.arange(2, 9, 2)  # the step that comes after each epoch
    wanted = 0.5 * (1 + np.cos(np.pi * steps / 8)) if schedule == "cosine" else 0.9 ** (steps // 2)
    assert np.allclose(rates, 1e-3 * wanted, rtol=1e-5, atol=1e-9)
    assert read_settings(tmp_path / "run").fit["summary_steps"] == 2


def notes(*args: str, examples: int = 320) -> list[str]:
    values = train.define_flags()
    _flags.parse(values, ["train", *args], "", uses=_store.USES)
    return _training_flags.fit_to_length(values, examples)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["--schedule=cosine", "--decay_steps=100"],
            "the learning rate is 0 from step 100 on, and the run has 200 steps",
        ),
        (["--schedule=exponential", "--decay_steps=200"], "the learning rate never falls, as the run has 200 steps"),
        (["--patience=20"], "it never stops the run, which has 20 validations"),
        (["--validation_steps=100", "--patience=2"], "it never stops the run, which has 2 validations"),
        (["--summary_steps=200"], "one batch is shown, as the run has 200 steps"),
        (["--unfreeze=20:conv.*=0.1"], "it never begins, as the run has 20 epochs"),
    ],
)
def test_what_does_not_fit_the_length_is_noted(args, said):
    [note] = notes(*args)
    assert note == f"{args[-1]}: {said}" or note.endswith(said)


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--schedule=cosine"],
        ["--schedule=exponential"],
        ["--patience=3"],
        ["--schedule=cosine", "--decay_steps=200"],
        ["--unfreeze=19:conv.*=0.1"],
    ],
)
def test_what_fits_is_not_noted(args):
    assert notes(*args) == []


def test_a_cosine_that_ends_later_since_the_run_has_grown_is_noted(tmp_path):
    made_runs.write_settings(tmp_path, epochs=10)
    [note] = notes("--schedule=cosine", f"--logdir={tmp_path}")
    assert note == (
        "--epochs=20: the cosine ended with epoch 10 and now ends with epoch 20, so that the learning rate rises again"
    )
    assert notes("--schedule=cosine", "--decay_steps=200", f"--logdir={tmp_path}") == []


def test_pretraining_follows_its_length_too(tmp_path):
    given = ["--train_examples=64", "--epochs=2", "--schedule=cosine", "--latent=3"]
    assert run(pretrain, tmp_path / "out", *given) == 0
    [state] = [json.loads(path.read_text()) for path in (tmp_path / "out.run").glob("model.ckpt-4.state.json")]
    rates = [row["learning_rate"] for row in state["history"] if row["split"] == "train"]
    assert rates[-1] < 0.2e-3 < 0.4e-3 < rates[0] < 1e-3


def test_dropout_without_a_layer_to_drop_from_is_noted(capsys):
    assert run(train, "--restore=none", "--hidden=none", "--dropout=0.5", "--dry_run") == 0
    assert "note: --dropout=0.5: not used, as --hidden=none leaves no layer to drop from\n" in capsys.readouterr().out
    assert run(train, "--restore=none", "--dropout=0.5", "--dry_run") == 0
    assert "note:" not in capsys.readouterr().out


def settings_that_may_change(*argv: str) -> set[str]:
    values = train.define_flags()
    _flags.parse(values, ["train", *argv], "")
    return set(_training_flags.fitting(values)["may_change"])


def test_what_an_older_version_stored_of_a_flag_that_does_nothing_stops_no_run():
    assert {"decay_steps", "decay_rate"} <= settings_that_may_change("--schedule=constant")
    assert not {"decay_steps", "decay_rate"} & settings_that_may_change("--schedule=exponential")
    assert "decay_rate" in settings_that_may_change("--schedule=cosine")


def test_the_weights_of_a_run_are_stored_with_their_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = train.define_flags()
    _flags.parse(values, ["train", "--weights=a/w.npz"], "")
    assert _training_flags.fitting(values)["settings"]["weights"] == str(tmp_path / "a/w.npz")
