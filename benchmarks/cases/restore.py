"""VGG16 from a file into a session: from an `.npz`, and from a checkpoint of TensorFlow's."""

from __future__ import annotations

from benchmarks.case import Agreement, Case, Comparison, Side, module

SAME = (Agreement("conv1_2/kernel", 0.0), Agreement("conv5_3/kernel", 0.0))
SIZES = {"sizes": {"side": 224}, "quick": {"side": 32}, "prepare": "networks.vgg16", "agreements": SAME}
INITIALISED, ONE = "tfxfer, convolutions, the rest initialised", "tfxfer, one bias"

RESTORE = Case(
    name="restore",
    title="VGG16 from an .npz of 528 MiB into a session: everything, or the 13 convolutions",
    sides=(
        module("tfxfer, everything", "ours.restore", "--file=npz", "--part=all"),
        module("np.load, everything", "peers.np_load", "--part=all"),
        module("Keras load_weights (.h5), everything", "peers.keras_restore", "--part=all"),
        module("a constant a variable, everything", "peers.tf_restore", "--way=constants", "--part=all"),
        module("tfxfer, convolutions", "ours.restore", "--file=npz", "--part=convolutions"),
        module(INITIALISED, "ours.restore", "--file=npz", "--part=whole"),
        module("np.load, convolutions", "peers.np_load", "--part=convolutions"),
        module("Keras load_weights by_name, convolutions", "peers.keras_restore", "--part=convolutions"),
        module("a constant a variable, convolutions", "peers.tf_restore", "--way=constants", "--part=convolutions"),
    ),
    comparisons=(
        Comparison("tfxfer, everything", "a constant a variable, everything", target=40),
        Comparison("tfxfer, everything", "Keras load_weights (.h5), everything", target=2),
        Comparison("tfxfer, everything", "np.load, everything", target=0.65),
        Comparison("tfxfer, convolutions", "tfxfer, everything", target=10),
        Comparison("tfxfer, convolutions", "a constant a variable, convolutions"),
        Comparison("tfxfer, convolutions", "Keras load_weights by_name, convolutions"),
        Comparison("tfxfer, convolutions", "np.load, convolutions"),
        Comparison("tfxfer, everything", "a constant a variable, everything", by="peak",
                   words="memory: tfxfer, everything, against a constant a variable"),
    ),
    notes=(
        "The work begins after TensorFlow is loaded and the graph or model is built, and ends with the values in the "
        "session. The samples of two kernels are the same in all sides.",
    ),
    **SIZES,
)  # fmt: skip


def ways(part: str, words: str) -> tuple[Side, ...]:
    """Return the sides that restore some part of a checkpoint, which is called so."""
    return (
        module(f"tfxfer, {words}", "ours.restore", "--file=ckpt", f"--part={part}"),
        module(f"bare Saver, {words}", "peers.tf_restore", "--way=saver", f"--part={part}"),
        module(f"tf_slim, {words}", "peers.tf_restore", "--way=slim", f"--part={part}", environment="slim"),
    )


CHECKPOINT = Case(
    name="restore_checkpoint",
    title="VGG16 from a checkpoint of TensorFlow's into a session: everything, or the 13 convolutions",
    sides=(
        module(ONE, "ours.restore", "--file=ckpt", "--part=bias"),
        *ways("all", "everything"),
        *ways("convolutions", "convolutions"),
    ),
    comparisons=(
        Comparison("tfxfer, everything", "bare Saver, everything", target=0.9),
        Comparison("tfxfer, everything", "tf_slim, everything"),
        Comparison("tfxfer, convolutions", "bare Saver, convolutions", target=0.9),
        Comparison("tfxfer, convolutions", "tf_slim, convolutions"),
        Comparison("tfxfer, convolutions", "tfxfer, everything",
                   words="the convolutions against everything, whose bytes are 9.4 times as many"),
        Comparison(ONE, "tfxfer, convolutions", words="one bias, of 256 bytes, against the convolutions"),
    ),
    notes=(
        "tf_slim is its `assign_from_checkpoint_fn`, in an environment with tf_keras.",
        "One bias shows the fixed cost of a restore; beyond that, the cost is in proportion to the restored bytes.",
    ),
    **SIZES,
)  # fmt: skip
CASES = (RESTORE, CHECKPOINT)
