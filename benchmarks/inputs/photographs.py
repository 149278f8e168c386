"""JPEGs like photographs: random, and with the spectrum of natural pictures, so that they take as long to decode."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.case import Sizes
from benchmarks.inputs import networks, once

CLASSES = ("cats", "dogs")
LARGE = 1_000_000  # pixels, from which on pictures are one picture moved about, which takes a hundredth of the time


def photographs(inputs: Path, sizes: Sizes) -> Path:
    """Write so many pictures, so wide and three quarters as high, in two subfolders."""
    where = inputs / f"photographs-{sizes['pictures']}-{sizes['width']}"
    _write(where, sizes["pictures"], (sizes["width"] * 3 // 4, sizes["width"]))
    return where


def with_vgg16(inputs: Path, sizes: Sizes) -> None:
    """Write pictures, their pixels and VGG16."""
    networks.vgg16(inputs, sizes)
    pixels(inputs, sizes)


def with_squeezenet(inputs: Path, sizes: Sizes) -> None:
    """Write pictures, their pixels and SqueezeNet."""
    networks.squeezenet(inputs, sizes)
    pixels(inputs, sizes)


def with_mobilenet(inputs: Path, sizes: Sizes) -> None:
    """Write pictures, their pixels and MobileNet."""
    networks.mobilenet(inputs, sizes)
    pixels(inputs, sizes)


def large_with_squeezenet(inputs: Path, sizes: Sizes) -> None:
    """Write pictures and SqueezeNet; all sides decode."""
    networks.squeezenet(inputs, sizes)
    photographs(inputs, sizes)


def small(inputs: Path, count: int, side: int) -> None:
    """Write so many small square pictures in two subfolders."""
    _write(inputs / f"small-{count}-{side}", count, (side, side))


def pixels(inputs: Path, sizes: Sizes) -> None:
    """Write the decoded pictures at the size of the network, by their paths, for sides that do not decode."""
    from tfxfer.data import Pictures

    where = photographs(inputs, sizes)
    target = inputs / f"pixels-{sizes['pictures']}-{sizes['side']}"
    with once(target) as folder:
        if folder:
            paths = [str(path) for path in sorted(where.rglob("*.jpg"))]
            np.save(folder / "pixels.npy", Pictures(paths, (sizes["side"], sizes["side"]))[:])


def _write(where: Path, count: int, size: tuple[int, int]) -> None:
    from PIL import Image

    with once(where) as folder:
        if folder:
            generator = np.random.default_rng(0)
            for name in CLASSES:
                (folder / name).mkdir()
            for number, picture in zip(range(count), _pictures(generator, size), strict=False):
                path = folder / CLASSES[number % len(CLASSES)] / f"{number:06}.jpg"
                Image.fromarray(picture).save(path, quality=92)


def tinted(generator: np.random.Generator, tint: tuple[int, int, int]) -> Iterator[bytes]:
    """Yield JPEGs of 500x375 without end, shifted towards a colour."""
    from PIL import Image

    while True:
        pixels = np.clip(_picture(generator, (375, 500)).astype(int) + tint, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=92)
        yield file.getvalue()


def _pictures(generator: np.random.Generator, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield pictures without end."""
    if np.prod(size) < LARGE:
        while True:
            yield _picture(generator, size)
    first = _picture(generator, size)
    while True:  # its edges fit together
        yield np.roll(first, generator.integers(0, size), axis=(0, 1))


def _picture(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return uint8 [h, w, 3] whose amplitudes fall with the frequency as photographs' do, colours faster."""
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width)
    frequency[0, 0] = np.inf
    layers = []
    for power, deviation in ((1.3, 55), (2.0, 20), (2.0, 20)):
        spectrum = np.fft.rfft2(generator.standard_normal(size)) / frequency**power
        layer = np.fft.irfft2(spectrum, size)
        layers.append(layer / layer.std() * deviation)
    light, red, blue = layers
    picture = 118 + generator.normal(0, 20) + light[..., None] + np.stack([red, -(red + blue) / 2, blue], axis=-1)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
