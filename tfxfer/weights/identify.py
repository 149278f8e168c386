"""What a file is, by its content: for files that hold no weights, or none that can be read, with a way out.

Where one is known, the way out is a command, ready to be run, that makes a file which `open_weights` reads. Whoever
trusts the file runs it, in a program that is made for it: nothing of the kind happens here.
"""

from __future__ import annotations

import json
import re
import shlex
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c

from tfxfer import names
from tfxfer.formats import leveldb, messages, protobuf, reading
from tfxfer.weights import graph_def

_COMPRESSED = (  # what each begins with, its name, and the program that unpacks it
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\x00", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", "unzstd"),
    (b"\x04\x22\x4d\x18", "LZ4", "unlz4"),
)
_OF_COMPRESSION = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_MAGIC = (
    (b"version https://git-lfs", "a Git LFS pointer, which stands for a file that was not fetched; run `git lfs pull`"),
    (b"PK\3\4", "a zip archive, such as .npz or .keras"),
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first: 7z x IN"),
    (b"Rar!", "a RAR archive; unpack it first: unrar x IN"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95(}\]cX\x8a]")
# Protocols 0 and 1 have no mark of their own: a dict or a list, or an object of one of these modules.
_OLD_PICKLE = re.compile(
    rb"\([dl]p\d{1,3}\r?\n|[}\]]q[\x00\x01][(.]|c(numpy[\w.]*|collections|copy_reg|__builtin__)\n\w+\n"
)
# Members of the tar archives that torch.save wrote before 0.1.10.
_TORCH_TAR = (b"sys_info\0", b"pickle\0", b"tensors\0", b"storages\0")
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
_TFJS_SHARD = re.compile(r"(group\d+-shard)(\d{1,5})of(\d{1,5})(\.bin)?")
_FACE_API_SHARD = re.compile(r"(.+_model)-shard\d{1,5}")

# Programs that write OUT from IN. They use double quotes only, since the shell gets them in single ones.
_FROM_TORCH = """import torch; from safetensors.torch import save_file; \
d = torch.load(IN, map_location="cpu", weights_only=False); d = d if isinstance(d, dict) else {"": d}; \
d = next((d[k] for k in ("state_dict", "model_state_dict", "model", "") if k in d), d); \
d = d.state_dict() if hasattr(d, "state_dict") else d; \
t = {k: v for k, v in d.items() if torch.is_tensor(v)}; \
t = {k: v.dequantize() if v.is_quantized else v.to_dense() for k, v in t.items()}; \
save_file({k: v.resolve_conj().resolve_neg().contiguous().clone() for k, v in t.items()}, OUT)"""
_FROM_SCRIPT = """import torch; from safetensors.torch import save_file; \
m = torch.jit.load(IN, map_location="cpu"); \
t = m.state_dict() or m.code_with_constants[1].const_mapping; \
save_file({k: v.contiguous().clone() for k, v in t.items() if torch.is_tensor(v)}, OUT)"""
_FROM_TEXT = """import tensorflow as tf; from google.protobuf import text_format; \
from tensorflow.core.protobuf import saved_model_pb2, meta_graph_pb2; from tensorflow.core.framework import graph_pb2; \
open(OUT, "wb").write(text_format.Parse(open(IN).read(), FORM()).SerializeToString())"""
_FROM_PICKLE = """import numpy as np, pickle; d = pickle.load(open(IN, "rb"), encoding="latin1"); \
d = d if hasattr(d, "items") else dict(enumerate(d)); \
np.savez(OUT, **{str(k): np.asarray(v) for k, v in d.items() if hasattr(v, "__array__")})"""
_FROM_MATLAB4 = """import numpy as np, scipy.io as s; \
np.savez(OUT, **{k: v for k, v in s.loadmat(IN).items() if getattr(v, "dtype", np.dtype(str)).kind in "biufc"})"""


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
    for magic, name, program in _COMPRESSED:
        if head.startswith(magic):
            return f"compressed with {name}; unpack it first: {_unpacking(path, program)}"
    return next(filter(None, (look(head, path) for look in _LOOKS)), "")


