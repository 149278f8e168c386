"""Say what is different between two files of weights, A and B: names, shapes, dtypes and values.

    tfxfer diff_weights runs/a/model.ckpt-800 runs/b/model.ckpt-800
    tfxfer diff_weights vgg16_weights.npz vgg16.ckpt --rename='(conv\\d_\\d|fc\\d)_W=\\1/kernel' --rename='_b$=/bias'

Both may be of any kind that tfxfer reads. Of other values it shows how many differ, the largest |a - b|, the norm of
a - b by the larger of the norms of a and b, and the cosine of the angle between them. Exit status 0: equal; 3:
different.
"""

from __future__ import annotations

import json
import sys

from absl import flags

from tfxfer import names
from tfxfer.tools import _flags, _pager
from tfxfer.weight_tools import diff_weights as comparing
from tfxfer.weights import open_weights

DIFFERENT = 3


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_float(
        "rtol", 0.0, "Floats are equal where |a - b| <= atol + rtol * |b|; NaN equals NaN.", 0.0, flag_values=values
    )
    flags.DEFINE_float("atol", 0.0, "See --rtol. All but floats is compared exactly.", 0.0, flag_values=values)
    _flags.DEFINE_rules("rename", [], "Rename what is in A, in the order given, before it is compared.", values)
    _flags.DEFINE_selection("Tensors to compare", "", values)
    _flags.DEFINE_json(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    paths = _flags.parse(values, argv, __doc__, at_least=2, at_most=2)
    a, b = open_weights(paths[0], rename=values.rename or None), open_weights(paths[1])
    chosen = names.match(values.select, list(dict.fromkeys([*a, *b])), values.exclude)
    found = comparing.diff(a, b, chosen, rtol=values.rtol, atol=values.atol)
    if values.json:
        print(json.dumps(found.to_json()))
    else:
        head = [
            f"{side} is {names.printable(w.path)} ({w.kind}, {len(w):,} tensors)" for side, w in (("A", a), ("B", b))
        ]
        _pager.show([*head, "", *comparing.report(found, _pager.width()), comparing.summary(found)])
    return 0 if found.same else DIFFERENT


if __name__ == "__main__":
    sys.exit(_flags.run(main))
