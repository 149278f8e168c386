"""What a file is, by its content: for files that hold no weights, or none that can be read."""

from __future__ import annotations

import re
from pathlib import Path

import google_crc32c

from tfxfer.weights import files, leveldb

_MAGIC = (
    (b"version https://git-lfs", "a Git LFS pointer, which stands for a file that was not fetched; run `git lfs pull`"),
    (b"PK\3\4", "a zip archive, such as .npz or .keras"),
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"MATLAB 5.0", "a MATLAB file; convert it to .npz with scipy.io.loadmat and numpy.savez"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x08\x01\x12", "a SavedModel's graph; open the directory that it lies in, with its folder `variables`"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95(}\]cX\x8a]")
_HTML = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)", re.IGNORECASE | re.DOTALL)


def describe(path: Path) -> str:
    """Say in words what a file is, and what to do about it."""
    return known(path) or f"of no kind that tfxfer knows: it begins with {files.head(path, 16)!r}"


def known(path: Path) -> str:
    """Say what a file is, as `describe` does; the empty string where that cannot be told."""
    head = files.head(path, 4096)
    if not head:
        return "empty; copy or download it again"
    if _HTML.match(head):
        return "a web page (HTML): the address gave a page instead of the file; download it again from a direct link"
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model, which cannot be trained; look for the checkpoint that it was made from"
    if leveldb.masked(google_crc32c.value(head[:8])) == int.from_bytes(head[8:12], "little"):
        return "a TFRecord file, such as TensorBoard's event files, which hold no weights"
    if _PICKLE.match(head):
        return (
            "a bare pickle (.pkl, or an old .pth of PyTorch), which can run any code when it is loaded; "
            "convert it to .npz or .safetensors where you trust it"
        )
    return _message(head) or _text(head)


def _message(head: bytes) -> str:
    # A protocol buffer whose first field is a message: of MetaGraphDef a MetaInfoDef with a list of ops, of GraphDef a
    # node with a name and an op.
    found = re.match(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f](\x0a(.)|\x12)", head, re.DOTALL)
    if not found:
        return ""
    if not found[2]:
        return (
            "a MetaGraphDef (.meta): the graph without the values of its variables; "
            "give the prefix of the checkpoint, with .index and .data files beside it"
        )
    if re.match(rb"\x12.[A-Z_]\w+", head[found.end() + found[2][0] :], re.DOTALL):
        return (
            "a GraphDef (.pb): a graph whose weights, if it has any, are constants; "
            "look for the checkpoint that it was frozen from"
        )
    return ""


def _text(head: bytes) -> str:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut in two.
        text = head[: error.start].decode() if error.start > len(head) - 4 else "\0"
    if not all(letter.isprintable() or letter in "\t\r\n\f" for letter in text):
        return ""
    kind = "a JSON file" if text.lstrip()[:1] in ("{", "[") else "a text file"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"{kind} that begins with {first[:60]!r}"
