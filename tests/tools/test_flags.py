"""The flags, help and exit status that all tools share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from tfxfer.errors import RestoreError
from tfxfer.tools import _flags

DOC = """Do one job.

Some more about it.
"""


@pytest.fixture
def values() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_integer("epochs", 10, "Passes over the examples.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print the plan and stop.", flag_values=values)
    flags.DEFINE_enum("dataset", "digits", ["digits", "mnist"], "What to train on.", flag_values=values)
    flags.DEFINE_string("logdir", None, "The run directory.", flag_values=values)
    _flags.DEFINE_patterns("train", ["fc.*", "logits/.*"], "Variables to train.", values)
    _flags.DEFINE_rules("rename", [], "Rules for names.", values)
    _flags.DEFINE_factors("lr_multipliers", {"conv.*": 0.01}, "Factors of the learning rate.", values)
    _flags.DEFINE_ints("hidden", [200], "Units of each hidden layer.", values)
    _flags.define_session(values)
    return values


def parse(values: flags.FlagValues, *args: str, **limits) -> list[str]:
    return _flags.parse(values, ["tool", *args], DOC, **limits)


# --- values ---


def test_without_arguments_every_flag_has_its_default(values):
    assert parse(values) == []
    assert (values.epochs, values.dry_run, values.logdir) == (10, False, None)
    assert values.train == ["fc.*", "logits/.*"]
    assert (values.rename, values.lr_multipliers, values.hidden) == ([], {"conv.*": 0.01}, [200])


def test_patterns_are_repeatable_and_split_at_commas_outside_brackets(values):
    parse(values, "--train=fc[67]/.{1,2},conv1/.*", "--train=logits/.*")
    assert values.train == ["fc[67]/.{1,2}", "conv1/.*", "logits/.*"]


def test_patterns_given_replace_the_default_and_may_be_none_at_all(values):
    parse(values, "--train=")
    assert values.train == []


def test_rules_come_as_pairs_in_the_order_given(values):
    parse(values, r"--rename=(conv\d)_W=\1/kernel", "--rename", "^net/=")
    assert values.rename == [(r"(conv\d)_W", r"\1/kernel"), ("^net/", "")]


def test_factors_come_as_a_dict_in_the_order_given(values):
    parse(values, "--lr_multipliers=fc.*=1", "--lr_multipliers=conv.{1,2}/.*=1e-2")
    assert list(values.lr_multipliers.items()) == [("fc.*", 1.0), ("conv.{1,2}/.*", 0.01)]


@pytest.mark.parametrize(("text", "expected"), [("256,128", [256, 128]), ("7", [7]), ("", []), ("none", [])])
def test_ints_are_a_list_or_none(values, text, expected):
    parse(values, f"--hidden={text}")
    assert values.hidden == expected


def test_the_last_list_of_ints_counts(values):
    parse(values, "--hidden=1,2", "--hidden=3")
    assert values.hidden == [3]


def test_flags_and_arguments_may_be_mixed(values):
    assert parse(values, "a.npz", "--epochs", "3", "--dry_run", "b.npz", "--", "--c") == ["a.npz", "b.npz", "--c"]
    assert (values.epochs, values.dry_run) == (3, True)


def test_two_sets_of_the_same_flags_live_side_by_side():
    for threads in (1, 2):
        values = flags.FlagValues()
        _flags.define_session(values)
        parse(values, f"--intra_op_threads={threads}", "--noallow_growth")
        assert (values.intra_op_threads, values.inter_op_threads, values.allow_growth) == (threads, 0, False)


# --- bad usage ---


def test_a_file_whose_name_begins_with_a_dash_is_told_from_a_flag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("-model.index").touch()
    with pytest.raises(_flags.UsageError, match=r"flag --model.*; the file of that name is given as \./-model$"):
        _flags.parse(flags.FlagValues(), ["tool", "-model"], None)
    assert _flags.parse(flags.FlagValues(), ["tool", "./-model"], None) == ["./-model"]
    with pytest.raises(_flags.UsageError, match=r"all flags$"):
        _flags.parse(flags.FlagValues(), ["tool", "-other"], None)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--epoch=3", r"unknown flag --epoch; nearest: --epochs, .*; --help lists all flags"),
        ("--epochs=x", r"flag --epochs=x: invalid literal for int"),
        ("--epochs", r"[Mm]issing value for flag --epochs"),
        ("--dataset=cifar", r"flag --dataset=cifar: value should be one of <digits\|mnist>"),
        ("--dry_run=perhaps", r"flag --dry_run=perhaps: "),
        ("--train=fc(", r"flag --train=fc\(: 'fc\(' is not a regular expression: .* at position 2"),
        ("--rename=conv", r"flag --rename=conv: 'conv' is not a rule; write REGEX=REPLACEMENT"),
        ("--lr_multipliers=conv", r"flag --lr_multipliers=conv: write REGEX=FACTOR with a factor above 0"),
        ("--lr_multipliers=conv=0", r"write REGEX=FACTOR with a factor above 0, as in 'conv.\*=0.01'"),
        ("--lr_multipliers=conv=nan", r"write REGEX=FACTOR"),
        ("--lr_multipliers=conv(=1", r"'conv\(' is not a regular expression"),
        ("--hidden=256,-1", r"flag --hidden=256,-1: write positive integers, as in 256,128, or none"),
        ("--hidden=0", r"write positive integers"),
        ("--hidden=1,,2", r"write positive integers"),
        ("--intra_op_threads=-1", r"flag --intra_op_threads=-1: "),
        ("--per_process_gpu_memory_fraction=1.5", r"flag --per_process_gpu_memory_fraction=1.5: "),
    ],
)
def test_what_cannot_be_used_is_said_by_name(values, argument, message):
    with pytest.raises(_flags.UsageError, match=message):
        parse(values, argument)


def test_too_few_and_too_many_arguments_are_refused(values):
    with pytest.raises(_flags.UsageError, match="1 arguments are too few, 2 are needed; see --help"):
        parse(values, "a", at_least=2)
    with pytest.raises(_flags.UsageError, match="unexpected argument: b, c; see --help"):
        parse(values, "a", "b", "c", at_most=1)
    assert parse(values, "a", "b", at_least=2, at_most=2) == ["a", "b"]


# --- help ---


@pytest.mark.parametrize("flag", ["-h", "--help", "--helpfull"])
def test_help_shows_the_docstring_and_every_flag_and_ends_well(values, capsys, flag):
    with pytest.raises(SystemExit) as ended:
        parse(values, "--epochs=not read any more", flag)
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(DOC)
    assert all(f"--{name}=" in shown or f"--[no]{name}\n" in shown for name in values)


def test_help_gives_form_text_and_default_of_each_flag(values):
    shown = _flags.help_text(values, DOC)
    assert "  --epochs=INT\n      Passes over the examples. (default: 10)\n" in shown
    assert "  --[no]dry_run\n      Print the plan and stop. (default: false)\n" in shown
    assert "  --dataset=digits|mnist\n      What to train on. (default: digits)\n" in shown
    assert "  --logdir=STRING\n      The run directory. (default: none)\n" in shown
    assert "  --train=REGEX,...\n      Variables to train. (default: fc.*,logits/.*)\n" in shown
    assert "  --rename=REGEX=REPLACEMENT\n      Rules for names. (default: none)\n" in shown
    assert "  --lr_multipliers=REGEX=FACTOR\n      Factors of the learning rate. (default: conv.*=0.01)\n" in shown
    assert "  --hidden=N,N,...\n      Units of each hidden layer. (default: 200)\n" in shown


def test_help_shows_the_tools_own_flags_first(values):
    shown = _flags.help_text(values, DOC)
    assert shown.index("\nflags:\n") < shown.index("--hidden") < shown.index("\nflags, TensorFlow session:\n")
    assert shown.index("\nflags, TensorFlow session:\n") < shown.index("--intra_op_threads")


def test_help_is_wrapped_to_the_terminal(values, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, _flags.help_text(values, None).splitlines())) <= 50


def test_a_dash_h_after_two_dashes_is_an_argument(values):
    assert parse(values, "--", "-h") == ["-h"]


# --- exit status ---


def test_run_gives_the_status_of_main():
    assert _flags.run(lambda argv: len(argv), ["tool", "a", "b"]) == 3


def raising(error: BaseException):
    def main(argv: list[str]) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (RestoreError("cannot restore:\n  [fc1/kernel]"), 1, "RestoreError: cannot restore:\n  [fc1/kernel]\n"),
        (FileNotFoundError(2, "No such file or directory", "x.npz"), 1, "FileNotFoundError: No such file"),
        (PermissionError(13, "Permission denied", "x"), 1, "PermissionError: Permission denied: x\n"),
        (OSError(28, "No space left on device"), 1, "OSError: No space left on device\n"),
        (OSError("h5py says so"), 1, "OSError: h5py says so\n"),
        (_flags.UsageError("unknown flag --x"), 2, "UsageError: unknown flag --x\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_goes_wrong_becomes_a_message_and_a_status(capsys, error, status, message):
    assert _flags.run(raising(error), ["tool"]) == status
    output = capsys.readouterr()
    assert output.err.startswith(message)
    assert (output.out, "Traceback" in output.err) == ("", False)


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        _flags.run(lambda argv: 1 // 0, ["tool"])


# --- as a process ---

SCRIPT = """
import sys
from tfxfer.tools import _flags
def main(argv):
    {body}
    return 0
