"""What the nodes of a graph take: by that a constant is known for a weight, a range of quantization, an initial value.

Source: tensorflow/core/framework/node_def.proto, and the ops in tensorflow/core/ops/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tfxfer.errors import WeightsError
from tfxfer.formats.protobuf import BYTES, Bytes, Field, scan, tag

MAX_FIELDS = (
    1_000_000  # of all nodes together, without attributes but those of constants; 100,000 nodes have half of it
)

_NAME, _OP, _INPUT, _ATTRIBUTE = (tag(number, BYTES) for number in (1, 2, 3, 5))
_CONSTANTS = {b"Const", b"HostConst"}
_VARIABLES = {b"Variable", b"VariableV2", b"VarHandleOp", b"AutoReloadVariable", b"TemporaryVariable"}
_IDENTITIES = {b"Identity", b"ReadVariableOp"}
_PASSING = _IDENTITIES | {
    *(b"IdentityN", b"Snapshot", b"DeepCopy", b"StopGradient", b"PreventGradient", b"CheckNumerics"),
    *(b"Enter", b"RefEnter", b"Exit", b"RefExit", b"Switch", b"RefSwitch", b"Merge", b"RefMerge", b"NextIteration"),
    *(b"Cast", b"Bitcast", b"Reshape", b"Squeeze", b"ExpandDims", b"Transpose"),
}
_LOOKING = {
    *(b"Shape", b"ShapeN", b"Rank", b"Size", b"ZerosLike", b"OnesLike", b"NoOp"),
    *(b"Assert", b"Print", b"PrintV2", b"ScalarSummary", b"HistogramSummary", b"ImageSummary", b"TensorSummary"),
    *(b"Save", b"SaveSlices", b"SaveV2", b"Restore", b"RestoreSlice", b"RestoreV2", b"MergeV2Checkpoints"),
}
_ASSIGNING = {b"Assign", b"AssignVariableOp"}
_QUANTIZATION = re.compile(rb"[Qq]uanti[zs]|FakeQuant")


class Room:
    """Counts what is read of the nodes of a file: more fields than anybody can wait for are refused."""

    def __init__(self, where: str) -> None:
        """Begin to count; `where` names the file in the error messages."""
        self.where = where
        self.left = MAX_FIELDS

    def take(self, count: int) -> None:
        """Count fields that are read elsewhere.

        Raises:
          WeightsError: there were too many.
        """
        self.left -= count
        if self.left < 0:
            raise WeightsError(
                f"{self.where} is refused: its nodes have more than {MAX_FIELDS:,} fields; take out of it what leads "
                "to the outputs, by tf.compat.v1.graph_util.extract_sub_graph"
            )

    def scan(self, message: Bytes) -> Iterator[Field]:
        """Split a message into its fields, as `protobuf.scan` does.

        Raises:
          WeightsError: the bytes are not a message, or there were too many.
        """
        self.take(1)
        for field in scan(message, self.where):
            self.left -= 1
            if self.left < 0:
                self.take(0)
            yield field


class Uses:
    """The constants and variables of a graph, or of a function, and what takes them.

    Attributes:
      constants: their NodeDefs by name.
      variables: their ops by name.
      computed: names of what an op takes and computes by. As in the next three, the op takes it directly, or through
        ops that hand their input on.
      quantized: names of what an op of quantization takes.
      assigned: names of what is assigned to a variable.
      looked: names of what an op takes that looks at no value, or only shows or saves it.
      read: names of what an Identity takes.
    """

    def __init__(self, nodes: Iterable[Bytes], room: Room) -> None:
        """Look at NodeDefs.

        Raises:
          WeightsError: one is corrupt, two constants have one name, or there are too many.
        """
        self.constants: dict[bytes, Bytes] = {}
        self.variables: dict[bytes, bytes] = {}
        self.computed: set[bytes] = set()
        self.quantized: set[bytes] = set()
        self.assigned: set[bytes] = set()
        self.looked: set[bytes] = set()
        self.read: set[bytes] = set()
        self._passing: dict[bytes, list[bytes]] = {}
        self._takers: dict[bytes, list[set[bytes]]] = {}
        for node in nodes:
            self._add(node, room)
        for taken in (self.computed, self.quantized, self.assigned, self.looked):
            self._follow(taken)

    def _add(self, node: Bytes, room: Room) -> None:
        name, op, inputs = _read(node, room)
        if op in _CONSTANTS:
            if name in self.constants:
                shown = name.decode(errors="replace")
                raise WeightsError(f"{room.where} is corrupt: two constants are called {shown}")
            self.constants[name] = node
        elif op in _VARIABLES:
            self.variables[name] = op
        if op in _PASSING:
            self._passing[name] = inputs
        for taken in self._taken_by(op):
            taken.update(inputs)

    def _taken_by(self, op: bytes) -> list[set[bytes]]:
        """List the sets that the inputs of an op belong to."""
        if op not in self._takers:
            self._takers[op] = self._sets(op)
        return self._takers[op]

    def _sets(self, op: bytes) -> list[set[bytes]]:
        if op in _PASSING:
            return [self.read] if op in _IDENTITIES else []
        if op in _LOOKING:
            return [self.looked]
        if op in _ASSIGNING:
            return [self.assigned]
        return [self.computed, self.quantized] if _QUANTIZATION.search(op) else [self.computed]

    def _follow(self, taken: set[bytes]) -> None:
        """Add what leads to any of the names through ops that hand it on."""
        waiting = [name for name in self._passing if name in taken]
        while waiting:
            for source in self._passing[waiting.pop()]:
                if source not in taken:
                    taken.add(source)
                    if source in self._passing:
                        waiting.append(source)


def _read(node: Bytes, room: Room) -> tuple[bytes, bytes, list[bytes]]:
    """Return the name of a node, its op, and the names of the nodes that it takes."""
    name = op = b""
    inputs = []
    for key, value in room.scan(node if len(node) > 4096 else bytes(node)):
        if key == _ATTRIBUTE:  # the last and the most: every writer puts fields in the order of their numbers
            break
        if key == _INPUT:
            inputs.append(bytes(value).partition(b":")[0])
        elif key == _OP:
            op = bytes(value)
        elif key == _NAME:
            name = bytes(value)
    return name, op, inputs
