"""Find the head for your pictures: many are tried side by side on the same stored features, by cross-validation.

    tfxfer tune runs/tune --model=squeezenet1_0 --weights=squeezenet1_0.npz --data_dir=flowers

trains 40 heads on 5 folds of the training and validation pictures; the test pictures stay untouched. It prints a table
from best to worst, marks with = what is within one standard error of the best, and ends with the `tfxfer train`
command of the winner, which --train_best runs. Values between commas are a grid, low:high is a range:

    tfxfer tune runs/tune ... --hidden=none,64,256 --dropout=0,0.5 --learning_rate=1e-3:5e-2 --l2=0,1e-3

Where there are only values, and no more combinations than --trials, each is tried once; else trials are drawn at
random by --seed. Several endpoints are computed in one pass and compared, so that the table says where to cut:

    tfxfer tune runs/tune ... --endpoints=fire7:mean,fire8:mean,fire9:mean --halving

RUNS keeps what was computed: killed and started again, the same command ends with the same table. `tfxfer board RUNS`
compares the trials on TensorBoard's page of hyperparameters.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfxfer.data.normalization import KINDS
from tfxfer.data.pictures import example_name
from tfxfer.tools import _data_flags, _flags, _model_flags, _packaged, _report, _store, _training_flags, train

SEARCHED = ("hidden", "dropout", "learning_rate", "l2", "normalize")
OF_TRAINING = ("epochs", "batch_size", "optimizer", "schedule", "loss", "seed")
MOST_SHOWN = 20


class _ChoicesFlag(flags.Flag):
    """Values between commas, or a range `low:high`; its value is a tuple, or a `Range`."""

    form = "VALUE,...|LOW:HIGH"

    def __init__(self, name: str, default: str, help: str) -> None:
        super().__init__(flags.ArgumentParser(), None, name, default, help)

    def _parse(self, argument: Any) -> Any:
        from tfxfer.tuning.trials import Range

        if not isinstance(argument, str):
            return argument
        self.text = argument
        try:
            if ":" in argument:
                low, high = map(float, argument.split(":"))
                return Range(low, high)
            return tuple(_number(piece.strip()) for piece in argument.split(",") if piece.strip())
        except ValueError:
            raise flags.IllegalFlagValueError(
                f"flag --{self.name}={argument}: write values between commas, or a range LOW:HIGH"
            ) from None


def _number(text: str) -> float:
    return 0.0 if text == "none" else float(text)


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    with _flags.group(values, "what is tried: values between commas, or a range LOW:HIGH, drawn log-uniformly"):
        for name, default, help in (
            ("hidden", "none,64,256", "Units of the hidden layer; none for a linear classifier."),
            ("dropout", "0,0.5", "Share of the hidden layer's output dropped in training, from 0 to below 1."),
            ("learning_rate", "1e-3:5e-2", "Size of a step."),
            ("l2", "0,1e-4,1e-3", "Strength of the pull of kernels towards 0."),
        ):
            flags.DEFINE_flag(_ChoicesFlag(name, default, help), values)
        flags.DEFINE_list(
            "normalize",
            [*KINDS],
            f"How features are normalised: {', '.join(KINDS)}.",
            flag_values=values,
        )
        flags.DEFINE_list(
            "endpoints",
            None,
            "Endpoints to put heads on, as pool4:mean,pool5:mean; of a network in a file, the deepest last. Default: "
            "the model's usual one.",
            flag_values=values,
        )
    with _flags.group(values, "search"):
        flags.DEFINE_integer("trials", 40, "The most heads to try.", 1, flag_values=values)
        flags.DEFINE_integer("folds", 5, "Parts of the pictures, each held out once.", 2, flag_values=values)
        flags.DEFINE_bool(
            "halving",
            False,
            "Successive halving: first train all heads for a part of the epochs; the best 1/--factor of them go on.",
            flag_values=values,
        )
        flags.DEFINE_integer("factor", 3, "Factor of --halving.", 2, flag_values=values)
        flags.DEFINE_bool(
            "train_best", False, "Run the command of the winner, which writes RUNS/best.", flag_values=values
        )
        flags.DEFINE_bool(
            "overwrite", False, "Move the results that are in RUNS aside and begin anew.", flag_values=values
        )
        _flags.DEFINE_json(values)
    with _flags.group(values, "training"):
        flags.DEFINE_integer("epochs", 40, "Times through the examples of a fold.", 1, flag_values=values)
        flags.DEFINE_integer("batch_size", 32, "Examples a step.", 1, flag_values=values)
        optimizers = [name for name in sorted(_training_flags.OPTIMIZERS) if name != "ftrl"]
        flags.DEFINE_enum("optimizer", "adam", optimizers, "How variables follow gradients.", flag_values=values)
        flags.DEFINE_enum(
            "schedule",
            "cosine",
            ("constant", "cosine"),
            "How the learning rate falls: not at all; along a cosine to 0 by the end.",
            flag_values=values,
        )
        _model_flags.define_loss(values)
    _model_flags.define_model(values)
    with _flags.group(values, "model"):
        _flags.DEFINE_patterns(
            "restore", [], "Variables to restore from --weights; default: all; none for a random baseline.", values
        )
    _store.define(values, "RUNS/store")
    _data_flags.define(values)
    _flags.define_session(values)
    return values


USES = (_flags.Use("factor", "halving"),)


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    settings = define_flags()
    with _text_aside(argv):
        [out] = _flags.parse(
            settings, argv, __doc__, at_least=1, at_most=1, imply=_packaged.imply_for_examples, uses=USES
        )
        tuning = _tune(settings, out)
    command = _command(settings, out, tuning.best)
    if settings.json:
        print(json.dumps(_as_json(tuning, command)))
    else:
        _show(tuning, out, settings.folds)
        print(f"the winner as a run, tested on pictures that no trial has seen:\n  {shlex.join(command)}", flush=True)
    if not settings.train_best:
        return 0
    with _text_aside(argv):
        return train.main(command[1:])


@contextlib.contextmanager
def _text_aside(argv: list[str]) -> Iterator[None]:
    """Print on standard error where --json is given."""
    prints_json = any(word.partition("=")[0] in ("--json", "-json") for word in argv)
    with contextlib.redirect_stdout(sys.stderr) if prints_json else contextlib.nullcontext():
        yield


def _tune(settings: Any, out: str) -> Any:
    """Compute the features that are missing, and search."""
    import tfxfer as tx

    space = tx.SearchSpace(**{name: settings[name].value for name in SEARCHED})
    space.check()
    training = tx.HeadTraining(**{name: settings[name].value for name in OF_TRAINING})
    if settings.store in (None, "none"):
        Path(out).mkdir(parents=True, exist_ok=True)
        settings.store = f"{out}/store"
    features, labels, paths, class_names = _features(settings)
    with _report.logging():
        return tx.tune(
            features,
            labels,
            space=space,
            training=training,
            trials=settings.trials,
            folds=settings.folds,
            halving=settings.factor if settings.halving else None,
            class_names=class_names,
            examples=paths,
            logdir=out,
            overwrite=settings.overwrite,
        )


def _features(settings: Any) -> tuple[dict[str, Any], np.ndarray, list[str], tuple[str, ...]]:
    """Compute the endpoints of all pictures but those of the test, in one pass, and return their rows."""
    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.models.network import build_several, endpoint_parts
    from tfxfer.store.store import joined

    listed = list(endpoint_parts(",".join(settings.endpoints))) if settings.endpoints else []
    opened = _model_flags.open_model(settings, endpoint=listed[-1] if listed else None)
    listed = listed or [opened.endpoint]
    examples = _data_flags.load(settings, opened.input_spec)
    _report.show_notes(examples)
    splits = [examples.train]
    if examples.validation is not examples.test:  # two listings: the second is the test
        splits.append(examples.validation)
    with tf.Graph().as_default():
        tf.set_random_seed(settings.seed)
        images = tf.placeholder(tf.uint8, [None, *examples.train.images.shape[1:]], name=opened.free_name("images"))
        ends = build_several(opened.model, images, listed, input_spec=opened.input_spec)
        ends = {endpoint: ends[endpoint] for endpoint in listed}
        plans = _model_flags.plans(settings, opened.weights, [".*"], ends)
        with tx.session(*plans, **_training_flags.session_options(settings)) as sess, _report.logging():
            parts = [split.images for split in splits]
            tensors = list(ends.values())
            rows = tx.extract(sess, images, tensors, parts, settings.store, **_store.options(settings))
    features = {name: joined([of_split[place] for of_split in rows]) for place, name in enumerate(ends)}
    labels = np.concatenate([split.labels for split in splits])
    paths = [example_name(split.images, place) for split in splits for place in range(len(split))]
    return features, labels, paths, tuple(examples.class_names)


# --- the winner's command ---


def _command(settings: Any, out: str, best: Any) -> list[str]:
    """Return the command that trains the best head as a run."""
    known = train.define_flags()
    own = {*SEARCHED, *OF_TRAINING, "folds", "overwrite", "store", "endpoint", "logdir"}
    words = [
        word
        for name in settings
        if settings[name].present and name in known and name not in own
        for word in _words(settings[name])
    ]
    trial = best.trial
    chosen = {name: getattr(trial, name) for name in ("endpoint", "normalize", "dropout", "learning_rate", "l2")}
    chosen["hidden"] = trial.hidden or "none"
    words += ["--overwrite"] * settings.overwrite
    if not trial.l2:
        del chosen["l2"]
    if not trial.hidden:
        chosen["dropout"] = 0
    chosen |= {name: settings[name].value for name in OF_TRAINING}
    chosen |= {"monitor": "loss", "store": settings.store, "logdir": f"{out}/best"}
    texts = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in chosen.items()}
    return ["tfxfer", "train", *words, *(f"--{name}={text}" for name, text in texts.items())]


def _words(flag: flags.Flag) -> list[str]:
    """Write a flag as it is typed."""
    if flag.boolean:
        return [f"--{'' if flag.value else 'no'}{flag.name}"]
    if isinstance(flag.value, dict):
        return [f"--{flag.name}={key}={value}" for key, value in flag.value.items()]
    if isinstance(flag.value, list) and flag.value and isinstance(flag.value[0], tuple):
        return [f"--{flag.name}={'='.join(item)}" for item in flag.value]
    text = ",".join(map(str, flag.value)) if isinstance(flag.value, list) else str(flag.value)
    return [f"--{flag.name}={text}"]


# --- what is shown ---


def _show(tuning: Any, out: str, folds: int) -> None:
    """Print the table, and which endpoint to cut at."""
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    rows = sorted([*tuning.results, *tuning.baselines], key=lambda r: (r.diverged, -_at(tuning, r), -r.accuracy))
    left_out = [row for row in rows[MOST_SHOWN:] if row.trial]
    shown = [row for row in rows if row not in left_out]
    endpoints = {row.endpoint for row in rows}
    alike = {"endpoint"} if len(endpoints) == 1 else set()
    alike |= {"epochs"} if len({row.epochs for row in tuning.results}) == 1 else set()
    cells = [{name: text for name, text in _cells(tuning, row).items() if name not in alike} for row in shown]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in cells[0]:
        is_text = name in ("", "head", "endpoint", "normalize")
        # In a narrow terminal names are broken, and numbers never.
        wraps = name in ("head", "endpoint")
        widest = max(len(text) for row in cells for text in (row[name].plain, *name.split()))
        table.add_column(
            name.replace(" ", "\n"),
            justify="left" if is_text else "right",
            no_wrap=not wraps,
            overflow="fold",
            min_width=8 if wraps else widest,
        )
    for row in cells:
        table.add_row(*row.values())
    needed = Console(width=10_000).measure(table).minimum
    (console if console.width >= needed else Console(width=needed)).print(table)
    if left_out:
        console.print(Text(f"{len(left_out)} more trials are in {out}/tune.json"), soft_wrap=True)
    best = tuning.best
    lines = [f"accuracy: mean and standard deviation of {folds} folds; = is within one standard error of the best"]
    if any(row.epochs != best.epochs for row in tuning.results):
        lines.append("heads that were trained for fewer epochs did not go on, and stand below those that did")
    lines += [f"cut at {best.endpoint}: {_by_endpoint(tuning)}"] * (len(endpoints) > 1)
    better = [row for row in tuning.baselines if row.accuracy > best.accuracy]
    lines += [f"note: {row.name} on {row.endpoint} is better than all heads; try more of them" for row in better]
    lines.append(f"best: {best.name}, accuracy {best.accuracy:.4f} +- {best.spread:.4f}")
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _at(tuning: Any, row: Any) -> int:
    """Return for how many epochs a row counts: a baseline stands among the heads that were trained to the end."""
    return row.epochs or tuning.best.epochs


def _by_endpoint(tuning: Any) -> str:
    best: dict[str, Any] = {}
    for row in tuning.results:
        if not row.diverged:
            best.setdefault(row.endpoint, row)
    after = {
        name: "" if row.epochs == tuning.best.epochs else f" after {row.epochs} epochs" for name, row in best.items()
    }
    return ", ".join(f"{name} {row.accuracy:.4f}{after[name]}" for name, row in best.items())


def _cells(tuning: Any, row: Any) -> dict[str, Text]:
    trial = row.trial
    texts = {
        "": "*" if row is tuning.best else "=" if tuning.is_close(row) and not row.diverged else "",
        "head": row.name,
        "endpoint": row.endpoint,
        "normalize": "l2" if trial is None else trial.normalize,
        "hidden": "" if trial is None else str(trial.hidden or "none"),
        "dropout": "" if trial is None else f"{trial.dropout:g}",
        "learning rate": "" if trial is None else f"{trial.learning_rate:g}",
        "l2": "" if trial is None else f"{trial.l2:g}",
        "epochs": "" if trial is None else str(row.epochs),
        "accuracy": "diverged" if row.diverged else f"{row.accuracy:.4f}",
        "+-": "" if row.diverged else f"{row.spread:.4f}",
        "loss": "" if row.diverged or not row.losses else f"{row.loss:.4f}",
    }
    style = "bold" if row is tuning.best else "dim" if trial is None else ""
    return {name: Text(text, style) for name, text in texts.items()}


def _as_json(tuning: Any, command: list[str]) -> dict[str, Any]:
    def described(row: Any) -> dict[str, Any]:
        return {
            "name": row.name,
            **(dataclasses.asdict(row.trial) if row.trial else {"endpoint": row.endpoint}),
            "epochs": row.epochs,
            "accuracy": row.accuracy,
            "standard_deviation": row.spread,
            "accuracies": list(row.accuracies),
            "loss": row.loss if row.losses and not row.diverged else None,
            "diverged": row.diverged,
            "within_one_standard_error": tuning.is_close(row) and not row.diverged,
        }

    return {
        "results": [described(row) for row in tuning.results],
        "baselines": [described(row) for row in tuning.baselines],
        "best": tuning.best.name,
        "command": command,
    }


if __name__ == "__main__":
    sys.exit(_flags.run(main))
