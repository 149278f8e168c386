"""Run directories made without training, for the tests of the page: every file as a real run writes it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer.plots.png import png
from tfxfer.runs.frozen import FrozenRecord
from tfxfer.runs.settings import RunSettings, read_settings
from tfxfer.runs.state import RunState
from tfxfer.weights import digests, open_weights

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "checkpoints" / "digits_autoencoder"
# Markup, quotes, an emoji, right to left, very long, a lone surrogate, a control character.
NASTY = (
    "<script>document.title='taken'</script>",
    "a\"quoted\" & 'other'",
    "\N{SUNFLOWER} sunflower",
    "\u05d5\u05e8\u05d3",
    "long" * 40,
    "broken\udce9\x00name",
    "plain",
)


def write(folder: Path, name: str, value: Any) -> None:
    """Write a JSON file; of settings that are given by name, each goes to its part."""
    if name == "settings.json" and "steps_per_epoch" not in value:
        write_settings(folder, **value)
        return
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))


# What `fit` takes, and what it works out, of all settings; the others are flags.
FIT = {
    "epochs",
    "batch_size",
    "seed",
    "save_steps",
    "validation_steps",
    "summary_steps",
    "keep",
    "keep_best",
    "monitor",
    "patience",
}
TRAINING = {"stages", "l2", "class_weights", "training_examples", "validation_examples", "stateful_ops"}


def write_settings(folder: Path, steps_per_epoch: int = 40, **settings: Any) -> None:
    """Write a settings.json in which each setting is in its part."""
    of_fit, of_training = ({name: settings.pop(name) for name in part & settings.keys()} for part in (FIT, TRAINING))
    write(folder, "settings.json", RunSettings(steps_per_epoch, of_fit, of_training, settings).to_json())


def change_settings(folder: Path, **flags: Any) -> None:
    """Change flags in a run's settings.json."""
    settings = read_settings(folder)
    write(folder, "settings.json", dataclasses.replace(settings, settings={**settings.settings, **flags}).to_json())


def history(epochs: int = 6, every: int = 40, part: bool = True) -> list[dict[str, Any]]:
    """Training that gets better, and validation that does so until the middle."""
    rows: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        turn = epochs / 2 if part else epochs
        risen = max(0.0, epoch - turn) * 0.1
        train = {"loss": 2.0 / epoch**2, "accuracy": 1 - 0.5 / epoch, "learning_rate": 0.001 * 0.9**epoch}
        rows.append({"step": epoch * every, "epoch": epoch, "split": "train", **train})
        means = {"loss": 1.5 / epoch + risen, "accuracy": 0.95 - 0.4 / epoch - risen / 4}
        rows.append({"step": epoch * every, "epoch": epoch, "split": "validation", **means})
    return rows


def state(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    validations = [row for row in rows if row["split"] == "validation"]
    best = max(validations, key=lambda row: row["accuracy"], default=None)
    kept = [{key: best[key] for key in ("step", "loss", "accuracy")}] if best else []
    step = rows[-1]["step"] if rows else 0
    sums = {"loss": 0.0, "examples": 0}
    return RunState(sums=sums, step=step, history=list(rows), best=kept, saved=[step]).to_json()


def outcome(classes: Sequence[str], *, seed: int = 0, each: int = 20, mistakes: int = 5) -> dict[str, Any]:
    """What `tfxfer.evaluation.test_results.record` writes, of a model that is right in four of five cases or so."""
    generator = np.random.default_rng(seed)
    count = len(classes)
    confusion = np.zeros((count, count), int)
    for true in range(count):
        taken = np.where(generator.random(each) < 0.8, true, generator.integers(0, count, each))
        np.add.at(confusion[true], taken, 1)
    pairs = np.argwhere((confusion > 0) & ~np.eye(count, dtype=bool))[:mistakes]
    return {
        "checkpoint": "best/model.ckpt-120",
        "loss": 0.5,
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "top_k": {"1": 0.8, "5": 0.95},
        "examples": int(confusion.sum()),
        "class_names": list(classes),
        "confusion": confusion.tolist(),
        "per_class": {},
        "mistakes": [
            {
                "true": classes[true],
                "predicted": classes[taken],
                "probability": 0.99 - 0.01 * rank,
                "probability_of_true": 0.005,
                "index": rank,
                "path": f"pictures/{classes[true]}/{rank}.jpg",
                "picture": f"mistakes/{rank:02}-{rank:012x}.png",
            }
            for rank, (true, taken) in enumerate(pairs.tolist(), 1)
        ],
    }


SETTINGS = {
    "stages": [{"epoch": 0, "train": ["fc1/kernel", "fc1/bias", "logits/kernel", "logits/bias"]}],
    "l2": None,
    "class_weights": None,
    "training_examples": 1257,
    "validation_examples": 180,
    "train_examples": None,
    "restore": [],
    "train": [],
    "lr_multipliers": {},
    "unfreeze": [],
    "model": "autoencoder",
    "weights": str(CHECKPOINT.relative_to(ROOT)),
    "rename": [],
    "hidden": [200],
    "dropout": 0.0,
    "dataset": "digits",
    "schedule": "exponential",
    "epochs": 6,
    "batch_size": 32,
    "seed": 0,
    "save_steps": 40,
    "validation_steps": 40,
}


def make(
    folder: Path,
    classes: Sequence[str] = ("ant", "bee", "cat"),
    *,
    rows: Sequence[Mapping[str, Any]] | None = None,
    **settings: Any,
) -> Path:
    """Write a finished and tested run of the small autoencoder's convolutions, frozen, with a head on them."""
    rows = history() if rows is None else rows
    write_settings(folder, **{**SETTINGS, **settings})
    write(folder, f"model.ckpt-{rows[-1]['step'] if rows else 0}.state.json", state(rows))
    write(folder, "test.json", test := outcome(classes))
    for number, mistake in enumerate(test["mistakes"]):
        picture(folder / mistake["picture"], number)
    kernels(folder)
    (folder / "train.log").write_text("2026-01-02 03:04:05,678 begin\n2026-01-02 03:05:06,789 epoch 1  70 examples/s\n")
    return folder


def picture(path: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png(pixels))


def kernels(folder: Path) -> None:
    """Write plan, digests and best checkpoint: the convolutions as they are in checkpoints/."""
    weights = open_weights(CHECKPOINT)
    restored = [
        {"variable": name, "status": "restored", "shape": list(weights.shape(name)), "dtype": "float32",
         "source": name, "by": "Saver"}
        for name in weights
    ]  # fmt: skip
    new = [{"variable": "fc1/kernel", "status": "initialised", "shape": [1568, 200], "dtype": "float32"}]
    plan = {"weights": str(CHECKPOINT), "kind": weights.kind, "variables": restored + new, "unused": ["other/kernel"]}
    write(folder, "plan.json", [plan])
    check = {"step": 240, "when": "by the end of the run", "unchanged": len(weights)}
    variables = {name: digests.digest(weights[name]) for name in weights}
    write(folder, "frozen.json", FrozenRecord(digests.METHOD, variables, checks=[check]).to_json())
    best = folder / "best"
    best.mkdir(exist_ok=True)
    for suffix in ("index", "data-00000-of-00001"):
        shutil.copy(f"{CHECKPOINT}.{suffix}", best / f"model.ckpt-120.{suffix}")
    (best / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-120"\n')
