"""What a file is, by its content: for files that hold no weights, or none that can be read, with a way out.

Where one is known, the way out is a command, ready to be run, that makes a file which `open_weights` reads. Whoever
trusts the file runs it, in a program that is made for it: nothing of the kind happens here.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

import google_crc32c

from tfxfer import names
from tfxfer.formats import leveldb, reading
from tfxfer.weights import graph_def

_UNPACK = "compressed with {}; unpack it first: {}"
_MAGIC = (
    (b"version https://git-lfs", "a Git LFS pointer, which stands for a file that was not fetched; run `git lfs pull`"),
    (b"PK\3\4", "a zip archive, such as .npz or .keras"),
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x1f\x8b", _UNPACK.format("gzip", "gunzip -k IN, or tar xf IN where it ends in .tar.gz or .tgz")),
    (b"BZh", _UNPACK.format("bzip2", "bunzip2 -k IN")),
    (b"\xfd7zXZ\x00", _UNPACK.format("xz", "unxz -k IN")),
    (b"\x28\xb5\x2f\xfd", _UNPACK.format("Zstandard", "unzstd IN")),
    (b"\x04\x22\x4d\x18", _UNPACK.format("LZ4", "unlz4 IN")),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first: 7z x IN"),
    (b"Rar!", "a RAR archive; unpack it first: unrar x IN"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95(}\]cX\x8a]")
_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of torch.save up to 1.5
# A comment ends at the first "-->" and is not tried otherwise: with `.*?`, a hundred comments would take for ever.
_COMMENT = rb"<!--(?:[^-]|-(?!->))*-->\s*"
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*(%b)*<(!doctype\s+html|html|head|body|meta|script)\b" % _COMMENT, re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml")
_MXNET = (0x112).to_bytes(16, "little")
# Darknet's major, minor and revision; from 0.2 on the pictures seen so far have 8 bytes, before 4.
_DARKNET = {(0, 1, 0), (0, 2, 0), (0, 2, 5), (1, 0, 0)}
_AS_TEXT = {
    "graph_pb2.GraphDef": r"(node|library|versions)\s*:?\s*\{",
    "meta_graph_pb2.MetaGraphDef": r"(meta_info_def|graph_def)\s*:?\s*\{",
    "saved_model_pb2.SavedModel": r"(saved_model_schema_version\s*:|meta_graphs\s*:?\s*\{)",
}
_TFJS_SHARD = re.compile(r"group\d+-shard\d+of\d+(\.bin)?")

# Programs that write OUT from IN. They use double quotes only, since the shell gets them in single ones.
_TO_SAFETENSORS = """import torch; from safetensors.torch import save_file; \
d = torch.load(IN, map_location="cpu", weights_only=True); d = d.get("state_dict", d.get("model", d)); \
save_file({k: v.contiguous().clone() for k, v in d.items() if torch.is_tensor(v)}, OUT)"""
_FROM_SCRIPT = """import torch; from safetensors.torch import save_file; \
save_file({k: v.contiguous().clone() for k, v in torch.jit.load(IN, map_location="cpu").state_dict().items()}, OUT)"""
_FROM_ONNX = """import numpy as np, onnx; from onnx import numpy_helper as n; \
np.savez(OUT, **{t.name: n.to_array(t) for t in onnx.load(IN).graph.initializer})"""
_FROM_MXNET = """import mxnet as mx, numpy as np; \
np.savez(OUT, **{k.split(":", 1)[-1]: v.asnumpy() for k, v in mx.nd.load(IN).items()})"""
_FROM_CAFFE = """import caffe, numpy as np; net = caffe.Net("deploy.prototxt", IN, caffe.TEST); \
np.savez(OUT, **{f"{layer}/{i}": b.data for layer, blobs in net.params.items() for i, b in enumerate(blobs)})"""
_FROM_TEXT = """import tensorflow as tf; from google.protobuf import text_format; \
from tensorflow.core.protobuf import saved_model_pb2, meta_graph_pb2; from tensorflow.core.framework import graph_pb2; \
open(OUT, "wb").write(text_format.Parse(open(IN).read(), FORM()).SerializeToString())"""
_FROM_PICKLE = """import numpy as np, pickle; \
np.savez(OUT, **{k: v for k, v in pickle.load(open(IN, "rb")).items() if isinstance(v, np.ndarray)})"""
_FROM_MATLAB = """import numpy as np, scipy.io as s; \
rows = lambda v: enumerate(v.flat) if v.size > 1 or not v.dtype.names else [("", v.flat[0])]; \
walk = lambda n, v: ([p for i, e in rows(v) for p in (walk(f"{n}/{i}".rstrip("/"), np.asarray(e)) if not v.dtype.names \
else sum([walk(f"{n}/{i}".rstrip("/") + f"/{k}", np.asarray(e[k])) for k in v.dtype.names], []))] \
if v.dtype.hasobject else [(n, v)] * (v.dtype.kind in "biufc")); \
np.savez(OUT, **dict(sum([walk(k, v) for k, v in s.loadmat(IN).items() if k[:2] != "__"], [])))"""
_FROM_MATLAB73 = """import h5py, numpy as np; f = h5py.File(IN, "r"); \
walk = lambda n, v: sum([walk(f"{n}/{k}", v[k]) for k in v if k[:1] != "#"], []) if isinstance(v, h5py.Group) else \
sum([walk(f"{n}/{i}", f[r]) for i, r in enumerate(v[()].T.flat)], []) if v.dtype.kind == "O" else \
[(n[1:], v[()].T)] * (v.dtype.kind in "biuf" and "MATLAB_empty" not in v.attrs); \
np.savez(OUT, **dict(walk("", f)))"""
_FROM_TFJS = """import json, numpy as np, os; d = os.path.dirname(IN); out = {}
for group in json.load(open(IN))["weightsManifest"]:
    data, at = b"".join(open(os.path.join(d, p), "rb").read() for p in group["paths"]), 0
    for w in group["weights"]:
        assert "quantization" not in w, "quantized: load it by tensorflowjs"
        kind = np.dtype(w["dtype"]); n = int(np.prod(w["shape"], dtype=int))
        out[w["name"]] = np.frombuffer(data, kind, n, at).reshape(w["shape"]); at += n * kind.itemsize
