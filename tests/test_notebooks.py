"""The notebooks of docs/, executed by a kernel as Jupyter does it; and what cells of one's own do in that kernel."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [START, HEADS] = [ROOT / "docs" / "notebooks" / f"{name}.ipynb" for name in ("start", "features_and_heads")]


class Kernel:
    """A kernel with what it has run; it works in a copy of docs/notebooks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "docs" / "notebooks"
        self.folder.mkdir(parents=True)
        (folder / "checkpoints").symlink_to(ROOT / "checkpoints")
        self.client = NotebookClient(nbformat.v4.new_notebook(), timeout=300, kernel_name="python3")
        self.client.resources = {"metadata": {"path": str(self.folder)}}
        self.start: list[list[NotebookNode]] = []  # the outputs of each cell of start.ipynb

    def run(self, source: str) -> list[NotebookNode]:
        """Run a cell, and return its outputs.

        Raises:
          CellExecutionError: it raised an error.
        """
        cell = nbformat.v4.new_code_cell(source)
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        return cell.outputs

    def fails(self, source: str) -> str:
        """Run a cell that raises an error; return its kind and its message."""
        with pytest.raises(CellExecutionError) as caught:
            self.run(source)
        return f"{caught.value.ename}: {caught.value.evalue}"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> Iterator[Kernel]:
    """A kernel in which `start.ipynb` has been run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Kernel(tmp_path_factory.mktemp("checkout"))
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        with made.client.setup_kernel(env=environment):
            made.start = [made.run(source) for source in sources(START)]
            yield made


def sources(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def text_of(outputs: list[NotebookNode]) -> str:
    return "".join(output.get("text", "") for output in outputs if output.output_type == "stream")


def html_of(outputs: list[NotebookNode]) -> list[str]:
    return [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]


# --- as they are kept ---


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook):
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    nbformat.validate(nbformat.read(notebook, as_version=4))


# --- as they run ---


def test_the_start_restores_trains_evaluates_and_shows_the_run(kernel):
    html = "\n".join(part for outputs in kernel.start for part in html_of(outputs))
    assert "4 arrays, 13,248 numbers" in html
    assert "restore plan: 4 of 8 variables from ../../checkpoints/digits_autoencoder" in html
    assert "4 frozen variables are bit-identical to the start" in html
    assert float(re.search(r" accuracy (0\.\d+) .*: \d+ of 360 right", html)[1]) >= 0.95
    assert html.count("<iframe srcdoc=") == 1


def test_no_cell_of_it_is_flooded_with_lines(kernel):
    bars = [output for outputs in kernel.start for output in outputs if "<progress" in "".join(html_of([output]))]
    assert len(bars) <= 2  # of training and of evaluation
    # The first cell has what TensorFlow says while it is loaded.
    assert all(text_of(outputs).count("\n") <= 3 for outputs in kernel.start[1:])


@pytest.mark.slow
def test_features_and_heads_runs_from_its_first_cell_to_its_last(kernel):
    outputs = [kernel.run(source) for source in sources(HEADS)]
    html = "\n".join(part for each in outputs for part in html_of(each))
    assert "label: another label is more probable" in html
    assert "each on 3 folds" in html
    assert float(re.search(r" accuracy (0\.\d+) .*: \d+ of 360 right", html)[1]) >= 0.9
    assert "twice the 1,257 training examples" in "".join(map(text_of, outputs))
    assert [output for each in outputs for output in each if "image/png" in output.get("data", {})]


# --- progress ---

BAR = """
import time
from tfxfer import progress
progress.BRIEF, progress.CELL_INTERVAL = 0, 0
with progress.bar(300, 0, "count") as bar:
    for _ in range(300):
        bar.advance(1, loss=0.5)
    bar.show({"accuracy": 0.75})
