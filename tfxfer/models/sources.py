"""Where the weights of a model come from: under which names, in which layout and with which contract they circulate.

Each model lists its sources beside itself. A file is recognised by its names and shapes, which its header tells.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from tfxfer import names
from tfxfer.contract import Contract
from tfxfer.errors import SelectionError, WeightsError
from tfxfer.weights import Weights

Shape = tuple[int | None, ...]

SHOWN = 4
# What training leaves in a file besides the model: its step, and what optimizers keep.
TRAINING = (
    r"global_step|beta[12]_power(_\d+)?",
    r".*/(Adam|Adam_1|Momentum|RMSProp|RMSProp_1|Adagrad|ExponentialMovingAverage)",
    r"(optimizer|optimizer_weights|metrics)/.*",
)


@dataclasses.dataclass(frozen=True)
class Source:
    """One form in which the weights of a model circulate.

    Attributes:
      name: what `--source` calls it, as `vgg16_keras`.
      words: which files these are.
      contract: what the weights expect of their input.
      variables: the shape of every variable of the model, by our names; None is a size that varies, as the classes do.
      renames: pairs (regular expression, replacement). The first that matches a whole name makes it ours.
      layout: pairs (regular expression, layout), as `open_weights` takes them; they match our names.
      ignored: regular expressions for names in the file that are no part of the model.
      probe: a variable and what `[0, 0, :, 0]` of it is in the authors' weights, R, G, B: it tells the order of the
        channels where names and shapes cannot.
    """

    name: str
    words: str
    contract: Contract
    variables: Mapping[str, Shape]
    renames: names.Rules
    layout: Sequence[tuple[str, str]] = ()
    ignored: Sequence[str] = ()
    probe: tuple[str, tuple[float, float, float]] | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.words}): {self.contract}"

    def rename(self, name: str) -> str:
        """Return our name for a name in the file; the name itself where no rule matches it."""
        for pattern, replacement in self.renames:
            if found := re.fullmatch(pattern, name):
                return found.expand(replacement)
        return name

    def knows(self, name: str) -> bool:
        """Say whether a name in the file is one that this source gives to a variable of the model."""
        return self.rename(name) in self.variables and any(re.fullmatch(pattern, name) for pattern, _ in self.renames)

    def apply(self, weights: Weights) -> Weights:
        """Return weights under our names and in our layout; what the source does not know stays as it is.

        Raises:
          SelectionError: two names would become one.
          WeightsError: an array has not the shape that its layout is for.
        """
        return weights.renamed(self.rename).laid_out(self._layout_for(weights))
