"""Names of a package that are loaded when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping


def attach(
    package: str, homes: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package: they load and list its submodules, and what is public in them.

    Args:
      package: its `__name__`.
      homes: the module of each function and class that is a name of the package too.
    """
    homes = homes or {}

    def submodules() -> set[str]:
        import pkgutil

        modules = pkgutil.iter_modules(sys.modules[package].__path__)
        return {module.name for module in modules if not module.name.startswith("_")} - {"tools"}

    def load(name: str) -> object:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        if name in submodules():
            return importlib.import_module(f"{package}.{name}")
        from tfxfer.names import did_you_mean

        nearest = did_you_mean(name, [*homes, *submodules()])
        raise AttributeError(f"module {package!r} has no attribute {name!r}{nearest}")

    def list_names() -> list[str]:
        own = vars(sys.modules[package])
        special = [name for name in own if name.startswith("__")]
        return sorted({*special, *own.get("__all__", ()), *homes, *submodules()})

    return load, list_names
