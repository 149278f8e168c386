"""VGG16's own fully connected layers on frozen convolutions."""

from __future__ import annotations

from benchmarks import machine
from benchmarks.case import Agreement, Case, Comparison, module
from benchmarks.cases.extraction import NO_UNITS

TFXFER, KERAS, LOOP = "tfxfer, with a store", "Keras, trainable=False", "plain loop through all layers"
HALF = "tfxfer, trained in bfloat16"

CASES = (
    Case(
        name="vgg16_top",
        title="VGG16's fc6 to fc8 on frozen convolutions, from JPEGs",
        sides=(
            module(TFXFER, "ours.top", "--train_precision=float32"),
            module(KERAS, "peers.keras_top"),
            module(LOOP, "peers.feed_top"),
            module(HALF, "ours.top", "--train_precision=bfloat16", left_out=NO_UNITS),
        ),
        comparisons=(
            Comparison(TFXFER, KERAS, by="epoch", target=20, words="an epoch from the second on, against Keras"),
            Comparison(TFXFER, LOOP, by="epoch", target=20, words="an epoch from the second on, against the loop"),
            Comparison(
                HALF,
                KERAS,
                by="epoch",
                target=40 if machine.has_amx() else None,
                words="an epoch from the second on, trained in bfloat16, against Keras",
            ),
            Comparison(TFXFER, KERAS, words="all epochs, against Keras"),
            Comparison(TFXFER, LOOP, words="all epochs, against the loop"),
        ),
        agreements=(Agreement("losses", 0.05),),
        sizes={"pictures": 256, "epochs": 3, "batch": 128, "side": 224, "width": 500},
        quick={"pictures": 24, "epochs": 2, "batch": 8, "side": 32},
        warm={"pictures": 16, "epochs": 2, "batch": 8},
        prepare="top.prepare",
        notes=(
            "All sides start with the same values and see the same batches in the same order, with Adam at 0.00001 "
            "and without dropout, so that the losses of all epochs agree. tfxfer validates and saves once, at the "
            "end, which the figure of all epochs includes; the others neither validate nor save. Trained in bfloat16 "
            "are products alone: variables stay float32, and so do the frozen layers.",
        ),
    ),
)
