"""What is known and changed of a GraphDef as such: its nodes walked, bound inputs followed, functions inlined."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.graph_def import folding as folding
    from tfxfer.graph_def import inlining as inlining
    from tfxfer.graph_def import nodes as nodes
else:
    __getattr__, __dir__ = attach(__name__)
