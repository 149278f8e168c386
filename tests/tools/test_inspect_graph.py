"""`tfxfer inspect_graph` as a user runs it."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import tensorflow.compat.v1 as tf

from tests.networks.made import write_trained
from tests.networks.test_candidates import write_inception
from tests.tools.test_predict import coloured
from tfxfer.tools import _flags, extract, inspect_graph


def run(*args: object) -> int:
    return _flags.run(inspect_graph.main, ["tfxfer inspect_graph", *map(str, args)])


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "saved"
    write_inception(str(path))
    return path


def test_the_table_has_the_blocks_and_ends_with_the_next_command(inception, capsys):
    assert run(inception, "--input=Mul") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{inception}: SavedModel of TensorFlow 1"
    assert lines[1:4] == [
        "signatures: serving_default",
        "inputs: DecodeJpeg/contents:0  string []",
        "outputs: softmax:0  float32 [?, 5]",
    ]
    assert re.fullmatch(r"endpoint +op +shape +parameters +multiply-adds +on the way", lines[5])
    assert [line.split()[0] for line in lines[6:12]] == [
        *("conv/Relu", "pool", "mixed/join", "mixed_1/join", "pool_3", "softmax")
    ]
    assert re.fullmatch(r"pool +MaxPool +\[\?, 8, 8, 8\] +248 +55,296 +batch norm", lines[7])
    assert shlex.split(lines[-1]) == [
        *("tfxfer", "extract", "codes", f"--model={inception}", "--input=Mul", "--endpoint=pool_3"),
        *("--input_spec=SPEC", "--dataset=folder", "--data_dir=PICTURES"),
    ]


def test_all_and_the_tree_have_every_tensor_of_numbers(inception, capsys):
    assert run(inception, "--input=Mul", "--all") == 0
    assert "mixed/tower/conv/Relu" in capsys.readouterr().out
    assert run(inception, "--input=Mul", "--tree") == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("mixed/")
    scopes = [line for line in lines[start:] if line.endswith("/")]
    assert {"mixed/", "  tower/", "    conv_1/", "mixed_1/"} <= set(scopes)
    assert any(re.match(r"  join +ConcatV2 +\[\?, 8, 8, 16\]", line) for line in lines[start:])


def test_json_has_the_same_as_data(inception, capsys):
    assert run(inception, "--input=Mul", "--json") == 0
    seen = json.loads(capsys.readouterr().out)
    assert set(seen) == {
        *("path", "kind", "signatures", "inputs", "outputs", "input", "endpoint", "lacking", "candidates"),
        *("suggested", "notes", "command"),
    }
    assert set(seen["candidates"][0]) == {
        *("name", "tensor", "op", "dtype", "shape", "parameters", "multiply_adds", "on_the_way", "cut")
    }
    assert (seen["suggested"], seen["input"]) == ("pool_3", "Mul:0")
    assert seen["outputs"] == [{"name": "softmax:0", "dtype": "float32", "shape": [None, 5]}]


def test_what_must_be_fed_is_in_the_command_and_a_value_that_is_given_is_taken(tmp_path, capsys):
    with tf.Graph().as_default():
        write_trained(str(tmp_path / "model.ckpt"))
    assert run(tmp_path / "model.ckpt.meta") == 0
    out = capsys.readouterr().out
    assert "to be fed: is_training:0  bool []" in out
    assert {"--feed=is_training=False", "--feed=keep_prob=1"} <= set(shlex.split(out.splitlines()[-1]))
    assert run(tmp_path / "model.ckpt.meta", "--endpoint=logits", *shlex.split(out.splitlines()[-1])[-4:-2]) == 0
    out = capsys.readouterr().out
    assert "to be fed" not in out
    assert "dropout or noise" not in out


def test_a_network_is_known_by_its_name_too(capsys):
    assert run("squeezenet1_1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "squeezenet1_1: network of tfxfer"
    assert lines[-1].startswith("  tfxfer extract codes --model=squeezenet1_1 --weights=FILE --endpoint=fire9 ")


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["nowhere"], 1, "neither a file nor the name of a network"),
        (["{inception}", "--tags=train"], 1, "no graph with the tags train; it has serve"),
        (["{inception}", "--signature=a"], 1, "no signature 'a'"),
        (["{inception}", "--input=Mull"], 1, "no input 'Mull' (did you mean Mul?)"),
        (["{inception}", "--feed=a"], 2, "write NAME=VALUE"),
        (["{inception}", "--json", "--tree"], 2, "--tree: not used with --json"),
        ([], 2, "0 arguments are too few"),
    ],
)
def test_mistakes_are_told(args, status, words, inception, capsys):
    assert run(*(arg.format(inception=inception) for arg in args)) == status
    assert words in capsys.readouterr().err


def test_the_command_runs_when_it_is_filled_in(inception, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    coloured(tmp_path / "pictures")
    assert run(inception, "--input=Mul", "--signature=serving_default", "--tags=serve", "--image_size=32") == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert {"--signature=serving_default", "--tags=serve", "--image_size=32", "--input_spec=SPEC"} <= set(command)
    filled = [word.replace("SPEC", "tf").replace("PICTURES", "pictures") for word in command]
    assert _flags.run(extract.main, ["tfxfer extract", *filled[2:]]) == 0
    assert "codes: pool_3" in capsys.readouterr().out


def test_a_network_without_weights_asks_for_them_and_the_size_of_a_network_of_keras_is_built(capsys):
    assert run("MobileNet", "--image_size=64") == 0
    out = capsys.readouterr().out
    command = shlex.split(out.splitlines()[-1])
    assert {"--weights=FILE", "--image_size=64"} <= set(command)
    assert not any("input_spec" in word for word in command)  # Keras says it
    assert re.search(r"conv1_relu +Relu6 +\[\?, 32, 32, 32\]", out)
