"""The examples of a job: each once, known by what decides its pixels, and the same when read back from a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.test_pictures import encoded, photo
from tests.killing import Watched
from tfxfer.data import Pictures, decoding
from tfxfer.store import examples
from tfxfer.store.examples import distinct, keys_of, load, save

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 1)).astype(np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}\udcff.png")  # no UTF-8
        paths[-1].write_bytes(encoded(photo(20, 30, number)))
    return paths


def test_the_keys_of_arrays_and_of_pictures_stay_what_they_are(files):
    # Golden: what lies in stores is found by them.
    found, _ = distinct([IMAGES[:2]])
    assert found.keys == [decoding.sha256(b"uint8 (4, 5, 1) " + pixels.tobytes()) for pixels in IMAGES[:2]]
    pictures = Pictures(files[:1], (16, 12), digests=["ab" * 32])
    assert distinct([pictures])[0].keys == [decoding.sha256(f"picture {'ab' * 32} (16, 12) crop".encode())]
    way = "(16, 12) crop cropped at random, 224 of 256 to 512, seed 8, number 1"
    assert distinct([pictures.augmented(2, 8)])[0].keys[1] == decoding.sha256(f"picture {'ab' * 32} {way}".encode())


def test_each_different_example_is_there_once():
    found, keys = distinct([IMAGES[:10], IMAGES[5:15], IMAGES[:0], IMAGES[[3, 3]]])
    assert len(found) == 15
    assert [len(part) for part in keys] == [10, 10, 0, 2]
    assert keys[0][5:] == keys[1][:5]
    order = [found.keys.index(key) for key in (*keys[0], *keys[1][5:])]
    assert np.array_equal(found.take(np.array(order)), IMAGES[:15])


def test_a_picture_and_its_crops_are_different_examples_and_identical_files_are_not(files):
    files[3].write_bytes(files[2].read_bytes())
    pictures = Pictures(files, (16, 12))
    found, keys = distinct([pictures, pictures.augmented(2, 0), pictures.augmented(3, 0), pictures.augmented(1, 1)])
    assert len(found) == 5 + 5 * 3 + 5
    assert keys[0][2] == keys[0][3]
    assert keys[1][:2] == keys[2][:2]
    assert not set(keys[0]) & set(keys[2])
    assert not set(keys[2]) & set(keys[3])


@pytest.mark.parametrize("rows", [1, 7, 256])
def test_what_is_saved_is_loaded_in_the_order_asked_for(tmp_path, files, monkeypatch, rows):
    monkeypatch.setattr(examples, "ROWS", rows)
    pictures = Pictures(files, (4, 5)).augmented(2, 3)
    grey = np.repeat(IMAGES, 3, axis=3)
    found, _ = distinct([grey[:20], pictures, Watched(grey[20:], int), grey[:0]])
    for number, wanted in enumerate((np.array([41, 3, 25, 0, 21, 33]), np.array([30, 20, 28]), np.arange(len(found)))):
        folder = tmp_path / f"saved{number}"
        folder.mkdir()
        save(found, wanted, folder)
        again = load(folder, 4)
        assert again.keys == [found.keys[index] for index in wanted]
        assert np.array_equal(again.take(np.arange(len(wanted))), found.take(wanted))
        assert np.array_equal(again.take(np.array([2, 0])), found.take(wanted[[2, 0]]))


def test_floats_are_saved_as_they_are(tmp_path):
    floats = IMAGES.astype(np.float32) / 3
    found, _ = distinct([floats])
    save(found, np.array([2, 29]), tmp_path)
    assert load(tmp_path, 1).take(np.array([0, 1])).tobytes() == floats[[2, 29]].tobytes()


def test_rows_of_pictures_decoded_in_two_ways_have_two_keys(files):
    exact, scaled = (Pictures(files, (20, 20), decode=decode) for decode in ("exact", "scaled"))
    assert not set(keys_of(exact)) & set(keys_of(scaled))
    assert keys_of(exact) == keys_of(Pictures(files, (20, 20)))
    assert len(distinct([exact, scaled])[0]) == 2 * len(files)
