"""The README's code is run as it stands."""

from __future__ import annotations

import ast
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.tools.test_predict import coloured

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


def test_the_first_script_trains_on_pictures_and_opens_the_run_again(tmp_path):
    vgg16_weights(tmp_path)
    pictures = coloured(tmp_path / "flower_photos", each=10)
    (pictures / "rose").rename(pictures / "roses")
    output = run(tmp_path, "flowers.py")
    assert re.search(r"accuracy [\d.]+", output)
    best, predictions = re.fullmatch(r"(\{.*\}) (\[\[.*\]\])", output.splitlines()[-1]).groups()
    assert ast.literal_eval(best)["step"] > 0
    rows = ast.literal_eval(predictions)
    assert len(rows) == 10
    assert all(sorted(row) == ["blue sky", "grass", "roses"] for row in rows), rows


def test_no_script_imports_more_than_the_front_door():
    imports = {line for code in SCRIPTS.values() for line in re.findall(r"^(?:import|from) .*", code, re.MULTILINE)}
    assert {line for line in imports if "tfxfer" in line} == {"import tfxfer as tx"}


def test_the_scripts_are_short_enough_to_be_read():
    assert set(SCRIPTS) == {"flowers.py", "pretrain.py", "transfer.py"}
    assert all(code.count("\n") <= 45 for code in SCRIPTS.values())


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("*.md")))
def test_every_file_that_a_page_links_to_is_there(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text("utf-8"))
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


# CHANGELOG.md may name files of earlier versions.
@pytest.mark.parametrize("page", ["README.md", "BUILD.md", "docs/recipes.md", "docs/scale.md", "docs/weight_tools.md"])
def test_every_python_file_that_a_page_names_exists(page):
    paths = re.findall(r"`(?:[^`\n]* )?([^`\s]+\.py)`", (ROOT / page).read_text("utf-8"))
    folders = [ROOT, ROOT / "tfxfer", ROOT / "tests", ROOT / "tools"]
    assert not [path for path in paths if not any((folder / path).is_file() for folder in folders)]


def test_every_tool_is_in_the_readmes_table():
    tools = {path.stem for path in (ROOT / "tools").glob("*.py") if not path.stem.startswith("_")}
    assert {name for name in tools if f"`tfxfer {name}" not in README} == set()
