"""The house rules that no linter knows: who may import whom, docstrings, tests; read from the sources with `ast`."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "tfxfer").rglob("*.py"))
TOOLS = sorted((ROOT / "tools").glob("*.py"))
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))

FREE = {"_lazy", "_version"}  # for all
GROUND = {
    "errors",
    "extras",
    "names",
    "files",
    "input_spec",
    "markup",
    "notebook",
    "callables",
    "processor",
    "progress",
    "signals",
    "tf_private",
}
BYTES = GROUND | {"formats", "weights", "runs"}
GRAPHS = BYTES | {"data", "graph"}
SESSIONS = GRAPHS | {"frontier", "restore", "store", "evaluation"}
# What each part of tfxfer may import besides itself: only what lies below it.
FLOORS = {
    "_lazy": {"names"},
    "_version": set(),
    "errors": set(),
    "extras": {"errors"},
    "files": set(),
    "names": {"errors"},
    "callables": {"tf_private"},
    "tf_private": set(),
    "processor": {"names"},
    "markup": set(),
    "notebook": {"markup"},
    "progress": {"markup", "notebook"},
    "signals": set(),
    "runs": {"errors", "names"},
    "statistics": {"errors", "names", "files", "runs"},
    "input_spec": {"errors", "names", "files"},
    "formats": {"errors", "names"},
    "weights": GROUND | {"formats"},
    "weight_tools": BYTES | {"models"},
    "data": GROUND,
    "graph": BYTES | {"data"},
    "models": GRAPHS,
    "graph_def": GROUND | {"graph"},
    "networks": GRAPHS | {"graph_def", "models"},
    "restore": GRAPHS,
    "frontier": GRAPHS,
    "store": GRAPHS | {"frontier", "graph_def"},
    "plots": GROUND | {"data", "store", "statistics"},
    "data_checks": GROUND | {"data", "plots"},
    "evaluation": GRAPHS | {"frontier", "store", "plots", "statistics"},
    "tensorboard": SESSIONS | {"plots", "statistics"},
    "train": SESSIONS | {"tensorboard"},
    "serving": SESSIONS | {"models", "networks", "train", "reports", "statistics"},
    "reports": BYTES | {"plots", "statistics"},
    "tuning": SESSIONS | {"tensorboard"},
}
WITHOUT_TENSORFLOW = BYTES | {"weight_tools", "data", "data_checks", "reports", "plots", "statistics"}
# These load it in a function: with the first picture, or where there is a session.
INSIDE = {"data", "callables", "tf_private"}
BANNED = {"tf_keras", "tf_slim", "pickle", "cloudpickle", "dill"}


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """Let go of the trees in the end: they take a lot of memory."""
    yield
    parse.cache_clear()


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path), feature_version=(3, 10))


def at(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def part_of(path: Path) -> str:
    """`tfxfer/restore/session.py` belongs to `restore`, `tfxfer/names.py` to `names`."""
    return path.relative_to(ROOT / "tfxfer").parts[0].removesuffix(".py")


def walk_runtime(node: ast.AST) -> Iterator[ast.AST]:
    """Walk everything but `if TYPE_CHECKING:` blocks."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from walk_runtime(child)


def imports(path: Path, walk: Callable[[ast.AST], Iterator[ast.AST]] = walk_runtime) -> Iterator[tuple[ast.AST, str]]:
    """Yield each module imported, in full: `from tfxfer import names` gives `tfxfer.names`."""
    for node in walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            origin = ".".join(filter(None, [package, node.module]))
            yield from ((node, f"{origin}.{alias.name}") for alias in node.names)


def test_every_part_imports_only_what_lies_below_it():
    faults = []
    for path in LIBRARY:
        part = part_of(path)
        for node, name in imports(path):
            if not name.startswith("tfxfer.") or part == "__init__":
                continue
            other = name.split(".")[1]
            if other != part and other not in FLOORS.get(part, set()) | FREE:
                faults.append(f"{at(path, node)}: {part} may not import {name}")
    assert not faults, "\n".join(faults)


