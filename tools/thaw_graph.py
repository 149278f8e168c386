"""Write a frozen graph as a checkpoint and a MetaGraph, so that it can be trained further.

    tfxfer thaw_graph frozen.pb thawed/model.ckpt

Constants that are weights become variables of the same names; all ops keep theirs. OUT is the prefix of the checkpoint,
and OUT.meta is the graph: tf.train.import_meta_graph takes both, and so does --model=OUT.meta of the other tools. FILE
may be any file of a network that has weights; see `tfxfer inspect_graph FILE`.
"""

from __future__ import annotations

import math
import sys

from absl import flags

from tfxfer.tools import _flags, _pager


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_bool("overwrite", False, "Move what is at OUT aside, to OUT.old-N.", flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    path, out = _flags.parse(values, argv, __doc__, at_least=2, at_most=2)

    from tfxfer.networks.thaw import thaw

    thawed = thaw(path, out, overwrite=values.overwrite)
    for old, new in thawed.moved.items():
        _pager.say(f"moved {old} to {new}")
    parameters = sum(map(math.prod, thawed.variables.values()))
    _pager.say(f"{out}: TensorFlow checkpoint V2, {len(thawed.variables):,} variables, {parameters:,} parameters")
    _pager.say(f"{out}.meta: MetaGraph, {thawed.ops:,} ops; tfxfer inspect_graph {out}.meta shows where it can be cut")
    return 0


if __name__ == "__main__":
    sys.exit(_flags.run(main))
