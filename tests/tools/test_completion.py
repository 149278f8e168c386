"""Completion in bash, by bash itself."""

from __future__ import annotations

import importlib
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfxfer.tools import _flags, _main, completion

BASH = shutil.which("bash")
COMMAND = Path(sys.executable).with_name("tfxfer")

pytestmark = pytest.mark.skipif(not BASH, reason="bash is missing")


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "tfxfer.bash"
    path.write_text(completion.script("tfxfer"))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a checkpoint, an archive, a folder and a name with a space."""
    for name in ("net.npz", "model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001", "model.ckpt-7.meta", "my net.h5",
                 "lone.meta"):  # fmt: skip
        (tmp_path / name).touch()
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complete(script: Path, *words: str) -> list[str]:
    """Return what bash is offered for the last of these words, given as it splits them."""
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tfxfer; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run([BASH, "--norc", "-c", code, "bash", script, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(filter(None, done.stdout.split("\n")))


# --- tools and flags ---


def test_all_tools_are_offered(script):
    assert complete(script, "tfxfer", "") == sorted([*_main.tools(), "--help", "--version"])
    assert complete(script, "tfxfer", "inspect_") == ["inspect_graph", "inspect_weights"]
    assert complete(script, "tfxfer", "--v") == ["--version"]


@pytest.mark.parametrize("tool", _main.tools())
def test_all_flags_of_a_tool_are_offered(tool, script):
    values = importlib.import_module(f"tfxfer.tools.{tool}").define_flags()
    expected = [f"--{name}" if values[name].boolean else f"--{name}=" for name in values]
    assert complete(script, "tfxfer", tool, "--") == sorted([*expected, "--help"])


def test_the_negative_of_a_flag_is_offered_to_who_begins_it(script):
    assert complete(script, "tfxfer", "inspect_weights", "--no") == [
        "--nodequantize",
        "--nojson",
        "--nooverwrite",
        "--nostats",
        "--notree",
    ]
    assert complete(script, "tfxfer", "inspect_weights", "--st") == ["--stats"]


def test_an_unknown_tool_has_no_flags(script):
    assert complete(script, "tfxfer", "nonsense", "--") == []


# --- values ---

VGG = ["vgg11", "vgg13", "vgg16", "vgg16c", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "vgg_f"]


@pytest.mark.parametrize("words", [
    ["train", "--model", "=", "vg"],  # as bash splits --model=vg
    ["train", "--model=vg"],  # where COMP_WORDBREAKS has no =
    ["train", "--model", "vg"],
    ["train", "--epochs", "=", "3", "--model", "=", "vg"],
])  # fmt: skip
def test_the_values_of_a_flag_are_offered_however_it_is_written(words, script):
    start = "--model=" if words[-1].startswith("--") else ""
    assert complete(script, "tfxfer", *words) == [start + model for model in sorted(VGG)]


def test_all_values_are_offered_behind_the_equals_sign(script):
    assert complete(script, "tfxfer", "inspect_weights", "--sort", "=") == ["file", "name", "size"]


@pytest.mark.parametrize("flag", ["--epochs", "--train", "--learning_rate", "--nonsense", "--dry_run"])
def test_nothing_is_offered_where_nothing_is_known(flag, script, here):
    assert complete(script, "tfxfer", "train", flag, "=", "") == []


def test_arguments_that_are_known_are_offered(script):
    assert complete(script, "tfxfer", "completion", "") == ["bash"]
    assert "mnist" in complete(script, "tfxfer", "fetch", "mn")


# --- file names ---


def test_a_checkpoint_is_offered_once_by_its_prefix(script, here):
    assert complete(script, "tfxfer", "inspect_weights", "mo") == ["model.ckpt-7"]
    assert complete(script, "tfxfer", "inspect_weights", "") == [
        "lone.meta", "model.ckpt-7", "my net.h5", "net.npz", "runs",
    ]  # fmt: skip


def test_names_and_files_are_offered_where_a_network_may_be_either(script, here):
    assert set(complete(script, "tfxfer", "train", "--model", "=", "mo")) == {"mobilenet_v2", "model.ckpt-7"}
    assert complete(script, "tfxfer", "train", "--input_spec", "=", "t") == ["tf", "torch"]


@pytest.mark.parametrize("words", [["--weights", "=", "ne"], ["--weights=ne"], ["--weights", "ne"]])
def test_files_are_offered_for_flags_that_take_them(words, script, here):
    start = "--weights=" if words[0] == "--weights=ne" else ""
    assert complete(script, "tfxfer", "train", *words) == [f"{start}net.npz"]


@pytest.mark.parametrize(("tool", "flag"), [
    ("train", "logdir"), ("train", "data_dir"), ("train", "store"), ("train", "listing"), ("predict", "run"),
    ("predict", "class_names"), ("predict", "picture"), ("inspect_weights", "out"), ("verify_weights", "digests"),
    ("verify_weights", "write_digests"), ("fetch", "dir"),
])  # fmt: skip
def test_every_flag_of_a_file_is_known_as_one(tool, flag, script, here):
    assert complete(script, "tfxfer", tool, f"--{flag}", "=", "ru") == ["runs"]


# --- as a user has it ---


def test_the_tool_prints_the_script_and_no_other(capsys):
    assert _flags.run(completion.main, ["tfxfer completion", "bash"]) == 0
    assert capsys.readouterr().out == completion.script("tfxfer")
    assert _flags.run(completion.main, ["tfxfer completion", "fish"]) == 2
    assert "no script for 'fish'; there is one for bash" in capsys.readouterr().err
    assert _flags.run(completion.main, ["tfxfer completion", "bash", "--command=x;rm"]) == 2
    assert "--command=x;rm: the name of a command has letters" in capsys.readouterr().err


def test_an_alias_has_a_function_of_its_own():
    script = completion.script("tx-2")
    assert script.endswith("complete -F _tx_2 tx-2\n")
    assert "_tfxfer" not in script


def test_no_key_starts_a_program(script, tmp_path):
    # With no PATH, bash has its own commands only.
    code = f"source {shlex.quote(str(script))}; PATH=; COMP_WORDS=(tfxfer train --model = vg); COMP_CWORD=4; _tfxfer"
    done = subprocess.run([BASH, "--norc", "-c", f"{code}; echo ${{COMPREPLY[@]}}"], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (VGG, "")


def test_tensorflow_is_not_loaded_to_make_the_script():
    code = (
        "import sys; from tfxfer.tools import completion; completion.script('x'); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_bash_is_content_with_the_script(script):
    assert subprocess.run([BASH, "-n", script], capture_output=True).stderr == b""


def test_the_tab_key_completes_on_a_terminal(script, here):
    master, slave = pty.openpty()
    env = {**os.environ, "PS1": "> ", "TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": ""}
    shell = subprocess.Popen([BASH, "--norc", "--noprofile", "-i"], stdin=slave, stdout=slave, stderr=slave, env=env,
                             start_new_session=True)  # fmt: skip
    os.close(slave)

    def until(pattern: str) -> str:
        shown, deadline = "", time.monotonic() + 20
        while not re.search(pattern, shown) and time.monotonic() < deadline:
            if select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 4096).decode()
        assert re.search(pattern, shown), shown
        return shown

    try:
        show = "tfxfer() { printf '<%s>' \"$@\"; }"
        os.write(master, f"bind 'set enable-bracketed-paste off'; {show}; source {script}; echo ready\n".encode())
        until(r"\nready")
        os.write(master, b"tfxfer inspect_w\t--so\tsi\tmy\t\n")
        until(r"\n<inspect_weights><--sort=size><my net\.h5>")
    finally:
        os.write(master, b"exit\n")
        os.close(master)
        shell.wait(10)
