"""The tools as a user starts them: `tfxfer NAME` or, from a checkout, `python tools/NAME.py`."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

import tfxfer
from tfxfer.tools import _main

ROOT = Path(__file__).resolve().parent.parent
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if not path.stem.startswith("_"))
COMMAND = Path(sys.executable).with_name("tfxfer")


def start(*command: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)


def first_line(tool: str) -> str:
    return ast.get_docstring(ast.parse((ROOT / f"tools/{tool}.py").read_bytes())).partition("\n")[0]


def loaded_by(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the top-level modules that a process under `-X importtime` has loaded; it has written nothing else."""
    lines = done.stderr.splitlines()
    assert all(line.startswith("import time:") for line in lines), done.stderr
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


# --- the command ---


def test_help_lists_every_tool_with_the_first_line_of_its_docstring():
    done = start(COMMAND, "--help", env={**os.environ, "COLUMNS": "500"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.strip().split(maxsplit=1) for line in done.stdout.splitlines()[3:] if line.startswith("  "))
    assert lines == {tool: first_line(tool) for tool in TOOLS}


def test_help_is_wrapped_to_the_terminal():
    done = start(COMMAND, "--help", env={**os.environ, "COLUMNS": "60"})
    tools = done.stdout.split("\n\n")[-1]
    assert max(map(len, tools.splitlines())) <= 60


def test_help_is_there_at_once_as_absl_is_all_that_it_loads_beside_the_standard_library():
    loaded = loaded_by(start(sys.executable, "-X", "importtime", COMMAND, "--help"))
    installed = {name for name in importlib.metadata.packages_distributions() if not name.startswith("_")}
    assert loaded & (installed | {"tfxfer"}) == {"absl", "tfxfer"}


def test_version_is_that_of_the_package():
    done = start(COMMAND, "--version")
    assert (done.returncode, done.stdout) == (0, f"tfxfer {tfxfer.__version__}\n")


def test_without_a_tool_the_help_goes_to_stderr_as_bad_usage():
    done = start(COMMAND)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("UsageError: name the tool that is to run\n")
    assert "usage: tfxfer TOOL [FLAGS]" in done.stderr


@pytest.mark.parametrize(
    ("name", "nearest"), [("trian", "train"), ("_flags", ""), ("Train", "train"), ("../train", "train")]
)
def test_an_unknown_tool_is_bad_usage_and_answered_with_the_nearest(name, nearest, capsys):
    assert _main.main(["tfxfer", name]) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith(f"UsageError: no tool {name!r}; nearest: {nearest}")) == ("", True)
    assert err.endswith("; `tfxfer --help` lists them all\n")


# --- every tool ---


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, a terminal of 80 columns, and an environment that a tool may change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.parametrize("tool", TOOLS)
def test_both_spellings_give_the_same_help_without_tensorflow(tool, here, capsys):
    with pytest.raises(SystemExit) as ended:
        _main.main(["tfxfer", tool, "--help"])
    out, err = capsys.readouterr()
    assert (ended.value.code, err, out.startswith(first_line(tool))) == (0, "", True)
    checkout = start(sys.executable, "-X", "importtime", ROOT / f"tools/{tool}.py", "--help")
    assert (checkout.returncode, checkout.stdout) == (0, out)
    assert loaded_by(checkout).isdisjoint({"tensorflow", "keras"})


