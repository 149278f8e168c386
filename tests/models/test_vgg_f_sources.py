"""The forms in which the weights of CNN-F circulate, and that no other network's files are taken for them."""

from __future__ import annotations

import numpy as np
import pytest

import tfxfer as tx
from tests.models import vgg_files
from tfxfer.errors import WeightsError
from tfxfer.models import registry, vgg_f_sources
from tfxfer.models.sources import recognise

FORMS = {
    "matconvnet": vgg_files.matconvnet,
    "matconvnet, old": vgg_files.matconvnet_old,
    "caffemodel": vgg_files.caffe,
    "caffemodel, old": vgg_files.caffe_old,
}


def part(layers: tuple[str, ...]) -> vgg_files.Arrays:
    """Draw the weights of some layers; fc6 to fc8 would take 200 MB."""
    chosen = {name: shape for name, shape in vgg_f_sources.variables().items() if name.partition("/")[0] in layers}
    return vgg_files.random_arrays(chosen, 5)


CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_every_form_is_recognised_and_read(tmp_path, form):
    arrays = part((*CONVOLUTIONS, "fc8"))
    np.savez(tmp_path / "w.npz", **FORMS[form](arrays))
    known = tx.recognise(tmp_path / "w.npz")
    assert (known.model, known.source) == ("vgg_f", f"vgg_f_{form.partition(',')[0]}")
    order = {"matconvnet": ("RGB", 123.68), "caffemodel": ("BGR", 103.939)}[form.partition(",")[0]]
    assert (known.input_spec.channels, known.input_spec.mean[0]) == order
    for name, value in arrays.items():
        bgr = name == "conv1/kernel" and order[0] == "BGR"
        np.testing.assert_array_equal(known.weights[name], value[:, :, ::-1] if bgr else value, name)


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_of_fc6_are_laid_out_as_ours(tmp_path, form):
    rng = np.random.default_rng(0)
    arrays = {"fc6/kernel": rng.normal(size=(9216, 3)).astype("f4"), "fc6/bias": rng.normal(size=3).astype("f4")}
    np.savez(tmp_path / "w.npz", **FORMS[form](arrays, 6))
    (source,) = (source for source in vgg_f_sources.SOURCES if source.name == f"vgg_f_{form.partition(',')[0]}")
    ours = source.apply(tx.open_weights(tmp_path / "w.npz"))
    for name, value in arrays.items():
        np.testing.assert_array_equal(ours[name], value, name)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_one_network_is_refused_by_name_as_that_of_another(tmp_path, form):
    np.savez(tmp_path / "w.npz", **FORMS[form](part(("conv1", "conv2"))))
    file = tx.open_weights(tmp_path / "w.npz")
    others = [source for source in registry.all_sources() if source.input_spec.model != "vgg_f"]
    with pytest.raises(WeightsError, match=rf"is none of the {len(others)} sources that are known"):
        recognise(file, others)
    alexnet = {"conv1/weights/0": np.zeros((11, 11, 3, 96), "f4"), "conv1/weights/1": np.zeros((1, 96), "f4")}
    np.savez(tmp_path / "alexnet.npz", **alexnet)
    with pytest.raises(WeightsError, match=r"vgg_f_matconvnet +wants other shapes than those of conv1/weights/0"):
        tx.recognise(tmp_path / "alexnet.npz")
