"""VGG16 into Keras's own model by `load_weights`: all of it, or by name into the model without a top."""

from __future__ import annotations

from pathlib import Path

from benchmarks import work
from benchmarks.peers import keras_networks


def main() -> None:
    """Load, and report how long it took."""
    options, clock = work.options(), work.Clock()
    model = keras_networks.vgg16(options.side, top=options.part == "all")
    with clock.running():
        model.load_weights(Path(options.folder, f"vgg16-{options.side}", "vgg16.h5"), by_name=options.part != "all")
    layers = {"conv1_2/kernel": "block1_conv2", "conv5_3/kernel": "block5_conv3"}
    results = {name: work.sample(model.get_layer(layer).get_weights()[0]) for name, layer in layers.items()}
    work.report(clock.seconds, results)


if __name__ == "__main__":
    main()
