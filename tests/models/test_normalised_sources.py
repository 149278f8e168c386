"""Names and shapes of the files of PyTorch and TensorFlow, by the libraries that write them."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tfxfer as tx
from tests.models.torch_networks import digest, names_and_shapes, random_arrays
from tfxfer.errors import WeightsError
from tfxfer.models import normalised_sources
from tfxfer.models.normalised_sources import Convolution
from tfxfer.models.registry import all_sources
from tfxfer.models.sources import named

# `torch_networks.digest` of `{name: value.shape for name, value in net.state_dict().items()}` for the networks of
# torchvision 0.28, timm 1.0.31 (`mobilenetv2_100`, `tf_efficientnet_lite0`) and efficientnet-lite-pytorch 0.1.0.
DIGESTS = {
    "resnet18_torchvision": "2bb53b15765c4651",
    "resnet34_torchvision": "b945021fb00b779b",
    "resnet50_torchvision": "cf11dad974eadeaa",
    "resnet101_torchvision": "d916ed2068e1af5d",
    "resnet152_torchvision": "2fe195791c8ffb5f",
    "mobilenet_v2_torchvision": "d613ea65450d5318",
    "mobilenet_v2_timm": "5a95ee06712e31e9",
    "efficientnet_lite0_timm": "9e9d040635458c95",
    "efficientnet_lite1_timm": "85f30215ecea7367",
    "efficientnet_lite2_timm": "89a99274af6a9632",
    "efficientnet_lite3_timm": "e1bd45460c6a9e30",
    "efficientnet_lite4_timm": "175b131df5e0b714",
    "efficientnet_lite0_pytorch": "e8b5afc66056b920",
    "efficientnet_lite1_pytorch": "908d60586ae9959c",
    "efficientnet_lite2_pytorch": "fe74032d0bfd039e",
    "efficientnet_lite3_pytorch": "437be8f5349327a3",
    "efficientnet_lite4_pytorch": "709c8a739670687f",
}


@pytest.mark.parametrize("source", DIGESTS)
def test_names_and_shapes_are_those_of_the_library_that_writes_such_files(source):
    assert digest(names_and_shapes(named(all_sources(), source))) == DIGESTS[source]


@pytest.mark.parametrize("source", [name for name in DIGESTS if re.search("resnet18|resnet50|mobile|lite0", name)])
def test_a_file_is_recognised_whole_or_in_part(source, tmp_path):
    known = named(all_sources(), source)
    arrays = random_arrays(known, 3)
    np.savez(tmp_path / "w.npz", **arrays)
    recognised = tx.recognise(tmp_path / "w.npz")
    assert (recognised.source, recognised.input_spec) == (source, known.input_spec)
    variables = known.variables
    assert f"holds {len(variables)} of the {len(variables)} variables" in recognised.report()
    assert recognised.weights.shape("fc/bias") == (3,)
    part = {name: array for name, array in arrays.items() if "fc" not in name and "classifier" not in name}
    np.savez(tmp_path / "part.npz", **part)
    recognised = tx.recognise(tmp_path / "part.npz")
    assert recognised.source == source
    assert "not in it: fc/kernel, fc/bias" in recognised.report()


@pytest.mark.parametrize("model", ["efficientnet_lite0", "mobilenet_v2", "resnet34"])
def test_a_file_under_our_own_names_is_of_the_model_whose_variables_it_has(model, tmp_path):
    row = tx.models.registry.MODELS[model]
    arrays = {name: np.zeros([side or 2 for side in shape], np.float32) for name, shape in row.variables.items()}
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(WeightsError, match=rf"has our names of {model}, which do not tell what the weights expect"):
        tx.recognise(tmp_path / "w.npz")
    row.input_spec.save(tmp_path / "w.npz")
    assert tx.recognise(tmp_path / "w.npz").model == model


LAYERS = (Convolution("stem", 3, 3, 8), Convolution("block/depthwise", 5, 8, 8, depthwise=True))
THEIRS = {"stem": ("a", "b"), "block/depthwise": ("c.0", "c.1")}


def test_variables_are_those_of_each_convolution_in_order_and_of_the_classifier():
    assert normalised_sources.variables(LAYERS) == {
        "stem/kernel": (3, 3, 3, 8),
        "stem_bn/gamma": (8,),
        "stem_bn/beta": (8,),
        "stem_bn/moving_mean": (8,),
        "stem_bn/moving_variance": (8,),
        "block/depthwise/depthwise_kernel": (5, 5, 8, 1),
        "block/depthwise_bn/gamma": (8,),
        "block/depthwise_bn/beta": (8,),
        "block/depthwise_bn/moving_mean": (8,),
        "block/depthwise_bn/moving_variance": (8,),
        "fc/kernel": (8, None),
        "fc/bias": (None,),
    }


def test_rules_lead_from_the_names_of_a_library_to_ours():
    torch = dict(normalised_sources.in_torch(LAYERS, THEIRS, "last"))
    assert len(torch) == 12
    assert torch["a\\.weight"] == "stem/kernel"
    assert torch["c\\.1\\.running_var"] == "block/depthwise_bn/moving_variance"
    assert torch["last\\.bias"] == "fc/bias"
    tensorflow = dict(normalised_sources.in_tensorflow(LAYERS, THEIRS, "last", "/Average"))
    assert tensorflow[re.escape("c.0/depthwise_kernel/Average")] == "block/depthwise/depthwise_kernel"
    assert tensorflow["b/moving_mean/Average"] == "stem_bn/moving_mean"