def _unpacking(path: Path, program: str) -> str:
    """Return the command that unpacks a file; by itself the program would refuse one that lacks its own suffix."""
    if re.search(r"\.(tar\.\w+|t[gbx]z2?|tzst)$", path.name):
        return f"tar xf {shlex.quote(str(path))}"
    out = path.with_suffix("") if path.suffix in _OF_COMPRESSION else path
    if reading.exists(out):
        out = out.with_name(f"{out.stem}-unpacked{out.suffix}")
    return f"{program} -c < {shlex.quote(str(path))} > {shlex.quote(str(out))}"


def archive(path: Path, members: Iterable[str]) -> str:
    """Say what a zip archive is that holds neither NumPy arrays nor a model of Keras or PyTorch."""
    inside = list(members)
    if any(name.startswith("Data/com.apple.CoreML") or ".mlpackage/" in name for name in inside):
        return f"a Core ML package in a zip archive; unpack it first: unzip {shlex.quote(str(path))}"
    unpack = f"; unpack it first: unzip {shlex.quote(str(path))}" if inside else ""
    return f"a zip archive of {names.listed(inside) or 'nothing'}{unpack}"


def is_tfjs_shard(path: Path) -> bool:
    """Say whether a file has the name of a part of a TensorFlow.js model, such as `group1-shard1of4.bin`."""
    return bool(_TFJS_SHARD.fullmatch(path.name))


def is_pickle(head: bytes) -> bool:
    """Say whether a file, by its first 32 bytes, is a bare pickle of protocol 2 or later."""
    return _PICKLE.match(head) is not None


def by_torch(path: Path, script: bool) -> str:
    """Return the command that takes the weights out of a file by PyTorch; `script` says whether it is TorchScript."""
    return _python(path, _FROM_SCRIPT if script else _FROM_TORCH, ".safetensors")


def _python(path: Path, code: str, suffix: str = ".npz") -> str:
    """Return the command that runs a program; IN and OUT become the file, and the same with another suffix."""
    out = path.with_suffix(suffix) if path.suffix != suffix else path.with_name(f"{path.stem}-converted{suffix}")
    code = re.sub(r"\b(IN|OUT)\b", lambda word: json.dumps(str(path if word[0] == "IN" else out)), code)
    return f"  python -c {shlex.quote(code)}"


# --- one look for each kind of content ---


def _page(head: bytes, _: Path) -> str:
    if _HTML.match(head):
        return "a web page (HTML): the address gave a page instead of the file; download it again from a direct link"
    if _XML.match(head):
        return "an XML page, such as the message of a server that refused; download it again from a direct link"
    return ""


def _matlab4(head: bytes, path: Path) -> str:
    # Five whole numbers: how the values are kept (in digits: 0 or 1 for the order of bytes, 0, one of six dtypes, full,
    # text or sparse), rows, columns, whether it is complex, the length of the name; and the name.
    for order in ("little", "big"):
        kind, *_, complex_, length = (int.from_bytes(head[at : at + 4], order) for at in range(0, 20, 4))
        name = re.match(rb"[A-Za-z]\w*\0", head[20:])
        order_digit, digits = divmod(kind, 1000)
        known = order_digit == (order == "big") and digits // 10 <= 5 and digits % 10 <= 2
        if known and complex_ <= 1 and name and name.end() == length:
            return f"a MATLAB 4 file, without cells and structs; convert it by SciPy:\n{_python(path, _FROM_MATLAB4)}"
    return ""


def _pickle(head: bytes, path: Path) -> str:
    if not is_pickle(head) and not _OLD_PICKLE.match(head):
        return ""
    paddle = b"StructuredToParameterName@@" in head + reading.tail(path, 1 << 16)
    words = "a PaddlePaddle .pdparams file, a pickle" if paddle else "a bare pickle (.pkl)"
    return (
        f"{words}, which can run any code when it is loaded, and has no array that tfxfer reads without "
        f"that. Where you trust it, and it is a dict or a list of arrays, convert it:\n{_python(path, _FROM_PICKLE)}"
    )


