"""The members of zip archives, against zipfile: what contradicts itself, leads out or is a bomb is refused."""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests import fuzz
from tests.weights.test_npz import HEADER, archive, same
from tfxfer.errors import WeightsError
from tfxfer.formats import reading, zip_members
from tfxfer.weights import npz, open_weights


def test_an_archive_that_is_cut_short_is_named_as_such(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.arange(100.0))
    raw = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(raw[:-30])
    with pytest.raises(WeightsError, match="is cut short: a zip archive ends with a directory, which is missing"):
        npz.read(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["../../etc/passwd.npy", "a\\..\\b.npy"])
def test_names_that_lead_out_of_the_archive_are_refused(tmp_path, name):
    path = archive(tmp_path / "a.npz", (name, HEADER + bytes(16)))
    with pytest.raises(WeightsError, match=r"is hostile: the name .* of a member leads out of the archive"):
        npz.read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    path = archive(tmp_path / "a.npz", ("a.npy", HEADER + bytes(16)), ("a.npy", HEADER + bytes(16)))
    with pytest.raises(WeightsError, match=r"it holds 'a\.npy' twice"):
        npz.read(path)


def test_other_compression_is_refused(tmp_path):
    path = archive(tmp_path / "a.npz", ("a.npy", HEADER + bytes(16)), method=zipfile.ZIP_BZIP2)
    with pytest.raises(WeightsError, match=r"member 'a\.npy' is encrypted, or compressed otherwise than by deflate"):
        npz.read(path)


def patched(path: Path, **fields: int) -> Path:
    """Change fields of the first entry in the directory of an archive."""
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\1\2")
    for name, value in fields.items():
        place, size = {"crc": (16, 4), "packed": (20, 4), "size": (24, 4), "offset": (42, 4), "method": (10, 2)}[name]
        raw[at + place : at + place + size] = value.to_bytes(size, "little")
    path.write_bytes(raw)
    return path


def test_a_bomb_is_refused_by_what_it_announces(tmp_path):
    path = archive(tmp_path / "a.npz", ("a.npy", HEADER + bytes(16)), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"is hostile: member 'a\.npy' announces 4,000,000,000 bytes in "):
        npz.read(patched(path, size=4_000_000_000))


def test_a_bomb_that_hides_its_size_is_not_unpacked(tmp_path):
    header = HEADER.replace(b"(4,), }  ", b"(4096,), }")[: len(HEADER)]
    path = archive(tmp_path / "a.npz", ("a.npy", header + bytes(50 << 20)), method=zipfile.ZIP_DEFLATED)
    tensor = npz.read(patched(path, size=len(header) + 4 * 4096))["a"]
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"member 'a\.npy' does not unpack to the 16,464 bytes it announces"):
        tensor.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_bomb_that_announces_nothing_is_not_unpacked(tmp_path):
    path = archive(tmp_path / "a.npz", ("a.npy", bytes(50 << 20)), method=zipfile.ZIP_DEFLATED)
    assert fuzz.little_memory(patched(path, size=0), 8 << 20) == "refused"


def test_a_member_that_gives_more_than_it_announces_is_refused(tmp_path):
    content = HEADER + bytes(16)
    path = archive(tmp_path / "a.npz", ("a.npy", content + b"more"), method=zipfile.ZIP_DEFLATED)
    tensor = npz.read(patched(path, size=len(content), crc=zlib.crc32(content)))["a"]
    with pytest.raises(WeightsError, match=r"member 'a\.npy' does not unpack to the \d+ bytes it announces"):
        tensor.read()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"packed": 5}, r"member 'a\.npy' is stored in 5 bytes and has 96"),
        ({"offset": 3}, r"is corrupt: member 'a\.npy' is not where its directory says"),
        ({"offset": 10_000}, r"bytes are missing at byte 10,000"),
        ({"packed": 9000, "size": 9000}, r"is cut short or corrupt: 9,000 bytes are missing"),
        ({"crc": 1}, r"member 'a\.npy' fails its checksum"),
    ],
)
def test_a_directory_that_contradicts_the_file_is_refused(tmp_path, fields, message):
    path = patched(archive(tmp_path / "a.npz", ("a.npy", HEADER + bytes(16))), **fields)
    with pytest.raises(WeightsError, match=message):
        npz.read(path)["a"].read()


