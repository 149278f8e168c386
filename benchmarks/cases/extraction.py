"""What VGG16, SqueezeNet and MobileNet make of JPEGs of usual size, and SqueezeNet of those from telephones."""

from __future__ import annotations

from benchmarks import machine
from benchmarks.case import Agreement, Case, Comparison, Side, module

TFXFER, KERAS, TORCH = "tfxfer", "Keras predict", "PyTorch"
CEILING, GEMM = "bare session on ready arrays", "at the peak of matrix products"
AUTO, TORCH_HALF, KERAS_HALF = "tfxfer, auto", "PyTorch, bfloat16", "Keras, mixed_bfloat16"
FOLDED = "tfxfer, folded"
SCALED, EXACT = "tfxfer, scaled decoding", "tfxfer, exact decoding"
NO_UNITS = "" if machine.has_bfloat16() else "this processor has no units for bfloat16"
NOTES = (
    "JPEGs of 500x375 are read, decoded, cut square, resized and go through the network; tfxfer looks for broken ones "
    "and writes the codes to a store. The work is from the folder to the codes in memory; `computing` begins with the "
    "first picture that is decoded for the network. The time at the peak is that of the network's products and sums "
    "at the rate of products of 2048x2048 matrices, measured in the same run.",
    "Keras resizes without averaging, so its codes differ; those of the other sides agree. Sides that do not name "
    "bfloat16 or `auto` compute in float32; `folded` has batch normalisation in the kernels.",
)


def ours(name: str, network: str, precision: str = "float32", decode: str = "exact", left_out: str = "") -> Side:
    """Return tfxfer's side."""
    flags = f"--network={network}", f"--precision={precision}", f"--decode={decode}"
    return module(name, "ours.extraction", *flags, left_out=left_out)


def keras(name: str, network: str, policy: str = "float32", left_out: str = "") -> Side:
    """Return the side of Keras."""
    return module(name, "peers.keras_extraction", f"--network={network}", f"--policy={policy}", left_out=left_out)


def torch(name: str, network: str, precision: str = "float32", left_out: str = "") -> Side:
    """Return the side of PyTorch."""
    flags = f"--network={network}", f"--precision={precision}"
    return module(name, "peers.torch_extraction", *flags, environment="pytorch", left_out=left_out)


def single(network: str) -> tuple[Side, ...]:
    """Return the sides that compute in float32, without PyTorch."""
    return (
        ours(TFXFER, network),
        keras(KERAS, network),
        module(CEILING, "peers.tf_extraction", f"--network={network}"),
        module(GEMM, "peers.gemm", f"--network={network}", "--precision=float32"),
    )


def half(network: str) -> tuple[Side, ...]:
    """Return the sides that compute in bfloat16."""
    return (
        ours(AUTO, network, "auto", left_out=NO_UNITS),
        torch(TORCH_HALF, network, "bfloat16", left_out=NO_UNITS),
        keras(KERAS_HALF, network, "mixed_bfloat16", left_out=NO_UNITS),
    )


def comparisons(keras: float, computing: float, side: str = TFXFER) -> tuple[Comparison, ...]:
    """Return the comparisons in float32, with the targets against Keras and against the bare session."""
    return (
        Comparison(side, KERAS, target=keras),
        Comparison(side, CEILING, by="computing", target=computing, words=f"{side}, computing, against a {CEILING}"),
        Comparison(side, CEILING),
        Comparison(side, GEMM, by="computing", words=f"{side}, computing, against the peak of matrix products"),
    )


def in_half(own: float, torch: float, keras: float) -> tuple[Comparison, ...]:
    """Return the comparisons of `auto`, with its targets against our float32 and the bfloat16 of others."""
    return (
        Comparison(AUTO, TFXFER, target=own, words=f"{AUTO}, against its float32"),
        Comparison(AUTO, TORCH_HALF, target=torch),
        Comparison(AUTO, KERAS_HALF, target=keras),
    )


