"""Every `Example:` of a docstring, run as it stands: in a graph and a folder of its own, with tx, tf and np there."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx

ROOT = Path(__file__).resolve().parent.parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = [path for path in sorted((ROOT / "tfxfer").rglob("*.py")) if "Example:" in path.read_text("utf-8")]


def documented(module: object) -> Iterator[tuple[str, str]]:
    """Yield name and docstring of the functions, classes and methods that a module defines."""
    for name, item in vars(module).items():
        if getattr(item, "__module__", None) == module.__name__:
            yield name, inspect.getdoc(item) or ""
            if inspect.isclass(item):
                methods = ((f"{name}.{key}", value) for key, value in vars(item).items() if callable(value))
                yield from ((key, inspect.getdoc(value) or "") for key, value in methods)


def examples() -> Iterator[tuple[str, str]]:
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for item, text in documented(importlib.import_module(name)):
            if "\nExample:" in text:
                yield f"{name}.{item}", text.partition("\nExample:")[2]


@pytest.mark.parametrize(("name", "text"), [pytest.param(*example, id=example[0]) for example in examples()])
def test_the_example_gives_what_it_says(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(text, {"tx": tx, "tf": tf, "np": np}, name, None, None)
    assert test.examples
    said: list[str] = []
    with tf.Graph().as_default():
        result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert result.failed == 0, "".join(said)


@pytest.mark.parametrize("name", [name for name in dir(tx) if not name.startswith("_")])
def test_every_function_and_type_of_the_front_door_has_an_example(name):
    item = getattr(tx, name)
    assert inspect.ismodule(item) or "\nExample:\n" in (inspect.getdoc(item) or "")
