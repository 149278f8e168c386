"""VGG16 and SqueezeNet 1.0 in PyTorch, with the arrays of tfxfer's names."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

MEAN_RGB, MEAN_BGR = (123.68, 116.779, 103.939), (104.0, 117.0, 123.0)
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
SQUEEZE = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}


class Pixels(nn.Module):
    """From uint8 [n, h, w, 3], RGB, to what the network expects, [n, 3, h, w] with the channels last in memory."""

    def __init__(self, mean: tuple[float, ...], bgr: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.mean, self.bgr, self.dtype = torch.tensor(mean).view(1, 3, 1, 1), bgr, dtype

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Subtract the mean."""
        x = pixels.permute(0, 3, 1, 2)
        x = x.flip(1) if self.bgr else x
        return (x.float() - self.mean).to(self.dtype).contiguous(memory_format=torch.channels_last)


class Fire(nn.Module):
    """A fire module."""

    def __init__(self, arrays: dict[str, np.ndarray], name: str) -> None:
        super().__init__()
        self.squeeze = convolution(arrays, f"{name}/squeeze1x1")
        self.expand = nn.ModuleList(convolution(arrays, f"{name}/expand{size}x{size}") for size in (1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Squeeze and expand."""
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(each(x)) for each in self.expand], 1)


def vgg16(arrays: dict[str, np.ndarray], dtype: torch.dtype) -> nn.Module:
    """Return VGG16 from pixels to pool5."""
    layers: list[nn.Module] = [Pixels(MEAN_RGB, False, dtype)]
    for block, (depth, _) in enumerate(BLOCKS, 1):
        for number in range(1, depth + 1):
            layers += [convolution(arrays, f"conv{block}_{number}"), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
    return _ready(nn.Sequential(*layers), dtype)


def squeezenet(arrays: dict[str, np.ndarray], dtype: torch.dtype) -> nn.Module:
    """Return SqueezeNet 1.0 from pixels to fire9 averaged over positions."""
    layers = [Pixels(MEAN_BGR, True, dtype), convolution(arrays, "conv1", stride=2, padding=0), nn.ReLU(inplace=True)]
    for number in range(1, 10):
        layers += [Fire(arrays, f"fire{number}")] if number in SQUEEZE else []
        layers += [nn.MaxPool2d(3, 2)] if number in (1, 4, 8) else []
    return _ready(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), dtype)


def convolution(arrays: dict[str, np.ndarray], name: str, stride: int = 1, padding: int | None = None) -> nn.Conv2d:
    """Return a convolution with the values of a kernel [h, w, in, out] and its bias."""
    kernel = arrays[f"{name}/kernel"]
    size, _, incoming, outgoing = kernel.shape
    made = nn.Conv2d(incoming, outgoing, size, stride, size // 2 if padding is None else padding)
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))))
        made.bias.copy_(torch.from_numpy(arrays[f"{name}/bias"]))
    return made


def _ready(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return model.eval().to(dtype).to(memory_format=torch.channels_last)
