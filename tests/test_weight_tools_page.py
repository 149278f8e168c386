"""The commands of docs/weight_tools.md, as they stand there and in their order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tfxfer.tools import _main

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/weight_tools.md").read_text("utf-8")
TRAINED = "Of a run"  # the heading of what needs a training, and so TensorFlow
NUMBER = re.compile(r"\d+\.\d+(?:e[+-]\d+)?")


class Example(NamedTuple):
    """A block of commands, the exit status that the last of them has, and the last lines that they print."""

    heading: str
    commands: str
    status: int
    ends: list[str]


def examples() -> list[Example]:
    found = []
    for heading, section in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE):
        for commands, output in re.findall(r"```sh\n(.*?)```\n(?:```\n(.*?)```)?", section, re.DOTALL):
            status = re.search(r"# exit status (\d+)$", commands, re.MULTILINE)
            found.append(Example(heading, commands, int(status[1]) if status else 0, output.splitlines()))
    return found


def run(example: Example, folder: Path) -> list[str]:
    tools = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["bash", "-e", "-c", example.commands],
        cwd=folder,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == example.status, f"{example.commands}{done.stdout}"
    return done.stdout.splitlines()


def roughly(lines: list[str]) -> list[str]:
    """Put # for numbers with a point, which rounding may change, and for the blanks that align them one."""
    return [re.sub(r" +", " ", NUMBER.sub("#", line)) for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(ROOT / "checkpoints", folder / "checkpoints")
    return folder


def check(folder: Path, chosen: list[Example]) -> None:
    for example in chosen:
        said = run(example, folder)
        count = len(example.ends)
        assert roughly(said[len(said) - count :]) == roughly(example.ends), example.commands


FILES = [example for example in examples() if example.heading != TRAINED]
RUNS = [example for example in examples() if example.heading == TRAINED]


def test_what_is_done_to_files_ends_as_the_page_says(folder):
    check(folder, FILES)


@pytest.mark.slow
def test_what_is_done_to_runs_ends_as_the_page_says(folder):
    check(folder, RUNS)


def test_what_is_exact_on_the_page_is_exact_to_the_digit(folder):
    [listing] = [example for example in FILES if "--tree --stats" in example.commands]
    assert run(listing, folder) == listing.ends


def test_every_tool_for_files_of_weights_is_on_the_page():
    shown = set(re.findall(r"^tfxfer (\w+)", "".join(example.commands for example in examples()), re.MULTILINE))
    expected = {tool for tool in _main.tools() if tool.endswith("_weights")} | {"export_model", "compare_outputs"}
    assert expected - shown == set()
    assert len(FILES) >= 10
    assert len(RUNS) >= 5
