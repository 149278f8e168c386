"""Heads on what does not change: codes that are there, and the convolutions of an encoder on handwritten digits."""

from __future__ import annotations

from benchmarks.case import Agreement, Case, Comparison, module
from benchmarks.inputs import REAL_DATA

TFXFER, KERAS, SKLEARN, LOOP, SLIM = "tfxfer", "Keras fit", "scikit-learn", "plain feed_dict loop", "tf_slim"

HEAD = Case(
    name="head",
    title="a head of 256 units on codes of 4,096 numbers",
    sides=(
        module(TFXFER, "ours.head"),
        module(KERAS, "peers.keras_head"),
        module("scikit-learn MLPClassifier", "peers.sklearn_head"),
        module(LOOP, "peers.feed_head"),
    ),
    comparisons=(
        Comparison(TFXFER, KERAS, target=2.8),
        Comparison(TFXFER, "scikit-learn MLPClassifier", target=1.4),
        Comparison(TFXFER, LOOP, target=0.95),
    ),
    agreements=(Agreement("accuracy", 0.05),),
    sizes={"examples": 2936, "epochs": 20, "batch": 32},
    quick={"examples": 1000, "epochs": 5},
    prepare="examples.codes",
    notes=(
        "All sides use Adam at 0.001, the same first values (scikit-learn draws its own) and the same number of "
        "steps. In each epoch tfxfer reads the codes from a store, validates, and writes events and a checkpoint; "
        "Keras and the loop validate.",
    ),
)


def handwriting(batch: int, epochs: int, rate: float) -> Case:
    """Return the case for batches of one size, with so many epochs, at such a rate, that all reach 0.98."""
    flag = f"--rate={rate}"
    real = (REAL_DATA / "mnist").exists()
    return Case(
        name=f"mnist_{batch}",
        title=f"{'MNIST' if real else 'digits'}, a head of 200 units on frozen convolutions, batches of {batch}",
        sides=(
            module(TFXFER, "ours.handwriting", flag),
            module(KERAS, "peers.keras_handwriting", flag),
            module("plain loop through all layers", "peers.feed_handwriting", flag, "--way=plain"),
            module(SLIM, "peers.feed_handwriting", flag, "--way=slim", environment="slim"),
        ),
        comparisons=(
            Comparison(TFXFER, KERAS, target=3),
            Comparison(TFXFER, "plain loop through all layers", target=1.5),
            Comparison(TFXFER, SLIM),
            Comparison(TFXFER, KERAS, by="epoch", target=4,
                       words="an epoch, once the convolutions are stored, against Keras"),
            Comparison(TFXFER, "plain loop through all layers", by="epoch", target=2,
                       words="an epoch, once the convolutions are stored, against the loop"),
        ),
        agreements=(Agreement("accuracy", 0.01, at_least=0.98 if real else None),),
        sizes={"epochs": epochs if real else 10 * epochs, "batch": batch, "pretraining": 3 if real else 0},
        quick={"epochs": 1, "batch": 10 * batch, "pretraining": 0},
        warm={"epochs": 1},
        prepare="examples.handwriting",
        notes=(
            f"All sides start with the same values, take the same number of steps of Adam at {rate}, validate each "
            "epoch, and reach 0.98 on the test images; the test is part of the work. tfxfer starts with an empty "
            "store.",
            "If `pretraining` is 0, the convolutions are those of the digits that come with tfxfer; otherwise an "
            "autoencoder was trained on MNIST for that number of epochs.",
        ),
    )  # fmt: skip


CASES = (HEAD, handwriting(50, 6, 0.001), handwriting(10, 3, 0.0003))
