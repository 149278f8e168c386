"""Training by several processes: who they are, what they say to each other, and the loop of each."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.train.cluster import session as session
    from tfxfer.train.cluster import tasks as tasks
    from tfxfer.train.cluster import training as training
else:
    __getattr__, __dir__ = attach(__name__)
