"""The functions of a family have real signatures, names and docstrings."""

from __future__ import annotations

import inspect

import pytest

from tfxfer.models import squeezenet, vgg


@pytest.mark.parametrize("function", [vgg.vgg11, vgg.vgg16, vgg.vgg19, squeezenet.squeezenet1_0])
def test_a_member_is_called_by_its_own_name_and_signature(function):
    signature = inspect.signature(function)
    assert list(signature.parameters) == ["images", "classes", "top", "last", "dropout", "input_spec"]
    assert signature.parameters["dropout"].default == 0.5
    assert function.__name__ == function.__qualname__
    assert function.__doc__.startswith("Build ")
    assert "\n      images: uint8 RGB [n, h, w, 3]" in function.__doc__
    with pytest.raises(TypeError, match="unexpected keyword argument 'clases'"):
        function(None, clases=3)
