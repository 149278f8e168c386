"""Transfer learning with TensorFlow 1.x-style graphs and checkpoints.

    import tfxfer as tx

    data = tx.data.digits()
    convs = tx.plan(tx.select("conv.*"), tx.open_weights("checkpoints/digits_autoencoder"))
    step = tx.train_step(images, labels, logits, train=tx.select("fc.*", "logits/.*"), ...)
    with tx.session(convs) as sess:
        tx.fit(sess, step, data, epochs=20, logdir="runs/digits")

Every name is loaded when it is first used, so that `import tfxfer` takes no time and what only reads files never loads
TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfxfer._lazy import attach
from tfxfer._version import __version__ as __version__

if TYPE_CHECKING:
    from tfxfer import callables as callables
    from tfxfer import data as data
    from tfxfer import data_checks as data_checks
    from tfxfer import errors as errors
    from tfxfer import evaluation as evaluation
    from tfxfer import extras as extras
    from tfxfer import files as files
    from tfxfer import formats as formats
    from tfxfer import frontier as frontier
    from tfxfer import graph as graph
    from tfxfer import graph_def as graph_def
    from tfxfer import input_spec as input_spec
    from tfxfer import markup as markup
    from tfxfer import models as models
    from tfxfer import names as names
    from tfxfer import networks as networks
    from tfxfer import notebook as notebook
    from tfxfer import plots as plots
    from tfxfer import processor as processor
    from tfxfer import progress as progress
    from tfxfer import reports as reports
    from tfxfer import restore as restore
    from tfxfer import runs as runs
    from tfxfer import serving as serving
    from tfxfer import signals as signals
    from tfxfer import statistics as statistics
    from tfxfer import store as store
    from tfxfer import tensorboard as tensorboard
    from tfxfer import tf_private as tf_private
    from tfxfer import train as train
    from tfxfer import tuning as tuning
    from tfxfer import weight_tools as weight_tools
    from tfxfer import weights as weights
    from tfxfer.data import Data as Data
    from tfxfer.data import Split as Split
    from tfxfer.data_checks.check import check_data as check_data
    from tfxfer.data_checks.findings import DataCheck as DataCheck
    from tfxfer.evaluation.evaluate import Evaluation as Evaluation
    from tfxfer.evaluation.evaluate import evaluate as evaluate
    from tfxfer.evaluation.normalization import fit_normalization as fit_normalization
    from tfxfer.graph.eval_step import EvalStep as EvalStep
    from tfxfer.graph.eval_step import eval_step as eval_step
    from tfxfer.graph.importing import import_meta_graph as import_meta_graph
    from tfxfer.graph.stages import Stage as Stage
    from tfxfer.graph.train_step import Step as Step
    from tfxfer.graph.train_step import train_step as train_step
    from tfxfer.graph.variables import select as select
    from tfxfer.input_spec import InputSpec as InputSpec
    from tfxfer.models.recognition import recognise as recognise
    from tfxfer.networks.network import Network as Network
    from tfxfer.networks.network import network as network
    from tfxfer.reports import Report as Report
    from tfxfer.reports import report as report
    from tfxfer.restore.plan import Plan as Plan
    from tfxfer.restore.plan import plan as plan
    from tfxfer.restore.session import session as session
    from tfxfer.serving.export import export_model as export_model
    from tfxfer.serving.predict import predict as predict
    from tfxfer.serving.run import Run as Run
    from tfxfer.serving.run import open_run as open_run
    from tfxfer.statistics.diff_runs import diff_runs as diff_runs
    from tfxfer.store.extraction import extract as extract
    from tfxfer.store.extraction import precompute as precompute
    from tfxfer.train.fit import fit as fit
    from tfxfer.train.options import CheckpointOptions as CheckpointOptions
    from tfxfer.train.options import SummaryOptions as SummaryOptions
    from tfxfer.train.training import Fitted as Fitted
    from tfxfer.tuning.cross_validation import HeadTraining as HeadTraining
    from tfxfer.tuning.trials import SearchSpace as SearchSpace
    from tfxfer.tuning.tune import Tuning as Tuning
    from tfxfer.tuning.tune import tune as tune
    from tfxfer.weights import Weights as Weights
    from tfxfer.weights import open_weights as open_weights

_HOMES = {
    "CheckpointOptions": "tfxfer.train.options",
    "Data": "tfxfer.data",
    "DataCheck": "tfxfer.data_checks.findings",
    "EvalStep": "tfxfer.graph.eval_step",
    "Evaluation": "tfxfer.evaluation.evaluate",
    "Fitted": "tfxfer.train.training",
    "HeadTraining": "tfxfer.tuning.cross_validation",
    "InputSpec": "tfxfer.input_spec",
    "Network": "tfxfer.networks.network",
    "Plan": "tfxfer.restore.plan",
    "Report": "tfxfer.reports",
    "SearchSpace": "tfxfer.tuning.trials",
    "Split": "tfxfer.data",
    "Run": "tfxfer.serving.run",
    "Stage": "tfxfer.graph.stages",
    "Step": "tfxfer.graph.train_step",
    "SummaryOptions": "tfxfer.train.options",
    "Tuning": "tfxfer.tuning.tune",
    "Weights": "tfxfer.weights",
    "check_data": "tfxfer.data_checks.check",
    "diff_runs": "tfxfer.statistics.diff_runs",
    "eval_step": "tfxfer.graph.eval_step",
    "evaluate": "tfxfer.evaluation.evaluate",
    "export_model": "tfxfer.serving.export",
    "extract": "tfxfer.store.extraction",
    "fit": "tfxfer.train.fit",
    "fit_normalization": "tfxfer.evaluation.normalization",
    "import_meta_graph": "tfxfer.graph.importing",
    "network": "tfxfer.networks.network",
    "open_run": "tfxfer.serving.run",
    "open_weights": "tfxfer.weights",
    "plan": "tfxfer.restore.plan",
    "precompute": "tfxfer.store.extraction",
    "predict": "tfxfer.serving.predict",
    "recognise": "tfxfer.models.recognition",
    "report": "tfxfer.reports",
    "select": "tfxfer.graph.variables",
    "session": "tfxfer.restore.session",
    "train_step": "tfxfer.graph.train_step",
    "tune": "tfxfer.tuning.tune",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(__name__, _HOMES)
