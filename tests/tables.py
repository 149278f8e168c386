"""LevelDB tables and protocol buffers written by hand, so that tests can damage them and seal them again."""

from __future__ import annotations

import google_crc32c

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


def varint(value: int) -> bytes:
    """Encode a varint; negative numbers as protobuf does, in ten bytes."""
    value &= (1 << 64) - 1
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    """Encode a field of a protocol buffer: a varint, or a message or string."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def shape(*sizes: int) -> bytes:
    """Encode a TensorShapeProto."""
    return b"".join(field(2, field(1, size)) for size in sizes)


def entry(
    dtype: int, sizes: tuple[int, ...], offset: int, size: int, crc: int, shard: int = 0, slices: bytes = b""
) -> bytes:
    """Encode a BundleEntryProto."""
    parts = field(1, dtype) + field(2, shape(*sizes)) + field(3, shard) + field(4, offset) + field(5, size)
    return parts + varint(6 << 3 | 5) + crc.to_bytes(4, "little") + slices


def masked(data: bytes) -> int:
    """Return the checksum of some bytes as LevelDB and TensorFlow store it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Encode a block; every key is written whole."""
    body = b"".join(b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
    return body + bytes(4) + (1).to_bytes(4, "little")


def sealed(content: bytes, compression: int = 0) -> bytes:
    """Put the type and the checksum behind a block."""
    content += bytes([compression])
    return content + masked(content).to_bytes(4, "little")


def table(*blocks: bytes, last_keys: tuple[bytes, ...] = (b"\xff",), compression: int = 0) -> bytes:
    """Encode a table of blocks, whatever is in them."""
    data, handles = b"", []
    for content in blocks:
        handles.append(varint(len(data)) + varint(len(content)))
        data += sealed(content, compression)
    index = block(list(zip(last_keys, handles, strict=True)))
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(index))
    return data + sealed(index) + footer.ljust(40, b"\0") + MAGIC