"""


def test_a_bar_is_one_output_that_is_drawn_anew(kernel):
    [output] = kernel.run(BAR)
    assert re.fullmatch(r"count 300 of 300  in \d:\d\d  loss 0\.5000  val accuracy 0\.7500", output.data["text/plain"])
    assert output.data["text/html"].startswith('<progress value="300" max="300"')


def test_an_error_leaves_the_bar_where_it_was(kernel):
    assert kernel.fails(BAR.replace("    bar.show", "        if _ == 99: 1 / 0\n    bar.show")).startswith(
        "ZeroDivision"
    )
    [bar, error] = kernel.client.nb.cells[-1].outputs
    assert bar.data["text/plain"].startswith("count 100 of 300  in ")
    assert error.output_type == "error"


def test_a_brief_task_shows_no_bar(kernel):
    assert kernel.run(BAR.replace("BRIEF, progress.CELL_INTERVAL = 0, 0", "BRIEF = 60")) == []


# --- a cell that runs twice ---

BUILD = """
images = tf.placeholder(tf.float32, [None, 4])
labels = tf.placeholder(tf.int64, [None])
logits = tx.models.heads.classifier(images, hidden=[3], classes=2)
"""
STEP = "step = tx.train_step(images, labels, logits, train='.*')"
IN_GRAPH = "with graph.as_default():\n    "


def indented(source: str) -> str:
    return IN_GRAPH + source.strip().replace("\n", "\n    ")


def test_a_cell_that_builds_into_a_graph_of_its_own_runs_any_number_of_times(kernel):
    for _ in range(2):
        kernel.run(f"graph = tf.Graph()\n{indented(BUILD + STEP)}")
    [shown] = kernel.run("with graph.as_default(): print(*(v.op.name for v in tf.trainable_variables()))")
    assert shown.text == "fc1/kernel fc1/bias logits/kernel logits/bias\n"


def test_a_cell_that_builds_a_layer_twice_into_one_graph_is_told_what_to_do(kernel):
    kernel.run(f"graph = tf.Graph()\n{indented(BUILD)}")
    message = kernel.fails(indented(BUILD))
    assert message.startswith("GraphError: fc1/kernel is in the graph already")
    assert "`with tf.Graph().as_default():`" in message
    kernel.run(indented(BUILD).replace("graph.as_default()", "tf.Graph().as_default()"))


def test_a_cell_that_makes_the_step_twice_is_told_what_to_do(kernel):
    kernel.run(f"graph = tf.Graph()\n{indented(BUILD + STEP)}")
    message = kernel.fails(indented(STEP))
    assert message.startswith("GraphError: the graph has a step of training on HEAD/logits/BiasAdd:0 already")
    kernel.run(indented(BUILD + STEP).replace("graph.as_default()", "tf.Graph().as_default()"))


@pytest.mark.parametrize("again", [
    STEP,
    "tx.graph.layers.dense(images, 2, 'other')",
    "tx.plan('fc1/kernel', 'kernel')",
    "tx.network('squeezenet1_1')",
    "tx.import_meta_graph('runs/digits/model.ckpt-400', 'again')",
])  # fmt: skip
def test_what_is_added_after_a_session_was_opened_is_refused_with_the_cure(kernel, again):
    kernel.run(f"graph = tf.Graph()\n{indented(BUILD)}")
    kernel.run(indented("saver = tf.train.Saver(tx.select('fc1/kernel'))"))
    kernel.run(indented("with tx.session() as sess: saver.save(sess, './kernel')"))
    message = kernel.fails(indented(again))
    assert "the graph is finalized, as tfxfer.session does" in message
    assert "`with tf.Graph().as_default():`" in message


def test_a_training_that_is_run_again_is_finished_and_another_is_refused_with_the_cure(kernel):
    building, training = sources(START)[2:4]
    outputs = kernel.run(f"{building}\n{training}")
    assert "4 frozen variables are bit-identical" in "".join(html_of(outputs))
    assert "finished" in text_of(outputs)
    other = building.replace("hidden=[200]", "hidden=[100]")
    message = kernel.fails(f"{other}\n{training}")
    assert message.startswith("RunError: runs/digits was made with another network")
    assert "`overwrite=True`" in message
    [table] = html_of(kernel.run(f"{other}\n{training.replace('epochs=10', 'epochs=1, overwrite=True')}"))
    assert "1 epochs, 40 steps" in table


# --- TensorBoard ---


@pytest.mark.slow
def test_tensorboard_shows_the_runs_in_the_notebook(kernel):
    outputs = kernel.run("%load_ext tensorboard\n%tensorboard --logdir runs --port 0")
    try:
        assert any("<iframe" in html for html in html_of(outputs))
        found = kernel.run(
            "import json, urllib.request\nfrom tensorboard import manager\n[info] = manager.get_all()\n"
            "print(urllib.request.urlopen(f'http://localhost:{info.port}/data/runs', timeout=60).read().decode())"
        )
        assert {"digits/train", "digits/validation"} <= set(json.loads(text_of(found)))
    finally:
        kernel.run("import os, signal\nfor info in manager.get_all(): os.kill(info.pid, signal.SIGTERM)")


# --- as pages of the site ---


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks_hook", ROOT / "docs" / "hooks" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_has_all_cells_of_its_notebook_in_order(notebook):
    page = hook().page(notebook)
    assert re.findall(r"^```python\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE) == sources(notebook)
    assert page.startswith("# ")
    assert f"]({notebook.name})" in page
    others = set(re.findall(r"\]\(([\w]+\.(?:md|ipynb))", page)) - {notebook.name}
    assert all((notebook.parent / name).with_suffix(".ipynb").exists() for name in others)
    assert {Path(name).suffix for name in others} <= {".md"}


def test_code_that_holds_a_fence_is_fenced_by_a_longer_one():
    cell = {"cell_type": "code", "source": ["text = '''\n", "```python\n", "'''"]}
    assert hook().markdown(cell).startswith("````python\n")


CONFIG = """
site_name: test
theme: {name: mkdocs}
plugins: []
hooks: [docs/hooks/notebooks.py]
exclude_docs: hooks/
nav: [index.md, notebooks/start.md, notebooks/features_and_heads.md]
"""


def test_the_site_shows_the_pages_and_gives_the_notebooks(tmp_path):
    shutil.copytree(ROOT / "docs" / "notebooks", tmp_path / "docs" / "notebooks")
    shutil.copytree(ROOT / "docs" / "hooks", tmp_path / "docs" / "hooks")
    (tmp_path / "docs" / "index.md").write_text("# Index\n\n[Start](notebooks/start.md)\n")
    (tmp_path / "mkdocs.yml").write_text(CONFIG)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    site = tmp_path / "site" / "notebooks"
    assert "tx.open_weights(" in (site / "start" / "index.html").read_text("utf-8")
    assert 'href="../features_and_heads/"' in (site / "start" / "index.html").read_text("utf-8")
    assert (site / "start.ipynb").read_bytes() == START.read_bytes()
    assert not (tmp_path / "site" / "hooks").exists()
