"""The flags that say where what is computed once is kept, and how it is computed."""

from __future__ import annotations

from typing import Any

from absl import flags

from tfxfer.tools import _flags

# Of tools that have no store without --store.
USES = tuple(_flags.Use(name, "store", what="the directory that is filled") for name in ("store_dtype", "workers"))


def define(values: flags.FlagValues, default: str) -> None:
    """Define the flags of the store.

    Args:
      values: the tool's flags.
      default: what happens without --store, as the end of a sentence.
    """
    with _flags.group(values, "store"):
        flags.DEFINE_string(
            "store",
            None,
            f"Directory in which what the frozen layers compute is kept, once a picture; default: {default}.",
            flag_values=values,
        )
        define_dtype(values)
        flags.DEFINE_integer(
            "workers",
            1,
            "Processes that compute what is not there yet, each with --intra_op_threads threads and as much memory as "
            "the network takes.",
            1,
            flag_values=values,
        )


def define_dtype(values: flags.FlagValues) -> None:
    """Define the flag that says how rows are kept."""
    flags.DEFINE_enum(
        "store_dtype",
        "float32",
        ("float32", "float16"),
        "How numbers are kept in the store; float16 takes half the room and rounds to 3 digits.",
        flag_values=values,
    )


def define_extraction(values: flags.FlagValues) -> None:
    """Define the flags that an extraction has beside those of its network, examples and store."""
    flags.DEFINE_integer(
        "batch_size",
        None,
        "Pictures that go through the network at once; default: 32, and 128 of up to 64 x 64 pixels.",
        1,
        flag_values=values,
    )
    _flags.DEFINE_patterns(
        "restore", [], "Variables to restore from --weights; default: all; none for a random baseline.", values
    )


def options(settings: Any) -> dict[str, Any]:
    """Return the keyword arguments of `precompute` and `extract` that the flags set."""
    return {"dtype": settings.store_dtype, "workers": settings.workers}
