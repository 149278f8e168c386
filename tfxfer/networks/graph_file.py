"""A network as a file describes it, whatever kind of file that is, before anything of it is in a graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.input_spec import InputSpec
from tfxfer.weights import Weights


@dataclasses.dataclass(frozen=True)
class FileVariable:
    """A variable of a network in a file.

    Attributes:
      name: by which `Weights` has its value.
      tensors: what stands for it in the graph, by full name: whether it is the handle (True), or the value.
      shape, dtype: of its value.
      trainable: whether an optimizer trains it if nothing else is said; statistics are not trainable.
      part: which part of a partitioned variable it is, a SaveSliceInfoDef; None for a whole one.
    """

    name: str
    tensors: Mapping[str, bool]
    shape: tuple[int, ...]
    dtype: tf.DType
    trainable: bool = True
    part: Any = None


@dataclasses.dataclass(frozen=True)
class GraphFile:
    """A network in a file.

    Attributes:
      path: the file, as the user named it.
      kind: what the file is, in words.
      graph_def: its ops. What stands for a variable is in it too, and is left out when it is imported.
      variables: those of the whole graph, by the name of the node that stands for each.
      weights: the values of the variables; None where the file has none.
      inputs, outputs: full names of the tensors that the file declares as such, in its order; none where it does not.
      signatures: the names of the signatures that it has.
      endpoints: further names of tensors, such as those of Keras's layers: full names by them.
      op_list: the ops as the program knew them that wrote the file, an OpList, if the file says so.
      stated: what the file itself says of its input and its classes, if anything.
    """

    path: str
    kind: str
    graph_def: tf.GraphDef
    variables: Mapping[str, FileVariable]
    weights: Weights | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    endpoints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    op_list: Any = None
    stated: InputSpec | None = None

    def input_spec(self, input: str) -> InputSpec | None:
        """Return what the input spec beside the weights says of pictures, or else the file; None where neither does.

        Args:
          input: the full name of the tensor in the place of which images come. Of another than its own inputs, the file
            says nothing.

        Raises:
          WeightsError: the input spec cannot be read.
        """
        beside = self.weights.input_spec() if self.weights is not None else None
        return beside or (self.stated if not self.inputs or input in self.inputs else None)