sys.exit(_flags.run(main))
"""


def start(folder: Path, body: str, **env: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(body=body))
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run([sys.executable, script], capture_output=True, text=True, env={**environment, **env})


def test_letters_that_the_output_cannot_code_are_escaped(tmp_path):
    done = start(tmp_path, r"print('schritt_\u00e9 \ud800x')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, "schritt_\\xe9 \\ud800x\n", "")
    done = start(tmp_path, r"print('\u00e9 \ud800x')", PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stdout) == (0, "\u00e9 \\ud800x\n")


NOTES = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations are on.
"""
FATAL = "F0000 00:00:1.2 3 cpu.cc:1] this processor lacks AVX\n"


def test_what_is_no_note_comes_through_even_if_tensorflow_aborts_the_process(tmp_path):
    (tmp_path / "tensorflow.py").write_text(f"import os\nos.write(2, {(NOTES + FATAL).encode()})\nos.abort()\n")
    done = start(tmp_path, "import tensorflow")
    assert done.returncode < 0
    assert done.stderr == FATAL


def test_the_notes_are_there_for_who_asks(tmp_path):
    (tmp_path / "tensorflow.py").write_text(f"import os\nos.write(2, {NOTES.encode()})\n")
    assert start(tmp_path, "import tensorflow", TF_CPP_MIN_LOG_LEVEL="0").stderr == NOTES
    assert start(tmp_path, "import tensorflow", TF_CPP_MIN_LOG_LEVEL="2").stderr == ""


