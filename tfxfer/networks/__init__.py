"""Networks that others made: out of a MetaGraph, a frozen graph, a SavedModel, a Keras file, or by name."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.networks import applications as applications
    from tfxfer.networks import candidates as candidates
    from tfxfer.networks import file_model as file_model
    from tfxfer.networks import files as files
    from tfxfer.networks import frozen as frozen
    from tfxfer.networks import graph_file as graph_file
    from tfxfer.networks import importing as importing
    from tfxfer.networks import initial_values as initial_values
    from tfxfer.networks import keras_file as keras_file
    from tfxfer.networks import keras_trace as keras_trace
    from tfxfer.networks import meta_graph as meta_graph
    from tfxfer.networks import multiply_adds as multiply_adds
    from tfxfer.networks import network as network
    from tfxfer.networks import run_directory as run_directory
    from tfxfer.networks import saved_model as saved_model
    from tfxfer.networks import thaw as thaw
else:
    __getattr__, __dir__ = attach(__name__)
