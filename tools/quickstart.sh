#!/usr/bin/env bash
# Set up tfxfer and run its main job on scikit-learn's digits: restore the convolutions of an autoencoder into a
# classifier, train the fully connected layers only, and print the accuracy and how to look at the run.
#
#     bash tools/quickstart.sh [FLAGS OF tfxfer train]

. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

set -- --weights=checkpoints/digits_autoencoder --dataset=digits --logdir=runs/digits "$@"
say ".venv/bin/tfxfer train $*"
exec .venv/bin/tfxfer train "$@"