np.savez(OUT, **out)"""


def describe(path: Path) -> str:
    """Say in words what a file is, and what to do about it."""
    return known(path) or f"of no kind that tfxfer knows: it begins with {reading.head(path, 16)!r}"


def known(path: Path) -> str:
    """Say what a file is, as `describe` does; the empty string where that cannot be told."""
    head = reading.head(path, 4096)
    if not head:
        return "empty; copy or download it again"
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what.replace(" IN", f" {shlex.quote(str(path))}")
    return next(filter(None, (look(head, path) for look in _LOOKS)), "")


def archive(path: Path, members: Iterable[str]) -> str:
    """Say what a zip archive is that holds neither NumPy arrays nor a Keras model."""
    inside = list(members)
    if any(name.endswith("data.pkl") for name in inside):
        script = any(name.endswith("constants.pkl") for name in inside)
        return (
            f"a PyTorch archive{' (TorchScript)' if script else ''}, which is a pickle and can run any code when it is "
            f"loaded; convert it where you trust it:\n"
            f"{_python(path, _FROM_SCRIPT if script else _TO_SAFETENSORS, '.safetensors')}"
        )
    if any(name.startswith("Data/com.apple.CoreML") or ".mlpackage/" in name for name in inside):
        return _CORE_ML
    unpack = f"; unpack it first: unzip {shlex.quote(str(path))}" if inside else ""
    return f"a zip archive of {names.listed(inside) or 'nothing'}{unpack}"


def is_matlab(head: bytes) -> bool:
    """Say whether a file, by its first 32 bytes, was written by MATLAB, which keeps dimensions the other way round."""
    return head.startswith((b"MATLAB 5.0", b"MATLAB 7.3"))


def _python(path: Path, code: str, suffix: str = ".npz") -> str:
    """Return the command that runs a program; IN and OUT become the file, and the same with another suffix."""
    out = path.with_suffix(suffix) if path.suffix != suffix else path.with_name(f"{path.stem}-converted{suffix}")
    code = re.sub(r"\b(IN|OUT)\b", lambda word: json.dumps(str(path if word[0] == "IN" else out)), code)
    return f"  python -c {shlex.quote(code)}"


# --- one look for each kind of content ---

_CORE_ML = (
    "a Core ML model; its weights come out by coremltools, or better look for the file that it was converted from"
)


def _page(head: bytes, _: Path) -> str:
    if _HTML.match(head):
        return "a web page (HTML): the address gave a page instead of the file; download it again from a direct link"
    if _XML.match(head):
        return "an XML page, such as the message of a server that refused; download it again from a direct link"
    return ""


def _matlab(head: bytes, path: Path) -> str:
    if not is_matlab(head):
        return ""
    new = head.startswith(b"MATLAB 7.3")
    program = f"a MATLAB {'7.3' if new else '5.0'} file; convert it by {'h5py' if new else 'SciPy'}:\n"
    return program + _python(path, _FROM_MATLAB73 if new else _FROM_MATLAB)


def _pickle(head: bytes, path: Path) -> str:
    if head.startswith(_TORCH):
        return (
            "a file of PyTorch up to 1.5, a pickle that can run any code when it is loaded; convert it where you trust "
            f"it:\n{_python(path, _TO_SAFETENSORS, '.safetensors')}"
        )
    if not _PICKLE.match(head):
        return ""
    paddle = b"StructuredToParameterName@@" in head + reading.tail(path, 1 << 16)
    words = "a PaddlePaddle .pdparams file, a pickle" if paddle else "a bare pickle (.pkl, or a .pth of PyTorch)"
    return (
        f"{words}, which can run any code when it is loaded; where you trust it, and it is a dict of arrays, "
        f"convert it:\n{_python(path, _FROM_PICKLE)}"
    )


def _binary(head: bytes, path: Path) -> str:
    if head[257:262] == b"ustar":
        return f"a tar archive; unpack it first: tar xf {shlex.quote(str(path))}"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model, which cannot be trained; look for the checkpoint that it was made from"
    if leveldb.masked(google_crc32c.value(head[:8])) == int.from_bytes(head[8:12], "little"):
        return "a TFRecord file, such as TensorBoard's event files, which hold no weights"
    if head.startswith(_MXNET[:8]) and head[8:16] == bytes(8):
        return f"a .params file of MXNet; convert it by MXNet:\n{_python(path, _FROM_MXNET)}"
    if head[:16] == bytes(16) and head[20:21] == b"\x08":
        return (
            "a .pdiparams file of PaddlePaddle, which does not name its arrays; look for the .pdparams of the "
            "model that it was made from"
        )
    return ""


def _shard(head: bytes, path: Path) -> str:
    model = path.with_name("model.json")
    if not _TFJS_SHARD.fullmatch(path.name):
        return ""
    there = (
        f"convert that:\n{_python(model, _FROM_TFJS)}" if reading.exists(model) else "which is not there; fetch it too"
    )
    return f"a part of a model of TensorFlow.js, whose names and shapes are in the model.json beside it; {there}"


def _darknet(head: bytes, path: Path) -> str:
    version = tuple(int.from_bytes(head[start : start + 4], "little") for start in (0, 4, 8))
    if version not in _DARKNET or path.suffix != ".weights":
        return ""
    return (
        "a .weights file of Darknet: numbers in a row, whose shapes stand in the network's .cfg alone; convert it by a "
        "program that reads both, as the convert.py of keras-yolo3 does:\n"
        f"  python convert.py NETWORK.cfg {shlex.quote(str(path))} {shlex.quote(str(path.with_suffix('.h5')))}"
    )


def _message(head: bytes, path: Path) -> str:
    """Say what a protocol buffer is, by the kinds of its first fields."""
    if form := graph_def.kind(head):
        return f"a {form}, a graph whose weights, if it has any, are constants or lie in a checkpoint"
    version = re.match(rb"\x08([\x01-\x20])(.)([\x80-\xff]{0,4}[\x00-\x7f])?(.)?", head, re.DOTALL)
    if version:
        return _with_version(head, path, version)
    # A first field that is a text: the name of a net in Caffe.
    # Layers are field 2 (before 2014), or 100; inputs 3, 4 and 8.
    if re.match(
        rb"(\x0a([\x01-\x7f])[ -~]{1,127}?)?(\x12[\x80-\xff]{1,4}[\x00-\x7f]|\xa2\x06|\x1a.data)", head, re.DOTALL
    ):
        return (
            "a .caffemodel of Caffe; convert it by Caffe, with the .prototxt that belongs to it (kernels are (out, in, "
            f"h, w), see the layout oihw_conv):\n{_python(path, _FROM_CAFFE)}"
        )
    return ""


def _with_version(head: bytes, path: Path, version: re.Match[bytes]) -> str:
    # SavedModel (1) and Core ML have a message next, which begins with a message; ONNX a text (its producer), or its
    # graph (7), its version (5) or its sets of ops (8).
    field = version[2]
    if field == b"\x12" and version[4] == b"\x0a":
        named = re.match(rb"\x0a[\x80-\xff]{0,1}[\x00-\x7f]\x0a.[ -~]", head[version.start(4) :], re.DOTALL)
        if named and version[1] != b"\x01":
            return _CORE_ML
        return "a SavedModel's graph, and corrupt"
    if field in (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42"):
        return (
            "an ONNX model; take its weights out by onnx (kernels are (out, in, h, w), see the layout oihw_conv):\n"
            f"{_python(path, _FROM_ONNX)}"
        )
    return ""


def _text(head: bytes, path: Path) -> str:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut in two.
        text = head[: error.start].decode() if error.start > len(head) - 4 else "\0"
    if not all(letter.isprintable() or letter in "\t\r\n\f" for letter in text):
        return ""
    if text.lstrip()[:1] == "{" and ('"modelTopology"' in text or b'"weightsManifest"' in reading.tail(path, 1 << 20)):
        return f"a model of TensorFlow.js; convert it:\n{_python(path, _FROM_TFJS)}"
    if form := next((form for form, begin in _AS_TEXT.items() if re.match(rf"\s*(#.*\n\s*)*{begin}", text)), ""):
        convert = _python(path, _FROM_TEXT.replace("FORM", form), ".pb")
        return (
            f"a {form.partition('.')[2]} as text (.pbtxt); look for the checkpoint that belongs to it, or if its "
            f"weights are constants, convert it by TensorFlow:\n{convert}"
        )
    kind = "a JSON file" if text.lstrip()[:1] in ("{", "[") else "a text file"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"{kind} that begins with {first[:60]!r}"


_LOOKS: tuple[Callable[[bytes, Path], str], ...] = (
    _page,
    _matlab,
    _binary,
    _pickle,
    _shard,
    _darknet,
    _message,
    _text,
)
