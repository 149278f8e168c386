"""Whole jobs, as a user types them: a folder of JPEGs to test accuracy, and one picture to its class."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from benchmarks import machine
from benchmarks.case import Agreement, Case, Comparison, Side, module
from benchmarks.cases.extraction import NO_UNITS
from benchmarks.cases.starting import TOOL, nothing
from benchmarks.inputs import FIVE

TFXFER, THROUGH, ONCE = "tfxfer train", "Keras, frozen layers and fit", "Keras, codes once and fit"
TORCH = "PyTorch and scikit-learn"
TFXFER_HALF, ONCE_HALF, TORCH_HALF = f"{TFXFER}, bfloat16", f"{ONCE}, mixed_bfloat16", f"{TORCH}, bfloat16"
RUN, REAL = f"{{bench}}/inputs/run-{FIVE}-{{pictures}}", FIVE == "flowers"
TARGET = 4.0 if machine.has_amx() else 1.3


def tested(stdout: str) -> dict[str, Any]:
    """Return the test accuracy, which `tfxfer train` prints in its last line."""
    return {"results": {"accuracy": float(re.findall(r"^test accuracy ([\d.]+)$", stdout, re.MULTILINE)[-1])}}


def said(stdout: str) -> dict[str, Any]:
    """Return the probability of the most probable class, by `tfxfer predict --json`."""
    return {"results": {"probability": json.loads(stdout)["predictions"][0]["top"][0]["probability"]}}


def keras(name: str, way: str, policy: str = "float32", left_out: str = "") -> Side:
    """Return the side of Keras."""
    return module(name, "peers.keras_job", f"--of={FIVE}", f"--way={way}", f"--policy={policy}", left_out=left_out)


def torch(name: str, precision: str = "float32", left_out: str = "") -> Side:
    """Return the side of PyTorch and scikit-learn."""
    flags = f"--of={FIVE}", f"--precision={precision}"
    return module(name, "peers.torch_job", *flags, environment="pytorch", left_out=left_out)


def train(name: str, *more: str, left_out: str = "") -> Side:
    """Return the side of `tfxfer train`."""
    flags = (
        "--model=vgg16", f"--weights={{bench}}/inputs/vgg16-{FIVE}/vgg16_weights.npz",
        f"--data_dir={{bench}}/inputs/{FIVE}-{{pictures}}", "--image_size={side}", "--endpoint=pool5:mean",
        "--hidden={hidden}", "--epochs={epochs}", "--batch_size={batch}", "--learning_rate=0.001",
        "--logdir={scratch}/run",
    )  # fmt: skip
    return Side(name, (TOOL, "train", *flags, *more), left_out=left_out, read=tested)


def job(name: str, title: str, sides: Sequence[Side], comparisons: Sequence[Comparison], *notes: str) -> Case:
    """Return a case from pictures to test accuracy; the first note is of what all of them do."""
    return Case(
        name=name,
        title=f"from a folder of JPEGs ({'flowers' if REAL else 'of five tints'}) to test accuracy, {title}",
        sides=tuple(sides),
        comparisons=tuple(comparisons),
        agreements=(Agreement("accuracy", 0.15, at_least=0.7 if REAL else None),),
        sizes={"pictures": 600, "epochs": 5, "batch": 32, "side": 224, "hidden": 256},
        quick={"epochs": 3, "side": 48},
        warm={"pictures": 50, "epochs": 1},
        prepare="jobs.training",
        notes=notes,
    )


JOB = job(
    "main_job",
    "whole processes",
    [train(TFXFER), keras(THROUGH, "through"), keras(ONCE, "once"), torch(TORCH)],
    [
        Comparison(TFXFER, THROUGH, by="wall", target=TARGET),
        Comparison(TFXFER, ONCE, by="wall"),
        Comparison(TFXFER, TORCH, by="wall"),
    ],
    "Pictures, 8:1:1 in folders for training, validation and test, go through VGG16's frozen convolutions to "
    "pool5, averaged; a head of `hidden` units is trained on the codes by Adam at 0.001, and validated each "
    "epoch. tfxfer takes the precision that is its default, keeps checkpoints, events and a report of the test, "
    "and begins without a store.",
    "Keras runs the frozen layers in each epoch, as `fit` on the whole network does, or once, by `predict` before "
    "`fit`. scikit-learn fits a logistic regression to codes of unit length, and does not validate. Accuracies "
    "of a tenth of the pictures agree within 15 %.",
)
JOB_HALF = job(
    "main_job_bfloat16",
    "whole processes in bfloat16",
    [
        train(TFXFER_HALF, "--precision=bfloat16", left_out=NO_UNITS),
        keras(ONCE_HALF, "once", "mixed_bfloat16", left_out=NO_UNITS),
        torch(TORCH_HALF, "bfloat16", left_out=NO_UNITS),
    ],
    [Comparison(TFXFER_HALF, peer, by="wall") for peer in (ONCE_HALF, TORCH_HALF)],
    "As `main_job`, with the frozen layers in bfloat16, computed once. Keras trains its head in `mixed_bfloat16` "
    "too, tfxfer in float32.",
)
PREDICT = Case(
    name="predict_one",
    title="one picture by a run of SqueezeNet 1.0, as whole processes",
    sides=(
        Side("tfxfer predict", (TOOL, "predict", f"{RUN}/picture.jpg", f"--run={RUN}/run", "--json"), read=said),
        Side("import tensorflow", ("-c", "import tensorflow"), read=nothing),
    ),
    comparisons=(
        Comparison("tfxfer predict", "import tensorflow", by="wall", at_most=1.0,
                   words="tfxfer predict, seconds more than import tensorflow"),
        Comparison("tfxfer predict", "import tensorflow", by="wall"),
    ),
    sizes={"pictures": 50},
    prepare="jobs.predicting",
    notes=("From the start of the command to the most probable classes. The picture is a JPEG of some 500x375.",),
)  # fmt: skip
CASES = (PREDICT, JOB, JOB_HALF)
