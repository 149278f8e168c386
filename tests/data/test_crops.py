"""Random crops: which part of a picture, by whom it is decided, and that the pixels are those of that part."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.data.test_decoding import resized
from tests.data.test_pictures import encoded, exif, farthest, photo, pillow
from tfxfer.data import Data, Pictures, Split, crops, decoding
from tfxfer.errors import DataError

DIGEST = decoding.sha256(b"a picture")
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(encoded(photo(90 + number, 120 - 3 * number, number)))
    return paths


# --- which part ---


def test_what_is_drawn_stays_what_it_is_in_all_versions():
    # Golden: stored rows are found by seed and number, so that no later version may draw otherwise.
    assert crops.draw(DIGEST, 0, 0) == [
        11629493950777556660,
        15191031212629357957,
        9745055923149443658,
        13734386455589754581,
    ]
    assert crops.draw(DIGEST, 7, 3) == [
        1035211289791122385,
        13615808377272828241,
        447653975758422133,
        17068677569237681174,
    ]
    assert crops.place(300, 400, (300, 300), crops.draw(DIGEST, 7, 3)) == ((38, 3, 249, 249), True)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 300), st.integers(1, 300), SEEDS, SEEDS)
def test_a_crop_lies_within_the_picture_and_is_as_large_as_vggs(height, width, rows, columns, seed, number):
    h, w = crops.centred(height, width, rows, columns)[2:]
    (top, left, ch, cw), _ = crops.place(height, width, (h, w), crops.draw(DIGEST, seed, number))
    assert 0 <= top <= height - ch
    assert 0 <= left <= width - cw
    for part, whole in ((ch, h), (cw, w)):
        assert part >= 1
        assert whole * 224 / 512 - 0.5 <= part <= max(1, whole * 224 / 256 + 0.5)


def test_sizes_places_and_mirrors_are_all_as_likely():
    drawn = [crops.place(1024, 2048, (1024, 1024), crops.draw(DIGEST, 1, number)) for number in range(4000)]
    sides = np.array([box[2] for box, _ in drawn])
    # The length to which the shorter side would be brought is uniform, 256 to 512.
    lengths = 1024 * 224 / sides
    assert np.histogram(lengths, 4, (256, 512))[0].min() > 900
    down, right = (np.array([box[k] / (whole - box[2]) for box, _ in drawn]) for k, whole in ((0, 1024), (1, 2048)))
    for place in (down, right):
        assert np.histogram(place, 4, (0, 1))[0].min() > 900
        assert place.min() < 0.01
        assert place.max() > 0.99
    assert 0.47 < np.mean([mirrored for _, mirrored in drawn]) < 0.53
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.05


@pytest.mark.parametrize(("drawn", "box"), [
    ([0, 0, 0, 0], ((0, 0, 263, 263), False)),
    ([2**64 - 1] * 4, ((169, 269, 131, 131), True)),
])  # fmt: skip
def test_the_ends_of_the_range_are_reached(drawn, box):
    assert crops.place(300, 400, (300, 300), drawn) == box


@given(SEEDS, st.integers(0, 100))
def test_seed_number_and_picture_decide(seed, number):
    first = crops.draw(DIGEST, seed, number)
    assert first == crops.draw(DIGEST, seed, number)
    assert first != crops.draw(DIGEST, (seed + 1) % 2**32, number)
    assert first != crops.draw(DIGEST, seed, number + 1)
    assert first != crops.draw(decoding.sha256(b"another"), seed, number)


# --- the pixels ---


def box_of(data: bytes, size: tuple[int, int], resize: str, number: int) -> tuple[tuple[int, int, int, int], bool]:
    width, height = pillow(data).size
    part = crops.centred(height, width, *size)[2:] if resize == "crop" else (height, width)
    return crops.place(height, width, part, crops.draw(decoding.sha256(data), 5, number))


@pytest.mark.parametrize("size", [(64, 64), (31, 47), (200, 90)])
@pytest.mark.parametrize("resize", ["crop", "plain"])
def test_the_pixels_are_those_of_that_part_resized_once(tmp_path, size, resize):
    path = tmp_path / "a.png"
    pixels = photo(121, 160)
    path.write_bytes(encoded(pixels))
    rows = Pictures([path], size, resize).augmented(12, 5)
    mirrors = set()
    for number, ours in enumerate(rows[:]):
        (y, x, h, w), mirrored = box_of(path.read_bytes(), size, resize, number)
        expected = np.rint(resized(pixels[y : y + h, x : x + w], *size))
        assert farthest(ours, expected[:, ::-1] if mirrored else expected) <= 1
        mirrors.add(mirrored)
    assert mirrors == {True, False}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_cropped_and_mirrored_as_one_sees_it(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(photo(61, 84), "JPEG", exif=exif(orientation), quality=95))
    upright = np.asarray(pillow(path.read_bytes()))
    for number, ours in enumerate(Pictures([path], (40, 30)).augmented(4, 5)[:]):
        (y, x, h, w), mirrored = box_of(path.read_bytes(), (40, 30), "crop", number)
        expected = resized(upright[y : y + h, x : x + w], 40, 30).round()
        assert farthest(ours, expected[:, ::-1] if mirrored else expected) <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_the_smallest_pictures_can_be_cropped(tmp_path, shape):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(*shape)))
    assert Pictures([path], (8, 8)).augmented(5, 0)[:].shape == (5, 8, 8, 3)


def test_the_same_bits_in_every_process_however_many_threads_decode(files):
    code = (
        "import hashlib, os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from tfxfer.data import Pictures\n"
        "print(hashlib.sha256(Pictures(sys.argv[1:], (32, 32)).augmented(3, 9)[:].tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=True)
    rows = Pictures(files, (32, 32)).augmented(3, 9)
    assert done.stdout.strip() == decoding.sha256(rows[:].tobytes()) == decoding.sha256(rows[:].tobytes())


# --- like other pictures ---


def test_each_picture_is_followed_by_its_own_crops(files):
    pictures = Pictures(files, (16, 16))
    rows = pictures.augmented(3, 0)
    assert rows.shape == (18, 16, 16, 3)
    assert rows.paths == tuple(str(path) for path in files for _ in range(3))
    assert [rows.digest(index) for index in (0, 2, 3, 17)] == [pictures.digest(index) for index in (0, 0, 1, 5)]
    assert repr(rows) == "<18 random crops of pictures at 16x16 by 'crop'>"
    assert len({row.tobytes() for row in rows[:]}) == 18


def test_more_crops_or_fewer_or_other_pictures_leave_the_first_ones_as_they_are(files):
    two, three = (Pictures(files, (16, 16)).augmented(count, 0) for count in (2, 3))
    assert np.array_equal(three[:].reshape(6, 3, 16, 16, 3)[:, :2], two[:].reshape(6, 2, 16, 16, 3))
    alone = Pictures(files[4:5], (16, 16)).augmented(2, 0)
    assert np.array_equal(alone[:], two[8:10])
    assert not np.array_equal(alone[:], Pictures(files[4:5], (16, 16)).augmented(2, 1)[:])


def test_a_subset_and_what_json_has_are_the_same_crops(files):
    digests = [decoding.sha256(path.read_bytes()) for path in files]
    for pictures in (Pictures(files, (16, 12), "plain"), Pictures(files, digests=digests, most_pixels=50_000)):
        rows = pictures.augmented(2, 3)
        some = np.array([11, 0, 4])
        assert np.array_equal(rows.subset(some)[:], rows[some])
        for each in (pictures, rows, rows.subset(some)):
            again = Pictures(**json.loads(json.dumps(each.to_json())))
            assert again.to_json() == each.to_json()
            assert np.array_equal(again[:2], each[:2])
            assert [again.how(index) for index in range(3)] == [each.how(index) for index in range(3)]
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(DataError, match=r"0\.png has changed since"):
        _ = rows[:1]


def test_how_a_picture_is_brought_to_pixels_is_told_in_full(files):
    pictures = Pictures(files, (16, 12))
    assert pictures.how(3) == "(16, 12) crop"
    assert pictures.augmented(2, 8).how(3) == "(16, 12) crop cropped at random, 224 of 256 to 512, seed 8, number 1"


def test_crops_of_crops_none_and_seeds_out_of_range_are_refused(files):
    pictures = Pictures(files)
    with pytest.raises(DataError, match="0 random crops of each picture: take 1 or more"):
        pictures.augmented(0, 0)
    with pytest.raises(DataError, match="`seed=-1` is out of range"):
        pictures.augmented(1, -1)
    with pytest.raises(DataError, match="these pictures are random crops already"):
        pictures.augmented(1, 0).augmented(1, 0)
    with pytest.raises(DataError, match="there are 1 crops for 6 pictures"):
        Pictures(files, crops=[(0, 0)])


# --- data sets ---


def data_of(files: list[Path]) -> Data:
    labels = np.arange(6) % 2
    splits = [Split(Pictures(files[a:b], (16, 16)), labels[a:b]) for a, b in ((0, 4), (4, 5), (5, 6))]
    return Data(*splits, class_names=("a", "b"), notes=("odd",))


def test_of_a_data_set_the_training_pictures_alone_are_cropped(files):
    data = data_of(files)
    more = data.augmented(3, 1)
    assert more.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert np.array_equal(more.train.images[:], data.train.images.augmented(3, 1)[:])
    assert (more.validation, more.test, more.notes) == (data.validation, data.test, data.notes)
    assert Data(Split(data.train.images), *[data.test] * 2, ()).augmented(2, 0).train.labels is None


def test_arrays_and_features_cannot_be_augmented(files):
    array = Split(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int64))
    with pytest.raises(DataError, match="train has its images in an array, and only pictures in files can be"):
        Data(array, array, array, ("a",)).augmented(2, 0)
    data = data_of(files)
    computed = Split(data.train.images, data.train.labels, {"pool": np.zeros((4, 3))})
    with pytest.raises(DataError, match="train has features that were computed from its pictures; augment these first"):
        Data(computed, data.validation, data.test, ("a", "b")).augmented(2, 0)


def test_real_photographs_are_cropped_as_pillow_crops_them(real_data):
    path = sorted(real_data("flowers").glob("*/*.jpg"))[77]
    picture = pillow(path.read_bytes())
    for number, ours in enumerate(Pictures([path]).augmented(3, 5)[:]):
        (y, x, h, w), mirrored = box_of(path.read_bytes(), (224, 224), "crop", number)
        part = picture.crop((x, y, x + w, y + h)).resize((224, 224), Image.Resampling.BILINEAR)
        assert farthest(ours[:, ::-1] if mirrored else ours, np.asarray(part)) <= 1
