"""Tables of the convolutions that a batch normalisation follows, and how PyTorch and TensorFlow call their variables.

A convolution `stem` has `stem/kernel`, or `stem/depthwise_kernel` where it convolves each channel alone, and its batch
normalisation has `stem_bn/gamma`, `stem_bn/beta`, `stem_bn/moving_mean` and `stem_bn/moving_variance`. No TensorFlow is
loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tfxfer.models.sources import Shape
from tfxfer.names import Rules

# PyTorch's names of what a batch normalisation keeps, and ours.
_TORCH = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
TORCH_LAYOUT: Rules = (
    (".*/depthwise_kernel", "oihw_depthwise"),
    ("fc/kernel", "transpose"),
    (".*/kernel", "oihw_conv"),
)


class Convolution(NamedTuple):
    """A convolution and its batch normalisation: our name, the side of the kernel, channels in and out, whether it is
    depthwise.
    """

    name: str
    size: int
    incoming: int
    outgoing: int
    depthwise: bool = False

    @property
    def kernel(self) -> str:
        """The name of the kernel."""
        return f"{self.name}/depthwise_kernel" if self.depthwise else f"{self.name}/kernel"

    @property
    def shape(self) -> Shape:
        """The shape of the kernel."""
        last = (self.outgoing, 1) if self.depthwise else (self.incoming, self.outgoing)
        return (self.size, self.size, *last)


def variables(convolutions: Iterable[Convolution]) -> dict[str, Shape]:
    """Return the shape of every variable of these convolutions and of the classifier `fc` on the last of them."""
    shapes: dict[str, Shape] = {}
    channels = 0
    for convolution in convolutions:
        channels = convolution.outgoing
        shapes[convolution.kernel] = convolution.shape
        shapes |= {f"{convolution.name}_bn/{ours}": (channels,) for ours in _TORCH.values()}
    return shapes | {"fc/kernel": (channels, None), "fc/bias": (None,)}


def in_torch(convolutions: Iterable[Convolution], theirs: Mapping[str, tuple[str, str]], fc: str) -> Rules:
    """Make rules for a file of PyTorch.

    Args:
      convolutions: those of the network.
      theirs: how the file calls each convolution and its batch normalisation, by our name.
      fc: how it calls the classifier.
    """
    table = {f"{fc}.weight": "fc/kernel", f"{fc}.bias": "fc/bias"}
    for convolution in convolutions:
        conv, norm = theirs[convolution.name]
        table[f"{conv}.weight"] = convolution.kernel
        table |= {f"{norm}.{name}": f"{convolution.name}_bn/{ours}" for name, ours in _TORCH.items()}
    return _rules(table)


def in_tensorflow(
    convolutions: Iterable[Convolution], theirs: Mapping[str, tuple[str, str]], fc: str, end: str = ""
) -> Rules:
    """Make rules for a checkpoint of `tf.layers`.

    Args:
      convolutions, theirs, fc: as `in_torch` takes them.
      end: what stands behind the name of each variable.
    """
    table = {f"{fc}/{name}{end}": f"fc/{name}" for name in ("kernel", "bias")}
    for convolution in convolutions:
        conv, norm = theirs[convolution.name]
        table[f"{conv}/{convolution.kernel.rpartition('/')[2]}{end}"] = convolution.kernel
        table |= {f"{norm}/{ours}{end}": f"{convolution.name}_bn/{ours}" for ours in _TORCH.values()}
    return _rules(table)


def _rules(table: Mapping[str, str]) -> Rules:
    return tuple((re.escape(theirs), ours) for theirs, ours in table.items())