def _binary(head: bytes, path: Path) -> str:
    if head[257:262] == b"ustar":
        if head.startswith(_TORCH_TAR):
            return f"a file of PyTorch before 0.1.10, a tar archive; convert it by PyTorch:\n{by_torch(path, False)}"
        return f"a tar archive; unpack it first: tar xf {shlex.quote(str(path))}"
    if leveldb.masked(google_crc32c.value(head[:8])) == int.from_bytes(head[8:12], "little"):
        return "a TFRecord file, such as TensorBoard's event files, which hold no weights"
    if head.startswith(_MXNET[:8]) and head[8:16] == bytes(8):
        return f"a .params file of MXNet; take its arrays out by NumPy:\n{_python(path, _FROM_MXNET)}"
    if head[:16] == bytes(16) and head[20:21] == b"\x08":
        return _paddle(path)
    return ""


def _shard(head: bytes, path: Path) -> str:
    shard = _TFJS_SHARD.fullmatch(path.name)
    if not shard:
        lone = _FACE_API_SHARD.fullmatch(path.name)
        manifest = f"{names.printable(lone[1])}-weights_manifest.json" if lone else ""
        return f"a part of a model of TensorFlow.js; put {manifest} beside it, which belongs to it" if lone else ""
    parts = (f"{shard[1]}{number}of{shard[3]}{shard[4] or ''}" for number in range(1, int(shard[3]) + 1))
    missing = [part for part in parts if not reading.exists(path.with_name(part))]
    return (
        "a part of a model of TensorFlow.js, whose names and shapes are in the model.json (or weights_manifest.json) "
        f"that belongs beside it, which is not there; fetch it too{', and ' if missing else ''}{names.listed(missing)}"
    )


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
    if _is_onnx_tensor(messages.outline(head)):
        return "one tensor of ONNX, such as the data to test a model with; open the .onnx model itself"
    version = re.match(rb"\x08([\x01-\x20])(.)([\x80-\xff]{0,4}[\x00-\x7f])?(.)?", head, re.DOTALL)
    if version:
        return _with_version(head, path, version)
    return ""


def _is_onnx_tensor(message: Mapping[int, Any]) -> bool:
    """Whether a message has dimensions, a dtype and values as a TensorProto of ONNX."""
    dims = {protobuf.tag(1), protobuf.tag(1, protobuf.BYTES)}
    values = {protobuf.tag(number, protobuf.BYTES) for number in (4, 5, 6, 7, 9, 10, 11)}
    more = {protobuf.tag(2), protobuf.tag(8, protobuf.BYTES), protobuf.tag(12, protobuf.BYTES)}
    keys = message.keys()
    return keys <= dims | values | more and protobuf.tag(2) in keys and bool(keys & dims) and bool(keys & values)


def _with_version(head: bytes, path: Path, version: re.Match[bytes]) -> str:
    # SavedModel (1) and Core ML have a message next, which begins with a message; Core ML then has the network, whose
    # field is 200 or higher.
    field = version[2]
    model = messages.outline(reading.map_file(path).data)
    if protobuf.tag(502, protobuf.BYTES) in model:
        return "the program of a Core ML package; its weights lie beside it: give the folder that ends in .mlpackage"
    if max(model, default=0) >= protobuf.tag(200):
        return _core_ml(path)
    if field == b"\x12" and version[4] == b"\x0a":
        named = re.match(rb"\x0a[\x80-\xff]{0,1}[\x00-\x7f]\x0a.[ -~]", head[version.start(4) :], re.DOTALL)
        if named and version[1] != b"\x01":
            return _core_ml(path)
        return "a SavedModel's graph, and corrupt"
    return ""


