"""What a picture's file says before it is decoded: of what kind and size it is, and how it must be turned."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tfxfer.errors import DataError

CUT = "is cut short"
DAMAGED = "is damaged"
WANTED = "JPEG, PNG, BMP or GIF"
# The whole scale of greys: the palette of a picture that has none. Red, green, blue and a byte of padding a colour.
GREYS = b"".join(bytes([level, level, level, 0]) for level in range(256))

# How the files begin that can be decoded here.
MAGIC = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "BMP": (b"BM",),
    "GIF": (b"GIF87a", b"GIF89a"),
}
# How other files begin that are taken for pictures.
OTHERS = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"PK": "a zip archive",
    b"\x1f\x8b": "gzip",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL": "JPEG XL",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file with `git lfs pull`",
    b"<": "an HTML, XML or SVG page",
}
BRANDS = {b"WEBP": "WebP", b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC"}  # at byte 8


class Encoded(NamedTuple):
    """A picture that is not decoded yet.

    Attributes:
      kind: `JPEG`, `PNG`, `GIF`, `BMP`, or `BMP8` for a BMP whose pixels are places in a palette.
      height, width: of the pixels as they are stored, before they are turned; 1 or more.
      data: what the decoder gets: the file, of a GIF as far as its first frame.
      orientation: EXIF's, 1 to 8; 1 is upright. Read from JPEG only.
      palette: of BMP8: blue, green, red and a byte of padding for each of 256 places.
    """

    kind: str
    height: int
    width: int
    data: bytes
    orientation: int = 1
    palette: bytes = GREYS


def read(data: bytes) -> Encoded:
    """Read the header of a picture; what the file is called plays no part.

    Args:
      data: the whole file.

    Raises:
      DataError: it is not a JPEG, PNG, BMP or GIF, or of a kind that cannot be decoded, or its header is cut short or
        damaged. The message says so of a subject that the caller puts before it, as in `is cut short`.
    """
    check_kind(data)
    try:
        encoded = next(_READERS[kind] for kind, starts in MAGIC.items() if data.startswith(starts))(data)
    except (IndexError, struct.error):
        raise DataError(CUT) from None
    if encoded.height < 1 or encoded.width < 1:
        raise DataError(f"{DAMAGED}: its header says {encoded.height} x {encoded.width} pixels")
    return encoded


def check_kind(start: bytes) -> None:
    """Refuse a file that is not a picture by its first bytes; 32 are enough.

    Raises:
      DataError: it is none of the kinds that can be decoded; the message says what it may be instead.
    """
    if not start:
        raise DataError("is empty")
    if not any(map(start.startswith, MAGIC.values())):
        raise DataError(f"is not a {WANTED}, but {_perhaps(start[:32])}")


def _perhaps(start: bytes) -> str:
    other = BRANDS.get(start[8:12]) or next((name for magic, name in OTHERS.items() if start.startswith(magic)), None)
    if other:
        return f"perhaps {other}"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "perhaps text"
    return f"begins with 0x{start[:8].hex()}"


# --- JPEG ---

ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length: TEM, RST0 to RST7, SOI
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the others are DHT, JPG and DAC
APP1, SCAN, TEM, END = 0xE1, 0xDA, 0x01, b"\xff\xd9"
ORIENTATION, SHORT, LONG = 0x0112, 3, 4
EOI = 0xD9
# Of what may stand behind a 0xFF, by value: a zero belongs to the pixels, any number of 0xFF may stand before a marker,
# and TEM and RST0 to RST7 are passed over.
ENDS_PIXELS = np.isin(np.arange(256), [0, TEM, *range(0xD0, 0xD8), 0xFF], invert=True)
BLOCK = 1 << 18  # bytes that are searched for markers at once
# What may stand behind the pixels of a scan, besides restarts, TEM and EOI: DHT, DAC, SOS, DQT, DNL, DRI, APPn and COM.
BETWEEN_SCANS = {0xC4, 0xCC, SCAN, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE}


def _jpeg(data: bytes) -> Encoded:
    size, orientation, at = None, 0, 2
    for marker, at, length in _segments(data):  # where the last one lies is asked for below
        if marker in FRAMES:
            size = struct.unpack_from(">HH", data, at + 5)
        elif marker == APP1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = orientation or read_orientation(data[at + 10 : at + 2 + length])
    # Known here already, so that libjpeg need not write it to the terminal.
    if data.rfind(END, at) < 0:
        raise DataError(CUT)
    if size is None:
        raise DataError(f"{DAMAGED}: its header has no size")
    return Encoded("JPEG", size[0], size[1], data, orientation or 1)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, place and length of each segment of a JPEG, as far as that with which the pixels begin."""
    marker, at = 0, 2
    while marker != SCAN:
        # Whatever lies between segments is passed over, as libjpeg does.
        at = data.find(b"\xff", at)
        if at < 0:
            raise DataError(CUT)
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == 0 or marker in ALONE:
            at += 2
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            yield marker, at, length
            at += 2 + length


