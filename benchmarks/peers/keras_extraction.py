"""From a folder of JPEGs to the features of a network, by `image_dataset_from_directory` and `predict`."""

from __future__ import annotations

import keras

from benchmarks import work
from benchmarks.peers import keras_networks


def main() -> None:
    """Extract, and report how long it took."""
    options, whole, computing = work.options(), work.Clock(), work.Clock()
    keras.mixed_precision.set_global_policy(options.policy)
    model = keras_networks.codes(options)
    with whole.running():
        size = (options.side, options.side)
        dataset = keras.utils.image_dataset_from_directory(
            work.pictures(options), image_size=size, crop_to_aspect_ratio=True, batch_size=options.batch, shuffle=False,
            labels=None, verbose=False)  # fmt: skip
        with computing.running():
            codes = model.predict(dataset, verbose=0)
    work.report(whole.seconds, {"codes": work.sample(codes)}, computing=computing.seconds)


if __name__ == "__main__":
    main()
