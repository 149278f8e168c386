"""The names of ImageNet's classes: as Keras has them, one for each of 1000 outputs."""

from __future__ import annotations

from collections import Counter

from tfxfer.data.labels import class_names
from tfxfer.models import imagenet


def test_the_names_are_those_of_the_index_of_keras(real_data):
    assert imagenet.class_names() == class_names(real_data("imagenet/imagenet_class_index.json"), 1000)


def test_there_are_1000_and_two_names_stand_for_two_classes_each():
    names = imagenet.class_names()
    assert len(names) == 1000
    assert (names[0], names[282], names[999]) == ("tench", "tiger cat", "toilet tissue")
    assert {name for name, count in Counter(names).items() if count > 1} == {"crane", "maillot"}


def test_classes_of_another_number_are_called_by_their_numbers():
    assert imagenet.usual_class_names(3) == ("0", "1", "2")
    assert imagenet.usual_class_names(1000) is imagenet.class_names()