def module_of(path: Path) -> str:
    """`tfxfer/graph/layers.py` is `tfxfer.graph.layers`, `tfxfer/graph/__init__.py` is `tfxfer.graph`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def needed_by_module() -> dict[str, set[str]]:
    """Map each module to those that it imports, also for type checkers alone.

    What an `__init__` imports for type checkers is left out: these are the names that it loads when they are used.
    """
    modules = {module_of(path): path for path in LIBRARY}
    needed = {}
    for module, path in modules.items():
        names = {name for _, name in imports(path, walk_runtime if path.stem == "__init__" else ast.walk)}
        origins = {name if name in modules else name.rpartition(".")[0] for name in names}
        needed[module] = origins.intersection(modules) - {module}
    return needed


def circle(needed: Mapping[str, Iterable[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(needed).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other_in_a_circle_not_even_for_type_checkers():
    needed = needed_by_module()
    assert circle(needed) == []
    parts: dict[str, set[str]] = {}
    for module, others in needed.items():
        for part in module.split(".")[1:2]:
            parts.setdefault(part, set()).update({other.split(".")[1] for other in others if "." in other} - {part})
    assert circle(parts) == []


def test_no_package_holds_more_than_a_sixth_of_the_lines():
    lines: Counter[str] = Counter()
    for path in LIBRARY + TOOLS:
        package = path.relative_to(ROOT).parts[:-1]
        lines[package[1] if len(package) > 1 else package[0]] += path.read_bytes().count(b"\n")
    shares = {package: count / lines.total() for package, count in lines.items()}
    assert {package: f"{share:.1%}" for package, share in shares.items() if share > 0.17} == {}


def test_every_module_has_a_test_file_under_the_same_path():
    missing = {
        str(path.relative_to(ROOT / "tfxfer"))
        for path in LIBRARY
        if not path.stem.startswith("_")
        and not (ROOT / "tests" / path.relative_to(ROOT / "tfxfer")).with_name(f"test_{path.stem}.py").exists()
    }
    assert sorted(missing) == [], "write a test file for these"


def test_every_part_has_a_floor():
    assert {part_of(path) for path in LIBRARY} - {"__init__"} <= set(FLOORS)


def test_nothing_in_the_library_imports_the_tools():
    found = [at(path, node) for path in LIBRARY for node, name in imports(path) if name.startswith("tfxfer.tools")]
    assert not found, "\n".join(found)


def test_the_examples_take_tfxfer_by_its_front_door_alone():
    faults = [
        f"{at(path, node)}: {name}"
        for path in EXAMPLES
        for node, name in imports(path)
        if name.split(".")[0] == "tfxfer" and name != "tfxfer"
    ]
    assert not faults, "\n".join(faults)


def test_what_only_reads_files_imports_no_tensorflow():
    faults = [
        f"{at(path, node)}: {name}"
        for path in LIBRARY
        if part_of(path) in WITHOUT_TENSORFLOW
        for node, name in imports(path)
        if name.split(".")[0] in ("tensorflow", "keras") and not (part_of(path) in INSIDE and node.col_offset)
    ]
    assert not faults, "\n".join(faults)


def test_nobody_imports_pickle_or_what_stock_tensorflow_lacks():
    faults = [
        f"{at(path, node)}: {name}"
        for path in LIBRARY + TOOLS + EXAMPLES
        for node, name in imports(path)
        if name.split(".")[0] in BANNED
    ]
    assert not faults, "\n".join(faults)


def test_nobody_allows_numpy_to_unpickle():
    faults = [
        at(path, node)
        for path in LIBRARY + TOOLS + EXAMPLES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
    ]
    assert not faults, "\n".join(faults)


def test_tensorflow_has_one_spelling():
    # `import tensorflow` alone switches nothing, but gives the TF 2 names; the protobufs have no other home.
    faults = [
        f"{at(path, node)}: {name}"
        for path in LIBRARY + TOOLS + EXAMPLES
        for node, name in imports(path)
        if name == "tensorflow" or name.startswith("tensorflow.keras")
    ]
    assert not faults, "\n".join(faults)


def test_what_tensorflow_keeps_private_is_used_in_one_module():
    attributes = {"_config", "_get_save_slice_info", "_id", "_make_callable_from_options", "_shape_tuple",
                  "_as_graph_element", "_as_graph_def", "_c_graph", "_c_op", "_set_attr", "_unsafe_unfinalize",
                  "_variable_list", "_handle_name"}  # fmt: skip
    faults = []
    for path in LIBRARY + TOOLS + EXAMPLES:
        if path.name == "tf_private.py":
            continue
        faults += [f"{at(path, node)}: {name}" for node, name in imports(path) if name.startswith("tensorflow.python")]
        faults += [
            f"{at(path, node)}: {ast.unparse(node)}"
            for node in ast.walk(parse(path))
            if isinstance(node, ast.Attribute) and node.attr in attributes and ast.unparse(node.value) != "self"
        ]
    assert not faults, "\n".join(faults)


def test_every_public_function_and_class_has_a_docstring():
    faults = []
    for path in LIBRARY:
        module = parse(path)
        if module.body and not ast.get_docstring(module):
            faults.append(f"{path.relative_to(ROOT)} itself")
        faults += [f"{at(path, node)}: {node.name}" for node in public(module) if not ast.get_docstring(node)]
    assert not faults, "\n".join(faults)


def public(node: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def test_nobody_catches_everything_unless_to_raise_it_again():
    faults = []
    for path in LIBRARY + TOOLS:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ExceptHandler):
                everything = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
                again = ast.unparse(node.body[-1]) == "raise"
                faults += [at(path, node)] if everything and not again else []
    assert not faults, "\n".join(faults)


def test_the_library_never_prints():
    faults = [
        at(path, node)
        for path in LIBRARY
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert not faults, "\n".join(faults)


def messages(module: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield the strings of a module that are not docstrings; of an f-string the text, and {} for each value in it."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = [node.body[0] for node in ast.walk(module) if isinstance(node, owners) and node.body]
    docstrings = {id(line.value) for line in first if isinstance(line, ast.Expr)}
    nodes = list(ast.walk(module))
    texts = {id(node): [p.value if isinstance(p, ast.Constant) else "{}" for p in node.values]
             for node in nodes if isinstance(node, ast.JoinedStr)}  # fmt: skip
    pieces = {id(piece) for node in nodes if isinstance(node, ast.JoinedStr) for piece in node.values}
    for node in nodes:
        if id(node) in texts:
            yield node, "".join(texts[id(node)])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | pieces:
            yield node, node.value


def test_messages_of_the_library_name_parameters_and_no_flags():
    # The tools turn `logdir` into --logdir, in one place. What CSS calls --ink: and var(--ink) is not a flag, and a
    # command to be typed, between backquotes or as a text of its own, has the flags of its tool.
    css = re.compile(r"--[\w-]+:|var\(--[\w-]+\)|`tfxfer [^`]*`|^(tfxfer|python -m|tensorflowjs_converter) .*")
    faults = [
        f"{at(path, node)}: {text!r}"
        for path in LIBRARY
        for node, text in messages(parse(path))
        if re.search(r"--\w", css.sub("", text))
    ]
    assert not faults, "\n".join(faults)


def test_no_tool_hides_a_module_of_the_standard_library():
    # `python tools/NAME.py` puts tools/ first on the path, where inspect.py would be everybody's `import inspect`.
    names = {path.stem for path in TOOLS}
    assert names.isdisjoint(sys.stdlib_module_names | {"tfxfer", "tensorflow", "tensorboard", "numpy", "rich", "absl"})


def loaded_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh process has loaded after running the code."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_tfxfer_loads_neither_tensorflow_nor_numpy():
    assert loaded_after("import tfxfer; dir(tfxfer); tfxfer.__version__").isdisjoint({"tensorflow", "numpy", "rich"})


def test_opening_weights_and_data_loads_no_tensorflow():
    parts = ", ".join(f"tfxfer.{part}" for part in sorted(WITHOUT_TENSORFLOW & {part_of(path) for path in LIBRARY}))
    code = f"import {parts}\nimport tfxfer; tfxfer.open_weights; tfxfer.data.digits"
    assert loaded_after(code).isdisjoint({"tensorflow", "keras"})
