"""Convert weights to another format, under other names, in another layout or dtype; some of them or all.

    tfxfer convert_weights vgg16_weights.npz vgg16.ckpt --rename='(.*)_W=\\1/kernel' --rename='(.*)_b=\\1/bias'
    tfxfer convert_weights runs/digits/best head.h5 --select='fc.*,logits.*' --drop_slots
    tfxfer convert_weights vgg16.ckpt vgg16.pth --rename='/kernel=.weight' --layout='conv.*weight=-oihw_conv'

IN is anything that inspect_weights reads. OUT ends in .npz, .safetensors, .h5 (Keras), .pth or .pt (PyTorch), .ckpt or
nothing (a checkpoint of TensorFlow). Names are chosen as IN has them; then come --strip_prefix, --rename and
--add_prefix, and --layout goes by the names that OUT has. The order of --select is that of the layers in OUT, by which
Keras goes; patterns for it may also follow OUT. An input spec beside IN travels along. TensorFlow is not loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from tfxfer import names
from tfxfer.tools import _flags, _overwrite
from tfxfer.weight_tools.convert_weights import DTYPES, Conversion, plan
from tfxfer.weights import open_weights, writers
from tfxfer.weights.roles import OF_TRAINING, role, slots_by_place


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    _flags.DEFINE_selection("Tensors to take", ", by their names in IN", values)
    flags.DEFINE_bool(
        "drop_slots",
        False,
        "Leave out what only training needs: slots of optimizers (Adam and the like, moving averages beside their "
        "variables) and counters of steps.",
        flag_values=values,
    )
    flags.DEFINE_string("strip_prefix", "", "Taken from the beginning of names that begin with it.", flag_values=values)
    _flags.DEFINE_rules("rename", [], "Replace what the expression finds in a name, in the order given.", values)
    flags.DEFINE_string("add_prefix", "", "Put before every name, as vgg_16/, slash and all.", flag_values=values)
    _flags.DEFINE_rules(
        "layout",
        [],
        "Change the order of dimensions or values, by names in OUT, as '.*/kernel=oihw_conv'; there are theano_conv, "
        "oihw_conv, transpose, chw_fc:H,W,C, conv_fc:H,W,C, bgr_conv, classes_1001, vector, matrix, each with - "
        "before it for the way back, joined by +.",
        values,
        "REGEX=LAYOUT",
    )
    flags.DEFINE_enum(
        "dtype",
        None,
        list(DTYPES),
        "Cast floats to it; integers, booleans and strings stay. Refused where a value would become infinite.",
        flag_values=values,
    )
    _flags.DEFINE_dequantize(values)
    _overwrite.define(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    source, out, *more = _flags.parse(values, argv, __doc__, at_least=2)
    if more and not values["select"].present:
        raise _flags.UsageError(f"unexpected argument: {names.listed(more)}; see --help")
    kind = writers.kind_of(Path(out))
    conversion = plan(
        open_weights(source, dequantize=values.dequantize),
        select=[*values.select, *(pattern for text in more for pattern in names.split_patterns(text))],
        exclude=values.exclude,
        drop_slots=values.drop_slots,
        strip_prefix=values.strip_prefix,
        rename=values.rename,
        add_prefix=values.add_prefix,
        layout=values.layout,
        dtype=values.dtype,
    )
    moved = _overwrite.written(
        out, conversion.tensors, [conversion.weights], conversion.input_spec, values, conversion.ordered
    )
    if values.dry_run:
        _show(conversion, kind)
    _overwrite.show_end(
        out,
        conversion.tensors,
        moved,
        [*conversion.notes, *_hints(conversion, kind)],
        conversion.input_spec,
        values.dry_run,
    )
    return 0


def _show(conversion: Conversion, kind: writers.Format) -> None:
    weights, rows = conversion.weights, {row.new: row for row in conversion.rows}
    every, slots, lines = frozenset(weights), slots_by_place(weights, weights.shape), []
    for name in writers.in_order(kind, conversion.tensors, ordered=conversion.ordered):
        row = rows[name]
        before, after = _overwrite.form(row.before), _overwrite.form(row.after)
        forms = (old if old == new else f"{old} -> {new}" for old, new in zip(before, after, strict=True))
        lines.append((row.old, row.new, *forms, role(row.old, row.before.shape, every, row.before.dtype, slots)))
    _overwrite.show_table(("in IN", "in OUT", "shape", "dtype", "role"), lines)


def _hints(conversion: Conversion, kind: writers.Format) -> list[str]:
    """Say what Keras will stumble over: it takes layers by their order, and counts them."""
    if kind is not writers.KERAS:
        return []
    weights, hints = conversion.weights, []
    every, placed = frozenset(weights), slots_by_place(weights, weights.shape)
    roles = {row.new: role(row.old, row.before.shape, every, slots=placed) for row in conversion.rows}
    slots = [name for name, is_for in roles.items() if is_for in OF_TRAINING]
    bare = [row.new for row in conversion.rows if "/" not in row.new and row.new not in slots]
    if slots:
        hints.append(f"Keras takes {len(slots)} slots and steps, as {slots[0]}, for layers: see --drop_slots")
    if bare:
        hints.append(
            f"Keras takes {len(bare)} names without a scope, as {bare[0]}, for layers of their own: see --rename"
        )
    return hints


if __name__ == "__main__":
    sys.exit(_flags.run(main))
