"""Functions for the networks of a family, which have one signature and differ by their name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def member(build: Callable[Concatenate[str, P], T], model: str, summary: str) -> Callable[P, T]:
    """Return a function that builds one network of a family.

    Args:
      build: builds any of them; its first argument is the name of the network.
      model: that name, which the function gets.
      summary: the first line of its docstring, in front of that of `build` without its first line.
    """

    @functools.wraps(build)
    def function(*args: P.args, **kwargs: P.kwargs) -> T:
        return build(model, *args, **kwargs)

    signature = inspect.signature(build)
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=list(signature.parameters.values())[1:]
    )
    function.__name__ = function.__qualname__ = model
    function.__doc__ = "\n".join([summary, *(build.__doc__ or "").split("\n")[1:]])
    return function
