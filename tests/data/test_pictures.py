"""Pictures: decoded, turned, cut and resized as Pillow does it; what is not a picture; decoding ahead."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tfxfer.data import Pictures, Split, ahead, crops, decoding
from tfxfer.errors import DataError

KINDS = ("JPEG", "PNG", "BMP", "GIF")


def photo(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """Draw something smooth, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, kind, **options)
    return file.getvalue()


def pillow(data: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def as_stored(data: bytes) -> np.ndarray:
    """Decode with ours to the size that it has anyway."""
    width, height = pillow(data).size
    return decoding.decode(data, (height, width), "plain")


def farthest(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Ten pictures of different sizes and kinds."""
    paths = []
    for number in range(10):
        kind = KINDS[number % 4]
        paths.append(tmp_path / f"{number}.{kind.lower()}")
        paths[-1].write_bytes(encoded(photo(40 + number, 60 - number, number), kind))
    return paths


# --- kinds ---


def png(header: bytes, pixels: bytes) -> bytes:
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_masks(data: bytes, *masks: int) -> bytes:
    """Turn a plain BMP of 32 bits into one that says where each colour is."""
    head = data[:10] + struct.pack("<I", 66) + data[14:30] + struct.pack("<I", 3) + data[34:54]
    return head + struct.pack("<III", *masks) + data[54:]


def animated(count: int = 5) -> bytes:
    frames = [Image.fromarray(np.roll(photo(), 7 * k, axis=0)).quantize(32) for k in range(count)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_is_that_of_the_contents_whatever_the_name(kind, tmp_path):
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(photo(), kind))
    assert farthest(Pictures([path], (60, 80))[0], photo()) < 80


# --- EXIF ---


def exif(orientation: int, order: str = ">", dtype: int = 3) -> bytes:
    """Write a block with the tag behind another."""
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entries = [
        struct.pack(order + "HHIHH", 0x0100, 3, 1, 80, 0),
        struct.pack(order + "HHI" + ("I" if dtype == 4 else "HH"), 0x0112, dtype, 1, orientation, *[0] * (dtype != 4)),
    ]
    return b"Exif\0\0" + magic + struct.pack(order + "IH", 8, len(entries)) + b"".join(entries) + bytes(4)


# --- resizing ---


@given(*[st.integers(1, 5000)] * 4)
def test_the_crop_is_the_largest_centred_part_of_the_proportions_asked_for(height, width, rows, columns):
    y, x, h, w = crops.centred(height, width, rows, columns)
    assert 1 <= h <= height
    assert 1 <= w <= width
    assert h == height or w == width
    assert 0 <= (height - h) - 2 * y <= 1
    assert 0 <= (width - w) - 2 * x <= 1
    exact_h, exact_w = min(height, width * rows / columns), min(width, height * columns / rows)
    assert abs(h - max(1, exact_h)) <= 0.5
    assert abs(w - max(1, exact_w)) <= 0.5


def test_the_crop_to_a_square_is_the_square_in_the_middle():
    assert crops.centred(375, 500, 224, 224) == (0, 62, 375, 375)
    assert crops.centred(500, 333, 227, 227) == (83, 0, 333, 333)


# --- like an array ---


def test_pictures_look_like_an_array(files):
    pictures = Pictures(files, (24, 32))
    assert (pictures.shape, pictures.dtype, len(pictures)) == ((10, 24, 32, 3), np.uint8, 10)
    assert repr(pictures) == "<10 pictures at 24x32 by 'crop'>"
    assert pictures.paths == tuple(map(str, files))


def test_pictures_are_indexed_like_an_array(files):
    pictures = Pictures(files, (24, 32))
    whole = np.stack([decoding.decode(path.read_bytes(), (24, 32), "crop") for path in files])
    mask = np.arange(10) % 3 == 0
    for indices in (np.array([7, 0, 7]), np.array([], np.int64), slice(None), slice(2, 8, 3), 4, -1, np.int64(3), mask):
        assert np.array_equal(pictures[indices], whole[indices])
        assert pictures[indices].shape == whole[indices].shape


def test_an_index_that_is_too_large_is_an_index_error(files):
    with pytest.raises(IndexError):
        Pictures(files)[np.array([3, 10])]


def test_no_picture_is_opened_before_it_is_asked_for(files):
    pictures = Pictures([files[0], "is not there"])
    assert pictures.subset(np.array([0]))[:].shape == (1, 224, 224, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 9)}, r"size is \(0, 9\); give height and width, each from 1 to 65535"),
        ({"size": (9, 65536)}, r"size is \(9, 65536\)"),
        ({"resize": "pad"}, "resize is 'pad'; take one of 'crop', 'plain'"),
        ({"digests": ["a"]}, "there are 1 digests for 2 pictures"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        Pictures(["a.jpg", "b.jpg"], **options)


def test_a_subset_keeps_everything_but_the_order(files):
    pictures = Pictures(files, (9, 8), "plain", digests=[f"{k}" for k in range(10)], most_pixels=5000)
    some = pictures.subset(np.array([3, 1]))
    assert some.paths == (str(files[3]), str(files[1]))
    assert (some.size, some.resize, some.most_pixels, some.digest(0)) == ((9, 8), "plain", 5000, "3")
    assert np.array_equal(
        Pictures(files, (9, 8)).subset(np.array([5, 2]))[:], Pictures(files, (9, 8))[np.array([5, 2])]
    )


def test_a_digest_is_that_of_the_bytes(files):
    assert Pictures(files).digest(2) == decoding.sha256(files[2].read_bytes())
    with pytest.raises(DataError, match=r"gone.jpg is not there"):
        Pictures(["gone.jpg"]).digest(0)


def test_a_file_that_has_changed_since_its_digest_was_taken_is_refused(files):
    pictures = Pictures(files, digests=[decoding.sha256(path.read_bytes()) for path in files])
    files[4].write_bytes(files[8].read_bytes())
    assert pictures[np.array([3, 5])].shape == (2, 224, 224, 3)
    with pytest.raises(DataError, match=r"1 of 10 pictures:\n  .*4\.jpeg has changed since it was looked through"):
        _ = pictures[:]


def test_a_split_takes_decoded_pictures_and_makes_subsets_of_files(files):
    split = Split(Pictures(files, (8, 8)), np.arange(10))
    taken, subset = split.take(np.array([3, 1])), split.subset(np.array([3, 1]))
    assert isinstance(taken.images, np.ndarray)
    assert isinstance(subset.images, Pictures)
    assert np.array_equal(taken.images, subset.images[:])
    assert taken.labels.tolist() == subset.labels.tolist() == [3, 1]


def test_a_subset_of_arrays_is_what_is_taken():
    split = Split(np.zeros((3, 2, 2, 1), np.uint8), np.arange(3), {"pool": np.arange(12).reshape(3, 4)})
    subset = split.subset(np.array([2, 0]))
    assert (subset.images.shape, subset.labels.tolist()) == ((2, 2, 2, 1), [2, 0])
    assert subset.features["pool"].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]


def test_decoding_gives_the_same_bytes_every_time_and_alone(files):
    pictures = Pictures(files, (50, 50))
    whole = pictures[:]
    assert all(np.array_equal(whole, pictures[:]) for _ in range(3))
    assert all(np.array_equal(whole[k], pictures[k]) for k in range(10))


def test_the_users_graph_is_neither_needed_nor_touched(files):
    import tensorflow.compat.v1 as tf

    outside = Pictures(files, (8, 8))[:]
    with tf.Graph().as_default() as graph, tf.Session():
        inside = Pictures(files, (8, 8))[:]
        assert graph.get_operations() == []
        graph.finalize()
        assert np.array_equal(Pictures(files, (8, 8))[:], inside)
    assert np.array_equal(inside, outside)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux shows them")
def test_a_network_that_comes_after_the_first_picture_has_the_threads_it_asks_for(files):
    code = (
        "import os, sys; import tensorflow.compat.v1 as tf; from tfxfer.data import Pictures\n"
        "Pictures(sys.argv[1:], (8, 8))[:]\n"
        "counts = []\n"
        "for number in (1, 9):\n"
        "    before = len(os.listdir('/proc/self/task'))\n"
        "    config = tf.ConfigProto(intra_op_parallelism_threads=number, inter_op_parallelism_threads=-1)\n"
        "    with tf.Session(config=config): counts.append(len(os.listdir('/proc/self/task')) - before)\n"
        "print(*counts)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=True)
    one, nine = map(int, done.stdout.split())
    assert nine - one == 8


# --- what cannot be decoded ---


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"Not a picture,\r\n\tbut a text.", "is not a JPEG, PNG, BMP or GIF, but perhaps text"),
        (b"<!DOCTYPE html>", "is not a JPEG, PNG, BMP or GIF, but perhaps an HTML, XML or SVG page"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "is damaged, cut short, or a WebP of a rare kind; save it anew"),
        (b"\0\0\0\x1cftypheic", "but perhaps HEIC"),
        (b"II*\0\x08\0\0\0", "is damaged, cut short, or a TIFF of a rare kind; save it anew"),
        (b"PK\x03\x04", "but perhaps a zip archive"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "but perhaps a Git LFS pointer; fetch the file with `git lfs pull`",
        ),
        (b"\x93NUMPY", "but begins with 0x934e554d5059"),
        (b"\xff\xd8\xff", "is cut short"),
        (b"\x89PNG\r\n\x1a\n", "is cut short"),
        (b"BM", "is cut short"),
        (b"GIF89a", "is cut short"),
        (b"\xff\xd8\xff\xda\0\x08\xff\xd9", "is damaged: its header has no size"),
        (b"GIF89a" + bytes(20), "is damaged: it has no frame"),
        (png(struct.pack(">IIBBBBB", 0, 6, 8, 2, 0, 0, 0), b""), "is damaged: its header says 6 x 0 pixels"),
        (
            png(struct.pack(">IIBBBBB", 9, 6, 8, 2, 0, 0, 0), b""),
            "is damaged, cut short, or a PNG of a rare kind; save it anew",
        ),
    ],
)
def test_what_is_no_picture_is_refused_with_what_it_is(content, reason, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        _ = Pictures([path])[:]
    assert str(refused.value).startswith(f"cannot decode 1 of 1 pictures:\n  {path} is ")
    assert str(refused.value).endswith(reason)


def test_every_bad_picture_is_listed_at_once(files, tmp_path):
    files[3].write_bytes(b"")
    files[6].unlink()
    files[7].unlink()
    files[7].mkdir()
    with pytest.raises(DataError) as refused:
        _ = Pictures(files)[np.array([7, 0, 3, 6])]
    assert str(refused.value).splitlines() == [
        "cannot decode 3 of 4 pictures:",
        f"  {files[7]} is not a regular file",
        f"  {files[3]} is empty",
        f"  {files[6]} is not there",
    ]


def test_of_very_many_bad_pictures_some_are_listed_and_the_others_counted():
    with pytest.raises(DataError, match=r"cannot decode 25 of 25 pictures:(\n  \d+ is not there){20}\n  and 5 more$"):
        _ = Pictures([f"{number}" for number in range(25)])[:]


def test_a_pipe_named_like_a_picture_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="is not a regular file"):
        _ = Pictures([tmp_path / "pipe.jpg"])[:]


def test_a_file_that_may_not_be_read_is_refused(files, monkeypatch):
    def refuse(path, *args, opened=open, **options):
        if path == str(files[0]):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *args, **options)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=r"0\.jpeg cannot be read \(Permission denied\)"):
        _ = Pictures(files)[[0]]


def test_a_name_that_is_no_utf_8_can_be_shown(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")
    with pytest.raises(DataError, match=r"\\xff\.jpg is not there") as refused:
        _ = Pictures([path])[:]
    str(refused.value).encode()


def test_a_file_too_large_for_its_pixels_is_not_read(tmp_path):
    path = tmp_path / "huge.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    os.truncate(path, 5_000_000_000)  # takes no room on disk
    with pytest.raises(DataError, match="has 5,000,000,000 bytes, too many for 100,000,000 pixels"):
        _ = Pictures([path])[:]


# --- ahead ---


def ahead_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("tfxfer-ahead")]


def test_batches_come_in_order_and_are_those_of_the_split(files):
    split = Split(Pictures(files, (8, 8)), np.arange(10))
    order = [np.array(each, int) for each in ([3, 1], [0, 9, 2], [], [5])]
    batches = list(ahead(split.take, order))
    assert [batch.labels.tolist() for batch in batches] == [[3, 1], [0, 9, 2], [], [5]]
    assert all(np.array_equal(batch.images, split.images[each]) for batch, each in zip(batches, order, strict=True))
    assert not ahead_threads()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_than_depth_batches_are_made_ahead(depth):
    asked, made = [], []

    def indices():
        for number in range(10**9):
            asked.append(number)
            yield np.array([number])

    results = ahead(lambda each: made.append(int(each[0])) or int(each[0]), indices(), depth)
    for used in range(20):
        assert next(results) == used
        assert len(asked) <= used + 1 + depth
    results.close()
    assert not ahead_threads()
    assert len(made) <= 20 + depth


def test_the_next_batch_is_made_while_this_one_is_used():
    made = threading.Semaphore(0)
    results = ahead(lambda each: made.release() or int(each[0]), (np.array([k]) for k in range(9)))
    assert next(results) == 0
    for _ in range(3):  # this one and two ahead
        assert made.acquire(timeout=10)
    results.close()


def test_an_error_comes_when_it_is_its_turn(files):
    files[5].write_bytes(b"")
    results = ahead(Pictures(files, (8, 8)).__getitem__, ([k] for k in range(10)))
    for _ in range(5):
        assert next(results).shape == (1, 8, 8, 3)
    with pytest.raises(DataError, match=r"5\.png is empty"):
        next(results)
    assert not ahead_threads()
    assert list(results) == []


def test_an_error_of_the_order_comes_too():
    def indices():
        yield np.array([0])
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(ahead(lambda each: each, indices()))
    assert not ahead_threads()


# --- real pictures ---


def test_real_photographs_are_decoded_as_pillow_decodes_them(real_data):
    for path in sorted(real_data("flowers").glob("*/*.jpg"))[::60] + sorted(real_data("imagenet").glob("pictures/*")):
        data = path.read_bytes()
        picture = pillow(data)
        assert np.array_equal(as_stored(data), picture)
        (width, height), side = picture.size, min(picture.size)
        x, y = (width - side) // 2, (height - side) // 2
        small = picture.crop((x, y, x + side, y + side)).resize((224, 224), Image.Resampling.BILINEAR)
        assert farthest(Pictures([path])[0], np.asarray(small)) <= 1
