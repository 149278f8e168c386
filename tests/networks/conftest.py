"""What the tests of networks share."""

from __future__ import annotations

import shutil

import pytest
import tensorflow.compat.v1 as tf

from tests.networks.made import write_trained


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Folders in which `write_trained` has written, and what it returned, by whether control flow is of version 2."""
    return {}, tmp_path_factory


@pytest.fixture
def trained(written, tmp_path, monkeypatch, control_flow):
    folders, factory = written
    version = tf.control_flow_v2_enabled()
    if version not in folders:
        folder = factory.mktemp("trained")
        folders[version] = folder, write_trained(str(folder / "model.ckpt"))
    folder, made = folders[version]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default():
        yield made
