"""What the reference shows of docstrings, beyond what Griffe finds by reading the sources."""

from __future__ import annotations

import ast
import logging
import re
from typing import Any

import griffe
import reference

# Its warnings fail a strict build.
log = logging.getLogger("mkdocs.plugins.tfxfer")


SECTION = re.compile(r"^(?:Args|Attributes):\n(?:  .*\n?|\n(?=  ))*", re.MULTILINE)
SEVERAL = re.compile(r"^  ((?:\w+, )+\w+): (.*(?:\n   .*)*)", re.MULTILINE)


def rewritten(text: str, returns: object = None) -> str:
    """Return a docstring as Griffe reads it.

    Examples are code. Of several parameters on one line, each has a line of its own. What is returned has its type in
    front, so that no word with a colon passes for one.
    """
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    text = SECTION.sub(lambda section: SEVERAL.sub(_apart, section[0]), text)
    if returns:
        text = re.sub(r"^Returns:\n +", lambda heading: f"{heading[0]}{returns}: ", text, flags=re.MULTILINE)
    return text


def _apart(entry: re.Match[str]) -> str:
    return "\n".join(f"  {name}: {entry[2]}" for name in entry[1].split(", "))


class Docstrings(griffe.Extension):
    """Shows examples as code and the networks of a family as functions; misses docstrings."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Write what Griffe would read otherwise in its own way."""
        if obj.docstring:
            returns = obj.returns if isinstance(obj, griffe.Function) else None
            obj.docstring.value = rewritten(obj.docstring.value, returns)

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Put functions in the place of `vgg16 = member(_build, "vgg16", "Build ...")`; see `tfxfer.models.family`."""
        first = ""
        for name, attribute in list(mod.attributes.items()):
            call = attribute.value
            if isinstance(call, griffe.ExprCall) and str(call.function) == "member":
                mod.set_member(name, _member(mod, name, call, first))
                first = first or name

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Warn of names of the reference that are not there or have no docstring."""
        for name in reference.NAMES if pkg.path == "tfxfer" else ():
            try:
                documented = pkg[name].has_docstring
            except KeyError:
                log.warning("docs/hooks/reference.py names tx.%s, which is not there", name)
                continue
            if not documented:
                log.warning("tx.%s has no docstring", name)


def _member(mod: griffe.Module, name: str, call: griffe.ExprCall, first: str) -> griffe.Function:
    """Return the function of one network; what holds of the whole family is said of its first."""
    build = mod.functions[str(call.arguments[0])]
    summary = ast.literal_eval(str(call.arguments[2]))
    rest = build.docstring.value.partition("\n")[2] if build.docstring else ""
    if first:
        rest = f"\nParameters, endpoints and errors are those of `{mod.path}.{first}`."
    function = griffe.Function(
        name, parameters=griffe.Parameters(*list(build.parameters)[1:]), returns=build.returns, parent=mod
    )
    function.docstring = griffe.Docstring(f"{summary}\n{rest}", parent=function)
    return function
