"""The frontier: the last tensors that cannot change during training, and the rules that prove it of each op."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.frontier import batch_axis as batch_axis
    from tfxfer.frontier import batch_rules as batch_rules
    from tfxfer.frontier import per_example as per_example
    from tfxfer.frontier import search as search
else:
    __getattr__, __dir__ = attach(__name__)
