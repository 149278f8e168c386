"""Looking through pictures: the index, and what is read again."""
# ruff: noqa: F811  # imported fixtures are taken by their names

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.data.test_folders import REASONS, fill, in_splits, pets, picture, refused, with_bad  # noqa: F401
from tfxfer.data import decoding, folder
from tfxfer.data import scan as scanning
from tfxfer.data.folders import find
from tfxfer.data.scan import scan


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """Count the files that are read; none counts as changed just now."""
    monkeypatch.setattr(scanning, "TICK_NS", 0)
    counter: Counter[str] = Counter()
    read = decoding.read_file

    def counted(path: str, *args) -> bytes:
        counter[path] += 1
        return read(path, *args)

    monkeypatch.setattr(decoding, "read_file", counted)
    return counter


def test_with_an_index_only_what_is_new_or_changed_is_decoded_again(pets, tmp_path, decoded):
    index = tmp_path / "index.json"
    first = folder(pets, index=index)
    assert decoded.total() == 60
    assert in_splits(folder(pets, index=index)) == in_splits(first)
    assert decoded.total() == 60
    decoded.clear()
    new, changed, touched = picture(pets / "eel" / "new.png"), pets / "cat" / "001.png", pets / "cat" / "002.png"
    picture(changed, "changed")
    os.utime(touched, ns=(0, 0))
    (pets / "dog" / "000.png").unlink()
    data = folder(pets, index=index)
    assert decoded == {str(path): 1 for path in (new, changed, touched)}
    digests = {
        path: split.images.digest(k)
        for split in (data.train, data.validation, data.test)
        for k, path in enumerate(split.images.paths)
    }
    assert digests == {str(path): decoding.sha256(path.read_bytes()) for path in pets.glob("*/*.png")}


def test_the_index_remembers_what_is_wrong_with_contents_and_looks_at_all_else_again(with_bad, tmp_path, decoded):
    first = folder(with_bad, index=tmp_path / "index.json")
    decoded.clear()
    assert folder(with_bad, index=tmp_path / "index.json").set_aside == first.set_aside
    again = {Path(path).relative_to(with_bad).as_posix() for path in decoded}
    assert again == {"dog/001.png", "cat/002.png", "cat/003.png", "eel/005.heic"}


def test_the_index_is_written_though_the_job_is_refused(with_bad, tmp_path, decoded):
    refused(with_bad, most_bad=0, index=tmp_path / "index.json")
    decoded.clear()
    folder(with_bad, index=tmp_path / "index.json")
    assert decoded.total() == 4


def test_the_index_holds_for_the_folder_under_any_name(pets, tmp_path, monkeypatch, decoded):
    folder(pets, index=tmp_path / "index.json")
    monkeypatch.chdir(pets / "cat")
    folder("..", index=tmp_path / "index.json")
    assert decoded.total() == 60


def test_an_index_of_another_limit_is_made_anew(pets, tmp_path, decoded):
    paths = find(pets).paths
    assert all(one.digest for one in scan(paths, index=tmp_path / "index.json"))
    assert not any(one.digest for one in scan(paths, index=tmp_path / "index.json", most_pixels=29))
    assert decoded.total() == 120


@pytest.mark.parametrize(
    "content",
    [
        "", "[1, 2]", "{}", "null", '{"format": "tfxfer pictures 0"}', "[" * 10**5,
        '{"format": "tfxfer pictures 1", "most_pixels": 100000000, "pictures": {"a": [1, 2, "b"]}}',
        '{"format": "tfxfer pictures 1", "most_pixels": 100000000, "pictures": [1]}',
    ],
)  # fmt: skip
def test_a_file_that_is_no_index_is_neither_used_nor_overwritten(pets, tmp_path, content):
    (tmp_path / "notes.json").write_text(content)
    message = f"{tmp_path / 'notes.json'} is not an index of pictures; delete it, or name another file as index"
    assert refused(pets, index=tmp_path / "notes.json") == message
    assert (tmp_path / "notes.json").read_text() == content


def test_an_index_that_cannot_be_written_is_refused_before_the_work(pets, tmp_path, decoded):
    index = tmp_path / "no" / "index.json"
    message = f"the index {index} cannot be written: the folder {index.parent} does not exist"
    assert refused(pets, index=index) == message
    assert refused(pets, index=tmp_path) == f"the index {tmp_path} cannot be read (Is a directory)"
    assert decoded.total() == 0


def test_the_index_is_json_that_names_each_file(pets, tmp_path, decoded):
    folder(pets, index=tmp_path / "index.json")
    pictures = json.loads((tmp_path / "index.json").read_bytes())["pictures"]
    status = (pets / "cat" / "000.png").stat()
    digest = decoding.sha256((pets / "cat" / "000.png").read_bytes())
    assert pictures[str(pets / "cat" / "000.png")] == [
        status.st_size, status.st_mtime_ns, digest, "", status.st_ctime_ns, status.st_ino
    ]  # fmt: skip


def test_a_picture_replaced_by_one_of_equal_size_and_time_is_read_again(tmp_path, decoded):
    """As `cp -p`, `rsync -t` and `tar` leave them: BMP files of one shape always have the same length."""
    paths, index = [str(tmp_path / f"{k}.png") for k in range(4)], tmp_path / "index.json"
    for k, path in enumerate(paths):
        picture(Path(path), str(k))
    size = max(os.stat(path).st_size for path in paths)
    for path in paths:
        Path(path).write_bytes(Path(path).read_bytes().ljust(size, b"\0"))
        os.utime(path, ns=(10**18, 10**18))
    before = [one.digest for one in scan(paths, index=index)]
    other = Path(paths[3]).read_bytes()
    (tmp_path / "other").write_bytes(other)
    Path(paths[1]).write_bytes(other)
    os.utime(paths[1], ns=(10**18, 10**18))
    os.utime(tmp_path / "other", ns=(10**18, 10**18))
    os.replace(tmp_path / "other", paths[2])
    after = [one.digest for one in scan(paths, index=index)]
    assert after == [before[0], before[3], before[3], before[3]]
    assert [decoded[path] for path in paths] == [1, 2, 2, 1]


def test_a_picture_that_changed_just_before_it_was_looked_at_is_read_again_and_not_decoded(
    tmp_path, decoded, monkeypatch
):
    monkeypatch.setattr(scanning, "TICK_NS", 10**15)
    path = str(picture(tmp_path / "a.png"))
    first = scan([path], index=tmp_path / "index.json")
    monkeypatch.setattr(decoding, "verify", None)
    assert scan([path], index=tmp_path / "index.json") == first
    assert decoded[path] == 2


def test_an_index_without_times_of_entries_is_used_after_reading_each_file(tmp_path, decoded, monkeypatch):
    path, index = str(picture(tmp_path / "a.png")), tmp_path / "index.json"
    first = scan([path], index=index)
    written = json.loads(index.read_bytes())
    written["format"] = "tfxfer pictures 1"
    written["pictures"] = {key: row[:4] for key, row in written["pictures"].items()}
    index.write_text(json.dumps(written))
    monkeypatch.setattr(decoding, "verify", None)
    assert scan([path], index=index) == first
    assert decoded[path] == 2


def test_a_path_that_is_there_twice_is_looked_at_once(pets, decoded):
    path = str(pets / "cat" / "000.png")
    assert scan([path, path, path]) == [scan([path])[0]] * 3
    assert decoded[path] == 2