SINGLE = (Agreement("codes", 0.02, (TFXFER, CEILING)), Agreement("codes", 0.25, (TFXFER, KERAS)))
AGREEMENTS = (
    *SINGLE,
    Agreement("codes", 0.02, (TFXFER, TORCH)),
    Agreement("codes", 0.05, (TFXFER, AUTO, TORCH_HALF)),
    Agreement("codes", 0.05, (KERAS, KERAS_HALF)),
)
# The last batch has room for the few pictures that tfxfer computes twice, as most numbers of pictures leave.
SQUEEZENET = Case(
    name="extract_squeezenet",
    title="SqueezeNet 1.0, fire9 averaged, of JPEGs",
    sides=(*single("squeezenet"), torch(TORCH, "squeezenet"), *half("squeezenet")),
    comparisons=(*comparisons(1.3, 0.9), Comparison(TFXFER, TORCH, target=1.05), *in_half(1.2, 1.05, 1.05)),
    agreements=AGREEMENTS,
    sizes={"pictures": 1020, "batch": 32, "side": 227, "width": 500},
    quick={"pictures": 24, "batch": 8, "side": 67},
    warm={"pictures": 64},
    prepare="photographs.with_squeezenet",
    count="pictures",
    notes=NOTES,
)
VGG16 = Case(
    name="extract_vgg16",
    title="VGG16, pool5, of JPEGs",
    sides=(*single("vgg16"), torch(TORCH, "vgg16"), *half("vgg16")),
    comparisons=(
        *comparisons(1.1, 0.95),
        Comparison(TFXFER, TORCH, target=1.05),
        *(in_half(6, 1.8, 1.5) if machine.has_amx() else in_half(1.8, 1.05, 1.05)),
    ),
    agreements=AGREEMENTS,
    sizes={"pictures": 188, "batch": 32, "side": 224, "width": 500},
    quick={"pictures": 24, "batch": 8, "side": 32},
    warm={"pictures": 32},
    prepare="photographs.with_vgg16",
    count="pictures",
    notes=NOTES,
)


def mobilenet(alpha: int) -> Case:
    """Return the case of a MobileNet of so many percent of its width."""
    return Case(
        name=f"extract_mobilenet_{alpha}",
        title=f"MobileNet {alpha / 100}, averaged, of JPEGs",
        sides=(*single("mobilenet"), ours(FOLDED, "mobilenet", "folded")),
        comparisons=(*comparisons(1.3, 0.9), *comparisons(1.3, 0.9, FOLDED), Comparison(FOLDED, TFXFER)),
        agreements=(*SINGLE, Agreement("codes", 1e-4, (TFXFER, FOLDED))),
        sizes={**SQUEEZENET.sizes, "side": 224, "alpha": alpha},
        quick={**SQUEEZENET.quick, "side": 64},
        warm=SQUEEZENET.warm,
        prepare="photographs.with_mobilenet",
        count="pictures",
        notes=NOTES,
    )


TELEPHONE = Case(
    name="photos_12mp",
    title="SqueezeNet 1.0, fire9 averaged, of photographs of 12 megapixels",
    sides=(
        ours(SCALED, "squeezenet", decode="scaled"),
        ours(EXACT, "squeezenet"),
        keras(KERAS, "squeezenet"),
    ),
    comparisons=(Comparison(SCALED, EXACT, target=2.5), Comparison(SCALED, KERAS, target=2)),
    agreements=(Agreement("codes", 0.05, (EXACT, SCALED)), Agreement("codes", 0.25, (EXACT, KERAS))),
    sizes={"pictures": 100, "batch": 32, "side": 227, "width": 4032},
    quick={"pictures": 24, "batch": 8, "side": 67, "width": 2016},
    warm={"pictures": 20},
    prepare="photographs.large_with_squeezenet",
    count="pictures",
    notes=(
        "JPEGs of 4032x3024, some 3.4 MB each, from the folder to the codes in memory. Scaled decoding lets the "
        "decoder make a picture of no less than the size that is needed; exact decoding makes all of it and then "
        "averages. Either looks for broken pictures, and writes the codes to a store. The network, its weights and "
        "its precision, float32, are the same in all sides.",
        "Keras is its `image_dataset_from_directory`, which decodes all of a picture and resizes without averaging, "
        "so its codes differ more.",
    ),
)
CASES = (SQUEEZENET, mobilenet(100), mobilenet(75), VGG16, TELEPHONE)