def _text(head: bytes, path: Path) -> str:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut in two.
        text = head[: error.start].decode() if error.start > len(head) - 4 else "\0"
    if not all(letter.isprintable() or letter in "\t\r\n\f" for letter in text):
        return ""
    if text.lstrip()[:1] == "{" and '"modelTopology"' in text:
        return "the graph of a TensorFlow.js model without a weightsManifest, which says where its weights lie"
    if form := next((form for form, begin in _AS_TEXT.items() if re.match(rf"\s*(#.*\n\s*)*{begin}", text)), ""):
        convert = _python(path, _FROM_TEXT.replace("FORM", form), ".pb")
        return (
            f"a {form.partition('.')[2]} as text (.pbtxt); look for the checkpoint that belongs to it, or if its "
            f"weights are constants, convert it by TensorFlow:\n{convert}"
        )
    if foreign := _foreign_text(text, path):
        return foreign
    kind = "a JSON file" if text.lstrip()[:1] in ("{", "[") else "a text file"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"{kind} that begins with {first[:60]!r}"


# --- formats of other programs, of which only the program that wrote them, or a small one, takes the weights out ---

_NUMPY_TREE = """import numpy as np; \
rows = lambda n, v: [(n, v)] if isinstance(v, np.ndarray) else sum([rows(f"{n}/{k}", e) for k, e in \
(v.items() if isinstance(v, dict) else enumerate(v) if isinstance(v, (list, tuple)) else vars(v).items() \
if hasattr(v, "__dict__") else ())], []); """
_SAVE_TREE = """np.savez(OUT, **{n.strip("/"): v for n, v in rows("", TREE) if v.dtype.kind in "biufc"})"""
_FROM_JOBLIB = f"import joblib; {_NUMPY_TREE}{_SAVE_TREE.replace('TREE', 'joblib.load(IN)')}"
_FROM_FLAX = """import numpy as np; from flax.serialization import msgpack_restore; \
from flax.traverse_util import flatten_dict; from safetensors.numpy import save_file; \
save_file({"/".join(k): np.asarray(v) for k, v in flatten_dict(msgpack_restore(open(IN, "rb").read())).items()}, OUT)"""
_FROM_ORBAX = """import jax, numpy as np, orbax.checkpoint as o; t = o.PyTreeCheckpointer().restore(IN); \
np.savez(OUT, **{jax.tree_util.keystr(k, simple=True, separator="/"): np.asarray(v) \
for k, v in jax.tree_util.tree_flatten_with_path(t)[0]})"""
_FROM_ZARR = """import numpy as np, zarr; g = zarr.open(IN, mode="r"); \
rows = lambda n, g: [(n + k, v[...]) for k, v in g.arrays()] + sum([rows(f"{n}{k}/", v) for k, v in g.groups()], []); \
np.savez(OUT, **(dict(rows("", g)) if hasattr(g, "arrays") else {"array": g[...]}))"""
_FROM_GGUF = """import numpy as np; from gguf import GGUFReader; from gguf.quants import dequantize; \
np.savez(OUT, **{t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(IN).tensors})"""
_FROM_OPENVINO = """import numpy as np, openvino as ov; \
np.savez(OUT, **{o.get_friendly_name(): o.data for o in ov.Core().read_model(IN).get_ops() \
if o.get_type_name() == "Constant"})"""
_FROM_TORCH7 = """import torchfile; import numpy as np; seen = set()
def rows(n, v):
    v = getattr(v, "_obj", v)
    if isinstance(v, np.ndarray):
        yield n, v
    elif isinstance(v, (dict, list)) and id(v) not in seen:
        seen.add(id(v))
        for k, e in v.items() if isinstance(v, dict) else enumerate(v):
            yield from rows(f"{n}/{k.decode() if isinstance(k, bytes) else k}", e)
np.savez(OUT, **{n[1:]: v for n, v in rows("", torchfile.load(IN))})"""
_FROM_CNTK = """import cntk, numpy as np; np.savez(OUT, **{p.uid: p.value for p in cntk.load_model(IN).parameters})"""
_FROM_PADDLE = """import numpy as np, paddle as p; p.enable_static(); e = p.static.Executor(p.CPUPlace()); \
net = p.static.load_inference_model(STEM, e)[0]; s = p.static.global_scope(); \
np.savez(OUT, **{v.name: np.array(s.find_var(v.name).get_tensor()) for v in net.list_vars() \
if v.persistable and v.name not in ("feed", "fetch")})"""
_FROM_CORE_ML = """import coremltools as ct, numpy as np; s = ct.utils.load_spec(IN); \
net = getattr(s, s.WhichOneof("Type")); \
np.savez(OUT, **{f"{n.name}/{f.name}": np.array(v.floatValue, "f4") if v.floatValue else np.frombuffer(v.float16Value, \
"f2") for n in net.layers for f, v in getattr(n, n.WhichOneof("layer")).ListFields() \
if f.message_type and f.message_type.name == "WeightParams"})"""
_FROM_CORE_ML_PROGRAM = """import coremltools as ct, numpy as np; \
w = ct.optimize.coreml.get_weights_metadata(ct.models.MLModel(IN, skip_model_load=True), weight_threshold=1); \
np.savez(OUT, **{k: v.val for k, v in w.items()})"""
_FROM_CAFFE2 = """import numpy as np; from caffe2.proto import caffe2_pb2 as c; \
ops = [(o.output[0], {a.name: a for a in o.arg}) for o in c.NetDef.FromString(open(IN, "rb").read()).op if o.output]; \
np.savez(OUT, **{n: np.array(a["values"].floats or a["values"].ints).reshape(a["shape"].ints) for n, a in ops \
if {"values", "shape"} <= a.keys()})"""
# Source: github.com/apache/mxnet, src/ndarray/ndarray.cc, NDArray::Save, for the file and its three older forms.
_FROM_MXNET = """import numpy as np; d, at = open(IN, "rb").read(), 24
def number(size):
    global at
    at += size
    return int.from_bytes(d[at - size : at], "little")
def array():
    global at
    magic = number(4)
    assert magic not in (0xF993FAC9, 0xF993FACA) or number(4) in (0, 0xFFFFFFFF), "a sparse array: load it by MXNet"
    new = magic >> 4 == 0xF993FAC
    shape = [number(8 if new else 4) for _ in range(number(4) if new else magic)]
    if not shape and magic != 0xF993FACA:
        return np.zeros(0)
    at += 8
    kind = np.dtype(["f4", "f8", "f2", "u1", "i4", "i1", "i8", "?"][number(4)])
    n = int(np.prod(shape, dtype=int)); at += n * kind.itemsize
    return np.frombuffer(d, kind, n, at - n * kind.itemsize).reshape(shape)
arrays = [array() for _ in range(int.from_bytes(d[16:24], "little"))]
names = [d[at - n : at].decode() for n in (number(8) for _ in range(number(8))) if (at := at + n)]
np.savez(OUT, **{n.split(":", 1)[-1]: v for n, v in zip(names or map(str, range(len(arrays))), arrays)})"""
_SKLEARN = re.compile(rb"sklearn\.|joblib\.numpy_pickle")
# An array of Flax: an extension of type 1 that holds a list of shape, dtype and bytes.
_FLAX = re.compile(rb"\x01\x93[\x90-\x9f][\x00-\xff]{0,40}?[\xa3-\xaf](?:b?float|complex|u?int|bool)\d*[\xc4-\xc6]")
# SolverState: iter, learned_net, history, current_step. NetDef of Caffe2: name, op. Its OperatorDef: input to
# device_option.
_SOLVER_STATE = {protobuf.tag(1), protobuf.tag(2, protobuf.BYTES), protobuf.tag(3, protobuf.BYTES), protobuf.tag(4)}
_BLOB_VALUES = {protobuf.tag(5, protobuf.BYTES), protobuf.tag(8, protobuf.BYTES)}
_CAFFE2_NET = {protobuf.tag(1, protobuf.BYTES), protobuf.tag(2, protobuf.BYTES)}
_CAFFE2_OP = {protobuf.tag(number, protobuf.BYTES) for number in range(1, 7)}
_GGML = (b"lmgg", b"fmgg", b"tjgg")


