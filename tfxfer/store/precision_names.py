"""In which precisions frozen layers may compute: their names, and which of them the processor can do. No TensorFlow."""

from __future__ import annotations

from tfxfer import names
from tfxfer.errors import DataError
from tfxfer.processor import has_units, without_units

HOW = {  # as the end of a sentence
    "bfloat16": "in bfloat16",
    "float32": "in float32",
    "folded": "in float32 with batch normalisation and padding folded",
}
PRECISIONS = ("auto", *HOW)
# Measured on a processor with units, which oneDNN was kept from using (ONEDNN_MAX_CPU_ISA=AVX512_CORE).
LOSS = "0.4 times as fast as in float32 (SqueezeNet 0.46, EfficientNet-Lite0 0.40, VGG16 0.38)"


def is_possible(precision: str) -> bool:
    """Say whether the processor computes in a precision faster than in float32, as far as it needs units for that."""
    return precision != "bfloat16" or has_units()


def check(precision: str) -> None:
    """Refuse a precision that nobody knows, and bfloat16 where the processor has no units for it.

    Raises:
      DataError: it is one of these.
    """
    if precision not in PRECISIONS:
        raise DataError(f"`precision={precision}`: it is one of {names.listed(PRECISIONS)}")
    if not is_possible(precision):
        raise DataError(
            f"`precision=bfloat16`: {without_units()}, and would be {LOSS}; leave `precision` out, or give "
            "`precision=auto`"
        )