@pytest.mark.parametrize("tool", TOOLS)
def test_an_unknown_flag_is_bad_usage(tool, here, capsys):
    assert _main.main(["tfxfer", tool, "--nonsense=1"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith("UsageError: unknown flag --nonsense; nearest: --")) == ("", True)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("tool", TOOLS)
def test_every_flag_of_a_tool_has_a_help_text_and_is_its_own(tool):
    values = importlib.import_module(f"tfxfer.tools.{tool}").define_flags()
    assert isinstance(values, flags.FlagValues)
    assert values is not flags.FLAGS
    for name in values:
        text = values[name].help
        assert text[:1].isupper() or text[:1] in "<`", f"--{name}: {text}"
        assert text != "(no help available)"


# --- setting up ---

# Replaces Python: logs its arguments, makes virtual environments of itself, and installs nothing.
FAKE_PYTHON = f"""#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
    "-c import ensurepip"*) [ -z "$WITHOUT_ENSUREPIP" ]; exit ;;
    "-m venv"* | "-m virtualenv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; cp "$0".tfxfer .venv/bin/tfxfer ;;
    "-m pip install"*) [ -z "$WITHOUT_NETWORK" ]; exit ;;
    "-m pip"*) ;;
    "-m mkdocs"*) ;;
    *) exec "{sys.executable}" "$@" ;;
esac
"""


class Checkout:
    """A copy of the scripts, and the log of the commands that they give their Python."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.python = folder, folder / "log", folder / "python"
        for name in ("tools/_setup.sh", "tools/quickstart.sh", "tools/docs.sh", "setup.py", "pyproject.toml"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
        for path, text in ((self.python, FAKE_PYTHON), (folder / "python.tfxfer", '#!/bin/sh\necho "ran $*"\n')):
            path.write_text(text)
            path.chmod(0o755)

    def quickstart(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("quickstart.sh", *args, **env)

    def run(self, script: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        env = {**os.environ, "PYTHON": str(self.python), "LOG": str(self.log), **env}
        return start("bash", self.folder / "tools" / script, *args, cwd="/", env=env)

    def asked_for(self, what: str) -> bool:
        return what in self.log.read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a checkout")


def test_quickstart_sets_up_once_and_passes_its_arguments_on(checkout):
    first = checkout.quickstart("--epochs=2", "a b")
    assert (first.returncode, first.stderr) == (0, "")
    assert "-- making .venv with Python 3." in first.stdout
    assert "-- installing tfxfer and what it needs into .venv" in first.stdout
    args = "--weights=checkpoints/digits_autoencoder --dataset=digits --logdir=runs/digits --epochs=2 a b"
    assert first.stdout.splitlines()[-1] == f"ran train {args}"
    second = checkout.quickstart("--epochs=2", "a b")
    assert second.stdout.splitlines() == first.stdout.splitlines()[-2:]
    assert not checkout.asked_for("-m pip install")


def test_the_site_is_built_strictly_after_setting_up(checkout):
    done = checkout.run("docs.sh", "--site-dir=a b")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-- making .venv with Python 3." in done.stdout
    assert checkout.asked_for("-m mkdocs --quiet build --strict --site-dir=a b")


def test_without_ensurepip_virtualenv_is_taken_from_a_folder_of_its_own(checkout):
    done = checkout.quickstart(WITHOUT_ENSUREPIP="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-- this Python lacks ensurepip: taking virtualenv instead" in done.stdout
    assert checkout.asked_for("--target .venv/.virtualenv virtualenv")
    assert not checkout.asked_for("-m venv")


def test_a_changed_setup_is_installed_again_into_the_same_venv(checkout):
    checkout.quickstart()
    with (checkout.folder / "setup.py").open("a") as file:
        file.write("# one more dependency\n")
    done = checkout.quickstart()
    assert checkout.asked_for("-m pip install")
    assert "making .venv" not in done.stdout


def test_a_half_made_venv_is_made_again(checkout):
    checkout.quickstart()
    (checkout.folder / ".venv/.unfinished").touch()
    done = checkout.quickstart()
    assert done.returncode == 0
    assert "-- making .venv again: it was left half-made" in done.stdout
    assert not (checkout.folder / ".venv/.unfinished").exists()


def test_a_pip_that_fails_is_reported_and_loses_nothing(checkout):
    done = checkout.quickstart(WITHOUT_NETWORK="1")
    assert (done.returncode, done.stderr) == (1, "pip could not install tfxfer; its message is above\n")
    assert "making .venv" not in checkout.quickstart().stdout


def test_a_python_that_is_too_old_or_none_is_refused(checkout):
    checkout.quickstart()
    done = checkout.quickstart(PYTHON="/bin/false")
    assert done.returncode == 1
    assert done.stderr == "PYTHON=/bin/false is not Python 3.10 to 3.13, which TensorFlow 2.21 needs\n"
    assert (checkout.folder / ".venv/bin/python").exists()
