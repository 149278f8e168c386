"""MNIST's four idx files, whole and in every way broken."""

import gzip
import re
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfxfer.data.mnist_files import mnist, read_idx, read_images, read_labels
from tfxfer.errors import DataError

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def examples(n):
    """Pictures that know their place: pixel (0, 0) is the number of the example, pixel (0, 1) its label."""
    images = np.random.default_rng(n).integers(0, 256, (n, 28, 28), np.uint8)
    labels = (np.arange(n) % 10).astype(np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(n), labels
    return images, labels


TRAIN, TEST = examples(120), examples(30)


@pytest.fixture
def files(tmp_path):
    """A directory with a small MNIST."""
    for name, array in zip(NAMES, (*TRAIN, *TEST), strict=True):
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def rename(files, change, compress=False):
    for name in NAMES:
        content = (files / name).read_bytes()
        (files / name).unlink()
        (files / change(name)).write_bytes(gzip.compress(content) if compress else content)


def read(files, **options):
    return mnist(files, **{"validation": 20, **options})


def refusal(files):
    with pytest.raises(DataError) as caught:
        read(files)
    return str(caught.value)


def check_whole(data):
    assert [len(data.train), len(data.validation), len(data.test)] == [100, 20, 30]
    for split, (images, labels) in [(data.train, TRAIN), (data.validation, TRAIN), (data.test, TEST)]:
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        places = split.images[:, 0, 0, 0]
        assert np.array_equal(split.images, images[places][..., np.newaxis])
        assert np.array_equal(split.labels, labels[places])
    together = np.concatenate([data.train.images, data.validation.images])[:, 0, 0, 0]
    assert np.array_equal(np.sort(together), np.arange(120))
    assert np.array_equal(data.test.images[..., 0], TEST[0])
    assert data.class_names == tuple("0123456789")


def test_the_four_files_become_three_splits(files):
    check_whole(read(files))
    assert read(files).fixed_test


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-idx", ".idx"])
def test_both_spellings_are_found_and_content_decides_what_is_gzip(files, dot, gz, compress):
    rename(files, lambda name: name.replace("-idx", dot) + gz, compress)
    check_whole(read(files))


def test_folders_that_have_the_names_of_files_are_passed_over(files):
    rename(files, lambda name: name.replace("-idx", ".idx"))
    for name in NAMES:
        (files / name).mkdir()
    check_whole(read(files))


def test_a_directory_may_be_given_as_text(files):
    check_whole(mnist(str(files), 0, 20))


def test_validation_is_stratified_and_decided_by_the_seed(files):
    first, again, other = (read(files, seed=seed).validation for seed in (1, 1, 2))
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert np.bincount(first.labels).tolist() == [2] * 10


@pytest.mark.parametrize("validation", [-5, 0, 9, 115, 5000])
def test_a_validation_split_without_room_for_every_class_is_refused(files, validation):
    with pytest.raises(
        DataError, match=rf"cannot split 120 examples of 10 classes into .* \+ {validation:,}: each part"
    ):
        mnist(files, validation=validation)


def test_all_missing_files_are_named_at_once_with_what_is_there(files):
    (files / NAMES[0]).unlink()
    (files / NAMES[3]).rename(files / "labels.bin")
    assert refusal(files) == (
        f"cannot read MNIST from {files}:\n"
        "  missing, with or without .gz: train-images-idx3-ubyte, t10k-labels-idx1-ubyte; "
        "the directory holds labels.bin, t10k-images-idx3-ubyte, train-labels-idx1-ubyte; "
        "put the files there, or name the directory that has them"
    )


def test_a_directory_that_is_empty_or_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte; the directory is empty"):
        mnist(tmp_path)
    with pytest.raises(DataError, match=r"(?s)cannot read MNIST from .*nowhere:.*the directory does not exist"):
        mnist(tmp_path / "nowhere")


def test_a_directory_that_cannot_be_listed_is_said_to_be_so(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    with pytest.raises(DataError, match=r"the directory cannot be listed \(Permission denied\)"):
        mnist(tmp_path)


def test_a_file_that_cannot_be_opened_is_named(files, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(files), "open", refuse)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte: cannot be read \(Permission denied\)"):
        read(files)


def test_every_broken_file_is_named_at_once(files):
    (files / NAMES[0]).write_bytes(idx(TRAIN[0])[:-1])
    (files / NAMES[1]).unlink()
    (files / NAMES[2]).write_bytes(b"<!DOCTYPE html>")
    lines = refusal(files).splitlines()
    assert len(lines) == 4
    assert all(name in "\n".join(lines) for name in NAMES[:3])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<!DOCTYPE html>", "0x3c21444f.*an HTML or XML page"),
        (idx(TRAIN[1]), "0x00000801, not 0x00000803: this is not an idx file of images, .* an idx file of labels"),
        (idx(TRAIN[0].reshape(120, 784)), "0x00000802.*an idx file of another rank or dtype"),
        (gzip.compress(gzip.compress(idx(TRAIN[0]))), "0x1f8b.*gzip inside gzip"),
        (b"PK\x03\x04....", "0x504b0304.*a zip archive"),
        (b"\x89PNG....", "a PNG picture"),
        (b"version https://git-lfs", "a Git LFS pointer; fetch the file with `git lfs pull`"),
        (b"no such thing", "0x6e6f2073.*perhaps something else; put the published file there"),
    ],
)
def test_a_wrong_magic_number_is_shown_with_what_the_file_may_be(files, content, kind):
    (files / NAMES[0]).write_bytes(content)
    assert re.search(f"{NAMES[0]}: its magic number is {'.*' if kind[0] != '0' else ''}{kind}", refusal(files))