def end_of_scans(data: bytes) -> int:
    """Return where the marker is with which a JPEG ends, from its last scan on; the pixels are passed over.

    Raises:
      DataError: among the pixels is a marker at which libjpeg gives up, or none ends them.
    """
    *_, (_, begin, length) = _segments(data)
    begin += 2 + length
    at = begin
    for place in _marks(data, begin):
        marker = data[place + 1]
        if place < at:
            continue
        if marker == EOI:
            return place
        if marker not in BETWEEN_SCANS:
            raise DataError(f"{DAMAGED}: its pixels have the marker 0x{marker:02x}")
        at = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    raise DataError(CUT)


def _marks(data: bytes, begin: int) -> Iterator[int]:
    """Yield the places from `begin` on of markers that may end pixels; a block at a time, since all may be markers."""
    raw = np.frombuffer(data, np.uint8)
    for start in range(begin, len(raw) - 1, BLOCK):
        block = raw[start : start + BLOCK + 1]
        places = np.flatnonzero(block[:-1] == 0xFF)
        yield from (places[ENDS_PIXELS[block[places + 1]]] + start).tolist()


def read_orientation(tiff: bytes) -> int:
    """Return the orientation that the first directory of an EXIF block has, or 1 where it has none that can be read."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(count):
            place = at + 2 + 12 * entry
            tag, dtype = struct.unpack_from(order + "HH", tiff, place)
            if tag == ORIENTATION:
                # The standard says SHORT; some cameras and programs write LONG.
                form = {SHORT: "H", LONG: "I"}.get(dtype)
                (value,) = struct.unpack_from(order + form, tiff, place + 8) if form else (1,)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


# --- PNG, BMP, GIF ---


def _png(data: bytes) -> Encoded:
    width, height = struct.unpack_from(">II", data, 16)
    return Encoded("PNG", height, width, data)


def _bmp(data: bytes) -> Encoded:
    start, header, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    # TensorFlow looks at none of these and would give noise.
    if header < 40 or bits not in (8, 24, 32) or (compression and not _plain_masks(data, bits, compression)):
        how = "compressed" if compression else "old" if header < 40 else f"{bits}-bit"
        raise DataError(f"is a BMP of a rare kind ({how}); save it as PNG")
    row = (bits * width + 31) // 32 * 4
    pixels = data[: start + row * abs(height)]  # TensorFlow wants nothing behind them
    if bits != 8:
        return Encoded("BMP", abs(height), width, pixels)
    (colours,) = struct.unpack_from("<I", data, 46)
    palette = data[14 + header :][: 4 * min(colours or 256, 256)]
    return Encoded("BMP8", abs(height), width, pixels, palette=palette.ljust(1024, b"\0"))


def _plain_masks(data: bytes, bits: int, compression: int) -> bool:
    """Whether the pixels are blue, green, red and one more byte, though the header goes to lengths to say so."""
    return bits == 32 and compression == 3 and struct.unpack_from("<III", data, 54) == (0xFF0000, 0xFF00, 0xFF)


def _gif(data: bytes) -> Encoded:
    at = 13 + _table(data[10])
    while data[at] == ord("!"):  # an extension
        at = _after_blocks(data, at + 2)
    if data[at] != ord(","):
        raise DataError(f"{DAMAGED}: it has no frame")
    width, height, flags = struct.unpack_from("<HHB", data, at + 5)
    end = _after_blocks(data, at + 11 + _table(flags))
    # Only the first frame, since TensorFlow would decode them all; moved to the corner, where TensorFlow looks for it.
    return Encoded("GIF", height, width, data[: at + 1] + bytes(4) + data[at + 5 : end] + b";")


def _table(flags: int) -> int:
    """Return the bytes of a table of colours."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Return where a row of blocks ends, each its length and so many bytes, the last of length 0."""
    while data[at]:
        at += 1 + data[at]
    return at + 1


_READERS: dict[str, Callable[[bytes], Encoded]] = {"JPEG": _jpeg, "PNG": _png, "BMP": _bmp, "GIF": _gif}
