"""Pictures, each computed once and drawn as SVG or PNG: confusion matrices, tiles, curves, scatters."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.plots import confusion as confusion
    from tfxfer.plots import curves as curves
    from tfxfer.plots import figures as figures
    from tfxfer.plots import learning_curve as learning_curve
    from tfxfer.plots import palette as palette
    from tfxfer.plots import png as png
    from tfxfer.plots import predictions as predictions
    from tfxfer.plots import reliability as reliability
    from tfxfer.plots import scatter as scatter
    from tfxfer.plots import tiles as tiles
else:
    __getattr__, __dir__ = attach(__name__)