def test_a_directory_beyond_the_file_or_of_too_many_members_is_refused(tmp_path):
    path = archive(tmp_path / "a.npz", ("a.npy", HEADER + bytes(16)))
    raw = path.read_bytes()
    end = raw.rindex(b"PK\5\6")
    path.write_bytes(raw[: end + 10] + b"\xff\xff" + raw[end + 12 :])
    with pytest.raises(WeightsError, match=r"its directory of 65,535 members goes beyond the end of the file"):
        npz.read(path)
    count = zip_members.MAX_MEMBERS + 1
    wide = raw[: end + 12] + (46 * count).to_bytes(4, "little") + (0).to_bytes(4, "little") + b"\0\0"
    locator = b"PK\6\6" + bytes(28) + count.to_bytes(8, "little") + (46 * count).to_bytes(8, "little") + bytes(8)
    body = bytes(46 * count)
    path.write_bytes(body + locator + b"PK\6\7" + bytes(4) + len(body).to_bytes(8, "little") + bytes(4) + wide[end:])
    with pytest.raises(WeightsError, match=r"announces 50,001 members, more than 50,000"):
        npz.read(path)


def test_archives_with_64_bit_sizes_are_read(tmp_path):
    class Unseekable(io.RawIOBase):
        def __init__(self, file):
            self.file = file

        def writable(self):
            return True

        def write(self, data):
            return self.file.write(data)

    for stream in (False, True):
        with (
            open(tmp_path / "a.npz", "wb") as raw,
            zipfile.ZipFile(Unseekable(raw) if stream else raw, "w") as file,
            file.open("w.npy", "w", force_zip64=True) as member,
        ):
            np.lib.format.write_array(member, np.arange(6.0))
        assert same(npz.read(tmp_path / "a.npz")["w"].read(), np.arange(6.0))


def test_comments_and_other_names_do_not_matter(tmp_path):
    path = archive(tmp_path / "weights.h5", ("ä.npy", HEADER + bytes(16)), ("b", HEADER + bytes(16)))
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"a comment" * 1000
    assert list(open_weights(path)) == ["ä", "b"]


def test_unpacking_stops_at_the_size_that_was_asked_for(tmp_path):
    content = bytes(range(200))
    path = archive(tmp_path / "a.zip", ("a", content), method=zipfile.ZIP_DEFLATED)
    member = zip_members.members(reading.map_file(path), "x")["a"]
    assert member.head(7) == content[:7]
    assert member.whole().tobytes() == content
    for skip, size in itertools.product((0, 3, 200), (0, 1)):
        result = np.empty(200 - skip + size, np.uint8)
        if size:
            with pytest.raises(WeightsError, match="does not unpack to the 200 bytes it announces"):
                member.unpack_into(skip, result)
        else:
            member.unpack_into(skip, result)
            assert result.tobytes() == content[skip:]


def entry(name: bytes = b"a", **fields: int) -> bytes:
    """Make an entry of a directory by hand."""
    size, method, offset = fields.get("size", 0), fields.get("method", 0), fields.get("offset", 0)
    flags, sizes = fields.get("flags", 0), (len(name), 0, 0)
    return (
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, flags, method, 0, 33, 0, size, size, *sizes, 0, 0, 0, offset)
        + name
    )


def closed(body: bytes, directory: bytes, count: int) -> bytes:
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end


@pytest.mark.parametrize(
    ("directory", "count", "message"),
    [
        (entry() * 200_000, 10, "announces 200,000 members, more than 50,000"),
        (entry(b"a" * 60_000) * 700, 700, "is hostile: its directory takes 42,032,200 bytes"),
        (entry() + entry(b"b"), 1, "it announces 1 members and holds 2|is not where its directory says"),
        (entry(b"\xff\xfe", flags=0x800), 1, "its directory is damaged"),
        (entry(flags=1), 1, "'a' is encrypted, or compressed otherwise than by deflate"),
        (entry(method=99), 1, "'a' is encrypted, or compressed otherwise than by deflate"),
        (entry(offset=1 << 31), 1, "bytes are missing"),
        (bytes(46), 1, "its directory is damaged"),
    ],
)
def test_a_hostile_directory_is_refused_in_little_memory(tmp_path, directory, count, message):
    path = tmp_path / "a.npz"
    path.write_bytes(closed(b"PK\3\4" + bytes(26), directory, count))
    with pytest.raises(WeightsError, match=message):
        open_weights(path)
    assert fuzz.little_memory(path, 4 * len(directory) + (1 << 20)) == "refused"


def test_members_that_overlap_are_no_more_than_their_bytes(tmp_path):
    path = archive(tmp_path / "a.npz", ("a.npy", HEADER + bytes(16)))
    raw = path.read_bytes()
    at = raw.index(b"PK\1\2")
    entries = [raw[at : raw.index(b"PK\5\6")].replace(b"a.npy", name) for name in (b"a.npy", b"b.npy")]
    path.write_bytes(closed(raw[:at], b"".join(entries), 2))
    with pytest.raises(WeightsError, match=r"'b\.npy' is not where its directory says"):
        open_weights(path)
