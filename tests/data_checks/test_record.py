"""data_checks/record.py: the first findings of each kind, with pictures of them and of no others."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
from PIL import Image

from tfxfer.data_checks.findings import DataCheck, Finding
from tfxfer.data_checks.record import SIDE, with_pictures


def test_only_what_is_shown_is_kept_with_its_pictures():
    copies = [Finding("near", f"{number}", number, other="0", other_index=0) for number in range(1, 9)]
    labels = [Finding("label", f"{number}", number) for number in range(9)]
    images = np.arange(9 * 64, dtype=np.int64).reshape(9, 8, 8, 1).astype(np.uint8)
    value = with_pictures(DataCheck(9, (*copies, *labels)), images, most=2)
    assert [(row["kind"], row["path"]) for row in value["findings"]] == [
        ("near", "1"), ("near", "2"), ("label", "0"), ("label", "1")]  # fmt: skip
    assert value["counts"]["near"] == 8
    assert sorted(value["pictures"]) == ["0", "1", "2"]
    picture = Image.open(io.BytesIO(base64.b64decode(value["pictures"]["2"])))
    assert (picture.size, picture.getpixel((0, 0))) == ((SIDE, SIDE), (128, 128, 128))
    assert json.loads(json.dumps(value)) == value


def test_without_images_there_are_no_pictures():
    assert with_pictures(DataCheck(1, (Finding("label", "a", 0),)), None)["pictures"] == {}
    assert with_pictures(DataCheck(1, (Finding("label", "a", 0),)), np.zeros((1, 5)))["pictures"] == {}
