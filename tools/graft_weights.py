"""Make one set of weights out of several files: the convolutions of one, the head of another.

    tfxfer graft_weights --base=runs/a/best --take='fc.*=runs/b/best' --take='logits/.*=runs/b/best' grafted.ckpt

What is taken replaces the tensor of the same name in --base, whose shape and dtype must be the same, or is added. A
graft that leaves holes is refused: a pattern matches what the base has and the file has not, or a layer would come in
part, or from several files. Slots of optimizers and steps are left out. OUT as for convert_weights; TensorFlow is not
loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from tfxfer.tools import _flags, _overwrite
from tfxfer.weight_tools.graft_weights import Takes, plan
from tfxfer.weights import open_weights


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string(
        "base", None, "File from which everything comes that is not taken from elsewhere.", flag_values=values
    )
    _flags.DEFINE_takes("take", [], "Tensors to take from a file, by their names; may be repeated.", values)
    flags.DEFINE_bool("mix_layers", False, "Let the tensors of one layer come from several files.", flag_values=values)
    _overwrite.define(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [out] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    if not values.take:
        raise _flags.UsageError("nothing is taken: give --take='REGEX=FILE', once or more; see --help")
    graft = plan(open_weights(values.base) if values.base else None, _opened(values.take), mix_layers=values.mix_layers)
    moved = _overwrite.written(out, graft.tensors, graft.sources, graft.input_spec, values, graft.ordered)
    if values.dry_run:
        rows = [(name, *_overwrite.form(graft.tensors[name]), origin.path) for name, origin in graft.origins.items()]
        _overwrite.show_table(("name", "shape", "dtype", "from"), rows)
    _overwrite.show_end(out, graft.tensors, moved, graft.notes, graft.input_spec, values.dry_run)
    return 0


def _opened(takes: Sequence[tuple[str, str]]) -> Takes:
    """Open each file once, however many patterns take from it."""
    files = {path: open_weights(path) for _, path in takes}
    return [(pattern, files[path]) for pattern, path in takes]


if __name__ == "__main__":
    sys.exit(_flags.run(main))
