"""From a folder of JPEGs to the features of a network, by `image_dataset_from_directory` and `predict`."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from benchmarks import work
from benchmarks.peers import keras_networks, tf_networks


def network(given: object) -> keras.Model:
    """Return the network with its weights."""
    if given.network == "vgg16":
        model = keras_networks.vgg16(given.side, top=False)
        file = Path(given.folder, f"vgg16-{given.side}", "vgg16_weights.npz")
        keras_networks.take(model, tf_networks.well_known(file))
        return keras_networks.with_preprocessing(model, given.side)
    model = keras_networks.squeezenet(given.side)
    keras_networks.take_by_name(model, dict(np.load(Path(given.folder, "squeezenet", "squeezenet.npz"))))
    return model


def main() -> None:
    """Extract, and report how long it took."""
    given, whole, computing = work.options(), work.Clock(), work.Clock()
    model = network(given)
    with whole.running():
        pictures = Path(given.folder, f"photographs-{given.pictures}")
        size = (given.side, given.side)
        dataset = keras.utils.image_dataset_from_directory(
            pictures, image_size=size, crop_to_aspect_ratio=True, batch_size=given.batch, shuffle=False, labels=None,
            verbose=False)  # fmt: skip
        with computing.running():
            codes = model.predict(dataset, verbose=0)
    work.report(whole.seconds, {"codes": work.sample(codes)}, computing=computing.seconds)


if __name__ == "__main__":
    main()
