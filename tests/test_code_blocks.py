"""Every code block of the site and of the README: run here, by a test that is named, or in a file; or a fragment.

Pages without a test of their own are run as a reader goes through them: one after the other, in one folder, the Python
blocks of a page in one namespace. What a ```text block shows is how the output of the block above it ends.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests import LOG_OF_TENSORFLOW
from tests.pages import Block, blocks, shows
from tfxfer.tools import _main

ROOT = Path(__file__).resolve().parent.parent
# Made when the site is built, of docstrings whose examples tests/test_examples.py runs.
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.relative_to(ROOT).parts)
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
OWN_TESTS = {
    "docs/examples.md": "tests/examples/test_scripts.py",
    "docs/messages.md": "tests/test_messages_page.py",
    "docs/recipes.md": "tests/test_recipes.py",
    "docs/weight_tools.md": "tests/test_weight_tools_page.py",
}
# They go on from each other.
GUIDE = ["docs/start.md", "docs/guide/restore.md"] + [
    f"docs/guide/{job}.md" for job in ("freeze", "features", "train", "see", "predict", "export")
]
STATUS = re.compile(r"# exit status (\d+)$", re.MULTILINE)


def to_run(page: str) -> list[Block]:
    """Return the blocks of a page that are run here."""
    every = [] if page in OWN_TESTS else blocks((ROOT / page).read_text("utf-8"))
    return [block for block in every if not block.fragment and not block.included]


def vgg16_weights(folder: Path) -> None:
    """Write convolutions of VGG16 that are drawn at random, and beside them what they expect of pictures."""
    with tf.Graph().as_default():
        tx.models.vgg.vgg16(tf.placeholder(tf.uint8, [None, 64, 64, 3]), last="pool5")
        shapes = {variable.op.name: variable.shape.as_list() for variable in tx.select("conv.*")}
    generator = np.random.default_rng(0)
    deviations = {name: math.sqrt(2 / math.prod(shape[:-1])) if shape[1:] else 0 for name, shape in shapes.items()}
    arrays = {name: generator.normal(0, deviations[name], shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(folder / "vgg16_weights.npz", **arrays)
    spec = tx.InputSpec("vgg16", "drawn at random", (224, 224), "RGB", mean=(124, 117, 104), scale=(1, 1, 1))
    spec.save(folder / "vgg16_weights.npz")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where the pages are run, with what they cannot make: weights that take long to download."""
    vgg16_weights(tmp_path)
    return tmp_path


def run_python(block: Block, page: str, names: dict[str, object]) -> None:
    # Line numbers of errors are those of the page.
    code = compile("\n" * (block.line - 1) + block.text, page, "exec")
    exec(code, names)  # noqa: S102


def run_commands(block: Block) -> None:
    """Run `tfxfer` in this process, and a block that begins with anything else by bash."""
    if not block.text.startswith("tfxfer "):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(["bash", "-e", "-c", block.text], check=True, timeout=300, env={**os.environ, "PATH": path})
        return
    status = STATUS.search(block.text)
    commands = [shlex.split(line, comments=True) for line in block.text.replace("\\\n", " ").splitlines()]
    results = [_main.main(words) for words in commands if words]
    assert results == [0] * (len(commands) - 1) + [int(status[1]) if status else 0], block.text


def run_page(page: str, capfd) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    output = ""
    for block in to_run(page):
        if block.language == "text":
            assert shows(block.text, output), f"{page}:{block.line} shows\n{block.text}\nand the output is\n{output}"
            continue
        assert block.language in ("bash", "python"), f"{page}:{block.line}: say what it is: bash, python or text"
        capfd.readouterr()
        if block.language == "python":
            run_python(block, page, names)
        else:
            run_commands(block)
        output = LOG_OF_TENSORFLOW.sub("", "".join(capfd.readouterr()))


def test_the_blocks_of_the_guide_run_one_after_the_other_and_give_what_it_shows(folder, capfd, monkeypatch):
    assert sorted(GUIDE) == [page for page in NAMES if to_run(page)]
    monkeypatch.chdir(folder)
    for page in GUIDE:
        run_page(page, capfd)


def test_the_readme_shows_no_code_that_the_site_does_not_show():
    of_site = {(block.language, block.text) for page in NAMES for block in blocks((ROOT / page).read_text("utf-8"))}
    own = [block for block in blocks((ROOT / "README.md").read_text("utf-8")) if not block.fragment]
    assert own
    assert [block for block in own if (block.language, block.text) not in of_site] == []


@pytest.mark.parametrize("page", NAMES)
def test_no_script_imports_more_than_the_front_door(page):
    code = [block.text for block in to_run(page) if block.language == "python"]
    lines = {line for text in code for line in re.findall(r"^(?:import|from) tfxfer.*", text, re.MULTILINE)}
    assert lines <= {"import tfxfer as tx"}


@pytest.mark.parametrize("page", NAMES)
def test_what_a_page_includes_is_there_and_run(page):
    included = [path for block in blocks((ROOT / page).read_text("utf-8")) for path in block.included]
    assert [path for path in included if not (ROOT / path).is_file()] == []
    # The tests of that folder run all of it.
    assert [path for path in included if path.endswith(".py") and not path.startswith("examples/")] == []


@pytest.mark.parametrize(("page", "test"), [row for row in OWN_TESTS.items() if row[0] in NAMES])
def test_a_page_with_a_test_of_its_own_is_read_by_it(page, test):
    assert Path(page).name in (ROOT / test).read_text("utf-8")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("```python\na = 1\n```\n", [("python", "a = 1\n", "")]),
        ("text\n\n    tfxfer train\n\nmore\n", [("", "tfxfer train\n", "")]),
        ("- item\n\n    more of the item\n", []),
        ("- item\n\n      ```bash\n      ls\n      ```\n", [("bash", "ls\n", "")]),
        ("- item\n\nEnd.\n\n    ls\n", [("", "ls\n", "")]),
        ("<!-- fragment: for a reason -->\n```text\nx\n```\n", [("text", "x\n", "for a reason")]),
        ("<!-- fragment: for a reason -->\n\n    x\n\n    y\n", [("", "x\n\ny\n", "for a reason")]),
        ("<!-- fragment:  -->\n```text\nx\n```\n", [("text", "x\n", "")]),
    ],
)
def test_blocks_are_found_whatever_their_form(page, expected):
    assert [(block.language, block.text, block.fragment) for block in blocks(page)] == expected


@pytest.mark.parametrize(("text", "shown"), [("b ...\nd", True), ("c d", True), ("b", False), ("x d", False)])
def test_an_output_is_compared_from_its_end(text, shown):
    assert shows(text, "a\nb  c\nd\n") == shown