def folder(path: Path) -> str:
    """Say what a folder is that other programs keep weights in; the empty string where that cannot be told."""
    inside = set(reading.siblings(path))
    if b"itemInfoEntries" in reading.head(path / "Manifest.json", 1 << 16):
        return f"a Core ML package; take its weights out by coremltools:\n{_python(path, _FROM_CORE_ML_PROGRAM)}"
    if inside & {"_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt"}:
        return f"a checkpoint of Orbax; take its arrays out by Orbax:\n{_python(path.absolute(), _FROM_ORBAX)}"
    if inside & {".zgroup", ".zarray", "zarr.json"}:
        return f"a Zarr folder; take its arrays out by zarr:\n{_python(path, _FROM_ZARR)}"
    return ""


def _core_ml(path: Path) -> str:
    return (
        "a Core ML model; take the weights of its layers out by coremltools, as vectors without their shapes:\n"
        f"{_python(path, _FROM_CORE_ML)}"
    )


def _paddle(path: Path) -> str:
    words = "a .pdiparams file of PaddlePaddle, which does not name its arrays; "
    if not reading.exists(path.with_suffix(".pdmodel")):
        return f"{words}the .pdmodel that belongs to it is not beside it; fetch it too, or look for the .pdparams"
    code = _FROM_PADDLE.replace("STEM", json.dumps(str(path.with_suffix(""))))
    return f"{words}convert it by PaddlePaddle with the .pdmodel beside it:\n{_python(path, code)}"


