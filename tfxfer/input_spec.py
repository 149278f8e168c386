"""What a set of weights expects of its input and means by its output.

An input spec travels with the weights, as `<prefix>.input_spec.json` beside the checkpoint, so that training,
evaluation, prediction and export all prepare pictures as the weights want them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfxfer import files, names
from tfxfer.errors import SelectionError, WeightsError

SUFFIX = ".input_spec.json"
CHANNELS = {"RGB": 3, "BGR": 3, "grey": 1}
RESIZES = ("crop", "plain")
DECODES = ("exact", "scaled")
MAX_SIDE = 65535
MAX_NUMBER = 1e9
MAX_BYTES = 4 << 20  # of a file: as JSON, a hundred thousand names of classes take less
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1
# Keras's words for how pixels are prepared: order of channels, mean and scale.
KERAS_MODES: dict[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "caffe": ("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "tf": ("RGB", (127.5, 127.5, 127.5), (1 / 127.5, 1 / 127.5, 1 / 127.5)),
    "torch": (
        "RGB",
        tuple(255 * mean for mean in _IMAGENET_MEAN),
        tuple(1 / (255 * deviation) for deviation in _IMAGENET_DEVIATION),
    ),
    "none": ("RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """How pictures become the input of a network, and what its classes are called.

    The input is `(pixels - mean) * scale`, channel by channel, of pixels in 0..255 in the order of `channels`.

    Attributes:
      model: the name of the network, as `vgg16`.
      source: where the weights come from, in words or as the name of a `models.sources.Source`.
      size: height and width of the input in pixels.
      channels: `RGB`, `BGR` or `grey`.
      mean: what is subtracted from each channel, in units of pixels, in the order of `channels`.
      scale: what each channel is multiplied by afterwards, in the order of `channels`.
      resize: how a picture comes to `size`: `crop`, the largest centred crop of the same proportions and then
        bilinearly; `plain`, bilinearly without regard to its proportions.
      class_names: the name of each output, in order; empty where nobody knows them.
      decode: how a JPEG comes to pixels: `exact`, all of them; `scaled`, at a half, a quarter or an eighth of its size
        where that is not below `size`.

    Example:
      >>> spec = tx.InputSpec("vgg16", "my own", (224, 224), "RGB", mean=(123.7, 116.8, 103.9), scale=(1.0, 1.0, 1.0))
      >>> print(spec)
      224x224 by 'crop', RGB, minus (123.7, 116.8, 103.9)
    """

    model: str
    source: str
    size: tuple[int, int]
    channels: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    resize: str = "crop"
    class_names: tuple[str, ...] = ()
    decode: str = "exact"

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
          WeightsError: some value is of the wrong type or out of range; all of them are listed.
        """
        _refuse(_value_faults(vars(self)), "the input spec")

    def __str__(self) -> str:
        times = "" if set(self.scale) == {1} else f", times ({_numbers(self.scale)})"
        size = f"{self.size[0]}x{self.size[1]} by {self.resize!r}"
        size += ", decoded scaled" if self.decode == "scaled" else ""
        return f"{size}, {self.channels}, minus ({_numbers(self.mean)}){times}"

    @classmethod
    def of_keras(
        cls,
        mode: str,
        size: tuple[int, int],
        *,
        model: str,
        source: str = "",
        resize: str = "crop",
        class_names: Sequence[str] = (),
    ) -> InputSpec:
        """Make the input spec of what Keras calls a mode of `preprocess_input`.

            tx.InputSpec.of_keras("tf", (224, 224), model="mobilenet")

        Args:
          mode: `caffe`, BGR minus the mean of ImageNet; `tf`, RGB in -1..1; `torch`, RGB in 0..1 minus mean by standard
            deviation of ImageNet; `none`, RGB in 0..255.
          size, model, resize, class_names: as `InputSpec` has them.
          source: where the weights come from. Default: the mode in words.

        Raises:
          SelectionError: `mode` is none of these.
          WeightsError: some value is of the wrong type or out of range.
        """
        if mode not in KERAS_MODES:
            near = names.did_you_mean(mode, KERAS_MODES)
            raise SelectionError(f"{mode!r} is not a mode of Keras's{near}; the modes are {', '.join(KERAS_MODES)}")
        channels, mean, scale = KERAS_MODES[mode]
        source = source or f"pixels as Keras's mode {mode} prepares them"
        return cls(model, source, size, channels, mean, scale, resize, tuple(class_names))

    def to_json(self) -> dict[str, Any]:
        """Return it as a dict of strings, numbers and lists; `decode` is left out where it is `exact`."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {key: value for key, value in values.items() if key not in _OPTIONAL or value != _OPTIONAL[key]}

    @classmethod
    def from_json(cls, value: object, where: str = "the input spec") -> InputSpec:
        """Make an input spec of what `to_json` returned.

        Args:
          value: the dict; every key but `decode` must be there and no other.
          where: what messages call it.

        Raises:
          WeightsError: it is not a dict, keys are unknown or missing, or values are of the wrong type or out of range;
            all of them are listed.
        """
        if not isinstance(value, dict):
            raise WeightsError(f"{where} must be a JSON object, not {_shown(value)}")
        given: dict[str, Any] = {
            str(key): tuple(item) if isinstance(item, list) else item for key, item in value.items()
        }
        unknown = {key: f"unknown key{names.did_you_mean(key, _CHECKS)}" for key in given if key not in _CHECKS}
        missing = {key: "missing" for key in _CHECKS if key not in given and key not in _OPTIONAL}
        _refuse(unknown | missing | _value_faults(given), where)
        return cls(**given)

    def save(self, prefix: str | os.PathLike[str]) -> None:
        """Write it beside the checkpoint of this prefix; an old input spec there is replaced in one step.

        Raises:
          OSError: the folder is missing or not writable, or the disk is full.
        """
        files.write_json(sidecar(prefix), self.to_json())

    @classmethod
    def load(cls, prefix: str | os.PathLike[str]) -> InputSpec:
        """Read the input spec beside the checkpoint of this prefix, or the file that is named, `*.json`.

        Raises:
          WeightsError: there is none, or it is not JSON, or not an input spec; or it is larger than any.
        """
        itself = os.fspath(prefix).endswith(".json")
        path = Path(prefix) if itself else sidecar(prefix)
        try:
            value = json.loads(_content(path))
        except FileNotFoundError:
            if itself:
                raise WeightsError(f"{path} is not there") from None
            raise WeightsError(f"no input spec lies beside {os.fspath(prefix)}: {path} is missing") from None
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
        except WeightsError:  # which is a ValueError, too
            raise
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path} is not JSON: {error}") from None
        return cls.from_json(value, str(path))


def with_size(input_spec: InputSpec, side: int | None) -> InputSpec:
    """Return an input spec for squares of a side in pixels; the spec itself where `side` is None."""
    return dataclasses.replace(input_spec, size=(side, side)) if side else input_spec


def sidecar(prefix: str | os.PathLike[str]) -> Path:
    """Return where the input spec of a checkpoint lies: `model.ckpt-7` has `model.ckpt-7.input_spec.json`."""
    return Path(os.fspath(prefix) + SUFFIX)


def _content(path: Path) -> bytes:
    # Opening a pipe would wait for somebody to write into it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise WeightsError(f"{path} cannot be read: it is not a regular file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise WeightsError(f"{path} is not an input spec: it has more than {MAX_BYTES:,} bytes")
    return content


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_number(value: object) -> bool:
    # NaN is not below anything, and bool is an int.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_SIDE


def _every(check: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, tuple) and all(map(check, value))


# What each value must be: a check, and what the message calls it.
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (_is_text, "a text that is not empty"),
    "source": (_is_text, "a text that is not empty"),
    "size": (lambda value: _every(_is_side)(value) and len(value) == 2, f"height and width, each from 1 to {MAX_SIDE}"),
    "channels": (lambda value: isinstance(value, str) and value in CHANNELS, f"one of {', '.join(CHANNELS)}"),
    "mean": (_every(_is_number), "a number for each channel"),
    "scale": (_every(lambda value: _is_number(value) and value != 0), "a number other than 0 for each channel"),
    "resize": (lambda value: isinstance(value, str) and value in RESIZES, f"one of {', '.join(RESIZES)}"),
    "class_names": (_every(lambda value: isinstance(value, str)), "a list of texts"),
    "decode": (lambda value: isinstance(value, str) and value in DECODES, f"one of {', '.join(DECODES)}"),
}
# What may be absent, and what that means: input specs of before had no such key.
_OPTIONAL = {"decode": "exact"}


def _value_faults(values: Mapping[str, Any]) -> dict[str, str]:
    faults = {
        key: f"must be {wanted}, not {_shown(values[key])}"
        for key, (check, wanted) in _CHECKS.items()
        if key in values and not check(values[key])
    }
    count = 0 if "channels" in faults else CHANNELS.get(values.get("channels", ""))
    for key in ("mean", "scale"):
        if count and key in values and key not in faults and len(values[key]) != count:
            faults[key] = f"must have {count} numbers, as channels is {values['channels']}, and has {len(values[key])}"
    return faults


def _refuse(faults: Mapping[str, str], where: str) -> None:
    if faults:
        width = max(map(len, faults))
        lines = [f"{where} has {len(faults)} faults:" if len(faults) > 1 else f"{where} has a fault:"]
        raise WeightsError("\n".join(lines + [f"  {key:{width}}  {fault}" for key, fault in faults.items()]))


def _shown(value: object) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
