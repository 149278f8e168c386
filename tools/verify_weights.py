"""Check that a file of weights is whole, and go on after the first tensor that is bad.

    tfxfer verify_weights vgg16_weights.npz --write_digests=vgg16.digests
    tfxfer verify_weights vgg16_weights.npz --digests=vgg16.digests
    tfxfer verify_weights runs/digits

Every checksum of the file, every offset, NaN and Inf, the input spec beside it. Of a run directory each checkpoint,
and that what was frozen is what it was at the start and what it is in the file that it was restored from. Exit status
0: sound; 1: something is bad, and all of it is listed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from absl import flags

from tfxfer.tools import _flags, _pager
from tfxfer.weight_tools import verify_run, verify_weights
from tfxfer.weights.writers.placing import refuse_existing


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string(
        "digests",
        None,
        "File of digests that the tensors are to have, as --write_digests or a run (frozen.json) wrote it.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "write_digests", None, "File to write the SHA-256 of each tensor to, if all is sound.", flag_values=values
    )
    flags.DEFINE_bool("overwrite", False, "Write though that file exists, and move it aside.", flag_values=values)
    _flags.DEFINE_json(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [path] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    if verify_run.is_run(path):
        return _run(path, values)
    kept = verify_weights.read_digests(values.digests) if values.digests else None
    if values.write_digests:
        refuse_existing(Path(values.write_digests), values.overwrite)
    verdict = verify_weights.verify(path, kept=kept, take_digests=bool(values.write_digests))
    wrote = []
    if values.write_digests and not verdict.faults:
        wrote = verify_weights.write_digests(values.write_digests, verdict, overwrite=values.overwrite)
    if values.json:
        print(json.dumps(verdict.to_json()))
    else:
        _pager.show([*verify_weights.report(verdict), *wrote, verify_weights.summary(verdict)])
    return 1 if verdict.faults else 0


def _run(path: str, values: flags.FlagValues) -> int:
    if values.digests or values.write_digests:
        raise _flags.UsageError("a run directory has digests of its own, frozen.json; give one of its checkpoints")
    verdict = verify_run.verify_run(path)
    if values.json:
        print(json.dumps(verdict.to_json()))
    else:
        _pager.show([*verify_run.run_report(verdict), verify_run.run_summary(verdict)])
    return 0 if verdict.sound else 1


if __name__ == "__main__":
    sys.exit(_flags.run(main))