def scikit(head: bytes, path: Path) -> str:
    """Say that a file, by its first 4096 bytes, is a pickle of scikit-learn's; the empty string where it is not."""
    packed = head[:1] == b"\x78"
    begin = _unpacked(head) if packed else head
    if not (_PICKLE.match(begin) and _SKLEARN.search(begin)):
        return ""
    return (
        f"a pickle of scikit-learn or joblib{', compressed' if packed else ''}, which can run any code when it is "
        f"loaded; where you trust it, take its arrays out by joblib:\n{_python(path, _FROM_JOBLIB)}"
    )


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(head, 4096)
    except zlib.error:
        return b""


def _runtime(head: bytes, path: Path) -> str:
    """Look for what a program keeps that only runs networks."""
    # Ultralytics puts JSON before the engine, and its length before that.
    start = 4 + int.from_bytes(head[:4], "little") if head[4:5] == b"{" else 0
    if head[start : start + 4] in (b"ftrt", b"ptrt"):
        return (
            "an engine of TensorRT (.engine, .plan), made for one kind of GPU: its weights do not come out; look for "
            "the ONNX model that it was built from"
        )
    if head[4:8] == b"ORTM":
        return "a model in the format of ONNX Runtime (.ort); look for the .onnx model that it was made from"
    if head[:4] == b"GGUF":
        return f"a GGUF file; take its arrays out, quantised ones as floats, by gguf:\n{_python(path, _FROM_GGUF)}"
    if head[:4] in _GGML:
        return "a GGML file, which came before GGUF; look for the GGUF or the PyTorch file of the same network"
    return ""


def _older(head: bytes, path: Path) -> str:
    """Look for what programs wrote that are no longer maintained, and for Flax."""
    if head[:4] == b"\4\0\0\0" and head[8:15] == b"\3\0\0\0V 1":
        return f"a .t7 file of Torch 7; take its arrays out by torchfile:\n{_python(path, _FROM_TORCH7)}"
    if head.startswith("BCN".encode("utf-16-le")) or (head[:1] == b"\x08" and b"primitive_functions" in head):
        return f"a model of CNTK; take its parameters out by CNTK:\n{_python(path, _FROM_CNTK)}"
    if head[:1] and (head[0] >> 4 == 8 or head[0] in (0xDE, 0xDF)) and _FLAX.search(head):
        return f"a msgpack file of Flax; convert it by Flax:\n{_python(path, _FROM_FLAX, '.safetensors')}"
    return ""


