"""From a folder of JPEGs to the features of a network, by `image_dataset_from_directory` and `predict`."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from benchmarks import work
from benchmarks.peers import keras_networks, tf_networks


def network(options: object) -> keras.Model:
    """Return the network with its weights."""
    if options.network == "vgg16":
        model = keras_networks.vgg16(options.side, top=False)
        file = Path(options.folder, f"vgg16-{options.side}", "vgg16_weights.npz")
        keras_networks.take(model, tf_networks.well_known(file))
        return keras_networks.with_preprocessing(model, options.side)
    model = keras_networks.squeezenet(options.side)
    keras_networks.take_by_name(model, dict(np.load(Path(options.folder, "squeezenet", "squeezenet.npz"))))
    return model


def main() -> None:
    """Extract, and report how long it took."""
    options, whole, computing = work.options(), work.Clock(), work.Clock()
    model = network(options)
    with whole.running():
        pictures = Path(options.folder, f"photographs-{options.pictures}")
        size = (options.side, options.side)
        dataset = keras.utils.image_dataset_from_directory(
            pictures, image_size=size, crop_to_aspect_ratio=True, batch_size=options.batch, shuffle=False, labels=None,
            verbose=False)  # fmt: skip
        with computing.running():
            codes = model.predict(dataset, verbose=0)
    work.report(whole.seconds, {"codes": work.sample(codes)}, computing=computing.seconds)


if __name__ == "__main__":
    main()
