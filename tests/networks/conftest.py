"""What the tests of networks share."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

from tests.networks.made import write_trained


@pytest.fixture
def trained(tmp_path, monkeypatch, control_flow):
    monkeypatch.chdir(tmp_path)
    made = write_trained()
    with tf.Graph().as_default():
        yield made