def _caffe(head: bytes, path: Path) -> str:
    """Look for what Caffe and Caffe2 write besides the weights of Caffe."""
    message = messages.outline(head)
    name, second, third = (message.get(protobuf.tag(number, protobuf.BYTES), b"") for number in (1, 2, 3))
    if message.keys() <= _SOLVER_STATE and messages.outline(third).keys() & _BLOB_VALUES:
        net = bytes(second).decode("utf-8", "replace") or "the .caffemodel of the same step"
        words = "a .solverstate of Caffe, which holds the momentum and not the weights; open"
        return f"{words} {names.printable(net)} instead"
    op = messages.outline(second)
    kind = bytes(op.get(protobuf.tag(4, protobuf.BYTES), b""))
    if (
        message.keys() <= _CAFFE2_NET
        and op.keys() <= _CAFFE2_OP
        and re.fullmatch(rb"\w+", kind)
        and min(name, default=32) > 31
    ):
        return (
            "a net of Caffe2 (init_net.pb has the weights, predict_net.pb the graph); take the weights out by a "
            f"PyTorch that still has Caffe2, such as 1.13:\n{_python(path, _FROM_CAFFE2)}"
        )
    return ""


def _beside(head: bytes, path: Path) -> str:
    """Look for values in a row, whose shapes stand in a text file beside them."""
    if external := re.fullmatch(r"(.+\.onnx)[._]data(_\d+)?", path.name):
        return f"the values of a model of ONNX; open {names.printable(external[1])}, which belongs beside it"
    text = reading.head(path.with_suffix(".param"), 8) if path.suffix == ".bin" else b""
    if text.split() == [b"7767517"]:
        return (
            f"the values of a network of ncnn, whose shapes are in {names.printable(path.with_suffix('.param').name)}; "
            "look for the file that it was made from"
        )
    if path.suffix == ".pb" and path.name != "saved_model.pb" and reading.exists(path.with_name("saved_model.pb")):
        return "" if graph_def.kind(head) else f"a file beside a SavedModel, without its weights; open {path.parent}"
    model = path.with_suffix(".xml")
    if path.suffix == ".bin" and b"<net " in reading.head(model, 4096):
        return f"the values of an OpenVINO model; take them out by OpenVINO:\n{_python(model, _FROM_OPENVINO)}"
    if re.match(rb"\s*<\?xml[^>]*>\s*<net ", head):
        return f"an OpenVINO model; take its weights out by OpenVINO:\n{_python(path, _FROM_OPENVINO)}"
    return ""


def _foreign_text(text: str, path: Path) -> str:
    if text.startswith("7767517"):
        return "the graph of a network of ncnn; its values are in the .bin; look for the file that it was made from"
    if text.lstrip()[:1] == "{" and (file := re.search(r'"weight_map"\s*:\s*\{\s*"[^"]*"\s*:\s*"([^"]*)"', text)):
        return (
            "the list of the files that the weights of one model are divided among; open each of them, such as "
            f"{names.printable(file[1])}"
        )
    if text.lstrip()[:1] == "{" and '"nodes"' in text and '"op": "null"' in text:
        return (
            "a -symbol.json of MXNet: the graph without the weights; open the .params file that belongs to it, such as "
            f"{names.printable(path.name.removesuffix('.json').removesuffix('-symbol'))}-0000.params"
        )
    if re.search(r"^\s*layers?\s*\{", text, re.MULTILINE) and re.search(
        r"^\s*(?:bottom|top|type):", text, re.MULTILINE
    ):
        return "a .prototxt of Caffe: a network without its weights; open the .caffemodel that belongs to it"
    return ""


_LOOKS: tuple[Callable[[bytes, Path], str], ...] = (
    _beside,
    _runtime,
    _older,
    scikit,
    _caffe,
    _page,
    _matlab4,
    _binary,
    _pickle,
    _shard,
    _darknet,
    _message,
    _text,
)