def test_images_in_place_of_labels_are_recognised(files):
    (files / NAMES[3]).write_bytes(idx(TEST[0]))
    assert (
        "0x00000803, not 0x00000801: this is not an idx file of labels, but perhaps an idx file of images"
        in refusal(files)
    )


def test_counts_that_disagree_are_refused(files):
    (files / NAMES[1]).write_bytes(idx(TRAIN[1][:-1]))
    (files / NAMES[3]).write_bytes(idx(np.zeros(31, np.uint8)))
    assert refusal(files).splitlines()[1:] == [
        "  train: 120 images, but 119 labels; take both files from one source",
        "  t10k: 30 images, but 31 labels; take both files from one source",
    ]


def test_labels_out_of_range_are_counted_and_the_first_is_shown(files):
    labels = TRAIN[1].copy()
    labels[[17, 80]] = 10, 255
    (files / NAMES[1]).write_bytes(idx(labels))
    assert f"{NAMES[1]}: 2 of 120 labels are outside 0..9, the first at index 17: 10; this is not" in refusal(files)


def test_a_class_that_train_lacks_is_named(files):
    (files / NAMES[1]).write_bytes(idx(np.where(TRAIN[1] == 7, 8, TRAIN[1]).astype(np.uint8)))
    assert refusal(files) == "the data cannot be used:\n  train has no example of 1 of 10 classes: 7 (7)"


