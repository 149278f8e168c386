"""Zip archives that are written, against zipfile."""

from __future__ import annotations

import zipfile

import pytest

from tfxfer.weights.writers import archives


@pytest.mark.parametrize("large", [10, 1 << 32])
def test_every_member_begins_at_a_multiple_of_64(tmp_path, large):
    path = tmp_path / "a.zip"
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for number in range(70):
            # What is announced may be more than what is written: the headers leave room for it.
            with archives.member(archive, file, "é" * (number + 1), large) as member:
                assert file.tell() % 64 == 0
                member.write(b"x" * number)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert [info.file_size for info in archive.infolist()] == list(range(70))
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_same_members_give_the_same_bytes(tmp_path):
    for path in (tmp_path / "a", tmp_path / "b"):
        with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
            archives.member(archive, file, "w", 3).close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
