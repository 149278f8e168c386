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


class Docstrings(griffe.Extension):
    """Shows examples as code and the networks of a family as functions; misses docstrings."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Make of `Example:` the heading by which Griffe knows code, and let no word of `Returns:` pass for a type."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            if isinstance(obj, griffe.Function) and obj.returns:
                text = re.sub(r"^Returns:\n +", lambda match: f"{match[0]}{obj.returns}: ", text, flags=re.MULTILINE)
            obj.docstring.value = text

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
