"""What `import tfxfer as tx` gives, at run time and to type checkers, from the checkout and from the wheel."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import tfxfer as tx

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = sorted((ROOT / "checkpoints").glob("digits_autoencoder.*"))
PACKAGES = sorted(path.parent for path in (ROOT / "tfxfer").rglob("__init__.py"))
NAMES = [name for name in dir(tx) if not name.startswith("_")]
FUNCTIONS_AND_TYPES = [name for name in NAMES if not inspect.ismodule(getattr(tx, name))]


def submodules(package: Path) -> set[str]:
    """Return the public modules and packages in a folder."""
    stems = {path.stem for path in package.glob("*.py") if not path.stem.startswith("_")}
    return stems | {path.parent.name for path in package.glob("*/__init__.py")}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parts)


def for_type_checkers(package: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for each import that only type checkers see in a package's `__init__`."""
    for node in ast.parse((package / "__init__.py").read_text("utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                assert line.module
                yield from ((line.module, alias.name) for alias in line.names)


def test_the_front_door_gives_what_a_user_holds_and_calls():
    assert {
        *("open_weights", "recognise", "select", "plan", "session", "import_meta_graph", "train_step", "eval_step"),
        *("network", "precompute", "extract", "fit", "evaluate", "predict", "export_model", "open_run"),
        *("check_data", "diff_runs", "fit_normalization", "report"),
        *("Weights", "InputSpec", "Plan", "Stage", "Step", "EvalStep", "CheckpointOptions", "SummaryOptions"),
        *("Data", "DataCheck", "Split", "Fitted", "Evaluation", "Network", "Report", "Run"),
        *("tune", "Tuning", "SearchSpace", "HeadTraining"),
    } == set(FUNCTIONS_AND_TYPES)
    assert all(callable(getattr(tx, name)) for name in FUNCTIONS_AND_TYPES)


def test_every_submodule_is_loaded_on_first_use_and_shown():
    # What Beam runs needs apache_beam, which has an environment of its own.
    paths = [f"{dotted(package)}.{name}" for package in PACKAGES for name in sorted(submodules(package))]
    paths = [path for path in paths if not path.startswith("tfxfer.store.beam.")]
    code = f"""
import operator, tfxfer
for path in {paths!r}:
    package, _, name = path.removeprefix("tfxfer.").rpartition(".")
    package = operator.attrgetter(package)(tfxfer) if package else tfxfer
    assert name in dir(package), path
    assert getattr(package, name).__name__ == path, path
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_function_has_the_name_of_a_module_beside_it():
    shadowed = [
        f"{dotted(package)}.{name}"
        for package in PACKAGES
        for name in submodules(package)
        if not inspect.ismodule(vars(importlib.import_module(dotted(package))).get(name, inspect))
    ]
    assert shadowed == []


@pytest.mark.parametrize("package", PACKAGES, ids=dotted)
def test_type_checkers_see_the_names_that_are_loaded_on_first_use(package):
    seen = list(for_type_checkers(package))
    modules = {name for module, name in seen if module == dotted(package)}
    lines = "\n".join(f"    from {dotted(package)} import {name} as {name}" for name in sorted(submodules(package)))
    assert modules == submodules(package), f"{package / '__init__.py'} should say, below `if TYPE_CHECKING:`\n{lines}"
    own = {name for module, name in seen if module != dotted(package)}
    assert own == (set(FUNCTIONS_AND_TYPES) if dotted(package) == "tfxfer" else set())


def test_what_type_checkers_see_is_what_there_is():
    for module, name in for_type_checkers(ROOT / "tfxfer"):
        if module != "tfxfer":
            assert getattr(tx, name) is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("module", "name", "nearest"),
    [("tfxfer", "select_", "select"), ("tfxfer.models", "vgg16", "vgg"), ("tfxfer.weights", "layout", "layouts")],
)
def test_a_name_that_is_not_there_is_answered_with_the_nearest(module, name, nearest):
    message = f"module {module!r} has no attribute {name!r} (did you mean {nearest}?)"
    with pytest.raises(AttributeError, match=re.escape(message)):
        getattr(importlib.import_module(module), name)


# --- the wheel ---


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("tfxfer", "tools", "checkpoints", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, source)
    [path] = folder.glob("tfxfer-*.whl")
    return path


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def site(wheel) -> Path:
    """A folder with what the wheel installs."""
    zipfile.ZipFile(wheel).extractall(wheel.parent / "site")
    return wheel.parent / "site"


@pytest.fixture(scope="module")
def installed(wheel) -> Path:
    """The command `tfxfer` of an environment in which the wheel is installed, with the dependencies of this one."""
    folder = wheel.parent / "environment"
    venv.create(folder, with_pip=False)
    # pip first: it would take what lies in the other environment for installed already.
    pip("--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    [packages] = folder.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(ours))
    return folder / "bin" / "tfxfer"


def run_with(site: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=300, cwd=folder, env=environment
    )


def test_the_wheel_has_the_front_door_and_the_tools(site, tmp_path):
    code = "import tfxfer as tx; print(tx.__file__, tx.__version__, *(n for n in dir(tx) if n[0] != '_'), sep='\\n')"
    done = run_with(site, tmp_path, "-c", code)
    assert done.stdout.splitlines() == [str(site / "tfxfer" / "__init__.py"), tx.__version__, *NAMES], done.stderr
    done = run_with(site, tmp_path, "-m", "tfxfer.tools._main", "--version")
    assert done.stdout == f"tfxfer {tx.__version__}\n"


def test_the_wheel_holds_what_runs_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {path.relative_to(ROOT) for folder in ("tfxfer", "tools") for path in (ROOT / folder).rglob("*.py")}
    inside = {str(path) if path.parts[0] == "tfxfer" else f"tfxfer/{path}" for path in sources}
    data = {"py.typed", "models/imagenet_classes.txt", *(f"checkpoints/{path.name}" for path in CHECKPOINT)}
    about = f"tfxfer-{tx.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(about)} == inside | {f"tfxfer/{name}" for name in data}
    assert {"LICENSE", "METADATA", "entry_points.txt"} < {Path(name).name for name in names if name.startswith(about)}
    assert wheel.name == f"tfxfer-{tx.__version__}-py3-none-any.whl"


@pytest.mark.parametrize("epochs", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_the_installed_wheel_runs_the_quickstart_from_an_empty_folder(installed, tmp_path, epochs):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [installed, "train", "--logdir=runs/digits", f"--epochs={epochs}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    weights = next(installed.parents[1].glob("lib/python*/site-packages/tfxfer/checkpoints")) / "digits_autoencoder"
    assert f"--weights={weights}, as none is given\n" in done.stdout
    assert "restore plan: 4 of 8 variables" in done.stdout
    accuracy = float(re.search(r"^test accuracy (\S+)$", done.stdout, re.MULTILINE)[1])
    assert accuracy >= (0.98 if epochs == 20 else 0.9)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


USERS_SCRIPT = """
import tensorflow.compat.v1 as tf  # type: ignore[import-untyped]
import tfxfer as tx

data: tx.Data = tx.data.digits()
split: tx.Split = data.test
with tf.Graph().as_default():
    images = tf.placeholder(tf.uint8, [None, 28, 28, 1])
    labels = tf.placeholder(tf.int64, [None])
    features = tx.models.autoencoder.encoder(images)["flatten"]
    logits = tx.models.heads.classifier(features, hidden=[200], classes=10)
    weights: tx.Weights = tx.open_weights("runs/convolutions")
    plan: tx.Plan = tx.plan(tx.select("conv.*"), weights)
    stages = [tx.Stage(0, ["logits/.*"])]
    step: tx.Step = tx.train_step(images, labels, logits, stages=stages)
    with tx.session(plan) as sess:
        data = tx.precompute(sess, step, data, store="store")
        fitted: tx.Fitted = tx.fit(sess, step, data, epochs=2, logdir="runs/digits")
        evaluation: tx.Evaluation = tx.evaluate(sess, step, data.test)
accuracy: float = evaluation.accuracy
best: str = fitted.best
spec: tx.InputSpec = tx.models.autoencoder.input_spec(images)
"""


def test_a_users_script_is_type_checked_against_the_wheel(site, tmp_path):
    modules = [f"{dotted(package)}.{name}" for package in PACKAGES for name in sorted(submodules(package))]
    named = [f"tfxfer.{name}" for name in FUNCTIONS_AND_TYPES] + modules
    reveal = "\n".join(["import tfxfer", *(f"reveal_type({name})" for name in named)])
    wrong = "import tfxfer\n" + "\n".join(
        ['path: int = tfxfer.open_weights("a")', "tfxfer.nothing", "tfxfer.models.nothing", "tfxfer.plan(1)"]
    )
    for name, text in {"script": USERS_SCRIPT, "reveal": reveal, "wrong": wrong}.items():
        (tmp_path / f"{name}.py").write_text(text + "\n")
    flags = ["--strict", "--follow-imports=silent", "--no-error-summary", "--cache-dir", str(tmp_path / "cache")]
    done = run_with(site, tmp_path, "-m", "mypy", *flags, "script.py", "reveal.py", "wrong.py")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("script.py")] == []
    seen = [
        re.sub(r'^reveal.py:\d+: note: Revealed type is "(.*)"$', r"\1", line) for line in lines if "reveal.py" in line
    ]
    assert len(seen) == len(named), lines
    opaque = [name for name, type_ in zip(named, seen, strict=True) if type_ in ("Any", "builtins.object")]
    assert opaque == []
    assert all(type_ == "types.ModuleType" for type_ in seen[len(FUNCTIONS_AND_TYPES) :])
    assert [re.search(r"\[(\S+)\]$", line)[1] for line in lines if line.startswith("wrong.py") and "error" in line] == [
        *("assignment", "attr-defined", "attr-defined", "call-arg"),
    ]
