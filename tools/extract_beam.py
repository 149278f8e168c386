"""Fill a store with what a network makes of pictures, on the workers of any runner of Apache Beam.

    tfxfer extract_beam STORE --model=vgg16 --weights=vgg16_weights.npz --endpoint=fc6 \\
        --dataset=folder --data_dir=flowers -- --direct_running_mode=multi_processing --direct_num_workers=4

What follows -- goes to Beam as it is: --runner=FlinkRunner, SparkRunner, DataflowRunner and their options, of which
docs/scale.md has examples. Pictures are read through Beam's file systems, so that they may lie at gs:// or s3://; STORE
and --weights are found by every worker under the same name, on a file system that they share.

STORE is the one that `tfxfer extract` and `tfxfer train` write and read with --store: rows that are there are not
computed again. A picture that cannot be used becomes a line of --bad, a JSON object of its path and the reason. When
the job is stopped or fails, what was written is kept (every 10 s, or 8 MB), and the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer import files, names
from tfxfer.errors import DataError
from tfxfer.store.precision_names import check
from tfxfer.store.store import Store
from tfxfer.tools import _data_flags, _flags, _model_flags, _packaged, _report, _store, _training_flags
from tfxfer.tools._quiet import filtered_stderr

NEEDS = {
    "folder": ("data_dir", "a directory with a subfolder of pictures for each class"),
    "listing": ("listing", "a file of lines `path label`, as `tfxfer make_listing` writes it"),
    "pattern": ("pattern", "the names of files, as 'gs://bucket/**.jpg'"),
}
QUIET = "--default_sdk_harness_log_level"
# What workers on this machine say while they are loaded, before they are told to be quiet.
NOTES = ("WARNING:root:apitools not found", "INFO:__main__:Logging handler created")


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string(
        "bad", None, "File for what cannot be used; default: STORE/bad-pictures.jsonl.", flag_values=values
    )
    flags.DEFINE_float(
        "most_bad", 0.1, "Share of the pictures that may be unusable before it is an error.", 0, 1, flag_values=values
    )
    _store.define_dtype(values)
    _store.define_precision(values)
    flags.DEFINE_integer("seed", 0, "Seed of what --restore leaves out.", 0, 2**32 - 1, flag_values=values)
    _store.define_extraction(values)
    _model_flags.define_model(values)
    _model_flags.define_endpoint(values)
    _define_pictures(values)
    _flags.define_session(values)
    return values


def _define_pictures(values: flags.FlagValues) -> None:
    with _flags.group(values, "pictures"):
        flags.DEFINE_enum(
            "dataset",
            "folder",
            list(NEEDS),
            "folder: what is below the subfolders of --data_dir; listing: the pictures that --listing names; pattern: "
            "those that --pattern matches.",
            flag_values=values,
        )
        flags.DEFINE_string(
            "data_dir",
            None,
            "Directory of the pictures; what the paths of a listing are relative to, by default its own directory.",
            flag_values=values,
        )
        flags.DEFINE_string("listing", None, "File of lines `path label`.", flag_values=values)
        flags.DEFINE_string(
            "pattern", None, "Files; * is anything but /, ** is anything, ? one character.", flag_values=values
        )
        _data_flags.define_decode(values)


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    end = argv.index("--") if "--" in argv else len(argv)
    own, options = argv[:end], argv[end + 1 :]
    settings = define_flags()
    store = Path(*_flags.parse(settings, own, __doc__, at_least=1, at_most=1, imply=_imply)).absolute()
    flag, what = NEEDS[settings.dataset]
    if not settings[flag].value:
        raise _flags.UsageError(f"--dataset={settings.dataset} needs --{flag}, {what}")
    model = _model_flags.open_model(settings)
    input_spec = model.input_spec
    if input_spec is None:
        raise DataError(f"--model={settings.model} does not take RGB pictures; take another --model")

    logging.getLogger().setLevel(logging.CRITICAL)
    _check_beam()
    from tfxfer.store.beam import pipeline
    from tfxfer.store.extraction import batch_size_for

    Store(store)
    bad = _aside(settings.bad, store)
    batch_size = settings.batch_size or batch_size_for(input_spec.size)
    command = tuple(_for_workers(own, settings))
    precision = settings.precision
    if precision == "auto":
        precision = _choose((*command, "--precision=float32"), store, batch_size, settings.store_dtype)
    job = pipeline.Job(
        functools.partial(opened, (*command, f"--precision={precision}")),
        str(store),
        "",
        input_spec.size,
        input_spec.resize,
        batch_size,
        settings.store_dtype,
        decode=input_spec.decode,
    )
    with filtered_stderr(*NOTES):
        counts = pipeline.run(job, _origin(settings), bad, _with_defaults(options))
    print(
        f"{store}: {model.endpoint} of {counts['pictures']:,} pictures: {counts['computed']:,} "
        f"computed, {counts['found']:,} there before, {counts['failures']:,} bad"
    )
    _check_share(counts, settings.most_bad, bad)
    return 0


def _imply(settings: Any) -> None:
    """Let --listing or --pattern say what --dataset is where nobody does."""
    kinds = [name for name in ("listing", "pattern") if settings[name].value]
    if len(kinds) == 1 and not settings["dataset"].present:
        settings.dataset = kinds[0]
    _packaged.imply(settings, pictures=True)


def _check_beam() -> None:
    try:
        importlib.import_module("apache_beam")
    except ImportError as error:
        raise DataError(f"Apache Beam cannot be imported ({error}); pip install 'tfxfer[beam]' brings it") from None


@contextlib.contextmanager
def opened(argv: tuple[str, ...]) -> Iterator[Any]:
    """Open the network that a command line asks for; done on the machine that starts the job and in every worker."""
    settings = define_flags()
    _flags.parse(settings, list(argv), __doc__, imply=_imply)
    model = _model_flags.open_model(settings, show=False)
    input_spec = model.input_spec

    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.store.compute import Network
    from tfxfer.store.precision import computing

    check(settings.precision)
    if input_spec is None:
        raise DataError(f"--model={settings.model} does not take RGB pictures; take another --model")
    with tf.Graph().as_default():
        tf.set_random_seed(settings.seed)
        images = tf.placeholder(tf.uint8, [None, *input_spec.size, 3], name=model.free_name("images"))
        ends = _model_flags.endpoints(model, images)
        codes, plans = ends[model.endpoint], _model_flags.plans(settings, model.weights, [".*"], ends)
        with (
            tx.session(*plans, **_training_flags.session_options(settings)) as sess,
            computing(Network(sess, images, [codes]), settings.precision) as network,
        ):
            yield network


def _choose(argv: tuple[str, ...], store: Path, batch_size: int, dtype: str) -> str:
    """Return what --precision=auto stands for, for all workers: measured here, on pixels drawn at random."""
    import numpy as np

    from tfxfer.store.extraction import choose_precision, open_tables
    from tfxfer.store.precision import FEWEST, choose

    with opened(argv) as network, _report.logging():
        size = network.images.shape.as_list()[1:]
        pixels = np.random.default_rng(0).integers(0, 256, (batch_size, *size)).astype(np.uint8)
        example = f"{pixels.dtype} {tuple(size)}"
        tables = functools.partial(open_tables, network, example, store, batch_size=batch_size, dtype=dtype)
        return choose_precision(
            tables,
            lambda opened: len(opened[0]),
            lambda: choose(network, lambda: pixels, batch_size, FEWEST),
        )


def _for_workers(own: list[str], settings: Any) -> list[str]:
    """Return the command line with the network that was found, and with files as they are found from any folder."""
    model = settings.model
    if os.path.exists(model) or os.path.exists(f"{model}.meta"):
        model = os.path.abspath(model)
    weights = [f"--weights={os.path.abspath(settings.weights)}"] if settings.weights else []
    return [*own, f"--model={model}", *weights]


def _origin(settings: Any) -> Any:
    from tfxfer.store.beam import origins

    flag, _ = NEEDS[settings.dataset]
    where = origins.absolute(settings[flag].value)
    return origins.Origin(settings.dataset, where, origins.absolute(settings.data_dir or os.path.dirname(where)))


def _aside(bad: str | None, store: Path) -> str:
    """Return where --bad is; a file that the user named and that is there is moved aside."""
    path = bad or str(store / "bad-pictures.jsonl")
    if "://" in path:
        return path
    if bad and os.path.exists(bad):
        print(f"moved {bad} to {files.move_aside(Path(bad))}")
    return os.path.abspath(path)


def _with_defaults(options: list[str]) -> list[str]:
    """Let Beam's workers be as quiet as a tool is, unless the user says how loud."""
    return options if any(option.startswith(QUIET) for option in options) else [*options, f"{QUIET}=CRITICAL"]


def _check_share(counts: dict[str, int], most_bad: float, bad: str) -> None:
    if counts["failures"] == counts["pictures"] or counts["failures"] > most_bad * counts["pictures"]:
        raise DataError(
            f"{counts['failures']:,} of {counts['pictures']:,} pictures cannot be used, more than "
            f"--most_bad={most_bad:g}; {names.printable(bad)} says why"
        )


if __name__ == "__main__":
    # Workers find what is given to them by the name of its module, which __main__ is there of another program.
    from tfxfer.tools import extract_beam

    sys.exit(_flags.run(extract_beam.main))
