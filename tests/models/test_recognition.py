"""One call that finds out what a file is: its names, its layout and what it expects of pictures."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import RestoreError, SelectionError, WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.models import recognition, vgg, vgg_sources
from tfxfer.models.registry import all_sources
from tfxfer.models.sources import named

RNG = np.random.default_rng(0)
RGB = vgg_sources.PROBE[1]
BLOCKS = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3")
TENSORPACK = [("/W$", "/kernel"), ("/b$", "/bias")]


def arrays(first=RGB, model: str = "vgg16") -> dict[str, np.ndarray]:
    """The first blocks of a VGG under our names, `first` at the place of the probe."""
    found = {}
    for name, shape in vgg_sources.variables(model).items():
        if name.split("/")[0] in BLOCKS:
            found[name] = RNG.normal(size=shape).astype("f4") if name.endswith("bias") else np.zeros(shape, "f4")
    if first is not None:
        found["conv1_1/kernel"][0, 0, :, 0] = first
    return found


def saved(path, rules, first=RGB, **more):
    """Save them under other names."""
    named_ = arrays(first)
    for old, new in rules:
        named_ = {name.replace(old, new): array for name, array in named_.items()}
    np.savez(path, **named_, **more)
    return path


LETTERS = [("/kernel", "_W"), ("/bias", "_b")]
SLASHES = [("/kernel", "/W"), ("/bias", "/b")]


@pytest.mark.parametrize(("first", "channels", "source"), [(RGB, "RGB", "npz"), (RGB[::-1], "BGR", "npz_bgr")])
def test_one_call_gives_names_and_the_order_of_channels(tmp_path, first, channels, source):
    path = saved(tmp_path / "w.npz", LETTERS, first)
    for found in (tx.recognise(path), tx.recognise(tx.open_weights(path)), tx.recognise(str(path), model="vgg16")):
        assert (found.model, found.source, found.input_spec.channels) == ("vgg16", f"vgg16_{source}", channels)
        assert "conv3_3/kernel" in found.weights
        assert found.weights.source("conv1_1/kernel") == "conv1_1_W"
        assert found.report().startswith(f"{path} is vgg16_{source} (")
        assert "it holds 14 of the 32 variables of vgg16; not in it: conv4_1/kernel" in found.report()


def test_a_network_that_is_built_for_the_other_order_refuses_the_weights_and_the_cure_cures(tmp_path):
    path = saved(tmp_path / "w.npz", LETTERS, RGB[::-1])
    for cured in (False, True):
        with tf.Graph().as_default():
            images = tf.placeholder(tf.uint8, [None, 32, 32, 3])
            known = tx.recognise(path)
            weights = known.weights if cured else tx.open_weights(path, rename=vgg.RENAMES)
            vgg.vgg16(images, last="pool3", input_spec=known.input_spec if cured else None)
            if cured:
                assert len(tx.plan("conv.*", weights).chosen()) == 14
            else:
                with pytest.raises(RestoreError, match="is for BGR, and the network is built for RGB; let "):
                    tx.plan("conv.*", weights)
            tf.train.export_meta_graph()  # without a warning about what cannot be written


def test_a_layout_is_put_right(tmp_path):
    table = arrays()
    foreign = {}
    for name, array in table.items():
        block, layer = name[4], name[6]
        theirs = f"block{block}_conv{layer}/{name.rpartition('/')[2]}"
        foreign[theirs] = array.transpose(3, 2, 0, 1)[:, :, ::-1, ::-1] if array.ndim == 4 else array
    foreign["block1_conv1/kernel"] = foreign["block1_conv1/kernel"].copy()
    np.savez(tmp_path / "w.npz", **foreign)
    with pytest.raises(WeightsError, match="wants BGR, and the first kernel is for RGB"):
        tx.recognise(tmp_path / "w.npz")
    foreign["block1_conv1/kernel"] = foreign["block1_conv1/kernel"][:, ::-1].copy()
    np.savez(tmp_path / "w.npz", **foreign)
    found = tx.recognise(tmp_path / "w.npz")
    assert found.source == "vgg16_keras_th"
    assert found.weights["conv1_1/kernel"][0, 0, :, 0] == pytest.approx(RGB[::-1])


@pytest.mark.parametrize(("first", "channels"), [(RGB, "RGB"), (RGB[::-1], "BGR")])
def test_after_a_renaming_the_first_kernel_still_shows_the_order_of_channels(tmp_path, first, channels):
    path = saved(tmp_path / "w.npz", SLASHES, first)
    found = tx.recognise(path, model="vgg16", rename=TENSORPACK)
    assert (found.input_spec.channels, found.source) == (channels, recognition.UNKNOWN)
    assert found.input_spec.mean == (vgg_sources.MEAN if channels == "RGB" else vgg_sources.MEAN[::-1])
    assert set(found.weights) == set(arrays())


def test_what_nothing_shows_is_asked_for_and_never_guessed(tmp_path):
    path = saved(tmp_path / "w.npz", SLASHES, (9, 9, 9))
    with pytest.raises(WeightsError) as caught:
        tx.recognise(path, model="vgg16", rename=TENSORPACK)
    assert "do not tell what the weights expect of pictures" in str(caught.value)
    assert "Name its source (`source`):" in str(caught.value)
    for source in named(all_sources(), "vgg16_npz"), named(all_sources(), "vgg16_torchvision"):
        assert f"  {source}" in str(caught.value)
    found = tx.recognise(path, rename=TENSORPACK, source="vgg16_caffe")  # the cure that the message names
    assert (found.source, found.input_spec.channels) == ("vgg16_caffe", "BGR")
    assert set(found.weights) == set(arrays())


def test_a_source_gives_layout_and_input_and_a_renaming_gives_names(tmp_path):
    turned = {name: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a for name, a in arrays((9, 9, 9)).items()}
    np.savez(tmp_path / "w.npz", **{f"net.{name}": array for name, array in turned.items()})
    found = tx.recognise(tmp_path / "w.npz", source="vgg16_torchvision", rename=[(r"^net\.", "")])
    assert found.input_spec == named(all_sources(), "vgg16_torchvision").input_spec
    assert found.weights.shape("conv1_1/kernel") == (3, 3, 3, 64)
    assert found.weights["conv1_1/kernel"].tobytes() == arrays((9, 9, 9))["conv1_1/kernel"].tobytes()


def test_a_renaming_does_not_undo_what_the_names_of_the_file_show(tmp_path):
    path = saved(tmp_path / "w.npz", LETTERS, RGB[::-1])
    found = tx.recognise(path, rename=[("conv1_1_W", "first/kernel")])
    assert found.source == "vgg16_npz_bgr"
    assert {"first/kernel", "conv1_1/bias", "conv3_3/kernel"} <= set(found.weights)


def test_a_renaming_may_lead_to_the_names_of_a_known_source(tmp_path):
    path = saved(tmp_path / "w.npz", [*LETTERS, ("conv", "net_conv")], RGB[::-1])
    found = tx.recognise(path, rename=[("net_", "")])
    assert found.source == "vgg16_npz_bgr"
    assert "conv3_3/kernel" in found.weights


def test_the_input_spec_beside_a_file_decides(tmp_path):
    path = saved(tmp_path / "w.npz", [], (9, 9, 9))
    input_spec = InputSpec("vgg16", "mine", (64, 64), "BGR", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
    input_spec.save(path)
    found = tx.recognise(path)
    assert found.input_spec == input_spec
    assert found.source == "mine"
    with pytest.raises(WeightsError, match="is of vgg16, by the input spec beside it, and not of `model=vgg19`"):
        tx.recognise(path, model="vgg19")
    with pytest.raises(WeightsError, match=r"says that the source is 'mine', and not 'vgg16_npz'"):
        tx.recognise(path, source="vgg16_npz")


def test_a_source_that_the_first_kernel_contradicts_is_refused(tmp_path):
    path = saved(tmp_path / "w.npz", LETTERS, RGB)
    with pytest.raises(WeightsError, match="is not vgg16_npz_bgr: that is for BGR, and the first kernel has"):
        tx.recognise(path, source="vgg16_npz_bgr")


def test_what_is_of_no_known_network_lists_what_was_tried(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones(3))
    with pytest.raises(WeightsError, match=r"is none of the \d+ sources that are known"):
        tx.recognise(tmp_path / "w.npz")
    with pytest.raises(WeightsError, match="holds none of the variables of vgg16 under the names of vgg16_npz"):
        tx.recognise(tmp_path / "w.npz", source="vgg16_npz")
    with pytest.raises(SelectionError, match=r"nothing is known of files of 'vgg61'.* there are vgg11, vgg13"):
        tx.recognise(tmp_path / "w.npz", model="vgg61")
    with pytest.raises(SelectionError, match="'vgg16_nzp' is not a source"):
        tx.recognise(tmp_path / "w.npz", source="vgg16_nzp")
