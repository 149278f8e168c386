"""Extraction on Apache Beam, into the store that one machine fills."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.store.beam import faults as faults
    from tfxfer.store.beam import origins as origins
    from tfxfer.store.beam import pipeline as pipeline
else:
    __getattr__, __dir__ = attach(__name__)
