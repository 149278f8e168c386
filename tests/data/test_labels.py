"""Names of classes: either form of ImageNet's, one a line, and what is none of these."""

from __future__ import annotations

import json

import pytest

from tfxfer.data.labels import class_names
from tfxfer.errors import DataError


def written(tmp_path, text: str | bytes):
    path = tmp_path / "names"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("text", [
    json.dumps({"0": ["n01440764", "tench"], "2": ["n01484850", "great_white_shark"], "1": ["n01443537", "goldfish"]}),
    json.dumps([["n01440764", "tench"], ["n01443537", "goldfish"], ["n01484850", "great_white_shark"]]),
    json.dumps(["tench", "goldfish", "great white shark"]),
    "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\nn01484850 great white shark, white shark\n",
    "n01440764\ttench\r\nn01443537\tgoldfish\r\nn01484850\tgreat white shark\r\n",
    "tench\ngoldfish\ngreat white shark",
    "\ufefftench\ngoldfish\ngreat white shark\n",
])  # fmt: skip
def test_every_form_gives_the_same_names_in_the_order_of_their_numbers(tmp_path, text):
    assert class_names(written(tmp_path, text), 3) == ("tench", "goldfish", "great white shark")


def test_what_is_no_synset_on_every_line_is_taken_as_it_stands(tmp_path):
    assert class_names(written(tmp_path, "n01440764 tench, Tinca tinca\nroses, red\n")) == (
        "n01440764 tench, Tinca tinca",
        "roses, red",
    )
    assert class_names(written(tmp_path, '["great_white_shark"]')) == ("great_white_shark",)


@pytest.mark.parametrize(("text", "error"), [
    ("a\nb\n", "has 2 names of classes, and the model has 3 classes"),
    ("a\n\nb\n", r"does not name a class on every line:\n  line 2 is empty"),
    ("", "no line"),
    ("{nothing", "is not JSON"),
    ('{"1": ["n1", "a"], "2": ["n2", "b"]}', r"the keys must be the numbers 0 to 1; 0 is not there"),
    ('{"0": ["n1", 5]}', r'class 0 is \["n1", 5\], and not a name; the forms are imagenet_class_index.json'),
    ('[""]', "class 0"),
    ("[" * 100_000, "is not JSON"),
    (b"\xff\xfea\x00", "is not UTF-8 text"),
])  # fmt: skip
def test_what_has_no_names_is_refused(tmp_path, text, error):
    with pytest.raises(DataError, match=error):
        class_names(written(tmp_path, text), 3)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere cannot be read: No such file or directory"):
        class_names(tmp_path / "nowhere")


def test_the_two_files_of_imagenet_agree_but_for_one_cat(real_data):
    of_json = class_names(real_data("imagenet/imagenet_class_index.json"), 1000)
    of_lines = class_names(real_data("imagenet/synset_words.txt"), 1000)
    differ = [pair for pair in zip(of_json, of_lines, strict=True) if pair[0] != pair[1]]
    assert differ == [("British short cat", "Egyptian cat")]
