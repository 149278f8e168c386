"""What VGG16 and SqueezeNet make of JPEGs."""

from __future__ import annotations

from benchmarks import machine
from benchmarks.case import Agreement, Case, Comparison, Side, module

TFXFER, KERAS, TORCH = "tfxfer", "Keras predict", "PyTorch"
CEILING, GEMM = "bare session on ready arrays", "at the peak of matrix products"
HALF = "tfxfer, bfloat16", "PyTorch, bfloat16"
NO_UNITS = "" if machine.has_bfloat16() else "this processor has no units for bfloat16"
NOTES = (
    "JPEGs of 500x375 are read, decoded, cut square, resized and go through the network; tfxfer checks all of them "
    "first and writes the codes to a store. The work is from the folder to the codes in memory; `computing` begins "
    "with the first picture that is decoded for the network. The time at the peak is that of the network's products "
    "and sums at the rate of products of 2048x2048 matrices, measured in the same run.",
    "Keras resizes without averaging, so its codes differ; those of the other sides agree.",
)


def sides(network: str) -> tuple[Side, ...]:
    """Return who computes."""
    name, single, half = f"--network={network}", "--precision=float32", "--precision=bfloat16"
    return (
        module(TFXFER, "ours.extraction", name, single),
        module(KERAS, "peers.keras_extraction", name),
        module(TORCH, "peers.torch_extraction", name, single, environment="pytorch"),
        module(CEILING, "peers.tf_extraction", name),
        module(GEMM, "peers.gemm", name, single),
        module(HALF[0], "ours.extraction", name, half, left_out=NO_UNITS),
        module(HALF[1], "peers.torch_extraction", name, half, environment="pytorch", left_out=NO_UNITS),
    )


COMPARISONS = (
    Comparison(TFXFER, KERAS, target=1.1),
    Comparison(TFXFER, TORCH, target=1.05),
    Comparison(TFXFER, CEILING, by="computing", target=0.95, words=f"{TFXFER}, computing, against a {CEILING}"),
    Comparison(TFXFER, CEILING),
    Comparison(TFXFER, GEMM, by="computing", words=f"{TFXFER}, computing, against the peak of matrix products"),
    Comparison(HALF[0], TFXFER, target=1.8),
    Comparison(HALF[0], HALF[1], target=1.05),
)
AGREEMENTS = (
    Agreement("codes", 0.02, (TFXFER, TORCH, CEILING)),
    Agreement("codes", 0.25, (TFXFER, KERAS)),
    Agreement("codes", 0.05, (TFXFER, *HALF)),
)
# The last batch has room for the few pictures that tfxfer computes twice, as most numbers of pictures leave.
SQUEEZENET = Case(
    name="extract_squeezenet",
    title="SqueezeNet 1.0, fire9 averaged, of JPEGs",
    sides=sides("squeezenet"),
    comparisons=COMPARISONS,
    agreements=AGREEMENTS,
    sizes={"pictures": 1020, "batch": 32, "side": 227},
    quick={"pictures": 24, "batch": 8, "side": 67},
    warm={"pictures": 64},
    prepare="photographs.with_squeezenet",
    count="pictures",
    notes=NOTES,
)
VGG16 = Case(
    name="extract_vgg16",
    title="VGG16, pool5, of JPEGs",
    sides=sides("vgg16"),
    comparisons=COMPARISONS,
    agreements=AGREEMENTS,
    sizes={"pictures": 188, "batch": 32, "side": 224},
    quick={"pictures": 24, "batch": 8, "side": 32},
    warm={"pictures": 32},
    prepare="photographs.with_vgg16",
    count="pictures",
    notes=NOTES,
)
CASES = (SQUEEZENET, VGG16)
