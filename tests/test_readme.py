"""The README's code is run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SCRIPTS = {re.match(r"# (\S+)", code)[1]: code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL)}


def run(folder: Path, name: str, *flags: str) -> str:
    (folder / name).write_text(SCRIPTS[name])
    done = subprocess.run(
        [sys.executable, "-W", "ignore::SyntaxWarning", name, *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_two_main_jobs_run_one_after_the_other_as_they_stand(tmp_path):
    assert "saved runs/convolutions" in run(tmp_path, "pretrain.py")
    output = run(tmp_path, "transfer.py")
    assert "restore plan: 4 of 8 variables from runs/convolutions" in output
    assert float(re.search(r"test accuracy (\S+)", output)[1]) >= 0.95


def test_the_scripts_are_short_enough_to_be_read():
    assert set(SCRIPTS) == {"pretrain.py", "transfer.py"}
    assert all(code.count("\n") <= 45 for code in SCRIPTS.values())


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("*.md")))
def test_every_file_that_a_page_links_to_is_there(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text("utf-8"))
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


def test_every_tool_is_in_the_readmes_table():
    tools = {path.stem for path in (ROOT / "tools").glob("*.py") if not path.stem.startswith("_")}
    assert {name for name in tools if f"`tfxfer {name}" not in README} == set()
