"""What the index remembers: pictures that looked well and could not be decoded are set aside the next time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.data.test_decoding import cut_inside
from tests.data.test_folders import in_splits
from tests.data.test_pictures import encoded, photo
from tfxfer.data import Pictures, folder, picture_index
from tfxfer.data.scan import scan
from tfxfer.errors import DataError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Twenty JPEGs of two classes, of which one ends among its pixels."""
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            data = encoded(photo(60, 80, number + 10 * (name == "dog")), "JPEG", quality=95)
            (tmp_path / "pets" / name / f"{number}.jpg").write_bytes(data)
    bad = tmp_path / "pets" / "dog" / "3.jpg"
    bad.write_bytes(cut_inside(bad.read_bytes()))
    return tmp_path / "pets"


def images_of(data) -> list[Pictures]:
    return [split.images for split in (data.train, data.validation, data.test)]


def decode_all(data) -> list[int]:
    return [len(images[:]) for images in images_of(data)]


def test_a_picture_that_cannot_be_decoded_ends_the_work_by_name_and_is_set_aside_the_next_time(pets, tmp_path):
    options = {"size": (20, 20), "decode": "scaled", "index": tmp_path / "index.json"}
    first = folder(pets, **options)
    assert (first.set_aside, sum(map(len, images_of(first)))) == ({}, 20)
    with pytest.raises(DataError) as caught:
        decode_all(first)
    assert f"{pets}/dog/3.jpg is cut short: it ends among its pixels" in str(caught.value)
    assert "start again: what is damaged is noted, and is set aside before the pictures are divided" in str(
        caught.value
    )
    again = folder(pets, **options)
    assert list(again.set_aside) == [str(pets / "dog" / "3.jpg")]
    assert sum(decode_all(again)) == 19
    # As where it is not there at all.
    (pets / "dog" / "3.jpg").unlink()
    assert in_splits(folder(pets, size=(20, 20))) == in_splits(again)


def test_without_an_index_it_is_named_with_what_helps(pets):
    data = folder(pets, size=(20, 20), decode="scaled")
    with pytest.raises(DataError, match="remove what is damaged, and start again; in a new run, `decode=exact`"):
        decode_all(data)
    assert sum(decode_all(folder(pets, size=(20, 20), decode="exact"))) == 20


def test_what_is_noted_of_a_picture_stays_while_others_are_looked_at(pets, tmp_path):
    index, options = tmp_path / "index.json", {"size": (20, 20), "decode": "scaled"}
    with pytest.raises(DataError, match="start again: what is damaged is noted"):
        decode_all(folder(pets, index=index, **options))
    shutil.copytree(pets, tmp_path / "others", ignore=shutil.ignore_patterns("3.jpg"))
    assert folder(tmp_path / "others", index=index, **options).set_aside == {}
    assert list(folder(pets, index=index, **options).set_aside) == [str(pets / "dog" / "3.jpg")]


def test_what_was_seen_without_the_pixels_is_looked_at_again_by_whom_they_are_decoded(pets, tmp_path):
    path, index = pets / "dog" / "1.jpg", tmp_path / "index.json"
    data = encoded(photo(60, 80), "JPEG", progressive=True)
    table = data.index(b"\xff\xc4", data.index(b"\xff\xda"))  # of the second scan
    path.write_bytes(data[: table + 5] + b"\xee" * 16 + data[table + 21 :])
    shallow = scan([str(path)], index=index, whole=False)
    whole = scan([str(path)], index=index)
    assert (shallow[0].reason, whole[0].reason[:10]) == ("", "is damaged")
    assert scan([str(path)], index=index, whole=False)[0].reason == whole[0].reason


def test_an_index_of_before_is_read_as_one_of_whole_looks(pets, tmp_path):
    index = tmp_path / "index.json"
    scan([str(pets / "cat" / "0.jpg")], index=index)
    value = json.loads(index.read_bytes())
    assert [len(row) for row in value["pictures"].values()] == [6]
    index.write_text(json.dumps({**value, "format": "tfxfer pictures 2"}))
    [(_, scanned)] = picture_index.load(index, value["most_pixels"]).values()
    assert scanned.whole


def test_what_cannot_be_noted_is_said_to_be_so(tmp_path):
    assert not picture_index.set_aside(tmp_path / "gone" / "index.json", 9, {("a.jpg", "0"): "is damaged"})
    assert not picture_index.set_aside(tmp_path / "index.json", 9, {("a.jpg", "0"): "is damaged"})
