"""On what an export is compared with its weights, and when it is refused; the whole is in test_export.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.data.test_pictures import encoded, photo
from tfxfer.data import headers
from tfxfer.errors import GraphError
from tfxfer.input_spec import InputSpec
from tfxfer.serving import export_check
from tfxfer.serving.saved_model import Served

SIZE = (20, 30)


def input_spec(channels: str) -> InputSpec:
    count = 1 if channels == "grey" else 3
    return InputSpec("tiny", "test", SIZE, channels, (0,) * count, (1,) * count)


@pytest.fixture
def model():
    """A session and a model whose probabilities are the mean and the first of the pixels."""
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, *SIZE, 3])
        pixels = tf.cast(images, tf.float32) / 255
        probabilities = tf.stack([tf.reduce_mean(pixels, [1, 2, 3]), pixels[:, 0, 0, 0]], axis=1)
        yield sess, Served(images, None, {"probabilities": probabilities}, {})


def test_random_pixels_given_ones_and_files_are_asked_about(model, tmp_path):
    (tmp_path / "x.jpg").write_bytes(encoded(photo(), "JPEG"))
    given = np.full((11, *SIZE, 3), 51, np.uint8)
    cases = export_check.cases(*model, input_spec("RGB"), given, [str(tmp_path / "x.jpg"), "absent"])
    assert [len(case.pictures) for case in cases] == [8, 7, 4]
    assert [case.pictures.dtype for case in cases] == [np.uint8, np.uint8, object]
    np.testing.assert_allclose(cases[1].probabilities, 0.2, atol=1e-6)
    kinds = [headers.read(data) for data in cases[2].pictures]
    assert [(one.kind, one.orientation) for one in kinds] == [("JPEG", 1), ("JPEG", 6), ("PNG", 1), ("JPEG", 1)]
    assert all(case.probabilities.shape == (len(case.pictures), 2) for case in cases)


def test_the_same_is_asked_every_time(model):
    first, again = (export_check.cases(*model, input_spec("RGB")) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert (a.pictures == b.pictures).all()


def answers(model, monkeypatch, **changes: np.ndarray) -> float:
    """Check against a model that answers with the right probabilities and these."""
    cases = export_check.cases(*model, input_spec("RGB"))[:1]
    probabilities = cases[0].probabilities
    best = np.argsort(-probabilities, axis=1, kind="stable")
    answer = {
        "probabilities": probabilities,
        "top_k_indices": best,
        "top_k_names": np.array([b"a", b"b"], object)[best],
    }
    monkeypatch.setattr(export_check, "loaded", lambda path: _Loaded())
    monkeypatch.setattr(export_check, "ask", lambda *args: {**answer, **changes})
    return export_check.check("out", cases, [b"a", b"b"], "weights")


class _Loaded:
    def __enter__(self) -> tuple[None, None]:
        return None, None

    def __exit__(self, *error: object) -> None:
        pass


def test_the_right_answers_are_not_apart(model, monkeypatch):
    assert answers(model, monkeypatch) == 0


def test_wrong_names_or_places_are_refused(model, monkeypatch):
    for name, wrong in (("top_k_names", np.array([[b"b", b"b"]] * 4)), ("top_k_indices", np.zeros((4, 2), int))):
        with pytest.raises(GraphError, match="the export of weights names other classes than its probabilities say"):
            answers(model, monkeypatch, **{name: wrong})
