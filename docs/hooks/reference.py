"""Which names the reference shows, by page, and the text of its pages.

Every function and type of `dir(tx)` must be here, and what users call of its modules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple


class Group(NamedTuple):
    """A page of the reference.

    Attributes:
      page: its file, without `.md`.
      title: its heading.
      text: what its names are for.
      names: as they stand behind `tx.`, in the order of the page.
    """

    page: str
    title: str
    text: str
    names: tuple[str, ...]


GROUPS = (
    Group(
        "weights",
        "Weights",
        "Named arrays in files of any kind, and what they expect of their input.",
        (
            *("open_weights", "Weights", "recognise", "models.recognition.Recognised", "InputSpec"),
            "input_spec.with_size",
            *("weights.Tensor", "weights.layouts.layout", "weights.Layout"),
        ),
    ),
    Group(
        "weight_tools",
        "Files of weights",
        "What the tools of the workbench call; none of it loads TensorFlow.",
        (
            *("weight_tools.inspect_weights.rows", "weight_tools.inspect_weights.Row"),
            *("weight_tools.diff_weights.diff", "weight_tools.diff_weights.Difference"),
            *("weight_tools.convert_weights.plan", "weight_tools.convert_weights.Conversion"),
            *("weight_tools.graft_weights.plan", "weight_tools.graft_weights.Graft"),
            *("weight_tools.average_weights.plan", "weight_tools.average_weights.Average"),
            *("weight_tools.verify_weights.verify", "weight_tools.verify_weights.Verdict"),
            *("weight_tools.verify_run.verify_run", "weight_tools.verify_run.RunVerdict", "weights.writers.write"),
        ),
    ),
    Group(
        "data",
        "Data",
        "Examples in three splits, and what is wrong with them.",
        (
            *("data.folder", "data.listing", "data.mnist", "data.digits", "Data", "Split", "data.Pictures"),
            *("data.splits.stratified", "data.normalization.FeatureStatistics", "check_data", "DataCheck"),
        ),
    ),
    Group(
        "networks",
        "Networks",
        "Networks by name or out of files, in the default graph.",
        (
            *("network", "Network", "import_meta_graph", "networks.candidates.inspect"),
            *("networks.candidates.Inspection", "networks.thaw.thaw", "networks.thaw.Thawed"),
        ),
    ),
    Group(
        "models",
        "Models",
        "Functions from images to named endpoints.",
        (
            *("models.autoencoder.autoencoder", "models.autoencoder.encoder", "models.autoencoder.input_spec"),
            *(f"models.vgg.vgg{depth}" for depth in ("11", "13", "16", "16c", "19")),
            *(f"models.vgg.vgg{depth}_bn" for depth in (11, 13, 16, 19)),
            "models.vgg_f.vgg_f",
            *("models.squeezenet.squeezenet1_0", "models.squeezenet.squeezenet1_1"),
            *(f"models.resnet.resnet{depth}" for depth in (18, 34, 50, 101, 152)),
            "models.mobilenet_v2.mobilenet_v2",
            *(f"models.efficientnet_lite.efficientnet_lite{size}" for size in range(5)),
            *("models.network.endpoint_parts", "models.registry.find_model", "models.registry.Model"),
            "models.imagenet.class_names",
        ),
    ),
    Group(
        "layers",
        "Heads and layers",
        "What is put on features, and the layers that networks are made of.",
        (
            *("models.heads.classifier", "models.heads.normalize", "models.heads.join"),
            *("graph.layers.conv2d", "graph.layers.depthwise_conv2d", "graph.layers.conv2d_transpose"),
            *("graph.layers.max_pool2d", "graph.layers.dense", "graph.layers.flatten", "graph.layers.dropout"),
            *("graph.layers.batch_norm", "graph.layers.batch_norms", "graph.layers.BatchNorm"),
            "graph.variables.glorot_uniform",
        ),
    ),
    Group(
        "restore",
        "Restoring",
        "Choose variables, check the restore, carry it out.",
        ("select", "plan", "Plan", "session", "graph.variables.model_variables"),
    ),
    Group(
        "train",
        "Training",
        "The step, its stages, and the loop that can be stopped at any moment.",
        (
            *("train_step", "Step", "Stage", "fit", "Fitted", "CheckpointOptions", "SummaryOptions"),
            *("eval_step", "EvalStep"),
        ),
    ),
    Group(
        "features",
        "Stored features",
        "What frozen layers compute, kept on disk.",
        (
            *("precompute", "extract", "store.store.Rows", "fit_normalization", "store.features.read"),
            *("store.features.Features", "store.maintenance.list_tables", "store.maintenance.TableInfo"),
            *("store.maintenance.verify", "store.maintenance.merge", "store.maintenance.compact"),
            *("store.maintenance.collect_garbage", "store.maintenance.export"),
        ),
    ),
    Group(
        "tune",
        "Tuning heads",
        "Many heads, trained side by side on stored features and cross-validated.",
        (
            "tune",
            "Tuning",
            "tuning.tune.Result",
            "SearchSpace",
            "tuning.trials.Range",
            "tuning.trials.Trial",
            "HeadTraining",
        ),
    ),
    Group(
        "evaluate",
        "Evaluation",
        "How good a step is, how sure that is, and how two runs differ.",
        (
            *("evaluate", "Evaluation", "evaluation.calibrate.calibrate", "evaluation.calibrate.record"),
            *("evaluation.test_results.record", "diff_runs", "statistics.diff_runs.RunDiff"),
            *("statistics.intervals.wilson", "statistics.calibration.Calibration"),
            *("serving.learning_curve.measure", "statistics.learning_curve.LearningCurve"),
            *("plots.curves.draw", "plots.learning_curve.draw"),
        ),
    ),
    Group(
        "runs",
        "Runs and prediction",
        "A run, opened again: its record, its predictions, its export and its page.",
        (
            *("open_run", "Run", "predict", "serving.predict.Predictions", "export_model", "serving.export.Exported"),
            *("serving.predict.predict_exported", "report", "Report", "reports.read", "reports.Run"),
        ),
    ),
    Group(
        "errors",
        "Errors",
        "All are of one kind, `tx.errors.TfxferError`, which is a `ValueError`.",
        tuple(
            f"errors.{name}"
            for name in (
                *("TfxferError", "GraphError", "SelectionError", "WeightsError", "RestoreError", "NotOpenError"),
                *("DataError", "MissingPackageError", "RunError", "FrozenError", "DivergedError"),
            )
        ),
    ),
)
NAMES = tuple(name for group in GROUPS for name in group.names)


def missing(public: Collection[str]) -> list[str]:
    """Return the public names that no page shows."""
    return sorted(set(public) - set(NAMES))


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path of each page, and its Markdown."""
    yield "reference/index.md", _index()
    for group in GROUPS:
        entries = "\n".join(
            f"::: tfxfer.{name}\n    options:\n      heading: tx.{name}\n      toc_label: {_label(name, group)}\n"
            for name in group.names
        )
        yield f"reference/{group.page}.md", f"# {group.title}\n\n{group.text}\n\n{entries}"


def _label(name: str, group: Group) -> str:
    """Return the last part of a name, or the last two where the page has that part twice."""
    parts = name.split(".")
    twice = [other.rpartition(".")[2] for other in group.names].count(parts[-1]) > 1
    return ".".join(parts[-2:] if twice else parts[-1:])


def _index() -> str:
    sections = "\n\n".join(
        f"## [{group.title}]({group.page}.md)\n\n{group.text}\n\n{', '.join(f'`tx.{name}`' for name in group.names)}"
        for group in GROUPS
    )
    return (
        "# Reference\n\n"
        "Every name of `import tfxfer as tx`, and what is called of its modules. All modules are there without an\n"
        "import of their own, and `help(tx.fit)` shows the same text. The flags of the command are under\n"
        f"[Tools](tools/index.md).\n\n{sections}\n"
    )
