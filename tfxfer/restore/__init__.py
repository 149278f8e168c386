"""Where weights and graph meet: the plan of a restore, and the session that carries it out."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.restore import plan as plan
    from tfxfer.restore import session as session
else:
    __getattr__, __dir__ = attach(__name__)
