"""Features as they lie on disk: what `tfxfer extract` wrote, tables of a store, and what does not fit together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tfxfer.errors import DataError
from tfxfer.store import features
from tfxfer.store.store import Store


def codes(folder: Path, count: int = 12, classes: int = 3, shape: tuple[int, ...] = (8,)) -> Path:
    """Write a folder as `tfxfer extract` does; classes lie well apart."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    labels = np.arange(count) % classes
    centres = 10 * generator.normal(size=(classes, *shape))
    np.save(folder / "codes.npy", (centres[labels] + generator.normal(size=(count, *shape))).astype(np.float32))
    np.save(folder / "labels.npy", labels)
    (folder / "classes.txt").write_text("".join(f"class {number}\n" for number in range(classes)))
    (folder / "splits.txt").write_text("".join(f"{'test' if row % 4 == 3 else 'train'}\n" for row in range(count)))
    return folder


def store(folder: Path, names: tuple[str, ...] = ("pool:0",), indexed: bool = True) -> Path:
    """Fill a store, and its index of pictures, as extraction does."""
    pictures = {f"/data/{'cat' if row % 2 else 'dog'}/{row}.jpg": f"{row:064x}" for row in range(6)}
    keys = [hashlib.sha256(f"picture {digest} (32, 48) crop".encode()).hexdigest() for digest in pictures.values()]
    for number, name in enumerate(names):
        about = {"tensor": name, "images": "uint8 (32, 48, 3)", "dtype": "float16"}
        table = Store(folder).table(f"{number:064x}", about, np.dtype(np.float16))
        table.write(keys, np.arange(24, dtype=np.float32).reshape(6, 4) + number)
    if indexed:
        rows = {path: [1, 2, digest, ""] for path, digest in pictures.items()}
        (folder / "pictures.json").write_text(json.dumps({"format": "tfxfer pictures 1", "pictures": rows}))
    return folder


def test_what_extract_wrote_is_read_row_by_row(tmp_path):
    found = features.read(codes(tmp_path / "codes", shape=(2, 3)))
    assert (found.name, found.rows.shape, list(found.class_names)) == (
        "codes",
        (12, 2, 3),
        ["class 0", "class 1", "class 2"],
    )
    assert found.labels.tolist() == [0, 1, 2] * 4
    assert found.only("test").tolist() == [3, 7, 11]
    assert found.only("all").tolist() == list(range(12))
    with pytest.raises(DataError, match="codes has no rows of the split validation; it has train, test"):
        found.only("validation")


def test_codes_alone_are_enough(tmp_path):
    codes(tmp_path)
    for name in ("labels.npy", "classes.txt", "splits.txt"):
        (tmp_path / name).unlink()
    found = features.read(tmp_path)
    assert (found.labels, found.class_names, found.splits) == (None, [], [])
    with pytest.raises(DataError, match="its splits are not known"):
        found.only("test")


def test_a_table_of_a_store_has_the_folders_of_its_pictures_as_classes(tmp_path):
    found = features.read(store(tmp_path / "store"))
    assert (found.name, found.rows.shape, list(found.class_names)) == ("store: pool:0", (6, 4), ["cat", "dog"])
    assert [int(row[0]) // 4 % 2 for row in found.rows[np.arange(6)]] == [1 - label for label in found.labels]
    by_table = features.read(tmp_path / "store" / ("0" * 64))
    assert np.array_equal(by_table.rows[np.arange(6)], found.rows[np.arange(6)])


def test_a_store_without_an_index_has_no_classes(tmp_path):
    assert features.read(store(tmp_path / "store", indexed=False)).labels is None
    (tmp_path / "store/pictures.json").write_text("[]")
    assert features.read(tmp_path / "store").labels is None


def test_rows_that_the_index_does_not_know_have_a_class_of_their_own(tmp_path):
    store(tmp_path / "store")
    index = json.loads((tmp_path / "store/pictures.json").read_text())
    index["pictures"].popitem()
    (tmp_path / "store/pictures.json").write_text(json.dumps(index))
    found = features.read(tmp_path / "store")
    assert list(found.class_names) == ["cat", "dog", "not known"]
    assert np.bincount(found.labels).tolist() == [2, 3, 1]


def test_of_several_tables_one_must_be_chosen(tmp_path):
    store(tmp_path / "store", ("conv1:0", "pool5:0"))
    with pytest.raises(DataError, match=r"store has 2 tables; give one of them:\n.*/0{64}  conv1:0\n.*1  pool5:0"):
        features.read(tmp_path / "store")


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda folder: np.save(folder / "labels.npy", np.zeros(11, int)), "codes.npy has 12 rows, but labels.npy has 11"),
    (lambda folder: np.save(folder / "labels.npy", np.full(12, 3)), "goes from 3 to 3, and classes.txt has 3"),
    (lambda folder: np.save(folder / "labels.npy", np.zeros((12, 1), int)), r"labels.npy is int64 \(12, 1\)"),
    (lambda folder: (folder / "splits.txt").write_text("train\n"), "splits.txt has 1"),
    (lambda folder: np.save(folder / "codes.npy", np.zeros(12, np.float32)), r"is float32 \(12,\); rows of floats"),
    (lambda folder: np.save(folder / "codes.npy", np.zeros((12, 2), int)), "is int64"),
    (lambda folder: (folder / "codes.npy").write_bytes(b"junk"), "codes.npy cannot be read"),
    (lambda folder: np.save(folder / "labels.npy", np.array([{}])), "labels.npy cannot be read"),
])  # fmt: skip
def test_files_that_do_not_fit_together_are_refused(tmp_path, spoil, message):
    spoil(codes(tmp_path))
    with pytest.raises(DataError, match=message):
        features.read(tmp_path)


def test_a_folder_without_features_is_refused_and_left_as_it_is(tmp_path):
    with pytest.raises(DataError, match=r"holds no features; give a folder that `tfxfer extract`"):
        features.read(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "store.json").write_text('{"version": 1}')
    with pytest.raises(DataError, match=r"the store .* is empty"):
        features.read(tmp_path)
    table = tmp_path / "0"
    table.mkdir()
    (table / "about.json").write_text('{"dtype": "float32"}')
    with pytest.raises(DataError, match="0 has no rows yet"):
        features.read(tmp_path)
    (table / "about.json").write_text("{")
    with pytest.raises(DataError, match=r"about\.json is damaged"):
        features.read(tmp_path)
