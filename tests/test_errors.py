"""The tree of errors, as the module tells of it."""

from __future__ import annotations

import inspect

import pytest

from tfxfer import errors

CLASSES = [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, Exception)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_a_value_error_a_refusal_and_told_of_in_the_module(error):
    assert issubclass(error, errors.TfxferError)
    assert issubclass(error, ValueError)
    assert f" {error.__name__} " in errors.__doc__


@pytest.mark.parametrize("line", [line for line in errors.__doc__.splitlines() if line.startswith("      ")])
def test_the_tree_in_the_module_shows_what_each_error_is_a_kind_of(line):
    name = line.split()[0]
    parents = {4: "ValueError", 6: "TfxferError", 8: "TfxferError", 10: "RunError"}
    indent = len(line) - len(line.lstrip())
    parent = "ValueError" if name == "TfxferError" else parents[indent]
    assert parent in [base.__name__ for base in getattr(errors, name).__mro__[1:]]


def test_a_restore_error_carries_the_plan_or_none():
    assert errors.RestoreError("no").plan is None
    assert errors.RestoreError("no", plan := object()).plan is plan


def test_errors_that_python_has_a_kind_of_are_of_that_kind_too():
    assert issubclass(errors.NotOpenError, AttributeError)
    assert issubclass(errors.MissingPackageError, ImportError)