def test_a_tensorflow_that_cannot_be_imported_says_why(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no such library')")
    done = start(tmp_path, "import tensorflow")
    assert done.returncode == 1
    assert "ImportError: no such library" in done.stderr


def test_a_reader_who_leaves_early_is_no_error(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(body="print('line\\n' * 100000)"))
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"line\n"
    process.stdout.close()
    _, complaint = process.communicate()
    assert (process.returncode, complaint) == (141, b"")


# --- messages of the library in flags ---


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("take another `logdir`", "take another --logdir"),
        ("or begin anew by `overwrite=True`", "or begin anew by `overwrite=True`"),  # this tool has no such flag
        ("`dry_run=True` writes nothing", "--dry_run writes nothing"),
        ("`epochs=0`: must be 1 or more", "--epochs=0: must be 1 or more"),
        ("lower `intra_op_threads`", "lower --intra_op_threads"),
        ("allow more by `lr_multipliers`", "allow more by --lr_multipliers"),
        ("made with other settings:\n  `epochs`: was 3, now 2", "made with other settings:\n  --epochs: was 3, now 2"),
        ("3 epochs of the dataset", "3 epochs of the dataset"),
        (
            'rename: open_weights(path, rename=[(r"^a\\.b$", "c/kernel"), (r"x y", "z")])',
            "rename: --rename='^a\\.b$=c/kernel' --rename='x y=z'",
        ),
        ("rename: open_weights(path, rename=[...])", "rename: --rename='REGEX=REPLACEMENT'"),
        ("rename by `rename=[('a', 'b')]`", "rename by --rename=a=b"),
        ('rename: `rename=[(r"fc_(\\d)", r"fc\\1"), ...]`', "rename: --rename='REGEX=REPLACEMENT'"),
        ("select fewer variables, or", "select fewer variables, or"),  # this tool restores nothing
    ],
)
def test_parameters_of_the_library_become_flags(values, said, shown):
    assert _flags.in_flags(said, values) == shown


