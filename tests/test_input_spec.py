"""The input spec: its checks, its JSON, its file beside the checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from tfxfer.errors import SelectionError, WeightsError
from tfxfer.input_spec import CHANNELS, KERAS_MODES, MAX_BYTES, InputSpec, sidecar

VGG = InputSpec("vgg16", "vgg16_keras", (224, 224), "BGR", (103.939, 116.779, 123.68), (1, 1, 1))
DIGITS = InputSpec("autoencoder", "trained here", (28, 28), "grey", (0,), (1 / 255,), "plain", tuple("0123456789"))

numbers = strategies.floats(-1e6, 1e6) | strategies.integers(-255, 255)


@strategies.composite
def input_specs(draw):
    channels = draw(strategies.sampled_from(sorted(CHANNELS)))
    per_channel = strategies.tuples(*[numbers] * CHANNELS[channels])
    return InputSpec(
        model=draw(strategies.text(min_size=1).filter(str.strip)),
        source=draw(strategies.text(min_size=1).filter(str.strip)),
        size=draw(strategies.tuples(strategies.integers(1, 4096), strategies.integers(1, 4096))),
        channels=channels,
        mean=draw(per_channel),
        scale=draw(per_channel.filter(all)),
        resize=draw(strategies.sampled_from(["crop", "plain"])),
        class_names=draw(strategies.lists(strategies.text()).map(tuple)),
    )


@hypothesis.given(input_specs())
def test_json_gives_the_same_input_spec_to_the_last_bit(input_spec):
    assert InputSpec.from_json(json.loads(json.dumps(input_spec.to_json()))) == input_spec


def test_the_json_is_what_a_person_expects():
    assert DIGITS.to_json() == {
        "model": "autoencoder",
        "source": "trained here",
        "size": [28, 28],
        "channels": "grey",
        "mean": [0],
        "scale": [1 / 255],
        "resize": "plain",
        "class_names": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    }


def test_the_text_says_what_is_done_to_a_picture():
    assert str(VGG) == "224x224 by 'crop', BGR, minus (103.939, 116.779, 123.68)"
    assert str(DIGITS) == "28x28 by 'plain', grey, minus (0), times (0.00392157)"


def test_a_input_spec_lies_beside_its_checkpoint(tmp_path):
    prefix = tmp_path / "model.ckpt-7"
    DIGITS.save(prefix)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt-7.input_spec.json"]
    assert InputSpec.load(prefix) == InputSpec.load(str(prefix)) == DIGITS
    VGG.save(prefix)
    assert InputSpec.load(prefix) == VGG


def test_every_fault_is_named_at_once():
    value = {**VGG.to_json(), "colour": 1, "size": "224", "mean": [1, math.nan, 2], "resize": None, "class_names": [1]}
    del value["model"]
    with pytest.raises(WeightsError) as caught:
        InputSpec.from_json(value, "x.json")
    assert str(caught.value).splitlines() == [
        "x.json has 6 faults:",
        "  colour       unknown key",
        "  model        missing",
        "  size         must be height and width, each from 1 to 65535, not '224'",
        "  mean         must be a number for each channel, not [1, nan, 2]",
        "  resize       must be one of crop, plain, not None",
        "  class_names  must be a list of texts, not [1]",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clas_names": []}, r"clas_names  unknown key \(did you mean class_names\?\)"),
        ({"model": " "}, "model  must be a text that is not empty, not ' '"),
        ({"source": 3}, "source  must be a text that is not empty, not 3"),
        ({"size": [224]}, r"size  must be height and width, each from 1 to 65535, not \[224\]"),
        ({"size": [224, 0]}, r"not \[224, 0\]"),
        ({"size": [224, True]}, r"not \[224, True\]"),
        ({"size": [224, 224.0]}, r"not \[224, 224.0\]"),
        ({"channels": "rgb"}, "channels  must be one of RGB, BGR, grey, not 'rgb'"),
        ({"channels": []}, r"channels  must be one of RGB, BGR, grey, not \[\]"),
        ({"channels": "grey"}, r"mean   must have 1 numbers, as channels is grey, and has 3"),
        ({"mean": [1, 2]}, "mean  must have 3 numbers, as channels is BGR, and has 2"),
        ({"mean": [1, 2, "3"]}, r"mean  must be a number for each channel, not \[1, 2, '3'\]"),
        ({"mean": [1, 2, 10**400]}, "mean  must be a number for each channel"),
        ({"scale": [1, 1, 0]}, r"scale  must be a number other than 0 for each channel, not \[1, 1, 0\]"),
        ({"scale": [1, 1, math.inf]}, r"not \[1, 1, inf\]"),
        ({"scale": [[1], 1, 1]}, r"not \[\[1\], 1, 1\]"),
        ({"class_names": "cat,dog"}, "class_names  must be a list of texts, not 'cat,dog'"),
    ],
)
def test_a_wrong_value_is_refused_and_shown(change, message):
    with pytest.raises(WeightsError, match=message):
        InputSpec.from_json(VGG.to_json() | change)


@pytest.mark.parametrize("value", [None, 3, "x", [], [VGG.to_json()]])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(WeightsError, match="the input spec must be a JSON object, not "):
        InputSpec.from_json(value)


def test_the_constructor_checks_too():
    with pytest.raises(
        WeightsError, match=r"the input spec has a fault:\n  channels  must be one of RGB, BGR, grey, not 'CMYK'"
    ):
        dataclasses.replace(VGG, channels="CMYK")
    with pytest.raises(WeightsError, match=r"mean  must be a number for each channel"):
        dataclasses.replace(VGG, mean=[1, 2, 3])


def test_a_missing_input_spec_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"no input spec lies beside .*model: .*model\.input_spec\.json is missing"):
        InputSpec.load(tmp_path / "model")


def test_a_input_spec_that_cannot_be_read_is_named(tmp_path):
    sidecar(tmp_path / "model").mkdir()
    with pytest.raises(WeightsError, match=r"model\.input_spec\.json cannot be read: Is a directory"):
        InputSpec.load(tmp_path / "model")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"<html>", b"9" * 5000])
def test_a_file_that_is_no_json_is_named(tmp_path, data):
    sidecar(tmp_path / "model").write_bytes(data)
    with pytest.raises(WeightsError, match=r"model\.input_spec\.json is not JSON: "):
        InputSpec.load(tmp_path / "model")


def test_a_pipe_in_the_place_of_an_input_spec_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "model.input_spec.json")
    with pytest.raises(WeightsError) as caught:
        InputSpec.load(tmp_path / "model")
    assert str(caught.value) == f"{tmp_path}/model.input_spec.json cannot be read: it is not a regular file"


def test_a_file_that_is_larger_than_any_input_spec_is_refused_and_not_parsed(tmp_path):
    path = tmp_path / "model.input_spec.json"
    path.write_bytes(b"[" + b"{}," * (8 << 20) + b"{}]")
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"^[^:]* is not an input spec: it has more than 4,194,304 bytes$"):
        InputSpec.load(tmp_path / "model")
    assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BYTES
    tracemalloc.stop()


def test_an_input_spec_of_very_many_classes_is_read_again(tmp_path):
    many = dataclasses.replace(DIGITS, class_names=tuple(f"species number {number}" for number in range(100_000)))
    many.save(tmp_path / "model")
    assert InputSpec.load(tmp_path / "model") == many


def test_a_file_that_is_no_input_spec_is_named(tmp_path):
    sidecar(tmp_path / "model").write_text('{"model": "vgg16"}')
    with pytest.raises(WeightsError, match=r"model\.input_spec\.json has 7 faults:"):
        InputSpec.load(tmp_path / "model")


def test_a_input_spec_cut_short_anywhere_is_refused(tmp_path):
    DIGITS.save(tmp_path / "model")
    path = sidecar(tmp_path / "model")
    data = path.read_bytes().strip()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(WeightsError):
            InputSpec.load(tmp_path / "model")


# --- Keras's words ---


@pytest.mark.parametrize("mode", KERAS_MODES)
def test_a_mode_of_keras_prepares_pixels_as_keras_does(mode):
    from keras.applications import imagenet_utils

    spec = InputSpec.of_keras(mode, (8, 8), model="mobilenet")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)
    expected = pixels if mode == "none" else imagenet_utils.preprocess_input(pixels.copy(), mode=mode)
    ordered = pixels[..., ::-1] if spec.channels == "BGR" else pixels
    prepared = (ordered - np.float32(spec.mean)) * np.float32(spec.scale)
    np.testing.assert_allclose(prepared, expected, rtol=1e-5, atol=1e-5)
    assert (spec.model, spec.size, mode in spec.source) == ("mobilenet", (8, 8), True)


def test_a_mode_that_keras_does_not_have_is_refused_with_the_nearest():
    with pytest.raises(SelectionError, match=r"'torhc' is not a mode of Keras's.*torch.*the modes are caffe"):
        InputSpec.of_keras("torhc", (8, 8), model="x")


def test_an_input_spec_of_before_decodes_exactly_and_another_way_is_kept():
    assert VGG.decode == "exact"
    assert "decode" not in VGG.to_json()
    scaled = dataclasses.replace(VGG, decode="scaled")
    assert InputSpec.from_json(json.loads(json.dumps(scaled.to_json()))) == scaled != VGG
    assert str(scaled).endswith("by 'crop', decoded scaled" + str(VGG).split("by 'crop'")[1])
    with pytest.raises(WeightsError, match="decode  must be one of exact, scaled, not 'half'"):
        dataclasses.replace(VGG, decode="half")