def test_pictures_of_another_size_are_refused(files):
    (files / NAMES[0]).write_bytes(idx(np.zeros((120, 32, 30), np.uint8)))
    assert f"{NAMES[0]}: announces examples of 32 x 30, not 28 x 28; this is not MNIST" in refusal(files)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_bytes_after_the_announced_ones_are_refused(tmp_path, pack):
    path = tmp_path / "labels"
    path.write_bytes(pack(idx(TRAIN[1]) + b"\n"))
    with pytest.raises(DataError, match="labels: goes on after the 120 bytes that its header announces"):
        read_labels(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(cut=st.integers(0, 16 + 3 * 784 - 1))
def test_a_file_cut_at_any_byte_is_refused(tmp_path, cut):
    path = tmp_path / "images"
    path.write_bytes(idx(TRAIN[0][:3])[:cut])
    if cut < 4:
        message = f"has only {cut} bytes"
    elif cut < 16:
        message = f"ends within its header, after {cut} bytes"
    else:
        message = f"holds {cut - 16:,} of the 2,352 bytes that its header announces"
    with pytest.raises(DataError, match=f"images: {message}; download it again"):
        read_images(path)


def test_a_gzip_cut_at_any_byte_is_refused(tmp_path):
    path = tmp_path / "labels.gz"
    whole = gzip.compress(idx(TRAIN[1]))
    for cut in range(2, len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"labels.gz: the gzip stream ends early, the file is cut short; download"):
            read_labels(path)


def test_a_gzip_with_any_byte_flipped_is_refused_or_reads_the_same(tmp_path):
    path = tmp_path / "labels.gz"
    whole = gzip.compress(idx(TRAIN[1]), mtime=0)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            labels = read_labels(path)
        except DataError as error:
            assert "labels.gz: " in str(error)  # noqa: PT017 (some flips hit the time stamp, which nobody reads)
        else:
            assert np.array_equal(labels, TRAIN[1])


def test_a_damaged_gzip_says_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "labels.gz"
    whole = bytearray(gzip.compress(idx(TRAIN[1])))
    whole[-8] ^= 1
    path.write_bytes(whole)
    with pytest.raises(
        DataError, match=r"labels.gz: the gzip stream is damaged \(CRC check failed.*\); download it again"
    ):
        read_labels(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("announced", "message"),
    [
        (1_000_000, "holds 94,080 of the 784,000,000 bytes"),
        (2**32 - 1, "announces 4,294,967,295 x 28 x 28 bytes, more"),
    ],
)
def test_memory_goes_by_what_a_file_holds_and_not_by_what_it_announces(tmp_path, pack, announced, message):
    path = tmp_path / "images"
    content = bytearray(idx(TRAIN[0]))
    content[4:8] = struct.pack(">I", announced)
    path.write_bytes(pack(bytes(content)))
    with pytest.raises(DataError, match=f"images: {message}"):
        peak_of(read_images, path, limit=4 << 20)


def test_a_gzip_bomb_is_left_alone_after_the_announced_bytes(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(gzip.compress(idx(TRAIN[1]) + bytes(50 << 20)))
    with pytest.raises(DataError, match="goes on after the 120 bytes"):
        peak_of(read_labels, path, limit=1 << 20)


def peak_of(reader, path, limit):
    tracemalloc.start()
    try:
        reader(path)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < limit


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_nothing_but_a_data_error_comes_of_it(tmp_path, content):
    path = tmp_path / "labels"
    for start in (b"", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\0\0\x08\x01"):
        path.write_bytes(start + content)
        try:
            labels = read_labels(path)
        except DataError:
            continue
        assert labels.max(initial=0) <= 9


def test_read_idx_reads_any_shape_of_example_as_a_writable_array(tmp_path):
    path = tmp_path / "small"
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path.write_bytes(idx(array))
    read_back = read_idx(path, (3, 4))
    assert np.array_equal(read_back, array)
    assert read_back.flags.writeable


def test_the_real_mnist_is_read_whole_and_quickly(real_data):
    start = time.perf_counter()
    data = mnist(real_data("mnist"))
    assert time.perf_counter() - start < 20
    assert [len(data.train), len(data.validation), len(data.test)] == [55000, 5000, 10000]
    # The published counts of each digit.
    train = np.bincount(data.train.labels) + np.bincount(data.validation.labels)
    assert train.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.train.images.max() == 255


def test_a_real_broken_download_is_refused(real_data):
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte.gz: the gzip stream ends early, the file is cut short"
    ):
        mnist(real_data("mnist_truncated"))
