"""Files of weights made from files of weights: a module for each tool, none of which imports TensorFlow."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.weight_tools import average_weights as average_weights
    from tfxfer.weight_tools import convert_weights as convert_weights
    from tfxfer.weight_tools import diff_weights as diff_weights
    from tfxfer.weight_tools import graft_weights as graft_weights
    from tfxfer.weight_tools import inspect_weights as inspect_weights
    from tfxfer.weight_tools import tables as tables
    from tfxfer.weight_tools import values as values
    from tfxfer.weight_tools import verify_run as verify_run
    from tfxfer.weight_tools import verify_weights as verify_weights
else:
    __getattr__, __dir__ = attach(__name__)
