"""What a user waits for before anything happens, and a list of very many variables."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.case import Agreement, Case, Comparison, Side

TOOL = "{bin}/tfxfer"
DIGITS = "{root}/checkpoints/digits_autoencoder"


def nothing(stdout: str) -> dict[str, Any]:
    """Return no further figures: what counts is the process."""
    return {}


def listed(stdout: str) -> dict[str, Any]:
    """Return how many variables a list names."""
    return {"results": {"variables": len(set(re.findall(r"\bblock\d+/layer\d+/\w+", stdout)))}}


STARTING = Case(
    name="start",
    title="the start of the command, as whole processes",
    sides=(
        Side("tfxfer --help", (TOOL, "--help"), read=nothing),
        Side("tfxfer inspect_weights", (TOOL, "inspect_weights", DIGITS), read=nothing),
        Side("tfxfer train --dry_run", (TOOL, "train", "--dry_run", f"--weights={DIGITS}"), read=nothing),
        Side("import tensorflow", ("-c", "import tensorflow"), read=nothing),
    ),
    comparisons=(
        Comparison("tfxfer --help", by="wall", at_most=0.3, words="tfxfer --help, seconds"),
        Comparison("tfxfer --help", "import tensorflow", by="wall"),
        Comparison("tfxfer inspect_weights", "import tensorflow", by="wall"),
        Comparison("tfxfer train --dry_run", "import tensorflow", by="wall"),
    ),
)

INSPECT = Case(
    name="inspect",
    title="the names, shapes and dtypes in a checkpoint of very many variables, as whole processes",
    sides=(
        Side("tfxfer inspect_weights", (TOOL, "inspect_weights", "{bench}/inputs/variables-{variables}/model.ckpt"),
             read=listed),
        Side("TensorFlow's inspect_checkpoint", ("-m", "tensorflow.python.tools.inspect_checkpoint",
             "--file_name={bench}/inputs/variables-{variables}/model.ckpt"), read=listed),
        Side("tf.train.list_variables", ("-c", "import tensorflow as tf; "
             "print(*tf.train.list_variables('{bench}/inputs/variables-{variables}/model.ckpt'), sep='\\n')"),
             read=listed),
    ),
    comparisons=(
        Comparison("tfxfer inspect_weights", "TensorFlow's inspect_checkpoint", by="wall", target=8),
        Comparison("tfxfer inspect_weights", "tf.train.list_variables", by="wall"),
    ),
    agreements=(Agreement("variables", 0.0),),
    sizes={"variables": 10_000},
    quick={"variables": 200},
    prepare="many.variables",
)  # fmt: skip
CASES = (STARTING, INSPECT)