@pytest.mark.parametrize(
    "text",
    [
        "lr_multipliers holds no pictures",  # a folder
        "runs/my lr_multipliers and lr_multipliers: not there",
        "runs/lr_multipliers/a.npz and lr_multipliers.npz",
        "lr_multipliers, float32 [], is not in the graph",  # a variable
        "1 picture of class epochs=3, seed=, none of class epochs",  # classes
        '  weights: was {"epochs": "epochs=3"}, now "lr_multipliers"',
        "--epochs=3 is --epochs=3",
    ],
)
def test_paths_variables_and_classes_with_the_names_of_flags_stay_as_they_are(values, text):
    assert _flags.in_flags(text, values) == text


def test_a_message_names_the_flags_of_the_tool_that_was_started(values, capsys):
    def main(argv: list[str]) -> int:
        _flags.parse(values, argv, DOC)
        raise RestoreError("`epochs=3` is too many; take another `logdir`")

    assert _flags.run(main, ["tool"]) == 1
    assert capsys.readouterr().err == "RestoreError: --epochs=3 is too many; take another --logdir\n"


def test_before_flags_are_parsed_messages_stay_as_they_are(capsys):
    def main(argv: list[str]) -> int:
        raise RestoreError("`epochs=3` and `logdir`")

    assert _flags.run(main, ["tool"]) == 1
    assert capsys.readouterr().err == "RestoreError: `epochs=3` and `logdir`\n"


# --- values of tensors ---


def test_a_feed_is_a_literal_of_python_or_a_text_and_the_library_names_it_as_the_flag():
    values = flags.FlagValues()
    _flags.DEFINE_feeds("feed", "Values.", values)
    _flags.DEFINE_floats("mean", "Numbers.", values)
    feeds = ("is_training=False", "keep_prob=1.0", "mode=a=b", "v:0=[1, 2]")
    values(["tool", *(f"--feed={feed}" for feed in feeds), "--mean=1,2"])
    assert values.feed == {"is_training": False, "keep_prob": 1.0, "mode": "a=b", "v:0": [1, 2]}
    assert values.mean == [1.0, 2.0]
    said = _flags.in_flags("give feeds={'a': ..., 'b c': ...}, or another of `feeds`", values)
    assert said == "give --feed=a=VALUE --feed='b c=VALUE', or another of --feed"
    for wrong in ("--feed=x", "--feed==1", "--mean=a"):
        with pytest.raises(flags.Error, match="write "):
            values(["tool", wrong])
