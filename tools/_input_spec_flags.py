"""The flags that say how pixels become the input of a network in a file which does not say so itself."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from absl import flags

from tfxfer.errors import DataError
from tfxfer.input_spec import CHANNELS, KERAS_MODES, InputSpec
from tfxfer.tools import _flags

PARTS = ("mean", "scale", "bgr")
_ASKED = "give --input_spec=caffe, tf, torch or none, or --mean, --scale and --bgr"


def define(values: flags.FlagValues) -> None:
    """Define the flags."""
    flag: flags.Flag = flags.Flag(
        flags.ArgumentParser(),
        None,
        "input_spec",
        None,
        "How pixels become the input of a network in a file, in Keras's words: caffe, BGR minus the mean of ImageNet; "
        "tf, RGB in -1..1; torch, RGB in 0..1 minus mean by standard deviation of ImageNet; none, 0..255 as they are; "
        "or a file, as lies beside a checkpoint. Default: what the file says, or the parts below.",
    )
    flag.form = "caffe|tf|torch|none|FILE.json"  # type: ignore[attr-defined]  # what --help shows
    flag.choices = [*KERAS_MODES, "@"]  # type: ignore[attr-defined]  # what completion offers: words, and files
    flags.DEFINE_flag(flag, values)
    _flags.DEFINE_floats("mean", "Subtracted from pixels in 0..255: one number, or one a channel (default: 0).", values)
    _flags.DEFINE_floats(
        "scale", "Pixels are multiplied by this after --mean: one, or one a channel (default: 1).", values
    )
    flags.DEFINE_bool(
        "bgr", False, "Whether the channels are blue, green, red, also those of --mean and --scale.", flag_values=values
    )


def input_spec(settings: Any, opened: Any) -> InputSpec:
    """Return what a network in a file expects of pictures: what the file says, or else the flags.

    Args:
      settings: the flags' values.
      opened: a `networks.file_model.FileModel`.

    Raises:
      DataError: nobody says, the flags contradict the file, or it does not take pictures, or not of this size.
      WeightsError: the file of --input_spec cannot be read, or numbers are out of range.
    """
    _check_pictures(opened)
    stated, asked = _of_dtype(opened) or opened.stated, _asked(settings, opened)
    if stated and asked and not _same_pixels(stated, asked):
        asked = dataclasses.replace(asked, size=stated.size)
        raise DataError(
            f"{_given(settings)}: {opened.file.path} says itself what it expects, {stated}, and not {asked}; leave "
            "the flag out, or move the input spec beside its weights away if that is wrong"
        )
    spec = asked if str(settings.input_spec).endswith(".json") else stated or asked
    if spec is None:
        taken = f"{opened.input} ({opened.taken.dtype.name} {opened.taken.shape})"
        raise DataError(f"{opened.file.path} does not say how pixels become its input {taken}: {_ASKED}")
    return dataclasses.replace(spec, model=opened.name, size=_size(settings, opened, spec.size))


def _given(settings: Any) -> str:
    return " and ".join(f"--{name}" for name in ("input_spec", *PARTS) if settings[name].present)


def _same_pixels(a: InputSpec, b: InputSpec) -> bool:
    """Say whether two prepare pixels alike, but for the rounding of their numbers."""
    pairs = zip((*a.mean, *a.scale), (*b.mean, *b.scale), strict=False)  # as many of both, if the channels are the same
    return a.channels == b.channels and all(math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) for x, y in pairs)


def _check_pictures(opened: Any) -> None:
    shape = opened.taken.shape
    if shape.rank not in (None, 4) or _depth(opened) not in (None, *CHANNELS.values()):
        raise DataError(
            f"{opened.file.path}: the input {opened.input} takes {opened.taken.dtype.name} {shape}, and not pictures, "
            "[n, height, width, 1 or 3]; choose another --input"
        )


def _depth(opened: Any) -> int | None:
    return opened.taken.shape.as_list()[-1] if opened.taken.shape.rank else None


def _of_dtype(opened: Any) -> InputSpec | None:
    """Return the input spec of a network that takes bytes: pixels as they are."""
    if opened.taken.dtype.name != "uint8":
        return None
    spec = _of_parts(opened, "RGB", (0.0,), (1.0,), "its input takes uint8")
    known = opened.stated
    return dataclasses.replace(spec, resize=known.resize, class_names=known.class_names) if known else spec


def _asked(settings: Any, opened: Any) -> InputSpec | None:
    """Return the input spec of the flags, with a size that is not final; None where there are none."""
    name = settings.input_spec
    if name and name.endswith(".json"):
        return InputSpec.load(name)
    if name == "none":
        return _of_parts(opened, "RGB", (0.0,), (1.0,), f"--input_spec={name}")
    if name:
        if _depth(opened) == 1:
            raise DataError(f"--input_spec={name} is for RGB, and {opened.input} takes grey; give --mean and --scale")
        return InputSpec.of_keras(name, (1, 1), model=opened.name)
    if not any(settings[part].present for part in PARTS):
        return None
    if settings.mean is None and settings.scale is None:
        raise DataError("--bgr: only the order of the channels, and neither --mean nor --scale; give these too")
    order = "BGR" if settings.bgr else "RGB"
    return _of_parts(opened, order, settings.mean or [0.0], settings.scale or [1.0], "--mean, --scale and --bgr")


def _of_parts(opened: Any, order: str, mean: Any, scale: Any, source: str) -> InputSpec:
    channels = "grey" if _depth(opened) == 1 else order
    mean, scale = (tuple(part) * (CHANNELS[channels] if len(part) == 1 else 1) for part in (mean, scale))
    return InputSpec(opened.name, source, (1, 1), channels, mean, scale)


def _size(settings: Any, opened: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width: of the flag, or else of the file's input or of what is stated."""
    side = settings.image_size
    fixed = opened.taken.shape.as_list()[1:3] if opened.taken.shape.rank else [None, None]
    stated = opened.stated.size if opened.stated else (None, None)
    asked = (side, side) if side else size if str(settings.input_spec).endswith(".json") else stated
    chosen = [ask or fix for ask, fix in zip(asked, fixed, strict=True)]
    if None in chosen:
        raise DataError(f"{opened.file.path}: its input {opened.input} takes images of any size; give --image_size")
    if any(fix and fix != number for fix, number in zip(fixed, chosen, strict=True)):
        raise DataError(
            f"{opened.file.path}: its input {opened.input} takes {opened.taken.shape}, and cannot take images of "
            f"{chosen[0]}x{chosen[1]}; leave --image_size out, or choose another --input"
        )
    return chosen[0], chosen[1]
